//! Whether the description accepts what the service accepts.

use serde_json::{Value, json};

use super::*;
use crate::wire::down;

/// Whether `value` matches `schema` of the description, as far as the keywords go that matter here.
fn is_valid(document: &Value, schema: &Value, value: &Value) -> bool {
    let all = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    let valid = |schema: &Value| is_valid(document, schema, value);
    if let Some(at) = schema["$ref"].as_str() {
        return valid(document.pointer(at.trim_start_matches('#')).unwrap());
    }
    let is_of_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    let one_of = schema.get("oneOf").is_none_or(|_| all("oneOf").iter().filter(|one| valid(one)).count() == 1);
    let any_of = schema.get("anyOf").is_none_or(|_| all("anyOf").iter().any(valid));
    let is_listed = schema.get("enum").is_none_or(|_| all("enum").contains(value));
    let is_complete = all("required").iter().all(|key| value.get(key.as_str().unwrap()).is_some());
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut fields = properties.filter_map(|(key, schema)| Some((schema, value.get(key)?)));
    let of_items = value.as_array().into_iter().flatten().all(|item| is_valid(document, &schema["items"], item));
    is_of_type
        && one_of
        && any_of
        && is_listed
        && is_complete
        && of_items
        && fields.all(|(schema, value)| is_valid(document, schema, value))
}

#[test]
fn the_description_accepts_the_ops_that_the_service_accepts() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let op = &document["components"]["schemas"]["Op"];
    let (card, holder) = (json!({"uid": "1EA68671"}), json!({"holder": "h1"}));
    let entitlements = json!([{"kind": "door", "zone": "412"}]);
    let power = json!({"zone": "412", "reason": "arrears"});
    let both = json!({"uid": "1EA68671", "holder": "h1"});
    let cases = [
        ("report_lost", &card),
        ("report_lost", &holder),
        ("report_lost", &both),
        ("report_lost", &power),
        ("found", &both),
        ("freeze", &both),
        ("unfreeze", &both),
        ("cancel", &both),
        ("withdraw", &both),
        ("found", &card),
        ("freeze", &holder),
        ("unfreeze", &card),
        ("cancel", &holder),
        ("withdraw", &holder),
        ("issue", &both),
        ("issue", &card),
        ("reinstate", &card),
        ("reinstate", &holder),
        ("reissue", &json!({"holder": "h1", "new_uid": "1EA68671"})),
        ("reissue", &holder),
        ("enrol", &json!({"uid": "1EA68671", "holder": "h1", "entitlements": entitlements})),
        ("enrol", &both),
        ("suspend_power", &power),
        ("resume_power", &power),
        ("resume_power", &card),
        ("define_schedule", &json!({"name": "term", "weekly": {}})),
        ("define_schedule", &json!({"name": "term"})),
        ("set_posture", &json!({"portals": "*", "posture": "lockdown"})),
        ("set_posture", &json!({"portals": "*"})),
        ("tea", &card),
    ];
    for (name, fields) in cases {
        let mut written = fields.clone();
        written["op"] = name.into();
        let is_accepted = down::read_ops(&json!([written]).to_string()).is_ok();
        assert_eq!(is_valid(&document, op, &written), is_accepted, "{written}");
    }
}

#[test]
fn the_description_has_the_answers_that_the_service_gives() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let conflict =
        &document["paths"]["/v1/commands"]["post"]["responses"]["409"]["content"]["application/json"]["schema"];
    let error = json!({"code": "unknown_portal", "message": "no such portal"});
    assert!(is_valid(&document, conflict, &json!({"jti": "a", "status": "rejected", "error": error})));
    assert!(is_valid(&document, conflict, &json!({"error": error})));
    assert!(!is_valid(&document, conflict, &json!({"jti": "a"})));
    let ack = &document["components"]["schemas"]["Published"]["properties"]["acks"]["items"];
    let note = json!({"op": 0, "code": "no_effect", "message": "no card of `nobody` is known"});
    assert_eq!(ack["properties"]["notes"]["items"]["required"], json!(["op", "code", "message"]));
    assert!(is_valid(&document, ack, &json!({"gateway": "g1", "outcome": "applied", "notes": [note]})));
    assert!(!is_valid(&document, ack, &json!({"gateway": "g1", "outcome": "applied", "notes": [{"op": 0}]})));
}
