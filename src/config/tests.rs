//! The whole file as users write it, every default, and every diagnostic with its exact text.

use super::*;
use crate::access::policy::{FirePower, RevokePower, Severity, UntrustedClock};
use crate::access::portal::{Direction, PortalKind};
use crate::wire::allowed::OpName;
use crate::wire::envelope::Scope;

/// The public key of RFC 8037, appendix A.
const KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// What the example names.
fn with_secrets() -> tempfile::TempDir {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    directory(&[
        ("secrets/uplink_password", "hunter2\n"),
        ("secrets/ca.pem", &pem),
        ("secrets/gateway.pem", &pem),
        ("secrets/gateway.key", "key"),
        ("secrets/console_token", "open sesame\n"),
    ])
}

fn around(dir: &Path) -> Surroundings {
    Surroundings { base_dir: dir.to_owned(), credentials_dir: None }
}

fn parsed(text: &str) -> Site {
    parse(text, &around(Path::new("/nowhere"))).unwrap()
}

fn diagnostics(text: &str) -> String {
    let found = parse(text, &around(Path::new("/nowhere"))).unwrap_err();
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_of_a_full_file_is_understood() {
    let dir = with_secrets();
    let secrets = dir.path().join("secrets");
    let config = parse(include_str!("tests/example.toml"), &around(dir.path())).unwrap();

    assert_eq!(config.gateway.as_str(), "nanhu-xing1");
    assert_eq!(config.timezone_name, "Asia/Shanghai");
    assert_eq!(config.data_dir, dir.path().join("data"));

    let uplink = config.uplink.unwrap();
    let urls: Vec<String> = uplink.urls.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["mqtts://mqtt-a.campus.example:8883", "mqtts://mqtt-b.campus.example:8883"]);
    let credentials = uplink.credentials.unwrap();
    assert_eq!(credentials.username, "nanhu-xing1");
    assert_eq!(credentials.password, Some(Secret::new("hunter2")));
    assert_eq!(uplink.ca_file, Some(secrets.join("ca.pem")));
    assert_eq!(uplink.client_cert.unwrap().key_file, secrets.join("gateway.key"));
    assert_eq!((uplink.session, uplink.resync_spread_s), (Session::Clean, 9));
    let local = config.local.unwrap();
    assert_eq!(
        (local.urls[0].to_string().as_str(), local.client_id.as_str()),
        ("mqtt://127.0.0.1:1883", "nanhu-xing1-local")
    );

    assert_eq!(config.streams.len(), 2);
    assert_eq!(config.streams[0].scope, Scope::Campus);
    assert_eq!(config.streams[0].keys.len(), 1);
    assert_eq!(config.streams[0].allowed.iter().count(), 8);
    assert!(config.streams[1].allowed.contains(OpName::Command));
    assert_eq!(config.streams[1].scope, Scope::Gateway);

    let policy = &config.policy;
    assert!(policy.frozen_may.contains(PortalKind::Gate) && !policy.frozen_may.contains(PortalKind::Door));
    assert!(policy.reissue_keeps.contains(PortalKind::Door));
    assert_eq!(policy.revoke_power, RevokePower::AfterDelay);
    assert_eq!((policy.anti_passback, policy.clone), (Severity::Deny, Severity::Deny));
    assert_eq!((policy.untrusted_clock, policy.fire_power), (UntrustedClock::Grant, FirePower::Cut));
    assert_eq!((policy.max_denials, policy.lockout_s, policy.stale_after_s), (6, 30, 60));
    assert_eq!(config.audit.ack, AuditAckBy::Broker);
    assert_eq!((config.audit.retain_events.get(), config.audit.retain_days, config.audit.flush_ms), (2000, 90, 20));
    let http = config.http.unwrap();
    assert_eq!((http.listen.to_string().as_str(), http.token.unwrap().expose()), ("0.0.0.0:8480", "open sesame"));

    let BusLine::Serial(serial) = &config.buses[0].line else { panic!("a serial line") };
    assert_eq!((serial.baud, serial.parity, serial.stop_bits), (9600, Parity::None, 2));
    assert_eq!((config.buses[0].timeout_ms, config.buses[0].devices_dir.as_ref()), (300, Some(&secrets)));
    assert_eq!((config.buses[0].echo, config.buses[0].any_transaction), (Some(true), false));
    assert_eq!((config.buses[1].echo, config.buses[1].any_transaction), (None, true));
    assert_eq!(config.buses[1].line, BusLine::Tcp(TcpPeer { host: "192.0.2.9".into(), port: 502 }));
    let server = config.modbus_server.unwrap();
    assert_eq!(server.tcp.unwrap().port(), 1502);
    assert_eq!(server.allow, ["192.0.2.0/24".parse().unwrap(), "198.51.100.7/32".parse::<ipnet::IpNet>().unwrap()]);

    let [gate, door, power, other] = config.portals.try_into().unwrap();
    assert_eq!((gate.portal.direction, gate.portal.hold_ms, gate.portal.debounce_ms), (Some(Direction::In), 500, 250));
    assert!(!gate.portal.fire_input && door.portal.fire_input);
    assert_eq!(gate.device, PortalDevice::NativeMqtt);
    let PortalDevice::Parts(Parts { reader, slots: 1, output, meter: None, inputs: None }) = door.device else {
        panic!("a door of parts")
    };
    assert_eq!(
        (reader.bus.as_str(), reader.unit, reader.profile.id.as_str(), reader.channel),
        ("riser-2", 3, "inveo-rfid-ind-m1", 0)
    );
    assert_eq!((output.bus.as_str(), output.unit, output.channel), ("floor-1", 255, 3));
    assert_eq!((power.portal.delay_off_ms, power.portal.rest_ms), (20_000, 7_000));
    let PortalDevice::Parts(parts) = &power.device else { panic!("a box of parts") };
    let part = |part: &Part| (part.unit, part.profile.id.clone(), part.channel);
    assert_eq!(
        parts.all().map(part).collect::<Vec<_>>(),
        [
            (4, "technotrade-vrd-485".into(), 0),
            (21, "waveshare-relay-8ch".into(), 1),
            (31, "eastron-sdm120".into(), 0),
            (9, "generic-contacts".into(), 3),
        ]
    );
    assert_eq!(other.device, PortalDevice::ModbusServer { unit: 13 });
    assert_eq!(config.insecure, ["http: 0.0.0.0:8480 is not encrypted"]);
}

