//! `dormgate check` as an installer runs it: the text, the stream it goes to, and the exit code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/authority.rs"]
#[expect(dead_code, reason = "only its own certificate is of use here")]
mod authority;

use std::path::Path;
use std::process::{Command, Output};

use authority::Authority;

fn dormgate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dormgate")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn check(text: &str) -> (Output, String) {
    check_beside(text, &[])
}

/// What is printed of a good configuration with these files beside it.
fn good(text: &str, files: &[&str]) -> String {
    let (output, _) = check_beside(text, files);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    stdout(&output).to_owned()
}

fn lines_with<'o>(begin: &str, output: &'o str) -> Vec<&'o str> {
    output.lines().filter_map(|line| line.strip_prefix(begin)).collect()
}

/// The same with these files beside the configuration.
fn check_beside(text: &str, files: &[&str]) -> (Output, String) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let pem = file.extension().is_some_and(|extension| extension == "pem");
        std::fs::write(file, if pem { Authority::new().pem } else { "a secret".to_owned() }).unwrap();
    }
    let path = dir.path().join("dormgate.toml");
    std::fs::write(&path, text).unwrap();
    let file = path.display().to_string();
    (dormgate(&["check", "--config", &file]), file)
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_good_configuration_is_summed_up_and_exits_0() {
    let output = good(
        "[gateway]\nid = \"nanhu\"\ndata_dir = \"/var/lib/dormgate\"\n[local]\nurls = [\"mqtt://127.0.0.1\"]\n\
         [[center.stream]]\nname = \"trial\"\ninsecure_unsigned = true\nmay = [\"issue\", \"enrol\"]\n\
         [[portal]]\nid = \"gate-in\"\nkind = \"gate\"\nzone = \"lobby\"\ndevice = { mqtt = \"native\" }\n",
        &[],
    );
    assert_eq!(
        output,
        "gateway `nanhu` in Asia/Shanghai, data in `/var/lib/dormgate`; no uplink: it runs from its store alone; \
         local broker mqtt://127.0.0.1:1883 as `nanhu-local`; stream `trial` may issue, enrol; \
         portals: 1 gate(s), 0 door(s), 0 power box(es), of these 1 over MQTT, 0 by Modbus parts, 0 asking over Modbus; \
         no pages.\n\
         hint: the fire input of `gate-in` puts the building in fire and releases every gate and door; `fire_input = false` at a portal \
         takes that away from it\n\
         hint: `gate-in` has no `direction`, so the reader's \"out\" is taken as reported, and out is never refused: who controls the \
         reader opens the gate; write `direction = \"in\"` where one only enters\n\
         insecure: center.stream trial: insecure_unsigned\n"
    );
}

