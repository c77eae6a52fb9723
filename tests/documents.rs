//! The documents against the code: what they list is all there is, and what they point at exists.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dormgate::access::decision::{GrantFlag, Reason};
use dormgate::access::engine::Status;
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::id::GatewayId;
use dormgate::config::{ModbusPart, MqttPart, Part};
use dormgate::gateway::metrics::Metrics;
use dormgate::http::client::query_text;
use dormgate::http::{DiskRoom, Links};
use dormgate::mqtt::LinkMetrics;
use dormgate::portals::DeviceCounters;
use dormgate::portals::modbus::Observer;
use dormgate::profile;
use dormgate::wire::allowed::OpName;
use dormgate::wire::topic::{self, Down, Portal, Topic, Up};
use prometheus_client::registry::Registry;
use serde_json::json;

#[path = "documents/installed.rs"]
mod installed;
#[path = "documents/listed.rs"]
mod listed;

const DOCUMENTS: [&str; 18] = [
    "README.md",
    "deploy/console.md",
    "deploy/warden.md",
    "deploy/integrator.md",
    "deploy/security.md",
    "deploy/CHANGELOG.md",
    "deploy/CONTRIBUTING.md",
    "deploy/center.md",
    "deploy/campus/README.md",
    "deploy/proof.md",
    "deploy/reference.md",
    "deploy/speed.md",
    "deploy/README.md",
    "deploy/protocol.md",
    "deploy/monitoring/README.md",
    "deploy/cards.md",
    "devices/README.md",
    "devices/mqtt/README.md",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The heading as the anchor of a link.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let text = read(document);
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { here.clone() } else { here.parent().unwrap().join(file) };
            let found = target.exists()
                && (part.is_empty()
                    || std::fs::read_to_string(&target)
                        .unwrap()
                        .lines()
                        .any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == part));
            if !found {
                wrong.push(format!("{document}: {link}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_reason_and_flag_is_in_the_reference_and_in_the_protocol_with_its_number() {
    let (reference, protocol) = (read("deploy/reference.md"), read("deploy/protocol.md"));
    for reason in Reason::ALL {
        let number = format!("| {} | `{}` |", reason.code(), reason.as_str());
        assert!(protocol.contains(&number), "deploy/protocol.md lacks {number}");
        // The same words as on the command line and in the answers to a center.
        let (means, remedy) = (reason.wording(), reason.remedy());
        let row = format!("{number} {} | {} | {}。{} |", means.en, remedy.en, means.zh, remedy.zh);
        assert!(reference.lines().any(|line| line == row), "deploy/reference.md lacks {row}");
        assert!(means.zh.chars().chain(remedy.zh.chars()).all(|c| c != '|'), "{reason:?} breaks the table");
    }
    for flag in GrantFlag::ALL {
        assert!(protocol.contains(&format!("`{}`", flag.as_str())), "deploy/protocol.md lacks {flag:?}");
        let (means, remedy) = (flag.wording(), flag.remedy());
        let row = format!("| `{}` | {} | {} | {}。{} |", flag.as_str(), means.en, remedy.en, means.zh, remedy.zh);
        assert!(reference.lines().any(|line| line == row), "deploy/reference.md lacks {row}");
    }
}

#[test]
fn the_answer_of_query_in_the_readme_is_as_it_is_printed() {
    let readme = read("README.md");
    let (_, after) = readme.split_once("$ dormgate query 1EA68671 --config dormgate.toml\n").unwrap();
    let (shown, _) = after.split_once("\n$ ").unwrap();
    let times: Vec<&str> = shown.split([' ', ',', '\n']).filter(|word| word.ends_with('Z')).collect();
    let [received, in_force, durable, confirmed] = times.as_slice() else { panic!("{shown}") };
    let verdict = |portal: &str| json!({"portal": portal, "decision": "deny", "reason": "replaced"});
    let verdicts = ["gate-in", "door-412", "power-412"].map(verdict);
    let answer = json!({
        "verdicts": verdicts,
        "revocations": [{
            "stream": "center", "epoch": 1, "seq": 3, "received_at": received, "in_force_at": in_force, "durable_at": durable,
            "portals": [{"portal": "power-412", "confirmed_at": confirmed, "how": "off"}],
        }],
    });
    assert_eq!(shown, query_text(&answer));
}

#[test]
fn every_reason_of_a_denial_is_on_the_wardens_sheet() {
    let sheet = read("deploy/warden.md");
    for reason in Reason::ALL {
        assert!(sheet.contains(&format!("`{}`", reason.as_str())), "deploy/warden.md lacks `{}`", reason.as_str());
    }
}

#[test]
fn every_alarm_reports_what_to_do_and_every_event_and_op_is_explained() {
    let (manual, protocol) = (read("deploy/README.md"), read("deploy/protocol.md"));
    let names = |text: &str, name: &str| {
        text.lines().any(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))))
    };
    for alarm in AlarmKind::ALL {
        assert!(names(&manual, alarm.as_str()), "{}", alarm.as_str());
        assert!(protocol.contains(&format!("`{}`", alarm.as_str())), "{}", alarm.as_str());
    }
    for event in EventKind::ALL {
        assert!(names(&protocol, event.as_str()), "{}", event.as_str());
    }
    for op in OpName::ALL.iter().filter(|op| **op != OpName::Command) {
        assert!(names(&protocol, op.as_str()), "{op}");
    }
}

