//! `dormgate center` on the command line: an op and its answer, and what a wrong call ends with.

use std::path::Path;
use std::process::Stdio;

use dormgate::access::change::{Note, NoteCode};
use dormgate::access::effect::Outcome;
use dormgate::wire::envelope::Channel;
use dormgate::workbench::broker::Broker;
use tokio::time::timeout;

use super::gateway::{Gateway, Understood};
use super::{PATIENCE, at};

/// Runs the program; gives its exit code, what it wrote to stdout, and to stderr.
pub(super) async fn dormgate(dir: &Path, broker: Option<&Broker>, args: &[&str]) -> (i32, String, String) {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_dormgate"));
    program.arg("center").arg("--dir").arg(dir).args(args).env("RUST_LOG", "off");
    if let Some(broker) = broker {
        program.args(["--gateway", "g1", "--url", &broker.url().to_string()]);
    }
    let output = program.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn on_the_command_line_an_op_ends_with_the_outcome_of_its_ack() {
    let dir = tempfile::tempdir().unwrap();
    let (code, configuration, _) = dormgate(dir.path(), None, &["keygen"]).await;
    assert_eq!(code, 0);
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    let enrol = ["enrol", "1EA68671", "h1", "--gate", "*", "--door", "412", "--entitlement", "power_box:412:term"];
    let answering = async {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(1), Channel::Gateway));
        gateway.ack("center", at(1), Outcome::Applied).await;
    };
    let ((code, out, err), ()) = tokio::join!(dormgate(dir.path(), Some(&broker), &enrol), answering);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("center 1.1 applied in ") && out.contains(" ms; revoked 1EA68671; cut power-412"), "{out}");

    let refusing = async {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(2), Channel::Gateway));
        gateway.ack("center", at(2), Outcome::Rejected).await;
    };
    let cancel = ["cancel", "--holder", "h1"];
    let ((code, out, _), ()) = tokio::join!(dormgate(dir.path(), Some(&broker), &cancel), refusing);
    assert_eq!(code, 1);
    assert!(out.starts_with("center 1.2 rejected"), "{out}");

    let (code, _, err) = dormgate(dir.path(), Some(&broker), &["freeze", "1EA68671", "--wait", "0"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("center 1.3: no answer in 0 s") && err.contains("journal"), "{err}");
    assert_eq!(
        gateway.next_but_heads().await,
        Understood::Changes(at(3), Channel::Gateway),
        "it was sent all the same"
    );
}

#[tokio::test]
async fn a_wrong_call_ends_with_the_remedy_and_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = dormgate(dir.path(), None, &["issue", "1EA68671", "h1", "--gateway", "g1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("center keygen"), "{err}");
    assert_eq!(dormgate(dir.path(), None, &["keygen", "--streams", "two"]).await.0, 0);
    let wrong: [(&[&str], &str); 6] = [
        (&["issue", "1EA68671", "h1"], "--gateway"),
        (&["cancel", "--gateway", "g1"], "<UID"),
        (&["cancel", "1EA68671", "--holder", "h1", "--gateway", "g1"], "cannot be used"),
        (&["enrol", "1EA686", "h1", "--gateway", "g1"], "4, 7 or 10 bytes"),
        (&["enrol", "1EA68671", "h1", "--entitlement", "dor:412", "--gateway", "g1"], "gate, door, power_box"),
        (&["posture", "lockdown", "a", "*", "--gateway", "g1"], "alone"),
    ];
    for (args, reported) in wrong {
        let (code, out, err) = dormgate(dir.path(), None, args).await;
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(reported), "{args:?}: {err}");
    }
    let draft = dir.path().join("ops.json");
    std::fs::write(&draft, r#"[{"op":"cancle","uid":"1EA68671"}]"#).unwrap();
    let (code, _, err) = dormgate(dir.path(), None, &["send", draft.to_str().unwrap(), "--gateway", "g1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("did you mean `cancel`"), "{err}");
    assert!(!dir.path().join("campus/card-office.journal").exists());
    let (code, out, err) = dormgate(dir.path(), None, &["issue", "08111111", "h1", "--gateway", "g1"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("`issue`: random_uid: `ops[0].uid`"), "{err}");
    // What nobody can mean is refused here as it is by the service.
    let ended = ["enrol", "1EA68671", "h1", "--not-after", "2001-01-01T00:00:00Z", "--gateway", "g1"];
    let (code, out, err) = dormgate(dir.path(), None, &ended).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("`not_after`: 2001-01-01T00:00:00.000Z has passed"), "{err}");
    let itself = ["reissue", "h1", "1EA68671", "--old", "1EA68671", "--gateway", "g1"];
    let (code, _, err) = dormgate(dir.path(), None, &itself).await;
    assert!(code == 1 && err.contains("`old_uid`: `1EA68671` is the new card"), "{err}");
    assert_eq!(std::fs::read(dir.path().join("campus/card-office.journal")).unwrap(), b"");
}

#[tokio::test]
async fn an_op_that_reached_nothing_is_named_behind_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let (_, configuration, _) = dormgate(dir.path(), None, &["keygen"]).await;
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    let message = "no card of holder `nobody` is known".to_owned();
    let notes = vec![Note { op: 0, code: NoteCode::NoEffect, uid: None, message }];
    let answering = async {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(1), Channel::Gateway));
        gateway.ack_with("center", at(1), Outcome::Applied, notes).await;
    };
    let withdraw = ["withdraw", "--holder", "nobody"];
    let ((code, out, _), ()) = tokio::join!(dormgate(dir.path(), Some(&broker), &withdraw), answering);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len()), (0, 2), "{out}");
    assert!(lines[0].starts_with("center 1.1 applied in ") && lines[0].contains(" ms; revoked "), "{out}");
    assert_eq!(lines[1], "  op 0: no card of holder `nobody` is known");
}

#[tokio::test]
async fn without_an_answer_it_is_named_why_the_broker_is_not_connected() {
    let dir = tempfile::tempdir().unwrap();
    dormgate(dir.path(), None, &["keygen"]).await;
    // A port where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("mqtt://127.0.0.1:{port}");
    let commands: [&[&str]; 3] = [&["freeze", "1EA68671"], &["command", "release", "gate-in"], &["compare"]];
    for command in commands {
        let args = [command, &["--gateway", "g1", "--url", &url, "--wait", "1"]].concat();
        let (code, out, err) = dormgate(dir.path(), None, &args).await;
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(&format!("the broker is not connected: `{url}`")) && err.contains("refused"), "{err}");
    }
}