#[test]
fn every_diagnostic_is_printed_with_the_file_and_the_exit_is_78() {
    let (output, file) = check("[gateway]\nid = \"nanhu\"\n[policy]\nclone = \"maybe\"\nlockout = 3\n");
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        stderr(&output),
        format!(
            "{file}:4:9: `policy.clone`: one of `off`, `flag`, `deny` is wanted, got `maybe`\n\
             {file}:5:1: `policy.lockout`: unknown key; did you mean `lockout_s`?\n2 diagnostics\n"
        )
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_gateway_is_not_called_as_the_campus_is_in_topics() {
    let (output, file) = check("[gateway]\nid = \"campus\"\n");
    assert_eq!(output.status.code(), Some(78));
    let output = stderr(&output);
    assert!(output.starts_with(&format!("{file}:2:6: `gateway.id`: `campus` means every gateway")), "{output}");
}

#[test]
fn what_is_asked_for_and_not_done_yet_is_noted() {
    let with = |policy: &str| {
        let text = format!("[gateway]\nid = \"g\"\n[http]\ntoken_file = \"token\"\n[policy]\n{policy}");
        let output = good(&text, &["token"]);
        let notes = output.lines().filter(|line| line.ends_with("has no effect in this version"));
        notes.map(|line| line.split('`').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        with("anti_passback = \"hard\"\nclone = \"deny\"\nlockout_s = 60\n"),
        ["policy.anti_passback = \"hard\"", "policy.clone = \"deny\"", "policy.lockout_s", "http.token_file"]
    );
    assert_eq!(with("anti_passback = \"off\"\nclone = \"flag\"\n"), ["http.token_file"]);
}

#[test]
fn a_missing_file_exits_78_and_reports_which() {
    let output = dormgate(&["check", "--config", "/nowhere/dormgate.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).starts_with("/nowhere/dormgate.toml: cannot be read: "), "{}", stderr(&output));
}

#[test]
fn a_wrong_call_exits_2_and_help_exits_0() {
    for wrong in [&["chekc"][..], &[], &["check"], &["check", "--config", "x", "--log-format", "xml"]] {
        let output = dormgate(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--help"), "{wrong:?}: {}", stderr(&output));
    }
    for fine in ["--help", "--version"] {
        let output = dormgate(&[fine]);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{fine}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_dormgate"))
        .args(["check", "--config", "x"])
        .env("RUST_LOG", "dormgate=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`RUST_LOG` is `dormgate=loud`"), "{}", stderr(&output));
}

#[test]
fn relative_paths_are_relative_to_the_file_and_not_to_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "open sesame").unwrap();
    let text =
        "[gateway]\nid = \"g\"\ndata_dir = \"data\"\n[http]\nlisten = \"0.0.0.0:8480\"\ntoken_file = \"token\"\n";
    std::fs::write(dir.path().join("g.toml"), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dormgate"))
        .args(["check", "--config"])
        .arg(Path::new("..").join(dir.path().file_name().unwrap()).join("g.toml"))
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains("open sesame"));
    assert!(stdout(&output).contains("/data`"), "{}", stdout(&output));
}

/// What stands in the documents for installers to copy.
fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_example_that_installers_start_from_is_a_good_configuration() {
    let output = good(&document("deploy/dormgate.toml"), &[]);
    assert!(!output.contains("insecure:") && !output.contains("note:"), "{output}");
}

#[test]
fn every_key_that_the_example_shows_and_leaves_out_is_a_good_one_too() {
    let shown = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = document("deploy/dormgate.toml").lines().map(shown).collect();
    // The directory of a site's own profiles has to be there; a file in it makes it.
    let files = ["uplink_password", "local_password", "ca.pem", "gateway.pem", "gateway.key", "console_token"];
    let files: Vec<_> = files.iter().map(|file| format!("secrets/{file}")).collect();
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.push("devices/README");
    let output = good(&text, &files);
    let asking = ["controllers ask at 0.0.0.0:1502 and /dev/", "1 asking over Modbus"];
    assert!(asking.iter().all(|part| output.contains(part)), "{output}");
}

#[test]
fn a_listener_that_admits_nobody_of_the_network_has_a_hint() {
    let has_hint = |server: &str| {
        good(&format!("[gateway]\nid = \"g\"\n[modbus_server]\n{server}\n"), &[])
            .contains("\nhint: `[modbus_server]` listens at 0.0.0.0:1502, and its `allow` lets in nobody but")
    };
    assert!(has_hint("tcp = \"0.0.0.0:1502\""));
    assert!(has_hint("tcp = \"0.0.0.0:1502\"\nallow = [\"127.0.0.1\"]"));
    assert!(!has_hint("tcp = \"0.0.0.0:1502\"\nallow = [\"127.0.0.0/8\", \"192.0.2.0/24\"]"));
    assert!(!has_hint("tcp = \"127.0.0.1:1502\""));
}

#[test]
fn a_word_that_is_none_is_a_wrong_call_whether_or_not_anybody_is_asked() {
    for (wrong, reported) in [
        (&["simulate", "fault", "riser/1", "slient"][..], "did you mean `silent`?"),
        (&["simulate", "fault", "riser/1", "slow"], "`slow` wants a time from 1 to 60000 ms"),
        (&["simulate", "fault", "riser/1", "exception", "999"], "a code from 1 to 255"),
        (&["simulate", "fault", "riser/1", "unplugged"], "without a unit"),
        (&["posture", "door-412", "lockdwn"], "`lockdwn` is not a posture; did you mean `lockdown`?"),
    ] {
        let output = dormgate(&[wrong, &["--config", "/nowhere/dormgate.toml"]].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reported), "{wrong:?}: {}", stderr(&output));
    }
    let right = ["simulate", "fault", "riser", "unplugged", "--config", "/nowhere/dormgate.toml"];
    assert_eq!(dormgate(&right).status.code(), Some(78));
}

#[test]
fn a_stand_in_that_can_serve_nothing_ends_and_reports_why() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("riser.pty"), "somebody's").unwrap();
    let text =
        "[gateway]\nid = \"p-1\"\ndata_dir = \"data\"\n[[bus]]\nid = \"riser\"\nserial = { port = \"riser.pty\" }\n"
            .to_owned()
            + &portal(
                "door",
                "door",
                "modbus = \"riser\", unit = 3, profile = \"inveo-rfid-ind-m1\"",
                "modbus = \"riser\", unit = 21, profile = \"waveshare-relay-8ch\"",
            );
    std::fs::write(dir.path().join("site.toml"), text).unwrap();
    let output = dormgate(&["simulate", "--config", &dir.path().join("site.toml").display().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let output = stderr(&output);
    assert!(
        output.contains("it is there and was not made by a simulator") && output.contains("`--port riser=…`"),
        "{output}"
    );
    assert!(output.ends_with("nothing is left to simulate\n") && !output.contains("simulating"), "{output}");
    assert_eq!(std::fs::read_to_string(dir.path().join("riser.pty")).unwrap(), "somebody's");
}

#[test]
fn the_first_configuration_of_the_readme_is_a_good_one() {
    let readme = document("README.md");
    let block = readme.split("```toml\n").skip(1).find(|block| block.starts_with("[gateway]")).unwrap();
    let output = good(block.split("```").next().unwrap(), &[]);
    assert!(!output.contains("insecure:"), "{output}");
}

/// A configuration with one TCP line `b`, `riser` on a serial port, and these portals.
fn site(portals: &str) -> String {
    format!(
        "[gateway]\nid = \"g\"\n[[bus]]\nid = \"b\"\ntcp = \"127.0.0.1:502\"\n\
         [[bus]]\nid = \"riser\"\nserial = {{ port = \"/dev/ttyUSB0\" }}\ndevices_dir = \"devices\"\n{portals}"
    )
}

/// A portal whose parts are these.
fn portal(id: &str, kind: &str, reader: &str, output: &str) -> String {
    format!(
        "[[portal]]\nid = \"{id}\"\nkind = \"{kind}\"\nzone = \"1\"\nreader = {{ {reader} }}\noutput = {{ {output} }}\n"
    )
}

/// A profile of a box with so many readers.
fn many_slots(count: usize) -> String {
    let readers = "[[reader]]\nid = \"N\"\ntrigger = { level = \"uid\" }\nuid = { point = \"uid\", length = 4, order = \"msb_first\" }\n";
    let readers: String = (0..count).map(|n| readers.replace('N', &n.to_string())).collect();
    format!(
        "schema = 1\nid = \"slots\"\nsource = \"s\"\n[link]\naddress_base = 0\nbyte_order = \"big\"\nword_order = \"big\"\n[points]\n\
         uid = {{ space = \"holding\", address = 0, type = \"bytes\", registers = 2 }}\n\
         [[poll]]\nname = \"card\"\nevery_ms = 200\npoints = [\"uid\"]\n{readers}"
    )
}

/// A profile of a box with two readers, one of which reports only a part of the UID.
fn mixed_slots() -> String {
    let half = "uid = { point = \"uid\", order = \"msb_first\", transform = \"last\", keep = 2 }";
    let whole = "uid = { point = \"uid\", length = 4, order = \"msb_first\" }";
    let (first, second) = many_slots(2).split_once("id = \"1\"").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let first = first.replace("\"slots\"", "\"mixed\"").replace("id = \"0\"", "id = \"whole\"");
    format!("{first}id = \"half\"{}", second.replace(whole, half))
}

#[test]
fn what_would_not_start_is_a_diagnostic_of_the_file_for_check_and_for_run() {
    let relay = |unit: u8, channel: u16| {
        format!("modbus = \"b\", unit = {unit}, profile = \"waveshare-relay-8ch\", channel = {channel}")
    };
    let generic = "modbus = \"b\", unit = 5, profile = \"generic-turnstile\"";
    let slots = "modbus = \"riser\", unit = 9, profile = \"slots\"";
    let ind = "modbus = \"b\", unit = 3, profile = \"inveo-rfid-ind-m1\"";
    let cases = [
        (
            portal("p", "door", &ind.replace("unit = 3", "unit = 0"), &relay(1, 0)),
            ":15:33: `portal[0].reader.unit`: unit 0 is a broadcast",
        ),
        (
            portal("p", "power_box", ind, &relay(1, 0)),
            ":15:10: `portal[0].reader`: its reader reports when a card comes and not when it leaves",
        ),
        (
            format!(
                "{}{}",
                portal("a", "power_box", slots, &relay(1, 0)),
                portal("b", "power_box", &format!("{slots}, channel = 3"), &relay(1, 1))
            ),
            ":21:10: `portal[1].reader`: channel 3 of unit 9 on `riser` is `portal[0].reader`; two portals cannot share it",
        ),
        (
            portal("p", "power_box", slots, &relay(1, 0)),
            ":15:10: `portal[0].reader`: its reader has 17 slots; a box has at most 16",
        ),
        (portal("p", "door", generic, &relay(255, 8)), "has 8 output channel(s)"),
        (
            "[uplink]\nurls = [\"mqtts://[::1]\"]\n".to_owned(),
            ":12:9: `uplink.urls[0]`: `mqtts://` needs a host name or an IPv4 address",
        ),
        (
            portal("p", "power_box", &slots.replace("slots", "mixed"), &relay(1, 0)),
            ":15:10: `portal[0].reader`: its slots read a card differently: `whole` gives whole UIDs, `half` gives \
             `last 2 bytes`; give each a portal of its own with `channel`",
        ),
    ];
    for (portals, wanted) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("devices")).unwrap();
        std::fs::write(dir.path().join("devices/slots.toml"), many_slots(17)).unwrap();
        std::fs::write(dir.path().join("devices/mixed.toml"), mixed_slots()).unwrap();
        let path = dir.path().join("g.toml");
        let data = format!("id = \"g\"\ndata_dir = \"{}\"", dir.path().join("data").display());
        // One line more, so that nothing is opened where an installed gateway would be.
        std::fs::write(&path, site(&portals).replacen("id = \"g\"", &data, 1)).unwrap();
        for command in ["check", "run"] {
            let output = dormgate(&[command, "--config", path.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(78), "{command}: {wanted}: {}", stderr(&output));
            assert!(stderr(&output).contains(wanted), "{command}: {wanted}\nis not in\n{}", stderr(&output));
        }
        assert!(!dir.path().join("data").exists(), "nothing is opened for a file with diagnostics");
    }
}

#[test]
fn contacts_on_a_module_of_their_own_are_wired_by_their_profile() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("devices")).unwrap();
    let path = dir.path().join("g.toml");
    let check = |inputs: &str| {
        let ind = "modbus = \"b\", unit = 3, profile = \"inveo-rfid-ind-m1\"";
        let door = portal("p", "door", ind, ind);
        std::fs::write(&path, site(&format!("{door}inputs = {{ modbus = \"b\", unit = 9, {inputs} }}\n"))).unwrap();
        let output = dormgate(&["check", "--config", path.to_str().unwrap()]);
        (output.status.code(), stderr(&output).to_owned())
    };
    assert_eq!(check("profile = \"generic-contacts\", channel = 7"), (Some(0), String::new()));
    let (code, output) = check("profile = \"generic-contacts\", channel = 8");
    assert_eq!(code, Some(78));
    assert!(
        output.contains("`portal[0].inputs.profile`: `generic-contacts` has 8 inputs channel(s), counted from 0"),
        "{output}"
    );
    let (code, output) = check("profile = \"technotrade-vrd-485\"");
    assert_eq!(code, Some(78));
    assert!(output.contains("`technotrade-vrd-485` has no inputs; name a profile that has one"), "{output}");
}