#[cfg(feature = "workbench")]
#[test]
fn every_column_of_a_sheet_is_explained_with_all_its_names() {
    let manual = read("deploy/cards.md");
    for (name, others) in dormgate::center::sheet::columns() {
        let row = format!("| `{name}` | {} |", others.join(", "));
        assert!(manual.contains(&row), "deploy/cards.md lacks {row}");
    }
}

/// Every metric, as Prometheus names it.
fn metrics() -> Vec<String> {
    let mut registry = Registry::with_prefix("dormgate");
    let own = Metrics::default();
    own.register(&mut registry);
    // What has labels is shown once it has counted something.
    let (outcome, stream) = ([("outcome", "ok")], [("stream", "card-office".to_owned())]);
    own.decisions.get_or_create(&[("kind", "gate"), ("decision", "deny"), ("reason", "lost")]).inc();
    own.rejected.get_or_create(&[("topic", "changes"), ("code", "bad_signature")]).inc();
    own.alarms.get_or_create(&[("kind", "fire")]).inc();
    own.messages.get_or_create(&outcome).inc();
    own.commands.get_or_create(&outcome).inc();
    for family in [&own.stream_epoch, &own.stream_seq, &own.stream_age] {
        family.get_or_create(&stream).set(1);
    }
    own.status(&Status::default());
    own.metered(&"power-412".parse().unwrap(), Some(1.0), Some(1.0));
    let modbus = DeviceCounters::register(&mut registry);
    modbus.request("riser", "ok", Duration::from_millis(1));
    modbus.listed(&Part::Modbus(ModbusPart {
        bus: "riser".to_owned(),
        unit: 1,
        profile: Arc::new(profile::shipped("waveshare-relay-8ch").unwrap()),
        channel: 0,
    }));
    modbus.listed(&Part::Mqtt(MqttPart {
        topic: "gate_1".to_owned(),
        profile: Arc::new(profile::mqtt::shipped("shelly-gen2").unwrap()),
        channel: 0,
    }));
    let mut links = Links::default();
    links.add("uplink", &Arc::new(LinkMetrics::default()));
    links.register(&mut registry);
    let disk = DiskRoom::default();
    disk.found(Some(1));
    disk.register(&mut registry);
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    let named = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
    let metrics: Vec<String> = named.map(name).collect();
    for own in Metrics::NAMES {
        let shown = |name: &String| name.trim_end_matches("_total") == format!("dormgate_{own}");
        assert!(metrics.iter().any(shown), "`{own}` is not shown: count something with it above");
    }
    metrics
}

#[test]
fn every_metric_is_in_the_reference() {
    let reference = read("deploy/reference.md");
    for name in metrics() {
        let found = reference.contains(&format!("`{name}`")) || reference.contains(&format!("`{name}{{"));
        assert!(found, "deploy/reference.md lacks `{name}`");
    }
}

