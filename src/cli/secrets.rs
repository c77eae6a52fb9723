//! Secrets that whoever runs `check` can read and the service cannot: root enters `/etc/dormgate/secrets`, and the gateway does not.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::profile::document::{NotBlank, Text, read_at};

/// The keys that name a secret, each with its systemd credential.
const SECRETS: [([&str; 2], &str); 7] = [
    (["uplink", "password_file"], "uplink_password"),
    (["uplink", "key_file"], "uplink_key"),
    (["local", "password_file"], "local_password"),
    (["local", "key_file"], "local_key"),
    (["http", "token_file"], "console_token"),
    (["audit", "uid_key_file"], "audit_uid_key"),
    (["store", "key_file"], "store_key"),
];

/// A hint for each secret in the configuration `file` that the owner of `data_dir`, as whom the service runs, cannot read.
pub(super) fn out_of_reach(file: &Path, data_dir: &Path) -> Vec<String> {
    let (Ok(text), Ok(data)) = (fs::read_to_string(file), fs::metadata(data_dir)) else { return Vec::new() };
    let dir = file.parent().map_or_else(PathBuf::new, Path::to_owned);
    let owner = (data.uid(), data.gid());
    let hint = |([table, key], credential): ([&str; 2], &str)| {
        let named: Option<Text<NotBlank>> = read_at(&text, &[table, key]).ok().flatten();
        let Text(NotBlank(named)) = named?;
        let path = fs::canonicalize(dir.join(named)).ok()?;
        (!may_read(&path, owner)).then(|| {
            let path = path.display();
            format!(
                "`{table}.{key}`: the owner of the data directory (user {}) cannot read `{path}`; hand it to the service by \
                 `LoadCredential={credential}:{path}` in its unit",
                owner.0
            )
        })
    };
    SECRETS.into_iter().filter_map(hint).collect()
}

/// Whether this user, with this group, may open the file: by the permissions of it and of every directory above it.
fn may_read(path: &Path, (user, group): (u32, u32)) -> bool {
    let may = |path: &Path, bit: u32| {
        let allows = |found: Metadata| {
            let shift = if found.uid() == user {
                6
            } else if found.gid() == group {
                3
            } else {
                0
            };
            found.permissions().mode() >> shift & bit != 0
        };
        fs::metadata(path).is_ok_and(allows)
    };
    user == 0 || may(path, 0o4) && path.ancestors().skip(1).all(|dir| may(dir, 0o1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_is_out_of_reach_by_its_own_permissions_and_by_those_of_the_directories_above() {
        let home = tempfile::tempdir().unwrap();
        set(home.path(), 0o755);
        let (secrets, secret) = (home.path().join("secrets"), home.path().join("secrets/token"));
        fs::create_dir(&secrets).unwrap();
        fs::write(&secret, "a secret").unwrap();
        let of = fs::metadata(&secret).unwrap();
        let (owner, stranger, kin) = ((of.uid(), of.gid()), (4711, 4711), (4711, of.gid()));
        for (dir, file, who, expected) in [
            (0o755, 0o644, stranger, true),
            (0o755, 0o600, stranger, false),
            (0o700, 0o644, stranger, false),
            (0o700, 0o600, owner, true),
            (0o750, 0o640, kin, true),
            (0o750, 0o640, stranger, false),
        ] {
            set(&secrets, dir);
            set(&secret, file);
            assert_eq!(may_read(&secret, who), expected, "{dir:o} {file:o} {who:?}");
        }
    }

    #[test]
    fn the_line_for_the_unit_is_named() {
        let home = tempfile::tempdir().unwrap();
        let (file, data, secret) = (home.path().join("g.toml"), home.path().join("data"), home.path().join("token"));
        fs::create_dir(&data).unwrap();
        fs::write(&secret, "a secret").unwrap();
        set(&secret, 0o000);
        fs::write(&file, "[http]\ntoken_file = \"token\"\n[store]\nkey_file = \"nowhere\"\n").unwrap();
        let hints = out_of_reach(&file, &data);
        let is_root = fs::metadata(&data).unwrap().uid() == 0;
        assert_eq!(hints.len(), usize::from(!is_root), "root may read everything: {hints:?}");
        // Root gives the data directory to the service.
        if is_root {
            std::os::unix::fs::chown(&data, Some(4711), Some(4711)).unwrap();
        }
        let hints = out_of_reach(&file, &data);
        let secret = fs::canonicalize(&secret).unwrap();
        let expected = format!("`LoadCredential=console_token:{}`", secret.display());
        assert!(hints.len() == 1 && hints[0].contains(&expected), "{hints:?}");
    }
}
