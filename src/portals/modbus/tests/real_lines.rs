//! The same portals on lines of the operating system: a TCP connection, and a serial port (a pair of pseudo-terminals) found by a
//! name that stays when the adapter changes. Both are cut and come back. Waits end by what is received; [`LIMIT`] bounds them.

use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;
use tokio_serial::{SerialPort, SerialStream};

use super::*;
use crate::config::{Parity, SerialConfig};
use crate::workbench::modbus::Served;

/// What devices are connected by; dropped, it is gone.
enum Plugged {
    Tcp(Served),
    Serial { link: PathBuf, serving: JoinHandle<()>, _near: std::fs::File },
}

impl Plugged {
    async fn tcp(line: &Line, port: u16) -> Self {
        loop {
            if let Ok(served) = line.serve_tcp(port).await {
                return Self::Tcp(served);
            }
            tokio::task::yield_now().await;
        }
    }

    fn serial(line: &Line, folder: &Path) -> Self {
        let (far, near) = SerialStream::pair().unwrap();
        let link = folder.join("usb-adapter");
        drop(std::fs::remove_file(&link));
        std::os::unix::fs::symlink(near.name().unwrap(), &link).unwrap();
        // The near end stays open, without the lock that the pair holds on it, so that the far end does not see it vanish.
        let near = std::fs::File::open(&link).unwrap();
        let line = line.clone();
        let serving = tokio::spawn(async move { drop(line.serve_rtu(far).await) });
        Self::Serial { link, serving, _near: near }
    }

    fn spec(&self) -> BusLine {
        match self {
            Self::Tcp(served) => BusLine::Tcp(served.address.to_string().parse().unwrap()),
            Self::Serial { link, .. } => {
                let port = link.to_str().unwrap().to_owned();
                BusLine::Serial(SerialConfig { port, baud: 19_200, parity: Parity::None, stop_bits: 1 })
            }
        }
    }

    async fn unplug(self) {
        if let Self::Serial { link, serving, .. } = self {
            std::fs::remove_file(&link).unwrap();
            serving.abort();
            drop(serving.await);
        }
    }
}

async fn a_box_and_a_door_on(serial: bool) {
    let folder = tempfile::tempdir().unwrap();
    let specs = vec![power_box(1), door()];
    let line = devices(&specs);
    let plugged = if serial { Plugged::serial(&line, folder.path()) } else { Plugged::tcp(&line, 0).await };
    let port = if let Plugged::Tcp(served) = &plugged { served.address.port() } else { 0 };
    let rig = Rig::at(BusConfig { timeout_ms: 1000, ..bus_at(plugged.spec()) }, &line, specs, &[CARD]);
    rig.online().await;
    rig.line.present(9, 0, uid(CARD));
    rig.relay(21, 7, true).await;
    rig.relay(21, 7, false).await;
    rig.line.present(1, 0, uid(CARD));
    rig.relay(21, 0, true).await;
    rig.reports(|r| r.relay == Some(true)).await;

    plugged.unplug().await;
    rig.receives(1, report_of("power-1", |r| r.online == Some(false))).await;
    rig.line.reset(21);
    let (off, writes) = (report_of("power-1", |r| r.relay == Some(false)), rig.writes(0).len());
    let before = rig.count(&off);
    let _again = if serial { Plugged::serial(&line, folder.path()) } else { Plugged::tcp(&line, port).await };
    rig.receives(2, report_of("power-1", |r| r.online == Some(true))).await;
    rig.receives(before + 1, &off).await;
    assert!(!rig.line.relay(21, 0));
    assert_eq!(rig.writes(0).len(), writes, "a line that comes back switches nothing on");
    rig.line.present(9, 0, uid(CARD));
    rig.relay(21, 7, true).await;
    rig.line.remove(1, 0);
    let left = report_of("power-1", |r| r.card_present == Some(false));
    rig.receives(rig.count(&left) + 1, &left).await;
}

#[tokio::test]
async fn a_box_and_a_door_work_over_tcp_and_again_after_the_connection_was_cut() {
    a_box_and_a_door_on(false).await;
}

#[tokio::test]
async fn a_box_and_a_door_work_on_a_serial_line_and_again_when_its_adapter_is_plugged_in_again() {
    a_box_and_a_door_on(true).await;
}
