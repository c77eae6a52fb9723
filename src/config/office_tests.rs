//! The file of a center as it is shipped, and every diagnostic with its place.

use super::*;
use crate::config::tests::directory;

const SHIPPED: &str = include_str!("../../deploy/center.toml");
const UNIT: &str = include_str!("../../deploy/dormgate-center.service");
const SEED_1: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n";
const SEED_2: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI\n";

fn ops(allowed: AllowedOps) -> usize {
    allowed.len()
}

#[test]
fn the_shipped_file_is_right_with_the_secrets_of_systemd() {
    let credentials = [("card-office_key", SEED_1), ("apartment_key", SEED_2), ("broker_password", "hunter2\n")];
    let name = |line: &'static str| line.strip_prefix("LoadCredential=")?.split(':').next();
    let loaded: Vec<_> = UNIT.lines().filter_map(name).collect();
    assert_eq!(loaded, credentials.map(|(name, _)| name), "the unit hands over what the file needs, and no more");
    let secrets = directory(&credentials);
    let tokens = directory(&[
        ("tokens/card-office.token", "0123456789abcdef0123-a\n"),
        ("tokens/nanhu.token", "0123456789abcdef0123-b\n"),
    ]);
    let around = Surroundings { base_dir: tokens.path().into(), credentials_dir: Some(secrets.path().into()) };
    let site = parse_center(SHIPPED, &around).unwrap();
    assert_eq!((site.data_file, site.epoch.get()), (PathBuf::from(DEFAULT_DATA_FILE), 1));
    assert_eq!((site.listen, site.audit_days, site.acks_days, site.requests_days), (DEFAULT_LISTEN, 400, 90, 30));
    assert_eq!(site.timezone.iana_name(), Some(DEFAULT_TIMEZONE));
    assert_eq!((site.broker.client_id.as_str(), site.broker.urls.len()), ("dormgate-center", 2));
    let streams: Vec<_> = site.streams.iter().map(|(s, _)| (s.name.as_str(), s.scope, ops(s.allowed))).collect();
    assert_eq!(streams, [("card-office", Scope::Campus, 8), ("apartment", Scope::Gateway, 7)]);
    assert!(site.streams.iter().all(|(spec, key)| spec.keys == [key.verifying_key()]));
    let clients =
        site.clients.iter().map(|c| (c.name.as_str(), ops(c.may), c.may_read, c.gateways.as_ref().map(Vec::len)));
    assert_eq!(clients.collect::<Vec<_>>(), [("card-office", 8, true, None), ("nanhu", 5, true, Some(2))]);
    assert_eq!(site.clients[0].token.expose(), "0123456789abcdef0123-a");
}

#[test]
fn every_key_that_the_shipped_file_shows_and_leaves_out_is_a_right_one_too() {
    let shown = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = SHIPPED.lines().map(shown).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let dir = directory(&[
        ("secrets/broker_password", "hunter2"),
        ("secrets/ca.pem", &pem),
        ("secrets/center.pem", &pem),
        ("secrets/center.key", "key"),
        ("secrets/card-office.key", SEED_1),
        ("secrets/apartment.key", SEED_2),
        ("tokens/card-office.token", "0123456789abcdef0123-a"),
        ("tokens/nanhu.token", "0123456789abcdef0123-b"),
    ]);
    let around = Surroundings { base_dir: dir.path().into(), credentials_dir: None };
    let site = parse_center(&text, &around).unwrap();
    assert_eq!(site.clients.len(), 2);
    assert!(site.broker.client_cert.is_some() && site.broker.ca_file.is_some() && site.broker.credentials.is_some());
}

fn diagnostics(text: &str) -> Vec<String> {
    let dir = directory(&[
        ("a.key", SEED_1),
        ("tea.key", "tea"),
        ("a.token", "0123456789abcdef0123-a"),
        ("short.token", "open sesame"),
    ]);
    let around = Surroundings { base_dir: dir.path().into(), credentials_dir: None };
    parse_center(text, &around).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_wrong_is_reported_with_its_place_and_the_remedy() {
    let good = "[broker]\nurls = [\"mqtt://127.0.0.1\"]\n[[stream]]\nname = \"s\"\nkey_file = \"a.key\"\nmay = [\"*\"]\n\
                [[gateway]]\nid = \"g1\"\n[[client]]\nname = \"c\"\ntoken_file = \"a.token\"\nmay = [\"read\"]\ngateways = [\"*\"]\n";
    let table = [
        ("[[client]]\nname = \"c\"", "[[client]]\nnam = \"c\"", "client[0].nam", "did you mean `name`"),
        ("id = \"g1\"", "id = \"campus\"", "gateway[0].id", "means every gateway"),
        (
            "[[gateway]]\nid = \"g1\"",
            "[[gateway]]\nid = \"g1\"\n[[gateway]]\nid = \"g1\"",
            "gateway[1].id",
            "named twice",
        ),
        ("a.key", "tea.key", "stream[0].key_file", "key"),
        ("key_file = \"a.key\"\n", "", "stream[0]", "systemd credential `s_key`"),
        ("a.token", "short.token", "client[0].token_file", "openssl rand"),
        ("token_file = \"a.token\"\n", "", "client[0]", "systemd credential `c_token`"),
        ("[\"read\"]", "[\"raed\"]", "client[0].may[0]", "did you mean `read`"),
        ("gateways = [\"*\"]", "gateways = [\"g2\"]", "client[0].gateways[0]", "no `[[gateway]]` of this file"),
        ("gateways = [\"*\"]\n", "", "client[0]", "write `[\"*\"]`"),
        (
            "urls = [\"mqtt://127.0.0.1\"]",
            "urls = [\"mqtt://127.0.0.1\"]\nresync_spread_s = 5",
            "broker.resync_spread_s",
            "asks for nothing",
        ),
        ("[broker]\nurls = [\"mqtt://127.0.0.1\"]\n", "", "`broker` is missing", "add `[broker]`"),
        ("may = [\"*\"]\n[[gateway]]", "may = [\"enrol\", \"enrol\"]\n[[gateway]]", "stream[0].may[1]", "named twice"),
    ];
    for (right, wrong, place, remedy) in table {
        assert!(good.contains(right), "{right}");
        let found = diagnostics(&good.replacen(right, wrong, 1));
        assert!(found.iter().any(|one| one.contains(place) && one.contains(remedy)), "{wrong}: {found:#?}");
    }
}