#[test]
fn what_the_file_leaves_out_has_the_documented_default() {
    let config = parsed("[gateway]\nid = \"g\"\n");
    assert_eq!(config.timezone_name, "Asia/Shanghai");
    assert_eq!(config.data_dir, Path::new("/var/lib/dormgate"));
    assert!(
        config.uplink.is_none() && config.local.is_none() && config.http.is_none() && config.modbus_server.is_none()
    );
    assert!(
        config.streams.is_empty() && config.buses.is_empty() && config.portals.is_empty() && config.insecure.is_empty()
    );
    let policy = &config.policy;
    assert!(policy.frozen_may.is_empty() && policy.reissue_keeps.is_empty() && !policy.require_issue);
    assert_eq!(policy.revoke_power, RevokePower::AtOnce);
    assert_eq!((policy.anti_passback, policy.clone), (Severity::Flag, Severity::Flag));
    assert_eq!((policy.untrusted_clock, policy.fire_power), (UntrustedClock::Deny, FirePower::Keep));
    assert_eq!((policy.max_denials, policy.lockout_s, policy.stale_after_s), (5, 0, 900));
    assert_eq!(config.audit.ack, AuditAckBy::Center);
    assert_eq!(
        (config.audit.retain_events.get(), config.audit.retain_days, config.audit.flush_ms),
        (1_000_000, 180, 50)
    );
}

