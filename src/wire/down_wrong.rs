//! What is wrong with ops and commands: what is written, and the code and the path of the answer.

use serde_json::{Value, json};

use crate::access::change::ErrorCode;

/// Every error in an op: what is written, the code and the path that answer it.
pub(super) fn wrong_ops() -> Vec<(Value, ErrorCode, &'static str)> {
    use ErrorCode::{InvalidField, InvalidUid, RandomUid, TooLarge, UnknownOp};
    let with = |base: &Value, key: &str, value: Value| {
        let mut op = base.clone();
        op[key] = value;
        op
    };
    let issue = json!({"op": "issue", "uid": "1EA68671", "holder": "a"});
    let enrol = json!({"op": "enrol", "uid": "1EA68671", "holder": "a", "entitlements": []});
    let posture = json!({"op": "set_posture", "portals": "*", "posture": "secure"});
    let suspend = json!({"op": "suspend_power", "zone": "412", "reason": "arrears"});
    let schedule = json!({"op": "define_schedule", "name": "t", "weekly": {}});
    let day = json!({"date": "2026-02-03", "windows": []});
    let windows = |count| json!(vec!["06:00-07:00"; count]);
    vec![
        (json!(7), InvalidField, "ops[0]"),
        (json!({"uid": "1EA68671"}), InvalidField, "ops[0].op"),
        (json!({"op": null}), InvalidField, "ops[0].op"),
        (json!({"op": 7}), InvalidField, "ops[0].op"),
        (json!({"op": "isue"}), UnknownOp, "ops[0].op"),
        (json!({"op": "command"}), UnknownOp, "ops[0].op"),
        (with(&issue, "uid", json!("1EA686")), InvalidUid, "ops[0].uid"),
        (with(&issue, "uid", json!(514_229_873)), InvalidUid, "ops[0].uid"),
        (with(&issue, "uid", json!("00000000")), InvalidUid, "ops[0].uid"),
        (with(&issue, "uid", json!("8804A1B2")), InvalidUid, "ops[0].uid"),
        (json!({"op": "cancel", "uid": "8804A1B2"}), InvalidUid, "ops[0].uid"),
        (
            json!({"op": "reissue", "new_uid": "1EA68671", "old_uid": "8804A1B2", "holder": "a"}),
            InvalidUid,
            "ops[0].old_uid",
        ),
        (with(&issue, "uid", json!("card")), InvalidUid, "ops[0].uid"),
        (with(&issue, "uid", json!("08A1B2C3")), RandomUid, "ops[0].uid"),
        (with(&issue, "uid", Value::Null), InvalidField, "ops[0].uid"),
        (json!({"op": "reissue", "new_uid": "08A1B2C3", "holder": "a"}), RandomUid, "ops[0].new_uid"),
        (json!({"op": "reissue", "new_uid": "1EA68671", "old_uid": "1E", "holder": "a"}), InvalidUid, "ops[0].old_uid"),
        (json!({"op": "issue", "uid": "1EA68671"}), InvalidField, "ops[0].holder"),
        (with(&issue, "holder", json!("a.b")), InvalidField, "ops[0].holder"),
        (with(&issue, "holder", json!("x".repeat(9999))), InvalidField, "ops[0].holder"),
        (json!({"op": "cancel"}), InvalidField, "ops[0].uid"),
        (json!({"op": "cancel", "uid": "1EA68671", "holder": "a"}), InvalidField, "ops[0].holder"),
        (json!({"op": "reinstate", "holder": "a"}), InvalidField, "ops[0].uid"),
        (with(&enrol, "uid", json!("08A1B2C3")), RandomUid, "ops[0].uid"),
        (with(&enrol, "entitlements", Value::Null), InvalidField, "ops[0].entitlements"),
        (
            with(&enrol, "entitlements", json!([{"kind": "gates", "zone": "*"}])),
            InvalidField,
            "ops[0].entitlements[0].kind",
        ),
        (with(&enrol, "entitlements", json!([{"kind": "gate"}])), InvalidField, "ops[0].entitlements[0].zone"),
        (
            with(&enrol, "entitlements", json!([{"kind": "gate", "zone": "", "schedule": "x"}])),
            InvalidField,
            "ops[0].entitlements[0].zone",
        ),
        (
            with(&enrol, "entitlements", json!(vec![json!({"kind": "gate", "zone": "*"}); 1025])),
            TooLarge,
            "ops[0].entitlements",
        ),
        (with(&enrol, "role", json!("boss")), InvalidField, "ops[0].role"),
        (with(&enrol, "not_after", json!("soon")), InvalidField, "ops[0].not_after"),
        (with(&enrol, "not_after", json!(true)), InvalidField, "ops[0].not_after"),
        // A spreadsheet's day number.
        (with(&enrol, "not_after", json!(46_266)), InvalidField, "ops[0].not_after"),
        (with(&enrol, "not_before", json!("1999-12-31T23:59:59Z")), InvalidField, "ops[0].not_before"),
        (with(&posture, "until", json!(46_266)), InvalidField, "ops[0].until"),
        (
            with(&with(&enrol, "not_before", json!(1_788_249_600)), "not_after", json!(1_788_249_600)),
            InvalidField,
            "ops[0].not_after",
        ),
        (with(&suspend, "zone", json!("*")), InvalidField, "ops[0].zone"),
        (with(&suspend, "reason", Value::Null), InvalidField, "ops[0].reason"),
        (with(&suspend, "reason", json!("arears")), InvalidField, "ops[0].reason"),
        (with(&schedule, "weekly", Value::Null), InvalidField, "ops[0].weekly"),
        (with(&schedule, "weekly", json!({"wedn": []})), InvalidField, "ops[0].weekly.wedn"),
        (with(&schedule, "weekly", json!({"mon": "06:00-23:00"})), InvalidField, "ops[0].weekly.mon"),
        (with(&schedule, "weekly", json!({"mon": ["6:00-23:00"]})), InvalidField, "ops[0].weekly.mon[0]"),
        (with(&schedule, "weekly", json!({"mon": ["25:00-26:00"]})), InvalidField, "ops[0].weekly.mon[0]"),
        (with(&schedule, "weekly", json!({"mon": windows(49)})), TooLarge, "ops[0].weekly"),
        (
            with(&schedule, "holidays", json!([{"date": "2026-02-30", "windows": []}])),
            InvalidField,
            "ops[0].holidays[0].date",
        ),
        (with(&schedule, "holidays", json!([{"date": "2026-02-03"}])), InvalidField, "ops[0].holidays[0].windows"),
        (with(&schedule, "holidays", json!([day, day])), InvalidField, "ops[0].holidays[1].date"),
        (with(&schedule, "timezone", json!("Asia/Nanhu")), InvalidField, "ops[0].timezone"),
        (with(&posture, "portals", json!([])), InvalidField, "ops[0].portals"),
        (with(&posture, "portals", json!(["*", "a"])), InvalidField, "ops[0].portals[0]"),
        (with(&posture, "portals", json!(["a", "b c"])), InvalidField, "ops[0].portals[1]"),
        (with(&posture, "portals", json!("gate-in")), InvalidField, "ops[0].portals"),
        (with(&posture, "portals", json!(1)), InvalidField, "ops[0].portals"),
        (with(&posture, "portals", json!(vec!["p"; 1025])), TooLarge, "ops[0].portals"),
        (with(&posture, "posture", json!("open")), InvalidField, "ops[0].posture"),
    ]
}

