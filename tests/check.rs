//! `dormgate check` as an installer runs it: the text, the stream it goes to, and the exit code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/authority.rs"]
mod authority;

use std::path::Path;
use std::process::Command;

use authority::Authority;

/// How a command ended: its exit code, stdout and stderr.
type Ended = (Option<i32>, String, String);

fn dormgate(args: &[&str], dir: &Path, log: Option<&str>) -> Ended {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    program.args(args).current_dir(dir).env_remove("RUST_LOG").envs(log.map(|log| ("RUST_LOG", log)));
    let output = program.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A directory with these files, and what is run there.
struct Installed(tempfile::TempDir);

impl Installed {
    fn new(text: &str) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.write("g.toml", text);
        this
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// A command with the configuration.
    fn run(&self, command: &str) -> Ended {
        let file = self.0.path().join("g.toml").display().to_string();
        dormgate(&[command, "--config", &file], self.0.path(), None)
    }

    /// What `check` prints of a good configuration.
    fn good(&self) -> String {
        let (code, printed, wrong) = self.run("check");
        assert_eq!((code, wrong.as_str()), (Some(0), ""));
        printed
    }
}

/// What stands in the documents for installers to copy.
fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The file of a profile of a box with so many readers.
fn slots(id: &str, count: usize) -> String {
    let reader = "[[reader]]\nid = \"N\"\ntrigger = { level = \"uid\" }\nuid = { point = \"uid\", length = 4, order = \"msb_first\" }\n";
    let readers: String = (0..count).map(|n| reader.replace('N', &n.to_string())).collect();
    format!(
        "schema = 1\nid = \"{id}\"\nsource = \"s\"\n[link]\naddress_base = 0\nbyte_order = \"big\"\nword_order = \"big\"\n[points]\n\
         uid = {{ space = \"holding\", address = 0, type = \"bytes\", registers = 2 }}\n\
         [[poll]]\nname = \"card\"\nevery_ms = 200\npoints = [\"uid\"]\n{readers}"
    )
}

/// What the configurations of the cases name: secrets, certificates, profiles of the site.
fn beside(installed: &Installed) {
    let (authority, dir) = (Authority::new(), installed.0.path());
    authority.write(dir, "ca");
    authority.issue(dir, "own");
    authority.issue(dir, "other");
    installed.write("bom.pem", &format!("\u{feff}{}", authority.pem));
    installed.write("empty.pem", "");
    installed.write("token", "open sesame, 20 bytes or more");
    installed.write("blank", " \n");
    installed.write("short", " nineteen bytes, no.\n ");
    installed.write("devices/slots.toml", &slots("slots", 17));
    let last = "length = 4, order = \"msb_first\" }\n[[reader]]\nid = \"1\"";
    let half = "transform = \"last\", keep = 2, order = \"msb_first\" }\n[[reader]]\nid = \"1\"";
    installed.write("devices/mixed.toml", &slots("mixed", 2).replace(last, half));
    let watched = document("devices/generic-power-box.toml")
        .replace("id = \"generic-power-box\"", "id = \"watched\"")
        .replace("on_link_loss = \"hold\"", "on_link_loss = \"off\"");
    installed.write("devices/watched.toml", &watched);
}

/// The line `portal ID KIND READER OUTPUT` as the tables of a configuration; a part is `BUS/UNIT/PROFILE/CHANNEL`.
fn expanded(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let ["portal", id, kind, reader, output] = words.as_slice() else { return format!("{line}\n") };
    let part = |text: &str| {
        let keys = ["modbus = \"_\"", "unit = _", "profile = \"_\"", "channel = _"];
        keys.iter().zip(text.split('/')).map(|(key, value)| key.replace('_', value)).collect::<Vec<_>>().join(", ")
    };
    let (reader, output) = (part(reader), part(output));
    format!(
        "[[portal]]\nid = \"{id}\"\nkind = \"{kind}\"\nzone = \"1\"\nreader = {{ {reader} }}\noutput = {{ {output} }}\n"
    )
}

/// Each block of the file has its meaning (`#`), a configuration, and what is printed (`>`), of a good one without the summary. One
/// without a gateway gets the gateway `g`, a stream, and the lines `b` and `riser`. What is wrong with it is printed by `run` too,
/// which opens nothing then. `UPDATE_SNAPSHOTS=1` writes the file again, for a review of its diff.
#[test]
fn each_configuration_is_checked_as_its_case_shows() {
    let usual = "[gateway]\nid = \"g\"\ndata_dir = \"data\"\n[[bus]]\nid = \"b\"\ntcp = \"127.0.0.1:502\"\n[[bus]]\nid = \"riser\"\n\
        serial = { port = \"/dev/ttyUSB0\" }\ndevices_dir = \"devices\"\n[[center.stream]]\nname = \"s\"\ninsecure_unsigned = true\n\
        may = [\"*\"]\n";
    let installed = Installed::new("");
    beside(&installed);
    let expected = document("tests/check/cases.txt");
    let mut found = Vec::new();
    for block in expected.trim_end().split("\n\n") {
        let written: Vec<&str> = block.lines().filter(|line| !line.starts_with('>')).collect();
        let in_full = written.contains(&"[gateway]");
        let text: String = written.iter().filter(|line| !line.starts_with('#')).map(|line| expanded(line)).collect();
        installed.write("g.toml", &format!("{}{text}", if in_full { "" } else { usual }));
        let (code, printed, wrong) = installed.run("check");
        if code != Some(0) {
            assert_eq!(installed.run("run"), (Some(78), String::new(), wrong.clone()), "{block}");
            assert!(!installed.0.path().join("data").exists(), "{block}");
        }
        let printed: Vec<&str> = printed.lines().skip(usize::from(!in_full)).collect();
        let shown = [printed, wrong.lines().collect()]
            .concat()
            .join("\n")
            .replace("insecure: center.stream s: insecure_unsigned", "");
        let shown = shown.replace(&format!("{}/", installed.0.path().display()), "");
        let shown = shown.lines().filter(|line| !line.is_empty()).map(|line| format!("\n> {line}"));
        found.push(format!("{}\n> exit {}{}", written.join("\n"), code.unwrap(), shown.collect::<String>()));
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check/cases.txt"), found.join("\n\n") + "\n")
            .unwrap();
    }
    for (found, expected) in found.iter().zip(expected.trim_end().split("\n\n")) {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_missing_file_exits_78_and_is_named() {
    let (code, _, wrong) = dormgate(&["check", "--config", "/nowhere/dormgate.toml"], Path::new("/"), None);
    assert_eq!(code, Some(78));
    assert!(wrong.starts_with("/nowhere/dormgate.toml: cannot be read: "), "{wrong}");
}

#[test]
fn a_wrong_call_exits_2_and_help_exits_0() {
    for (args, log, wanted) in [
        (&["chekc"][..], None, "--help"),
        (&[], None, "--help"),
        (&["check", "--config", "x", "--log-format", "xml"], None, "--help"),
        (&["check", "--config", "x"], Some("dormgate=loud"), "`RUST_LOG` is `dormgate=loud`"),
        // A word that is wrong is found whether or not there is a gateway or a simulator.
        (&["simulate", "fault", "riser/1", "slient"], None, "did you mean `silent`?"),
        (&["simulate", "fault", "riser/1", "slow"], None, "`slow` needs a time from 1 to 60000 ms"),
        (&["simulate", "fault", "riser/1", "exception", "999"], None, "a code from 1 to 255"),
        (&["simulate", "fault", "riser/1", "unplugged"], None, "without a unit"),
        (&["posture", "door-412", "lockdwn"], None, "`lockdwn` is not a posture; did you mean `lockdown`?"),
    ] {
        let (code, _, wrong) = dormgate(args, Path::new("/"), log);
        assert_eq!(code, Some(2), "{args:?}: {wrong}");
        assert!(wrong.contains(wanted), "{args:?}: {wrong}");
    }
    let unplugged = ["simulate", "fault", "riser", "unplugged", "--config", "/nowhere/dormgate.toml"];
    assert_eq!(dormgate(&unplugged, Path::new("/"), None).0, Some(78), "a whole line can be unplugged");
    for fine in ["--help", "--version"] {
        let (code, _, wrong) = dormgate(&[fine], Path::new("/"), None);
        assert_eq!((code, wrong.as_str()), (Some(0), ""), "{fine}");
    }
    // Whether the file is there depends on the machine.
    let (_, printed, _) = dormgate(&["check", "--help"], Path::new("/"), None);
    assert!(printed.contains("[default: /etc/dormgate/dormgate.toml]"), "{printed}");
}

#[test]
fn relative_paths_are_relative_to_the_file_and_not_to_the_caller() {
    let installed = Installed::new(
        "[gateway]\nid = \"g\"\ndata_dir = \"data\"\n[http]\nlisten = \"0.0.0.0:8480\"\ntoken_file = \"token\"\n",
    );
    installed.write("token", "open sesame, 20 bytes or more");
    let file = Path::new("..").join(installed.0.path().file_name().unwrap()).join("g.toml");
    let (code, printed, wrong) = dormgate(&["check", "--config", file.to_str().unwrap()], installed.0.path(), None);
    assert_eq!((code, wrong.as_str()), (Some(0), ""));
    assert!(printed.contains("/data`") && !printed.contains("open sesame, 20 bytes or more"), "{printed}");
}

#[test]
fn an_encrypted_store_whose_key_is_not_there_names_every_way_to_give_it() {
    let installed = Installed::new("[gateway]\nid = \"g\"\ndata_dir = \"data\"\n[store]\nencrypt = true\n");
    for args in [["audit", "verify", "--config", "g.toml"], ["restore", "backup", "--config", "g.toml"]] {
        let (code, _, wrong) = dormgate(&args, installed.0.path(), None);
        assert_eq!(code, Some(78), "{wrong}");
        let parts =
            ["g.toml: `store.key_file`", "name the file", "`CREDENTIALS_DIRECTORY=/etc/dormgate/secrets dormgate …`"];
        assert!(parts.iter().all(|part| wrong.contains(part)) && !wrong.contains("--config FILE"), "{wrong}");
    }
}

#[test]
fn the_example_that_installers_start_from_is_a_good_configuration() {
    let printed = Installed::new(&document("deploy/dormgate.toml")).good();
    assert!(!printed.contains("insecure:") && !printed.contains("note:"), "{printed}");
}

#[test]
fn every_key_that_the_example_shows_and_leaves_out_is_a_good_one_too() {
    let shown = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let installed = Installed::new(&document("deploy/dormgate.toml").lines().map(shown).collect::<String>());
    // The directory of a site's own profiles has to be there; a file in it makes it.
    installed.write("devices/README", "");
    installed.write("portals.csv", "id,kind,zone,device.mqtt\ngate-9,gate,lobby,native\n");
    for secret in ["uplink_password", "local_password", "console_token", "audit_uid_key", "store_key"] {
        installed.write(&format!("secrets/{secret}"), "a secret of 32 characters or more");
    }
    let (authority, secrets) = (Authority::new(), installed.0.path().join("secrets"));
    authority.write(&secrets, "ca");
    authority.issue(&secrets, "gateway");
    let printed = installed.good();
    let asking = ["controllers send requests to 0.0.0.0:1502 and /dev/", "1 by Modbus controllers"];
    assert!(asking.iter().all(|part| printed.contains(part)), "{printed}");
    assert!(!printed.contains("key_file"), "the key belongs to the certificate: {printed}");
}

#[test]
fn a_building_that_is_described_once_is_checked_and_written_only_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    // As deploy/README.md shows it, but for the directory.
    let shown = document("deploy/README.md").replace("\\\n", " ");
    let shown = shown.lines().find_map(|line| line.strip_prefix("dormgate init /etc/dormgate ")).unwrap().to_owned();
    let init: Vec<&str> = ["init", "here"].into_iter().chain(shown.split_whitespace()).collect();
    let (code, printed, wrong) = dormgate(&init, dir.path(), None);
    assert_eq!((code, wrong.as_str()), (Some(0), ""));
    assert!(printed.contains("2 gate(s) each way, 180 room(s) on 6 floor(s)"), "{printed}");
    let (code, printed, wrong) = dormgate(&["check", "--config", "here/dormgate.toml"], dir.path(), None);
    assert_eq!((code, wrong.as_str()), (Some(0), ""));
    assert!(
        printed.contains("4 gate(s), 180 door(s), 180 power box(es), of these 4 over MQTT, 360 by Modbus parts"),
        "{printed}"
    );
    // A hint about each of 180 rooms names a few.
    assert!(printed.contains(" and 175 more"), "{printed}");
    assert!(printed.lines().all(|line| line.matches("door-").count() < 10), "{printed}");
    let left = printed.lines().find(|line| line.starts_with("hint: left to do: ")).unwrap_or_default();
    assert!(
        left.contains("`192.0.2.") && left.ends_with("stands for an address of yours; write the real one"),
        "{printed}"
    );
    let sheet = std::fs::read(dir.path().join("here/portals.csv")).unwrap();
    let (code, _, wrong) = dormgate(&init, dir.path(), None);
    assert_eq!(code, Some(1));
    assert!(wrong.starts_with("here/dormgate.toml: is there already; "), "{wrong}");
    assert_eq!(std::fs::read(dir.path().join("here/portals.csv")).unwrap(), sheet);
    // A reader that does not report when a card leaves does not fit a power box.
    let power = ["--power", "inveo-rfid-mb-10,waveshare-relay-8ch"];
    let wrong_box: Vec<&str> = ["init", "there"]
        .into_iter()
        .chain(shown.split(" --door").next().unwrap().split_whitespace())
        .chain(power)
        .collect();
    let (code, _, wrong) = dormgate(&wrong_box, dir.path(), None);
    assert_eq!(code, Some(78), "{wrong}");
    assert!(wrong.contains("there/portals.csv:6:") && wrong.contains("(and so in 179 more rows)"), "{wrong}");
    assert!(!dir.path().join("there/dormgate.toml").exists() && !dir.path().join("there/portals.csv").exists());
}

#[test]
fn a_sheet_that_is_only_begun_is_noted() {
    let installed =
        Installed::new("portals = \"portals.csv\"\n[gateway]\nid = \"g\"\n[local]\nurls = [\"mqtt://127.0.0.1\"]\n");
    installed.write("portals.csv", "id,kind,zone,device.mqtt\n");
    let noted = "note: the sheet of portals names its columns and has no row";
    assert!(installed.good().contains(noted), "{}", installed.good());
    installed.write("portals.csv", "id,kind,zone,device.mqtt\ndoor-1,door,1,native\n");
    assert!(!installed.good().contains(noted));
}

#[test]
fn the_first_configuration_of_the_readme_is_a_good_one() {
    let readme = document("README.md");
    let block = readme.split("```toml\n").skip(1).find(|block| block.starts_with("[gateway]")).unwrap();
    let printed = Installed::new(block.split("```").next().unwrap()).good();
    assert!(!printed.contains("insecure:"), "{printed}");
}

#[test]
fn a_simulator_that_can_serve_nothing_ends_and_reports_why() {
    let portal = expanded("portal door door riser/3/inveo-rfid-ind-m1 riser/21/waveshare-relay-8ch");
    let bus = "[[bus]]\nid = \"riser\"\nserial = { port = \"riser.pty\" }\n";
    let installed = Installed::new(&format!("[gateway]\nid = \"p-1\"\ndata_dir = \"data\"\n{bus}{portal}"));
    installed.write("riser.pty", "somebody's");
    let (code, _, wrong) = installed.run("simulate");
    assert_eq!(code, Some(1), "{wrong}");
    assert!(
        wrong.contains("it exists and was not made by a simulator") && wrong.contains("`--port riser=…`"),
        "{wrong}"
    );
    assert!(wrong.ends_with("nothing is left to simulate\n") && !wrong.contains("simulating"), "{wrong}");
    assert_eq!(std::fs::read_to_string(installed.0.path().join("riser.pty")).unwrap(), "somebody's");
}

/// Exit code and stderr of a command with this stdout.
fn printing_to(args: &[&str], dir: &Path, out: impl Into<std::process::Stdio>) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    let program = program.args(args).current_dir(dir).env_remove("RUST_LOG").stdout(out);
    let output = program.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_output_that_is_closed_early_is_no_failure_and_one_that_cannot_be_written_is_one() {
    let installed = Installed::new("[gateway]\nid = \"g\"\ndata_dir = \"data\"\n");
    for args in [
        &["check", "--config", "g.toml"][..],
        &["uid", "1EA68671"],
        &["profile", "show", "inveo-rfid-ind-m1"],
        &["diag", "--config", "g.toml", "-o", "-"],
        &["--help"],
        &["audit", "verify", "--config", "g.toml"],
    ] {
        std::fs::create_dir_all(installed.0.path().join("data/journal")).unwrap();
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let ended = printing_to(args, installed.0.path(), closed);
        assert_eq!(ended, (Some(0), String::new()), "{args:?} with its output closed");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, wrong) = printing_to(args, installed.0.path(), full);
        assert!(code == Some(1) && wrong.contains("the output cannot be written"), "{args:?}: {code:?} {wrong}");
    }
    // What a command has found counts also where nobody reads it.
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(printing_to(&["uid", "08A1B2C3"], installed.0.path(), closed).0, Some(1));
}

#[test]
fn a_file_that_is_there_already_is_named_by_the_export() {
    let installed = Installed::new("[gateway]\nid = \"g\"\ndata_dir = \"data\"\n");
    installed.write("there.json", "somebody's");
    for (file, why) in [("there.json", "File exists"), ("none/x.json", "No such file")] {
        let args = ["audit", "export", "--config", "g.toml", "-o", file];
        let (code, _, wrong) = dormgate(&args, installed.0.path(), None);
        assert!(code == Some(1) && wrong.contains(&format!("`{file}`")) && wrong.contains(why), "{wrong}");
        assert!(wrong.contains("name another with `--output`"), "{wrong}");
    }
    assert_eq!(std::fs::read_to_string(installed.0.path().join("there.json")).unwrap(), "somebody's");
}

#[test]
fn a_file_that_a_reload_cannot_take_to_a_gateway_ends_it_with_1_and_one_that_is_missing_with_78() {
    let installed = Installed::new("");
    for (content, part) in [
        (&b""[..], "`gateway.id` is missing"),
        (b"[gateway]\n", "`gateway.id` is missing"),
        (b"[gateway\n", "not TOML"),
        (b"# \xD6\xD0\n[gateway]\nid = \"g\"\n", "g.toml:1:3: "),
    ] {
        std::fs::write(installed.0.path().join("g.toml"), content).unwrap();
        let (code, _, wrong) = installed.run("reload");
        assert!(code == Some(1) && wrong.contains(part) && wrong.contains("no gateway was asked"), "{code:?} {wrong}");
    }
    std::fs::remove_file(installed.0.path().join("g.toml")).unwrap();
    assert_eq!(installed.run("reload").0, Some(78));
}

#[test]
fn a_building_needs_something_that_reads_a_card_and_no_rooms() {
    let dir = tempfile::tempdir().unwrap();
    let init = |words: &str| {
        let words: Vec<&str> =
            ["init", "here", "--gateway", "g1"].into_iter().chain(words.split_whitespace()).collect();
        let ended = dormgate(&words, dir.path(), None);
        let check = dormgate(&["check", "--config", "here/dormgate.toml"], dir.path(), None);
        drop(std::fs::remove_dir_all(dir.path().join("here")));
        (ended.0, ended.2, check.0)
    };
    for words in
        ["--floors 2 --rooms 3 --gates 0 --door mqtt", "--floors 0 --rooms 0", "--floors 2 --rooms 0 --gates 2"]
    {
        let (code, wrong, checked) = init(words);
        assert_eq!((code, wrong.as_str(), checked), (Some(0), "", Some(0)), "{words}");
    }
    for (words, part) in [
        ("--floors 2 --rooms 3 --gates 0", "nothing here reads a card: give `--gates`"),
        ("--floors 0 --rooms 0 --gates 0", "nothing here reads a card: give `--gates`"),
        ("--floors 0 --rooms 3 --door mqtt", "`--door` and `--power` are for rooms, and there are none"),
        ("--floors 3 --rooms 0 --gates 0 --power mqtt", "`--door` and `--power` are for rooms, and there are none"),
    ] {
        let (code, wrong, _) = init(words);
        assert!(code == Some(1) && wrong.contains(part), "{words}: {code:?} {wrong}");
    }
}