#[test]
fn what_only_profiles_show_is_reported_together_with_the_other_diagnostics_and_nothing_twice() {
    let ind = |unit: u8| format!("modbus = \"b\", unit = {unit}, profile = \"inveo-rfid-ind-m1\"");
    let relay =
        |channel: u8| format!("modbus = \"b\", unit = 1, profile = \"waveshare-relay-8ch\", channel = {channel}");
    let portals = [
        portal("a", "power_box", &ind(3), &relay(0)),
        portal("b", "dor", &ind(4), &relay(1)),
        portal("c", "door", &ind(5), &relay(8)),
        portal("d", "power_box", &ind(6), &relay(0)),
        // Its line has a diagnostic, so nothing is reported of what is on it.
        portal("e", "door", "modbus = \"riser\", unit = 9, profile = \"slots\"", &relay(2)),
    ];
    let (output, file) = check(&site(&portals.concat()));
    let output: Vec<&str> = stderr(&output).lines().collect();
    let wanted = [
        ":9:15: `bus[1].devices_dir`: ",
        ":14:10: `portal[0].reader`: its reader reports when a card comes and not when it leaves",
        ":18:8: `portal[1].kind`: ",
        ":27:46: `portal[2].output.profile`: `waveshare-relay-8ch` has 8 output channel(s)",
        ":33:10: `portal[3].output`: channel 0 of unit 1 on `b` is `portal[0].output`",
        "5 diagnostics",
    ];
    assert_eq!(output.len(), wanted.len(), "{output:#?}");
    for (line, wanted) in output.iter().zip(wanted) {
        assert!(line.trim_start_matches(&file).starts_with(wanted), "{wanted}\nis not the beginning of\n{line}");
    }
}

