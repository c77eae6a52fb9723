//! The same portals on a serial line: a pair of pseudo-terminals, found by a name that stays when the adapter changes.

use std::path::Path;

use tokio::task::JoinHandle;
use tokio_serial::{SerialPort, SerialStream};

use super::*;
use crate::config::{Parity, SerialConfig};

/// A serial line behind a link, as `/dev/serial/by-id` has them.
struct Adapter {
    link: std::path::PathBuf,
    serving: JoinHandle<()>,
    _near: std::fs::File,
}

impl Adapter {
    fn plug(folder: &Path, line: &Line) -> Self {
        let (far, near) = SerialStream::pair().unwrap();
        let link = folder.join("usb-adapter");
        drop(std::fs::remove_file(&link));
        std::os::unix::fs::symlink(near.name().unwrap(), &link).unwrap();
        // The near end stays open, without the lock that the pair holds on it, so that the far end does not see it vanish.
        let near = std::fs::File::open(&link).unwrap();
        let line = line.clone();
        let serving = tokio::spawn(async move { drop(line.serve_rtu(far).await) });
        Self { link, serving, _near: near }
    }

    async fn unplug(self) {
        std::fs::remove_file(&self.link).unwrap();
        self.serving.abort();
        drop(self.serving.await);
    }

    fn spec(&self) -> BusSpec {
        let port = self.link.to_str().unwrap().to_owned();
        let serial = SerialConfig { port, baud: 19200, parity: Parity::None, stop_bits: 1 };
        BusSpec::new("riser", LineSpec::Serial(serial), 200)
    }
}

#[tokio::test]
async fn a_box_and_a_door_work_on_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let devices = [(1, "technotrade-vrd-485"), (9, "inveo-rfid-ind-m1"), (21, "waveshare-relay-8ch")];
    let line = Line::new(devices.map(|(unit, id)| (unit, profile(id))));
    let adapter = Adapter::plug(folder.path(), &line);
    let fake = FakeGateway::on(adapter.spec(), line, vec![power_box(1), door()], &[CARD]);
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
    fake.line.present(9, 0, uid(CARD));
    fake.relay(21, 7, true).await;
    fake.relay(21, 7, false).await;
    fake.line.remove(1, 0);
    fake.relay(21, 0, false).await;
    fake.reports(|r| r.relay == Some(false)).await;
}

#[tokio::test]
async fn a_late_reply_on_a_serial_line_never_answers_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let (line, specs) = boxes(2);
    line.present(1, 0, uid(CARD));
    line.fault(1, Fault::Slow(Duration::from_millis(250)));
    let adapter = Adapter::plug(folder.path(), &line);
    let fake = FakeGateway::on(adapter.spec(), line, specs, &[CARD]);
    fake.reports(|r| r.online == Some(false)).await;
    let of_2 = |i: &Input, present| matches!(i, Input::Report { portal, report } if portal == "power-2" && report.card_present == Some(present));
    fake.receives(|i| of_2(i, false)).await;
    assert!(!fake.received.borrow().iter().any(|i| of_2(i, true)));
    assert_eq!(fake.requests(), 0);
}

#[tokio::test]
async fn answers_that_do_not_fit_are_never_trusted_on_a_serial_line() {
    let faults = [Fault::WrongUnit, Fault::Garbage, Fault::HalfFrame, Fault::Short, Fault::Silent];
    for_each_fault(&faults, |fault| async move {
        let folder = tempfile::tempdir().unwrap();
        let (line, specs) = boxes(2);
        line.fault(1, fault);
        line.present(1, 0, uid(CARD));
        let adapter = Adapter::plug(folder.path(), &line);
        the_neighbour_works(FakeGateway::on(adapter.spec(), line, specs, &[CARD]), fault).await;
    })
    .await;
}

#[tokio::test]
async fn a_serial_adapter_that_is_pulled_and_plugged_in_again_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let (line, specs) = boxes(1);
    let adapter = Adapter::plug(folder.path(), &line);
    let fake = FakeGateway::on(adapter.spec(), line, specs, &[CARD]);
    fake.online().await;
    adapter.unplug().await;
    fake.reports(|r| r.online == Some(false)).await;
    let _again = Adapter::plug(folder.path(), &fake.line);
    let online = |i: &&Input| matches!(i, Input::Report { report, .. } if report.online == Some(true));
    let mut received = fake.received.clone();
    assert!(timeout(LIMIT, received.wait_for(|all| all.iter().filter(online).count() == 2)).await.is_ok());
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
}
