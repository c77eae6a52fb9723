//! The Debian package, made of the program as the tests have built it: what lintian finds, that the same sources give the same bytes,
//! and what installing, upgrading, removing and purging leave in a root of its own.
#![cfg(feature = "package")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that has to succeed; gives what it printed.
fn run(command: &mut Command) -> String {
    let ended = command.output().unwrap();
    let printed = String::from_utf8_lossy(&[ended.stdout.clone(), ended.stderr].concat()).into_owned();
    assert!(ended.status.success(), "{command:?}: {printed}");
    String::from_utf8(ended.stdout).unwrap()
}

/// The package of a part, `gateway` or `center`, for this machine's architecture, in `dir`.
fn package(dir: &Path, part: &str) -> PathBuf {
    let manuals = dir.join("manuals");
    let program = env!("CARGO_BIN_EXE_dormgate");
    run(Command::new(program).arg("manuals").arg(&manuals));
    let arch = run(Command::new("dpkg").arg("--print-architecture"));
    let mut build = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/package/build"));
    build.arg(arch.trim()).arg(dir.join("out")).env("SOURCE_DATE_EPOCH", "1790000000");
    build.env("PART", part).env("PROGRAM", program).env("MANUALS", manuals);
    PathBuf::from(run(&mut build).trim())
}

/// A root without a system, as `debootstrap` begins one.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for file in ["var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        Self(root)
    }

    fn dpkg(&self, args: &[&str]) {
        let forced = ["--force-script-chrootless", "--force-depends", "--force-not-root"];
        run(Command::new("dpkg").arg(format!("--root={}", self.0.path().display())).args(forced).args(args));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }
}

/// `lintian` finds no error in it.
fn no_errors(package: &str) {
    let found = Command::new("lintian").args(["--allow-root", package]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let errors: Vec<_> = found.lines().filter(|line| line.starts_with("E:")).collect();
    assert_eq!(errors, Vec::<&str>::new());
}

#[test]
#[ignore = "needs root, dpkg, lintian and systemd-sysusers; tests/run installs them"]
fn the_package_is_sound_and_leaves_what_is_the_sites_until_it_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let file = package(dir.path(), "gateway");
    let name = file.display().to_string();

    no_errors(&name);
    let again = tempfile::tempdir().unwrap();
    assert_eq!(
        fs::read(&file).unwrap(),
        fs::read(package(again.path(), "gateway")).unwrap(),
        "the same sources give the same bytes"
    );

    let root = Root::new();
    root.dpkg(&["-i", &name]);
    for part in [
        "usr/bin/dormgate",
        "usr/lib/systemd/system/dormgate.service",
        "usr/share/dormgate/devices/waveshare-relay-8ch.toml",
        "usr/share/dormgate/devices/mqtt/shelly-gen2.toml",
        "usr/share/man/man1/dormgate-check.1.gz",
        "usr/share/doc/dormgate/copyright",
    ] {
        assert!(root.path(part).is_file(), "{part}");
    }
    // Each shell reads a file of its own.
    for (shell, begins, knows) in [
        ("bash-completion/completions/dormgate", "_dormgate() {", "dormgate__subcmd__status"),
        ("zsh/vendor-completions/_dormgate", "#compdef dormgate\n", "'status:"),
        ("fish/vendor_completions.d/dormgate.fish", "# ", "-a \"status\""),
    ] {
        let text = fs::read_to_string(root.path("usr/share").join(shell)).unwrap();
        assert!(text.starts_with(begins) && text.contains(knows), "{shell}");
    }
    // What a site puts into the broker: as in the sources.
    for snippet in ["mosquitto.conf", "mosquitto-2.1.conf", "mosquitto.acl"] {
        let sources = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(snippet)).unwrap();
        assert_eq!(fs::read(root.path("usr/share/doc/dormgate").join(snippet)).unwrap(), sources, "{snippet}");
    }
    assert!(fs::read_to_string(root.path("etc/passwd")).unwrap().contains("dormgate"), "its user is made");
    let config = root.path("etc/dormgate/dormgate.toml");
    run(Command::new(root.path("usr/bin/dormgate")).args(["check", "--config"]).arg(&config));

    let enabled = root.path("etc/systemd/system/multi-user.target.wants/dormgate.service");
    run(Command::new("systemctl").arg(format!("--root={}", root.0.path().display())).args(["enable", "dormgate"]));
    // Its target is not there for whoever looks from outside of the root.
    assert!(enabled.is_symlink());

    // What the site has changed and what the gateway has written are there after an upgrade and after a removal.
    let changed = fs::read_to_string(&config).unwrap().replace("xing1", "xing2");
    fs::write(&config, &changed).unwrap();
    fs::create_dir_all(root.path("var/lib/dormgate")).unwrap();
    fs::write(root.path("var/lib/dormgate/journal"), "x").unwrap();
    root.dpkg(&["-i", &name]);
    assert!(enabled.is_symlink(), "an upgrade leaves it to start with the box");
    root.dpkg(&["--remove", "dormgate"]);
    assert!(!root.path("usr/bin/dormgate").exists() && !enabled.is_symlink());
    assert_eq!(fs::read_to_string(&config).unwrap(), changed);
    assert!(root.path("var/lib/dormgate/journal").is_file());
    root.dpkg(&["--purge", "dormgate"]);
    for gone in ["etc/dormgate", "var/lib/dormgate", "usr/share/doc/dormgate"] {
        assert!(!root.path(gone).exists(), "{gone}");
    }
}

#[test]
#[ignore = "needs root, dpkg, lintian and systemd-sysusers; tests/run installs them"]
fn the_package_of_a_center_is_sound_beside_that_of_a_gateway() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let [gateway, center] = ["gateway", "center"].map(|part| package(dir.path(), part).display().to_string());
    no_errors(&center);
    let root = Root::new();
    // On one machine, for a trial: no file is in both.
    root.dpkg(&["-i", &gateway, &center]);
    for part in [
        "usr/bin/dormgate-center",
        "usr/lib/systemd/system/dormgate-center.service",
        "usr/share/man/man1/dormgate-center-serve.1.gz",
        "usr/share/doc/dormgate-center/center.md",
        "etc/dormgate-center/center.toml",
        "etc/dormgate-center/secrets",
    ] {
        assert!(root.path(part).exists(), "{part}");
    }
    let unit = fs::read_to_string(root.path("usr/lib/systemd/system/dormgate-center.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/dormgate-center center serve") && !unit.contains("\nLoadCredential="));
    assert!(fs::read_to_string(root.path("etc/passwd")).unwrap().contains("dormgate-center"), "its user is made");
    let tokens = fs::metadata(root.path("etc/dormgate-center/tokens")).unwrap().permissions().mode();
    assert_eq!(tokens & 0o7777, 0o2750);
    run(Command::new(root.path("usr/bin/dormgate-center")).args(["center", "serve", "--help"]));
    root.dpkg(&["--remove", "dormgate-center"]);
    assert!(root.path("etc/dormgate-center/center.toml").is_file() && !root.path("usr/bin/dormgate-center").exists());
    root.dpkg(&["--purge", "dormgate-center"]);
    assert!(!root.path("etc/dormgate-center").exists() && root.path("etc/dormgate/dormgate.toml").is_file());
}