#[test]
fn what_works_and_is_probably_not_meant_is_noted() {
    let reader = |unit: u8| format!("modbus = \"b\", unit = {unit}, profile = \"technotrade-vrd-485\"");
    let output =
        |bus: &str, unit: u8, profile: &str| format!("modbus = \"{bus}\", unit = {unit}, profile = \"{profile}\"");
    let cases = [
        (
            portal("box", "power_box", &reader(1), &output("b", 9, "clone-relay-0100")),
            Some("the relay of `box` (`clone-relay-0100`) cannot be read back"),
        ),
        (portal("door", "door", &reader(1), &output("b", 9, "clone-relay-0100")), None),
        (
            portal("gate", "gate", &reader(1), &output("b", 9, "generic-turnstile")),
            Some(
                "`gate` is open for 500 ms and not for its `hold_ms` of 3000: `generic-turnstile` ends a pulse itself",
            ),
        ),
        (portal("gate", "gate", &reader(1), &output("b", 9, "waveshare-relay-8ch")), None),
        (
            portal("door", "door", &reader(1), &output("riser", 255, "lc-tech-relay-8ch")),
            Some("unit 255 on the serial line `riser` (`door`) is a number that Modbus reserves"),
        ),
        (portal("door", "door", &reader(1), &output("b", 255, "lc-tech-relay-8ch")), None),
    ];
    for (portals, wanted) in cases {
        let output = good(
            &format!("{}[[center.stream]]\nname = \"s\"\ninsecure_unsigned = true\nmay = [\"*\"]\n", site(&portals)),
            &["devices/README"],
        );
        let notes = lines_with("note: ", &output);
        assert_eq!(notes.len(), usize::from(wanted.is_some()), "{portals}{notes:?}");
        assert!(wanted.is_none_or(|wanted| notes.iter().any(|note| note.contains(wanted))), "{wanted:?}: {notes:?}");
    }
}

