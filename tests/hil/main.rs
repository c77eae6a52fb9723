//! The same checks on a real line as on a simulated one. `DORMGATE_HIL=config.toml tests/run --hil` runs them with a person at
//! the devices, who is reported what to do; without hardware, a rehearsal plays the person and `dormgate simulate` the devices.
//! devices/README.md, "Testing against your hardware", is for the person.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod bench;
mod checks;
#[path = "../support/golden.rs"]
mod golden;
mod person;
mod record;
mod rehearsal;
mod whole;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dormgate::config::PortalConfig;

use bench::{Bench, devices};
use person::{Report, heading, outputs_may_move};
use record::Recorder;

/// Where recordings are put when `DORMGATE_HIL_RECORD` does not report.
const RECORD_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/hil");

fn named() -> PathBuf {
    let Some(path) = std::env::var_os("DORMGATE_HIL").filter(|path| !path.is_empty()) else {
        panic!("no configuration is named; run `DORMGATE_HIL=config.toml tests/run --hil`");
    };
    path.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs devices and a person: DORMGATE_HIL=config.toml tests/run --hil"]
async fn the_line_of_the_configuration_keeps_its_guarantees() {
    let path = named();
    let config = dormgate::config::load(&path).unwrap_or_else(|error| panic!("\n{error}"));
    let folder = std::env::var_os("DORMGATE_HIL_RECORD").filter(|dir| !dir.is_empty());
    let recorder = Recorder::start(&folder.map_or_else(|| Path::new(RECORD_DIR).to_owned(), PathBuf::from));
    let mut report = Report::default();
    heading(format_args!("{}; frames go to {}", path.display(), recorder.folder().display()));
    let on_lines =
        |p: &&PortalConfig| p.device.parts().is_some_and(|parts| parts.all().all(|part| part.modbus().is_some()));
    for portal in config.portals.iter().filter(|p| !on_lines(p)) {
        report.left_out(format_args!("`{}` is not on a line on which the gateway asks", portal.portal.id));
    }
    let portals: Vec<_> =
        config.portals.iter().filter(on_lines).filter_map(|p| Some((&p.portal.id, p.device.parts()?))).collect();
    let devices = devices(portals.iter().map(|(_, parts)| *parts));
    assert!(!devices.is_empty(), "`{}` names no Modbus device; there is nothing to test", path.display());
    let mut bench = Bench::new(config.buses.clone(), recorder);
    checks::every_device_answers(&mut bench, &devices, &mut report).await;
    checks::every_device_goes_on_answering(&mut bench, &devices, &mut report).await;
    checks::nobody_answers_for_another(&mut bench, &devices, &mut report).await;
    let mut cards = BTreeMap::new();
    for portal in portals {
        if let Some(card) = checks::a_card_is_read_and_goes(&mut bench, portal, &mut report).await {
            cards.insert(portal.0.clone(), card);
        }
        checks::a_meter_measures(&mut bench, portal, &mut report).await;
        if outputs_may_move() {
            checks::a_relay_closes_and_opens(&mut bench, portal, &mut report).await;
        }
    }
    bench.close();
    if outputs_may_move() {
        whole::a_gateway_lets_in_who_may_and_nobody_who_may_not(&config, &cards, &mut report).await;
    } else {
        heading("Relays");
        report.left_out("relays, and the gateway on these lines: DORMGATE_HIL_OUTPUTS=1 allows doors to open and rooms to lose power");
    }
    report.close();
}
