//! The whole configuration as installers write it, every default, and every diagnostic with its exact text.

use super::*;
use crate::profile::tests::{snapshot, snapshot_of_blocks};
use crate::wire::allowed::OpName;

mod building;
mod reload;
mod sheet;

pub(super) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// The files that the example names.
fn with_secrets() -> tempfile::TempDir {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    directory(&[
        ("secrets/uplink_password", "hunter2\n"),
        ("secrets/ca.pem", &pem),
        ("secrets/gateway.pem", &pem),
        ("secrets/gateway.key", "key"),
        ("secrets/console_token", "open sesame, 20 bytes or more\n"),
        ("secrets/uid_key", "0123456789abcdef0123456789abcdef\n"),
    ])
}

fn around(dir: &Path) -> Surroundings {
    Surroundings { base_dir: dir.to_owned(), credentials_dir: None }
}

fn diagnostics(text: &str) -> String {
    let found = parse(text, &around(Path::new("/nowhere"))).unwrap_err();
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a configuration means, a line a part; of a profile its id, of keys their number.
fn shown(site: &Site, dir: &Path) -> String {
    let mut lines = vec![
        format!("{:?} in {}, data in {:?}", site.gateway, site.timezone_name, site.data_dir),
        format!("schedules {:?}", site.calendar.configured()),
        format!("uplink {:?}", site.uplink),
        format!("local {:?}", site.local),
    ];
    lines.extend(site.streams.iter().map(|s| {
        let ops: Vec<&str> = s.allowed.iter().map(OpName::as_str).collect();
        format!("{:?} {:?} keys: {} unsigned: {} may {ops:?}", s.name, s.scope, s.keys.len(), s.insecure_unsigned)
    }));
    lines.extend([
        format!("{:?}", site.policy),
        format!("{:?}", site.audit),
        format!("store {:?}", site.store_key),
        format!("http {:?}", site.http),
    ]);
    lines.extend(site.buses.iter().map(|bus| format!("{bus:?}")));
    lines.push(format!("modbus_server {:?}", site.modbus_server));
    for PortalConfig { portal, device } in &site.portals {
        lines.push(format!("{portal:?}"));
        lines.push(match device {
            PortalDevice::Parts(parts) => {
                let part = |part: &Part| match part {
                    Part::Modbus(part) => format!("{}/{} {} {}", part.bus, part.unit, part.profile.id, part.channel),
                    Part::Mqtt(part) => format!("mqtt/{} {} {}", part.topic, part.profile.id, part.channel),
                };
                format!("  {} slot(s): {}", parts.slots, parts.all().map(part).collect::<Vec<_>>().join(", "))
            }
            other => format!("  {other:?}"),
        });
    }
    lines.push(format!("insecure {:?}", site.insecure));
    site.insecure.iter().for_each(|detail| crate::chinese::is_in_chinese(detail));
    lines.join("\n").replace(&dir.display().to_string(), "DIR") + "\n"
}

/// The meaning of five configurations: one with every key; a minimal one, and one with all sections almost empty, which show the
/// documented defaults; one with gates, doors and boxes of every kind, of which only a polled gate debounces; and one with every
/// insecure choice.
#[test]
fn every_key_has_an_effect_and_every_default_is_the_documented_one() {
    let dir = with_secrets();
    let files = [
        include_str!("tests/example.toml"),
        "[gateway]\nid = \"g\"\n",
        include_str!("tests/sections.toml"),
        include_str!("tests/debounce.toml"),
        include_str!("tests/insecure.toml"),
    ];
    let found = files.map(|text| shown(&parse(text, &around(dir.path())).unwrap(), dir.path()));
    snapshot("config/tests/understood.txt", &found.join("\n"));
}

#[test]
fn all_diagnostics_of_a_file_are_reported_at_once_with_line_path_and_remedy() {
    let dir = directory(&[("dormgate.toml", include_str!("tests/diagnostics.toml"))]);
    let path = dir.path().join("dormgate.toml");
    let error = load(&path).unwrap_err();
    let found = error.to_string().replace(&format!("{}/", dir.path().display()), "") + "\n";
    snapshot("config/tests/diagnostics.txt", &found);
}

#[test]
fn a_file_that_does_not_exist_or_is_not_text_is_an_error() {
    let dir = directory(&[]);
    let error = load(&dir.path().join("none.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    for (content, named) in [
        (&[0xFF, 0xFE][..], ":1:1: this is UTF-16; save it as UTF-8"),
        (b"\xFE\xFF\x00[", ":1:1: this is UTF-16; save it as UTF-8"),
        (
            b"[gateway]\nid = \"g\" # \xD6\xD0\xCE\xC4\n",
            ":2:12: from here on it is not UTF-8 (perhaps GB18030); save it as UTF-8",
        ),
        ("# 中\n#\u{0}\u{e9}".as_bytes().split_last().unwrap().1, ":2:3: from here on it is not UTF-8"),
    ] {
        let file = dir.path().join("binary.toml");
        std::fs::write(&file, content).unwrap();
        let error = load(&file).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}{named}", file.display())) && error.lines().count() == 1, "{error}");
    }
    let large = dir.path().join("large.toml");
    std::fs::write(&large, " ".repeat(4 * 1024 * 1024 + 1)).unwrap();
    let error = load(&large).unwrap_err().to_string();
    assert!(error.ends_with("a configuration has at most 4 MiB; name a sheet of the portals as `portals`"), "{error}");
    assert_eq!(diagnostics(""), "1:1: `gateway` is missing");
    assert!(diagnostics("[gateway\nid = 1").starts_with("1:9: not TOML"), "{}", diagnostics("[gateway\nid = 1"));
}

#[test]
fn a_nul_is_refused_wherever_text_is_wanted() {
    for (text, place) in [
        ("[gateway]\nid = \"g\"\ndata_dir = \"a\\u0000b\"", "3:12: `gateway.data_dir`"),
        (
            "[gateway]\nid = \"g\"\n[uplink]\nurls = [\"mqtt://127.0.0.1\"]\nusername = \"\\u0000\"",
            "5:12: `uplink.username`",
        ),
        (
            "[gateway]\nid = \"g\"\n[uplink]\nurls = [\"mqtts://127.0.0.1\"]\nca_file = \"c\\u0000\"",
            "5:11: `uplink.ca_file`",
        ),
        ("[gateway]\nid = \"g\"\n[policy]\nanti_passback = \"\\u0000\"", "4:17: `policy.anti_passback`"),
    ] {
        let found = diagnostics(text);
        assert_eq!(found, format!("{place}: there is a NUL in this text (`\\u0000`); leave it out"), "{text}");
    }
}

#[test]
fn the_data_dir_is_read_without_secrets_and_in_spite_of_other_diagnostics() {
    let dir = directory(&[("d.toml", "[gateway]\nid = \"!\"\ndata_dir = \"x\"\n[uplink]\npassword_file = \"none\"\n")]);
    assert_eq!(data_dir(&dir.path().join("d.toml")).unwrap(), dir.path().join("x"));
    std::fs::write(dir.path().join("d.toml"), "").unwrap();
    assert_eq!(data_dir(&dir.path().join("d.toml")).unwrap(), Path::new(DEFAULT_DATA_DIR));
}

#[test]
fn a_data_dir_whose_socket_would_have_too_long_a_path_is_refused_where_it_stands() {
    let text = |bytes: usize| {
        let dir = "d".repeat(bytes - "/nowhere//dormgate.sock".len());
        format!("[gateway]\nid = \"g\"\ndata_dir = \"{dir}\"\n[[portal]]\nid = \"!\"\n")
    };
    let of_path = |bytes| {
        diagnostics(&text(bytes)).lines().filter(|line| line.starts_with("3:12")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_path(107), Vec::<String>::new());
    let expected = "3:12: `gateway.data_dir`: the path of the operator's socket `dormgate.sock` in it would have 108 bytes, and the \
                    system takes 107; choose a shorter path";
    assert_eq!(of_path(108), [expected]);
}

#[test]
fn a_secret_falls_back_to_the_systemd_credential() {
    let dir = directory(&[
        ("cred/uplink_password", "from systemd\n"),
        ("cred/console_token", " 0123456789abcdef0123\n"),
        ("own", "own"),
    ]);
    let around = Surroundings { credentials_dir: Some(dir.path().join("cred")), ..around(dir.path()) };
    let text = |key: &str| {
        format!(
            "[gateway]\nid = \"g\"\n[uplink]\nurls = [\"mqtts://b\"]\nusername = \"u\"\n{key}\n[http]\nlisten = \"0.0.0.0:1\"\n"
        )
    };
    let password = |key: &str| {
        let config = parse(&text(key), &around).unwrap();
        assert_eq!(config.http.unwrap().token.unwrap().expose(), "0123456789abcdef0123");
        config.uplink.unwrap().credentials.unwrap().password.unwrap().expose().to_owned()
    };
    assert_eq!(password(""), "from systemd");
    assert_eq!(password("password_file = \"not there\""), "from systemd");
    assert_eq!(password("password_file = \"own\""), "own");
    assert_eq!(format!("{:?}", Secret::new("own")), "Secret(…)");
}

/// Each block of the file is a configuration without its gateway, and every diagnostic (`=`) it has.
#[test]
fn keys_that_do_not_fit_together_are_diagnostics() {
    snapshot_of_blocks("config/tests/cases.txt", |block| {
        let text: Vec<&str> = block.lines().filter(|line| !line.starts_with("= ")).collect();
        let text = text.join("\n");
        let found = diagnostics(&format!("[gateway]\nid = \"g\"\n{text}\n"));
        format!("{text}\n= {}", found.replace('\n', "\n= "))
    });
}

#[test]
fn an_error_in_any_line_is_reported_with_its_place() {
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

/// A device of a site's own: no built-in profile has a reader with a direction, or a fire input.
#[test]
fn the_direction_and_the_inputs_of_a_device_at_the_broker_count_like_those_of_one_on_a_line() {
    use crate::access::portal::Direction;
    use crate::profile::{InputKind, mqtt};

    let text = include_str!("../profile/mqtt/tests/device.toml").replace("stamp = ", "direction = \"out\"\nstamp = ");
    let profile = std::sync::Arc::new(mqtt::read(&text).unwrap());
    let part = Part::Mqtt(MqttPart { topic: "hall".into(), profile, channel: 0 });
    let parts = Parts { reader: part.clone(), slots: 1, output: part.clone(), meter: None, inputs: None };
    assert_eq!(parts.directions().collect::<Vec<_>>(), [Direction::Out]);
    assert!(part.has_input(InputKind::Fire) && !part.has_input(InputKind::ExitButton));
}

#[test]
fn the_keys_of_the_streams_are_read_from_a_file_that_is_wrong_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.toml");
    let example = include_str!("tests/example.toml");
    std::fs::write(&path, format!("{example}\n[nonsense]\nx = 7\n")).unwrap();
    let keys = stream_keys(&path).unwrap();
    assert!(keys.len() > 1 && keys.values().all(|keys| !keys.is_empty()), "{keys:?}");
    let text = "[[center.stream]]\nname = \"trial\"\nscope = \"campus\"\ninsecure_unsigned = true\nmay = [\"issue\"]\n";
    std::fs::write(&path, text).unwrap();
    assert_eq!(stream_keys(&path).unwrap().into_iter().collect::<Vec<_>>(), [("trial".to_owned(), Vec::new())]);
}

/// A reader that only repeats its card: silent and empty look the same, so what it shows after a silence would switch on.
#[test]
fn a_power_box_wants_a_reader_that_repeats_its_card_and_reports_that_it_has_left() {
    let shipped = include_str!("../../devices/mqtt/esphome-tag.toml").replace("esphome-tag", "my-tag");
    let without: String =
        shipped.lines().filter(|line| !line.starts_with("removed")).map(|l| format!("{l}\n")).collect();
    for (profile, kind, is_right) in
        [(&shipped, "power_box", true), (&without, "power_box", false), (&without, "door", true)]
    {
        let dir = directory(&[("devices/my-tag.toml", profile)]);
        let text = format!(
            "[gateway]\nid = \"g\"\nmqtt_devices_dir = \"devices\"\n[local]\nurls = [\"mqtt://127.0.0.1\"]\n[[portal]]\nid = \"p\"\nkind = \"{kind}\"\nzone = \"1\"\nreader = {{ mqtt = \"my-tag\", topic = \"hall\" }}\noutput = {{ mqtt = \"tasmota-relay\", topic = \"plug\" }}\n"
        );
        match parse(&text, &around(dir.path())) {
            Ok(_) => assert!(is_right, "{kind}"),
            Err(found) => {
                let [wrong] = &found[..] else { panic!("{found:?}") };
                assert!(
                    !is_right && wrong.to_string().contains("`my-tag` does not report when a card has left"),
                    "{wrong}"
                );
            }
        }
    }
}