#[test]
fn what_a_relay_does_that_nobody_can_reach_is_reported_by_the_name_of_its_portal() {
    let reader = |unit: u8| format!("modbus = \"riser\", unit = {unit}, profile = \"technotrade-vrd-485\"");
    let relay = |unit: u8, profile: &str| format!("modbus = \"riser\", unit = {unit}, profile = \"{profile}\"");
    let portals = [
        portal("box-1", "power_box", &reader(1), &relay(21, "generic-power-box")),
        portal("box-2", "power_box", &reader(2), &relay(22, "generic-power-box")),
        portal("box-3", "power_box", &reader(3), &relay(23, "sequent-3x40a")),
        portal("box-4", "power_box", &reader(4), &relay(24, "watched")),
        portal("door-1", "door", &reader(5), &relay(25, "generic-door-controller")),
        portal("door-2", "door", &reader(6), &relay(26, "waveshare-relay-8ch")),
    ];
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("devices")).unwrap();
    let watched = document("devices/generic-power-box.toml")
        .replace("id = \"generic-power-box\"", "id = \"watched\"")
        .replace("on_link_loss = \"hold\"", "on_link_loss = \"off\"");
    std::fs::write(dir.path().join("devices/watched.toml"), watched).unwrap();
    let path = dir.path().join("g.toml");
    std::fs::write(&path, site(&portals.concat())).unwrap();
    let output = dormgate(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let hints = lines_with("hint: ", stdout(&output));
    let wanted = [
        "while the line of `door-1` is cut, `generic-door-controller` keeps its relays as they are: what is open at that moment \
         stays open until the line is back; where that may not be, use a relay that ends a pulse by itself",
        "while the line of `box-1`, `box-2` is cut, `generic-power-box` keeps its relays as they are: a card that is revoked \
         meanwhile keeps its power until the line is back; where that may not be, use a relay that switches off by itself",
        "while the line of `box-3` is cut, `sequent-3x40a` is not known to switch its relays off (try it, and write what it does \
         as `on_link_loss` in a profile of your own): a card that is revoked meanwhile keeps its power until the line is back; \
         where that may not be, use a relay that switches off by itself",
    ];
    assert_eq!(hints, wanted);
}

