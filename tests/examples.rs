//! The examples in `deploy/examples`: what they sign is what a gateway takes, and each of them makes the same bytes.
#![cfg(feature = "workbench")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;

use dormgate::access::change::{Op, Position};
use dormgate::center::{Layout, create};
use dormgate::config;
use dormgate::wire::down;
use dormgate::wire::envelope::{Channel, open, sign};
use dormgate::wire::keys;

const OPS: &str = r#"[{"op":"reissue","holder":"08193021","old_uid":"1EA68671","new_uid":"04A1B2C3D4E5F6"}]"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs an example on a new center's key, opens what it prints as a gateway does, and compares it with what this crate signs.
fn assert_signs_what_a_gateway_takes(program: &Path, example: &str) {
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let ops = dir.path().join("ops.json");
    std::fs::write(&ops, OPS).unwrap();
    let (key, example) = (dir.path().join("card-office.key"), root().join("deploy/examples").join(example));
    let mut command = Command::new(program);
    command.arg(example).arg(&key).args(["card-office", "campus", "3", "1042"]).arg(&ops).arg("1788249600");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let streams = config::streams(&configuration).unwrap();
    let opened = open(&output.stdout, Channel::Campus, &"nanhu-xing1".parse().unwrap(), &streams).unwrap();
    let changes = down::read_changes(&opened).unwrap();
    assert_eq!(changes.at, Position { epoch: NonZeroU32::new(3).unwrap(), seq: 1042 });
    let reissue = Op::Reissue {
        holder: "08193021".parse().unwrap(),
        new_uid: "04A1B2C3D4E5F6".parse().unwrap(),
        old_uid: Some("1EA68671".parse().unwrap()),
    };
    assert_eq!(changes.content.unwrap(), [reissue]);

    let claims =
        format!(r#"{{"v":1,"iss":"card-office","aud":"campus","iat":1788249600,"epoch":3,"seq":1042,"ops":{OPS}}}"#);
    let seed = keys::parse_seed(&std::fs::read_to_string(&key).unwrap()).unwrap();
    let signed = sign(&claims, &"card-office".parse().unwrap(), &seed);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), signed, "Ed25519 has one signature for a key and a text");
}

#[test]
#[ignore = "needs the Python package cryptography in tests/.venv; `tests/run` installs it"]
fn the_example_in_python_signs_what_a_gateway_takes() {
    assert_signs_what_a_gateway_takes(&root().join("tests/.venv/bin/python"), "sign.py");
}

#[test]
#[ignore = "needs a JDK; `tests/run` installs Debian's default-jdk-headless"]
fn the_example_in_java_signs_what_a_gateway_takes() {
    assert_signs_what_a_gateway_takes(&PathBuf::from("java"), "Sign.java");
}
