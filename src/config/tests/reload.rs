//! What is different in a file that was read again, by the names of its keys.

use super::*;

const SITE: &str = r#"[gateway]
id = "g"
timezone = "Asia/Shanghai"
[uplink]
urls = ["mqtt://127.0.0.1:1"]
username = "g"
password_file = "password"
[local]
urls = ["mqtt://127.0.0.1:2"]
[[center.stream]]
name = "office"
public_keys = ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"]
may = ["*"]
[policy]
max_denials = 5
[audit]
flush_ms = 50
[http]
listen = "127.0.0.1:8480"
token_file = "token"
[[bus]]
id = "riser"
tcp = "192.0.2.9:502"
[modbus_server]
tcp = "127.0.0.1:1502"
allow = ["127.0.0.0/8"]
[[schedule]]
name = "day"
weekly = { mon = ["06:00-23:00"] }
[[area]]
zone = "lobby"
anti_passback = "off"
[[portal]]
id = "gate"
kind = "gate"
zone = "lobby"
hold_ms = 3000
device = { mqtt = "native" }
[[portal]]
id = "door"
kind = "door"
zone = "1"
device = { modbus_server = 13 }
"#;

fn read(dir: &Path, text: &str) -> Site {
    parse(text, &around(dir)).unwrap_or_else(|found| panic!("{found:?}\n{text}"))
}

#[test]
fn each_key_is_taken_over_at_once_or_named_as_one_that_needs_a_restart() {
    let dir = directory(&[
        ("password", "hunter2"),
        ("other", "hunter3"),
        ("token", "open sesame, 20 bytes or more"),
        ("new", "closed sesame, 20 bytes or more"),
    ]);
    let before = read(dir.path(), SITE);
    assert_eq!(before.differences(&read(dir.path(), SITE)), Differences::default());
    let key = r#"["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"]"#;
    for (old, new, live, restart) in [
        ("id = \"g\"", "id = \"h\"", "", "gateway.id, uplink.client_id, local.client_id"),
        ("timezone = \"Asia/Shanghai\"", "timezone = \"Asia/Urumqi\"", "gateway.timezone", ""),
        ("[uplink]", "data_dir = \"data\"\n[uplink]", "", "gateway.data_dir"),
        ("\"mqtt://127.0.0.1:1\"", "\"mqtt://127.0.0.1:1\", \"mqtt://127.0.0.2:1\"", "", "uplink.urls"),
        ("username = \"g\"", "username = \"h\"", "", "uplink.username"),
        ("\"password\"", "\"other\"", "", "uplink.password_file"),
        ("[local]", "session = \"clean\"\n[local]", "", "uplink.session"),
        ("[\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"]", key, "center.stream `office`: public_keys", ""),
        (
            "name = \"office\"",
            "name = \"cards\"",
            "",
            "center.stream `cards` (added), center.stream `office` (removed)",
        ),
        ("may = [\"*\"]", "may = [\"issue\"]", "", "center.stream `office`: may"),
        ("[[center.stream]]", "[center]\nrequire_issue = true\n[[center.stream]]", "center.require_issue", ""),
        ("max_denials = 5", "max_denials = 6\nlockout_s = 9", "policy.max_denials, policy.lockout_s", ""),
        ("flush_ms = 50", "flush_ms = 60", "", "audit.flush_ms"),
        ("listen = \"127.0.0.1:8480\"", "listen = \"127.0.0.1:8481\"", "", "http.listen"),
        ("\"token\"", "\"new\"", "http.token_file", ""),
        ("token_file = \"token\"\n", "", "http.token_file", ""),
        ("192.0.2.9:502", "192.0.2.9:503", "", "bus `riser`"),
        ("id = \"riser\"", "id = \"riser-2\"", "", "bus `riser-2` (added), bus `riser` (removed)"),
        ("127.0.0.1:1502", "127.0.0.1:1503", "", "modbus_server.tcp"),
        ("[\"127.0.0.0/8\"]", "[\"127.0.0.1/32\"]", "modbus_server.allow", ""),
        ("06:00-23:00", "06:00-22:00", "schedule `day`", ""),
        ("name = \"day\"", "name = \"term\"", "schedule `term` (added), schedule `day` (removed)", ""),
        ("anti_passback = \"off\"", "anti_passback = \"hard\"", "area", ""),
        ("hold_ms = 3000", "hold_ms = 4000", "portal `gate`: hold_ms, portal `gate`: extended_hold_ms", ""),
        (
            "hold_ms = 3000",
            "hours = \"day\"\nfire_input = false",
            "portal `gate`: fire_input, portal `gate`: hours",
            "",
        ),
        ("zone = \"1\"", "zone = \"2\"", "", "portal `door`: zone"),
        ("modbus_server = 13", "modbus_server = 14", "", "portal `door`: device"),
        ("id = \"door\"", "id = \"door-1\"", "", "portal `door-1` (added), portal `door` (removed)"),
    ] {
        assert_eq!(SITE.matches(old).count(), 1, "{old}");
        let found = before.differences(&read(dir.path(), &SITE.replace(old, new)));
        assert_eq!((found.live.join(", ").as_str(), found.restart.join(", ").as_str()), (live, restart), "{new}");
    }
}

#[test]
fn a_secret_counts_by_what_is_in_its_file_and_a_password_of_a_broker_is_read_for_each_connection_anyway() {
    let dir = directory(&[("password", "hunter2"), ("token", "open sesame, 20 bytes or more")]);
    let before = read(dir.path(), SITE);
    std::fs::write(dir.path().join("password"), "hunter3").unwrap();
    assert_eq!(before.differences(&read(dir.path(), SITE)), Differences::default());
    std::fs::write(dir.path().join("token"), "closed sesame, 20 bytes or more").unwrap();
    assert_eq!(before.differences(&read(dir.path(), SITE)).live, ["http.token_file"]);
}

/// `two_card_s` alone has no meaning, so that it is named only where both have `two_card`.
#[test]
fn the_time_of_the_second_card_is_a_key_of_its_own_only_where_two_cards_open() {
    let dir = directory(&[("password", "hunter2"), ("token", "open sesame, 20 bytes or more")]);
    let with = |keys: &str| read(dir.path(), &SITE.replace("zone = \"1\"", &format!("zone = \"1\"\n{keys}")));
    let (one, two, quick) = (with(""), with("two_card = true"), with("two_card = true\ntwo_card_s = 5"));
    for (old, new, key) in
        [(&one, &two, "two_card"), (&quick, &one, "two_card"), (&two, &quick, "two_card_s"), (&one, &quick, "two_card")]
    {
        assert_eq!(old.differences(new).live, [format!("portal `door`: {key}")]);
    }
}

#[test]
fn the_order_of_tables_is_no_difference() {
    let dir = directory(&[("password", "hunter2"), ("token", "open sesame, 20 bytes or more")]);
    let (head, portals) = SITE.split_once("[[portal]]").unwrap();
    let (gate, door) = portals.split_once("[[portal]]").unwrap();
    let turned = format!("{head}[[portal]]{door}[[portal]]{gate}");
    assert_eq!(read(dir.path(), SITE).differences(&read(dir.path(), &turned)), Differences::default());
}
