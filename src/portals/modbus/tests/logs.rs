//! What the log says of a request that failed: enough to find the device.

use std::io;

use super::cable::{Cable, Weather};
use super::*;
use crate::wire::modbus::Space;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs everything that happens on this thread until the guard goes.
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let lines = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || lines.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Whether one line has all of these.
    fn says(&self, parts: &[&str]) -> bool {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_of_the_log_names_bus_unit_function_address_and_error() {
    let (log, _guard) = Log::listen();
    let line = Line::new((1..=3).map(|unit| (unit, profile("waveshare-relay-8ch"))));
    line.fault(1, Fault::Silent);
    line.fault(2, Fault::Refuses(2));
    line.fault(3, Fault::Garbage);
    let cable = Cable::new(&line, Some(9600), &Weather { each_percent: 0, seed: 0 }, |_| {});
    let spec = BusSpec { id: "riser".into(), line: LineSpec::Memory(cable), timeout_ms: 200 };
    let units = (1..=3).map(|unit| (unit, Duration::ZERO)).collect();
    let (bus, task) = bus::open(spec, &units, Arc::new(()));
    tokio::spawn(task);
    for unit in 1..=3 {
        let read = Request::Read { space: Space::Coil, address: 5, count: 1 };
        assert!(bus.call(unit, read, Priority::Card, None).await.is_err());
        let unit = format!("unit={unit} ");
        let parts = ["bus=riser ", &unit, "function=1 ", "address=5 ", "error="];
        assert!(log.says(&parts), "{}", String::from_utf8_lossy(&log.0.lock().unwrap()));
    }
    assert!(log.says(&["unit=1 ", "no answer within"]));
    assert!(log.says(&["unit=2 ", "refuse"]));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_answers_too_late_is_named_with_what_to_raise() {
    let (log, _guard) = Log::listen();
    let (line, specs) = boxes(1);
    let cable = Cable::new(&line, Some(57_600), &Weather { each_percent: 0, seed: 0 }, |_| {});
    cable.slow(1, Duration::from_millis(350));
    let spec = BusSpec { id: "riser".into(), line: LineSpec::Memory(cable), timeout_ms: 200 };
    let toy = Toy::on(spec, line, specs, &[]);
    toy.reports(|r| r.online == Some(false)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(log.says(&[
        "WARN",
        "bus=riser ",
        "unit=1 ",
        "function=",
        "address=",
        "raise `reply_ms`",
        "later than the 200 ms"
    ]));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("came too late").count(), 1, "once an episode");
}
