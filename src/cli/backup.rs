//! `dormgate backup` and `dormgate restore`: the data directory in one file, and back.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::{ConfigArg, Ended, Exit, bad_config, counted, failed, print_error, print_line};
use crate::clock::Clock;
use crate::config;
use crate::http::SOCKET_NAME;
use crate::http::client::{self, AskError};
use crate::store::{BackupError, StoreError, StoreKey, back_up, restore as restore_to};

/// How often a backup begins again because the gateway removed old files meanwhile.
const TRIES: usize = 3;

/// Write what a running gateway has on disk to one new file: the audit, the list and all else that survives.
///
/// The file names persons; keep it as safe as the box.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// The file, which must not exist.
    file: PathBuf,
    #[command(flatten)]
    config: ConfigArg,
}

/// Put a backup in the place of the data directory. The gateway must not run.
///
/// After the start nothing is granted until the centers have sent the list again: a card may have been revoked since the backup.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    /// Also where the data directory holds later events than the backup. They are laid aside.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Backup(#[from] BackupError),
}

pub(super) fn backup(args: &BackupArgs) -> Ended {
    let (dir, gateway) = config::data_dir_and_gateway(&args.config.config).map_err(bad_config)?;
    let socket = dir.join(SOCKET_NAME);
    let of = (gateway.as_str(), Clock::system().now().wall);
    let mut made = Err(Failed::Backup(BackupError::Changed));
    for _ in 0..TRIES {
        made = back_up(&dir, &args.file, of, || Ok::<_, Failed>(client::inventory(&socket)?));
        if !matches!(made, Err(Failed::Backup(BackupError::Changed))) {
            break;
        }
    }
    let header = made.map_err(|error| {
        if matches!(&error, Failed::Backup(BackupError::File { source, .. }) if source.kind() == ErrorKind::AlreadyExists) {
            let file = args.file.display();
            return failed(format!("`{file}` exists already; name another file, a backup replaces none"));
        }
        print_error(&error);
        if matches!(&error, Failed::Backup(BackupError::File { source, .. }) if source.kind() == ErrorKind::PermissionDenied) {
            print_error("the files are for the user of the service only: make the backup as root, e.g. with sudo");
        }
        Exit::Failed
    })?;
    Ok(print_line(format!("{}, events up to {}", counted(header.files.len(), "file"), header.last)))
}

pub(super) fn restore(args: &RestoreArgs) -> Ended {
    let (dir, gateway) = config::data_dir_and_gateway(&args.config.config).map_err(bad_config)?;
    let key = config::store_key(&args.config.config).map_err(bad_config)?;
    let key = key.and_then(|key| StoreKey::new(key.expose().as_bytes()));
    let restored = restore_to(&dir, &args.file, &gateway, key.as_ref(), args.force);
    let (header, aside) = restored.map_err(|error| match error {
        BackupError::Store(StoreError::InUse(dir)) => {
            failed(format!("a gateway runs on `{}`; stop it first", dir.display()))
        }
        BackupError::File { path, source } if path == args.file && source.kind() == ErrorKind::NotFound => {
            failed(format!("`{}` does not exist; name a file that `dormgate backup` made", path.display()))
        }
        error => failed(error),
    })?;
    let aside = aside.map_or(String::new(), |aside| format!("; what was there is in `{}`", aside.display()));
    Ok(print_line(format!(
        "restored the backup of {}, events up to {}{aside}\nAfter the start nothing is granted until the centers have sent \
         the list again.",
        header.made_at, header.last
    )))
}