/// Every error in a command, as the fields that differ from a good one.
pub(super) fn wrong_commands() -> Vec<(Value, ErrorCode, &'static str)> {
    use ErrorCode::{InvalidField, InvalidUid, UnknownOp};
    vec![
        (json!({"command": "releas"}), UnknownOp, "command"),
        (json!({"command": null}), InvalidField, "command"),
        (json!({"exp": null}), InvalidField, "exp"),
        (json!({"exp": 131}), InvalidField, "exp"),
        (json!({"exp": 100}), InvalidField, "exp"),
        (json!({"exp": 130.001}), InvalidField, "exp"),
        (json!({"iat": null}), InvalidField, "iat"),
        (json!({"jti": null}), InvalidField, "jti"),
        (json!({"jti": ""}), InvalidField, "jti"),
        (json!({"jti": "x".repeat(65)}), InvalidField, "jti"),
        (json!({"actor": "a\nb"}), InvalidField, "actor"),
        (json!({"portal": null}), InvalidField, "portal"),
        (json!({"command": "power"}), InvalidField, "on"),
        (json!({"command": "power", "on": "yes"}), InvalidField, "on"),
        (json!({"command": "query", "uid": "*"}), InvalidUid, "uid"),
        (json!({"command": "forgive"}), InvalidField, "uid"),
        (json!({"command": "forgive", "uid": "all"}), InvalidUid, "uid"),
    ]
}