#[test]
fn sections_and_parts_have_the_documented_defaults() {
    let config = parsed(&format!(
        r#"
[gateway]
id = "g"
[uplink]
urls = ["mqtt://[::1]", "mqtts://b.example"]
[[center.stream]]
name = "center"
public_keys = ["{KEY}"]
may = ["*"]
[policy]
[audit]
[http]
[[bus]]
id = "b"
serial = {{ port = "/dev/ttyS0" }}
[modbus_server]
tcp = "127.0.0.1:0"
[[portal]]
id = "gate"
kind = "gate"
zone = "lobby"
device = {{ mqtt = "native" }}
[[portal]]
id = "box"
kind = "power_box"
zone = "1"
reader = {{ modbus = "b", unit = 1, profile = "generic-power-box" }}
output = {{ modbus = "b", unit = 1, profile = "generic-power-box" }}
"#
    ));
    let uplink = config.uplink.unwrap();
    let urls: Vec<String> = uplink.urls.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["mqtt://[::1]:1883", "mqtts://b.example:8883"]);
    assert_eq!(uplink.client_id, "g");
    assert_eq!((uplink.session, uplink.resync_spread_s), (Session::Persistent, 5));
    let local = config.local.unwrap();
    assert_eq!((local.client_id.as_str(), &local.urls), ("g-local", &uplink.urls));
    assert_eq!(config.streams[0].scope, Scope::Gateway);
    assert_eq!(config.streams[0].allowed.iter().count(), OpName::ALL.len());
    assert!(!config.streams[0].insecure_unsigned);
    assert_eq!(config.audit, AuditConfig::default());
    assert_eq!(config.policy, Policy::default());
    let http = config.http.unwrap();
    assert_eq!((http.listen.to_string().as_str(), http.token), ("127.0.0.1:8480", None));
    let bus = &config.buses[0];
    assert_eq!((bus.timeout_ms, bus.echo, bus.any_transaction, &bus.devices_dir), (200, None, false, &None));
    let BusLine::Serial(serial) = &bus.line else { panic!("a serial line") };
    assert_eq!((serial.baud, serial.parity, serial.stop_bits), (19_200, Parity::Even, 1));
    let allow = config.modbus_server.unwrap().allow;
    assert_eq!(allow, ["127.0.0.0/8".parse().unwrap(), "::1/128".parse::<ipnet::IpNet>().unwrap()]);
    let gate = &config.portals[0].portal;
    assert_eq!((gate.direction, gate.hold_ms, gate.debounce_ms), (None, 3000, 0));
    let power = &config.portals[1].portal;
    assert_eq!((power.delay_off_ms, power.rest_ms, power.fire_input), (15_000, 3_000, true));
    assert!(config.insecure.is_empty());
}

#[test]
fn only_a_polled_gate_debounces_unless_the_file_reports_otherwise() {
    let parts = |unit: u8| {
        let part = format!("{{ modbus = \"b\", unit = {unit}, profile = \"generic-power-box\" }}");
        format!("reader = {part}\noutput = {part}\n")
    };
    let portal = |kind: &str, rest: &str| {
        format!("[[portal]]\nid = \"{kind}{}\"\nkind = \"{kind}\"\nzone = \"1\"\n{rest}\n", rest.len())
    };
    let config = parsed(&[
        "[gateway]\nid = \"g\"\n[local]\nurls = [\"mqtt://127.0.0.1\"]\n[modbus_server]\ntcp = \"127.0.0.1:1502\"\n[[bus]]\nid = \"b\"\ntcp = \"h:502\"\n",
        &portal("gate", &parts(1)),
        &portal("gate", "device = { modbus_server = 1 }"),
        &portal("gate", &format!("debounce_ms = 0\n{}", parts(2))),
        &portal("gate", "device = { mqtt = \"native\" }"),
        &portal("door", &parts(3)),
        &portal("power_box", &parts(4)),
    ]
    .concat());
    let all: Vec<u32> = config.portals.iter().map(|p| p.portal.debounce_ms).collect();
    assert_eq!(all, [5000, 0, 0, 0, 0, 0]);
}

#[test]
fn all_diagnostics_of_a_file_are_reported_at_once_with_line_path_and_remedy() {
    let dir = directory(&[("dormgate.toml", include_str!("tests/diagnostics.toml"))]);
    let path = dir.path().join("dormgate.toml");
    let error = load(&path).unwrap_err();
    let found = error.to_string().replace(&format!("{}/", dir.path().display()), "") + "\n";
    snapshot("diagnostics.txt", include_str!("tests/diagnostics.txt"), &found);
}