#[test]
fn every_metric_kind_and_code_that_the_monitoring_names_exists() {
    let metrics = metrics();
    for file in ["deploy/monitoring/rules.yml", "deploy/monitoring/rules-tests.yml", "deploy/monitoring/grafana.json"] {
        let text = read(file);
        let mut seen = 0;
        for rest in text.split("dormgate_").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let known = |name: &str| metrics.iter().any(|metric| *metric == format!("dormgate_{name}"));
            assert!(known(&name) || of_histogram.is_some_and(known), "{file}: `dormgate_{name}` is no metric");
            seen += 1;
        }
        assert!(seen > 15, "only {seen} metrics in {file}");
        let kinds: Vec<&str> = AlarmKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let of_alarms = ["dormgate_alarms_total{", "dormgate_alarms_open{"].map(|name| text.split(name).skip(1));
        for matcher in of_alarms.into_iter().flatten().filter_map(|rest| rest.split('}').next()) {
            let Some(named) = matcher.split("kind").nth(1).and_then(|rest| rest.split('"').nth(1)) else { continue };
            for kind in named.split('|') {
                assert!(kinds.contains(&kind), "{file}: `{kind}` is no alarm");
            }
        }
    }
}

#[test]
fn every_alert_is_raised_and_stays_quiet_in_a_test_of_its_own() {
    let (rules, tests) = (read("deploy/monitoring/rules.yml"), read("deploy/monitoring/rules-tests.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    for alert in alerts {
        for what in ["is raised", "stays quiet"] {
            assert!(tests.contains(&format!("- name: {alert} {what}\n")), "rules-tests.yml lacks `{alert} {what}`");
        }
    }
}

#[test]
#[ignore = "needs promtool; tests/run installs it"]
fn promtool_accepts_the_rules_and_their_tests() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring");
    for args in [["check", "rules", "rules.yml"], ["test", "rules", "rules-tests.yml"]] {
        let ended = std::process::Command::new("promtool").args(args).current_dir(&dir).output().unwrap();
        let printed = [ended.stdout, ended.stderr].concat();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&printed));
    }
}

/// Whether an access list of mosquitto lets `user` do this with `topic`.
fn allows(acl: &str, user: &str, doing: &str, topic: &str) -> bool {
    let mut sends_of = None;
    acl.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["user", name] => {
                sends_of = Some((*name).to_owned());
                false
            }
            [kind, may, filter] => {
                let concerned = *kind == "pattern" || sends_of.as_deref() == Some(user);
                let filter = if *kind == "pattern" { filter.replace("%u", user) } else { (*filter).to_owned() };
                concerned && (*may == doing || *may == "readwrite") && covers(&filter, topic)
            }
            _ => false,
        }
    })
}