#[test]
fn a_ca_file_is_read_and_described_and_a_wrong_one_is_a_diagnostic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.toml");
    let text = "[gateway]\nid = \"g\"\n[uplink]\nurls = [\"mqtts://broker.example\"]\nca_file = \"ca.pem\"\n";
    std::fs::write(&path, text).unwrap();
    let check = |ca: &str| {
        std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
        dormgate(&["check", "--config", path.to_str().unwrap()])
    };
    let good = check(&format!("\u{feff}{}", Authority::new().pem));
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    let [line] = lines_with("certificate: ", stdout(&good)).try_into().unwrap();
    assert!(line.contains("`uplink.ca_file`: authority `") && line.contains("valid until "), "{line}");
    let wrong = check("");
    assert_eq!(wrong.status.code(), Some(78));
    let wrong = stderr(&wrong);
    assert!(wrong.contains("g.toml:5:11: `uplink.ca_file`: `") && wrong.contains("is empty"), "{wrong}");
}

#[test]
fn a_portal_that_may_not_report_a_fire_and_a_gate_with_a_direction_have_no_hint() {
    let hints = |more: &str| {
        let text = format!(
            "[gateway]\nid = \"g\"\n[local]\nurls = [\"mqtt://127.0.0.1\"]\n[[portal]]\nid = \"gate\"\nkind = \"gate\"\nzone = \"1\"\n{more}device = {{ mqtt = \"native\" }}\n"
        );
        lines_with("hint: ", &good(&text, &[])).len()
    };
    assert_eq!(
        (hints(""), hints("fire_input = false\n"), hints("fire_input = false\ndirection = \"in\"\n")),
        (2, 1, 0)
    );
}