#[test]
fn a_file_that_is_not_there_or_no_text_reports_so() {
    let dir = directory(&[]);
    let error = load(&dir.path().join("none.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    std::fs::write(dir.path().join("binary.toml"), [0xFF, 0xFE]).unwrap();
    let error = load(&dir.path().join("binary.toml")).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
    assert_eq!(diagnostics(""), "1:1: `gateway` is missing");
    assert!(diagnostics("[gateway\nid = 1").starts_with("1:9: not TOML"), "{}", diagnostics("[gateway\nid = 1"));
}

#[test]
fn the_data_dir_is_found_without_secrets_and_past_other_diagnostics() {
    let dir = directory(&[("d.toml", "[gateway]\nid = \"!\"\ndata_dir = \"x\"\n[uplink]\npassword_file = \"none\"\n")]);
    assert_eq!(data_dir(&dir.path().join("d.toml")).unwrap(), dir.path().join("x"));
    std::fs::write(dir.path().join("d.toml"), "").unwrap();
    assert_eq!(data_dir(&dir.path().join("d.toml")).unwrap(), Path::new(DEFAULT_DATA_DIR));
}

#[test]
fn a_secret_falls_back_to_the_systemd_credential() {
    let dir = directory(&[("cred/uplink_password", "from systemd\n"), ("cred/console_token", "t"), ("own", "own")]);
    let around = Surroundings { credentials_dir: Some(dir.path().join("cred")), ..around(dir.path()) };
    let text = |key: &str| {
        format!(
            "[gateway]\nid = \"g\"\n[uplink]\nurls = [\"mqtts://b\"]\nusername = \"u\"\n{key}\n[http]\nlisten = \"0.0.0.0:1\"\n"
        )
    };
    let password = |key: &str| {
        let config = parse(&text(key), &around).unwrap();
        assert_eq!(config.http.unwrap().token.unwrap().expose(), "t");
        config.uplink.unwrap().credentials.unwrap().password.unwrap().expose().to_owned()
    };
    assert_eq!(password(""), "from systemd");
    assert_eq!(password("password_file = \"not there\""), "from systemd");
    assert_eq!(password("password_file = \"own\""), "own");
    assert_eq!(format!("{:?}", Secret::new("own")), "Secret(…)");
}

#[test]
fn insecure_choices_are_named() {
    let text = format!(
        r#"
[gateway]
id = "g"
[uplink]
urls = ["mqtt://198.51.100.1", "mqtt://localhost"]
[[center.stream]]
name = "a"
public_keys = ["{KEY}"]
may = ["issue"]
[[center.stream]]
name = "b"
public_keys = ["{KEY}"]
insecure_unsigned = true
may = ["enrol"]
[modbus_server]
tcp = "0.0.0.0:1502"
allow = ["0.0.0.0/0"]
"#
    );
    assert_eq!(
        parsed(&text).insecure,
        [
            "center.stream b: has a key of a",
            "center.stream b: insecure_unsigned",
            "uplink: mqtt://198.51.100.1:1883 is not encrypted",
            "local: mqtt://198.51.100.1:1883 is not encrypted",
            "modbus_server: allow admits every address",
        ]
    );
}

/// Each block of the file is a configuration without its gateway, and every diagnostic (`=`) it has. `UPDATE_SNAPSHOTS=1` writes
/// the file again, for a review of its diff.
#[test]
fn each_thing_that_does_not_fit_together_is_a_diagnostic() {
    let expected = include_str!("tests/cases.txt");
    let found = expected.split("\n\n").map(|block| {
        let text: Vec<&str> = block.lines().filter(|line| !line.starts_with("= ")).collect();
        let text = text.join("\n");
        let found = diagnostics(&format!("[gateway]\nid = \"g\"\n{text}\n"));
        format!("{text}\n= {}", found.replace('\n', "\n= "))
    });
    snapshot("cases.txt", expected, &(found.collect::<Vec<_>>().join("\n\n") + "\n"));
}

fn snapshot(name: &str, expected: &str, found: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(format!("{}/src/config/tests/{name}", env!("CARGO_MANIFEST_DIR")), found).unwrap();
    }
    assert_eq!(found.split("\n\n").count(), expected.split("\n\n").count());
    for (found, expected) in found.split("\n\n").zip(expected.split("\n\n")) {
        assert_eq!(found.trim_end(), expected.trim_end());
    }
}

#[test]
fn whatever_is_wrong_with_one_line_is_reported_where_it_is() {
    let dir = with_secrets();
    let example = include_str!("tests/example.toml");
    let lines: Vec<&str> = example.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let key = line.split_once('=').map(|(key, _)| key);
        let values =
            ["3", "-1", "9999999999", "\"\"", "\"x\"", "true", "[]", "[3]", "{}", "{ mqtt = 3 }", "1.5", "= ="];
        let replaced = key.into_iter().flat_map(|key| values.map(|value| format!("{key}= {value}")));
        for other in replaced.chain(["".to_owned(), "[".to_owned(), "[[[[".to_owned(), "é = 1".to_owned()]) {
            let mut text = lines.clone();
            text[at] = &other;
            if let Err(found) = parse(&text.join("\n"), &around(dir.path())) {
                let vague = found.iter().find(|diagnostic| diagnostic.message.contains("incomplete"));
                assert_eq!(vague, None, "line {} as `{other}`", at + 1);
            }
        }
    }
    for start in (0..example.len()).filter_map(|end| example.get(..end)) {
        drop(parse(start, &around(dir.path())));
    }
}