fn covers(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for level in filter.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[test]
fn the_access_rules_let_gateway_and_portal_do_their_work_and_no_more() {
    let g: GatewayId = "nanhu-xing1".parse().unwrap();
    let topic = |leaf| Topic::Portal(g.clone(), "gate-in".to_owned(), leaf).to_string();
    let on_the_box = read("deploy/mosquitto.acl");
    for (leaf, portal, gateway) in [
        (Portal::Request, "write", "read"),
        (Portal::State, "write", "read"),
        (Portal::Decision, "read", "write"),
        (Portal::Control, "read", "write"),
    ] {
        assert!(allows(&on_the_box, "gate-in", portal, &topic(leaf)), "{leaf:?}");
        assert!(allows(&on_the_box, "gateway", gateway, &topic(leaf)), "{leaf:?}");
        assert!(!allows(&on_the_box, "gate-out", portal, &topic(leaf)), "{leaf:?}: of another portal");
        assert!(!allows(&on_the_box, "gate-in", gateway, &topic(leaf)), "{leaf:?}: the other side's");
    }
    let state = Topic::GatewayState(g.clone()).to_string();
    assert!(allows(&on_the_box, "gateway", "write", &state) && allows(&on_the_box, "gate-in", "read", &state));
    assert!(!allows(&on_the_box, "gate-in", "write", &state));
    let echo = "dormgate/v1/nanhu-xing1/gateway/echo/local";
    assert!(["read", "write"].iter().all(|doing| allows(&on_the_box, "gateway", doing, echo)));

    let campus = read("deploy/campus/mosquitto.acl");
    let snapshot = Topic::Down(g.clone(), Down::Snapshot).to_string();
    let received = topic::uplink_subscriptions(&g).into_iter().map(|s| s.filter.replace('+', "apartment"));
    for received in received.chain([snapshot]) {
        assert!(allows(&campus, "nanhu-xing1", "read", &received), "{received}");
        let other = received.contains("nanhu-xing1") && allows(&campus, "nanhu-xing2", "read", &received);
        assert!(!other, "{received}: of another gateway");
        assert!(!allows(&campus, "nanhu-xing1", "write", &received), "{received}");
    }
    for up in Up::ALL.iter().copied() {
        let reported = Topic::Up(g.clone(), up).to_string();
        assert!(allows(&campus, "nanhu-xing1", "write", &reported), "{reported}");
        assert!(
            allows(&campus, "apartment", "read", &reported) && allows(&campus, "card-office", "read", &reported),
            "{reported}"
        );
        assert!(!allows(&campus, "nanhu-xing2", "write", &reported), "{reported}: of another gateway");
    }
    assert!(!allows(&campus, "card-office", "write", &Topic::Down(g, Down::Command).to_string()));
}

#[test]
fn the_files_for_both_generations_of_mosquitto_configure_the_same() {
    for folder in ["deploy", "deploy/campus"] {
        let lines = |file: &str| {
            let text = read(&format!("{folder}/{file}"));
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            // The plugins of 2.1 take what were options of the broker before.
            let lines = lines.filter(|line| !line.starts_with("global_plugin "));
            lines.map(|line| line.trim_start_matches("plugin_opt_").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lines("mosquitto.conf"), lines("mosquitto-2.1.conf"), "{folder}");
    }
}

#[test]
#[ignore = "needs systemd-analyze; tests/run installs it"]
fn the_unit_of_the_gateway_is_exposed_as_little_as_it_can_be() {
    // In tenths: at most 2.0 of 10.
    let args = ["security", "--offline=true", "--threshold=20"];
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dormgate.service");
    let ended = std::process::Command::new("systemd-analyze").args(args).arg(unit).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

#[test]
#[ignore = "needs systemd-analyze; tests/run installs it"]
fn systemd_takes_both_units_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    for unit in ["dormgate.service", "dormgate-center.service"] {
        // The program is not installed here.
        let with_true = |line: &str| match line.split_once('=') {
            Some((key @ ("ExecStart" | "ExecReload"), _)) => format!("{key}=/bin/true"),
            _ => line.to_owned(),
        };
        let text: Vec<String> = read(&format!("deploy/{unit}")).lines().map(with_true).collect();
        let path = directory.path().join(unit);
        std::fs::write(&path, text.join("\n")).unwrap();
        let verified = std::process::Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let printed = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !printed.contains(unit), "{unit}: {printed}");
    }
}

#[test]
fn every_refusal_that_the_pages_have_in_chinese_is_one_of_the_gateway() {
    fn sources(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let words = read("src/browser/page/words.js");
    let refusals = words.split("const REFUSALS = [").nth(1).unwrap().split("];").next().unwrap();
    let parts: Vec<_> =
        refusals.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()).collect();
    assert!(parts.len() > 8, "{parts:?}");
    for part in parts {
        assert!(text.contains(part), "no refusal contains `{part}`");
    }
}

#[test]
fn every_refusal_of_the_console_is_in_chinese_too() {
    let words = read("src/browser/page/words.js");
    let refusals = words.split("const REFUSALS = [").nth(1).unwrap().split("];").next().unwrap();
    let parts: Vec<_> =
        refusals.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()).collect();
    let console = ["card", "guard", "history", "live", "mod", "orders"].map(|file| format!("http/console/{file}.rs"));
    let others = ["browser/origin.rs", "gateway/ports.rs", "access/engine/commands.rs", "access/engine/modes.rs"];
    let mut seen = 0;
    for file in console.iter().map(String::as_str).chain(others) {
        let text = read(&format!("src/{file}"));
        let text = text.split("#[cfg(test)]").next().unwrap();
        let marks: &[&str] = match file {
            // The other errors of that file are for centers.
            "access/engine/commands.rs" => &["rejected(", "offline(portal: "],
            "access/engine/modes.rs" => &["let message = ", "Some(format!("],
            _ => &["refuse(", "wrong(", "Err(", "let why = ", "let message = ", "#[error("],
        };
        let found = marks.iter().flat_map(|mark| text.match_indices(mark).map(|(at, _)| text.split_at(at).1));
        for call in found.filter_map(|call| call.split(";\n").next()) {
            let Some((before, literal)) = call.split_once('"') else { continue };
            let literal = literal.split('"').next().unwrap();
            let is_log_or_part = before.contains("tracing::") || before.contains("needs_login");
            if before.len() > 150 || is_log_or_part || literal.split_whitespace().count() < 3 {
                continue;
            }
            seen += 1;
            assert!(parts.iter().any(|part| literal.contains(part)), "{file}: `{literal}` has no Chinese in words.js");
        }
    }
    assert!(seen > 25, "{seen}");
}
