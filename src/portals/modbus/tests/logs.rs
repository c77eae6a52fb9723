//! What the log reports of a request that failed: enough to find the device.

use std::io;

use super::cable::{CALM, Cable};
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
    fn reports(&self, parts: &[&str]) -> bool {
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
    let cable = Cable::new(&line, Some(9600), &CALM, |_| {});
    let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    let units = (1..=3).map(|unit| (unit, Duration::ZERO)).collect();
    let (bus, task) = task::open(spec, &units, Arc::new(()));
    tokio::spawn(task);
    for unit in 1..=3 {
        let read = Request::Read { space: Space::Coil, address: 5, count: 1 };
        assert!(bus.call(unit, read, Priority::Card, None).await.is_err());
        let unit = format!("unit={unit} ");
        let parts = ["bus=riser ", &unit, "function=1 ", "address=5 ", "error="];
        assert!(log.reports(&parts), "{}", String::from_utf8_lossy(&log.0.lock().unwrap()));
    }
    assert!(log.reports(&["unit=1 ", "no answer within"]));
    assert!(log.reports(&["unit=2 ", "exception"]));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_answers_too_late_is_named_with_what_to_raise() {
    let (log, _guard) = Log::listen();
    let (line, specs) = boxes(1);
    let cable = Cable::new(&line, Some(57_600), &CALM, |_| {});
    cable.slow(1, Duration::from_millis(350));
    let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    let fake = FakeGateway::on(spec, line, specs, &[]);
    fake.reports(|r| r.online == Some(false)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(log.reports(&[
        "WARN",
        "bus=riser ",
        "unit=1 ",
        "function=",
        "address=",
        "raise `timeout_ms` of its `[[bus]]`, or `reply_ms`",
        "later than the 200 ms it is given (both without the time of the bytes)",
    ]));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("came too late").count(), 1, "once an episode");
}

/// What is reported of a unit with this fault, asked as unit 6 (9600 baud, or TCP).
async fn cause(fault: Fault, baud: Option<u32>) -> String {
    let line = Line::new([(6, profile("waveshare-relay-8ch"))]);
    line.fault(6, fault);
    let cable = Cable::new(&line, baud, &CALM, |_| {});
    let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    let (bus, task) = task::open(spec, &HashMap::from([(6, Duration::ZERO)]), Arc::new(()));
    tokio::spawn(task);
    let read = Request::Read { space: Space::Coil, address: 0, count: 16 };
    bus.call(6, read, Priority::Card, None).await.unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn bytes_that_came_are_not_reported_as_silence_or_as_another_unit() {
    for (fault, baud, reported) in [
        (Fault::Silent, Some(9600), "no answer within 2"),
        (Fault::Silent, None, "no answer within 200 ms"),
        (Fault::WrongUnit, Some(9600), "only unit 7 answered within 2"),
        (Fault::WrongUnit, None, "unit 7 answered, unit 6 was asked"),
        (Fault::Short, Some(9600), "3 bytes came, beginning with `06 3F 42`"),
        (Fault::HalfFrame, Some(9600), " bytes came, beginning with `06 81`"),
        (Fault::HalfFrame, None, " bytes came, beginning with `00 01"),
        (Fault::Garbage, Some(9600), "beginning with `48 54 54`, and are no frame"),
        (Fault::Garbage, None, "no Modbus TCP frame"),
    ] {
        let cause = cause(fault, baud).await;
        assert!(cause.contains(reported), "{fault:?} at {baud:?}: {cause}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_refuses_every_poll_is_reported_once_until_it_answers_well() {
    for (exception, of_the_map) in [(2, true), (6, false)] {
        let (log, _guard) = Log::listen();
        let (line, specs) = boxes(1);
        let cable = Cable::new(&line, None, &CALM, |_| {});
        let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
        let fake = FakeGateway::on(spec, line, specs, &[]);
        fake.reports(|r| r.online == Some(true)).await;
        for episode in 1..=2 {
            fake.line.fault(1, Fault::Refuses(exception));
            tokio::time::sleep(Duration::from_secs(20)).await;
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            let warned: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
            let once: std::collections::BTreeSet<_> =
                warned.iter().map(|line| line.split("address=").nth(1).unwrap()).collect();
            assert_eq!(warned.len(), once.len() * episode, "{warned:#?}");
            assert!(!once.is_empty() && log.reports(&["DEBUG", "the same exception again"]));
            assert_eq!(text.contains("is it the right profile?"), of_the_map, "exception {exception}");
            fake.line.fault(1, Fault::None);
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_an_order_names_where_the_relay_is() {
    let (log, _guard) = Log::listen();
    let (line, specs) = boxes(2);
    let cable = Cable::new(&line, None, &CALM, |_| {});
    let spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    let fake = FakeGateway::on(spec, line, specs, &[]);
    fake.online().await;
    fake.cut("power-2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    fake.line.fault(21, Fault::Silent);
    fake.energise("power-2");
    fake.receives(|i| matches!(i, Input::Alarm { .. })).await;
    for what in ["switched off", "the grant is consumed", "an alarm is raised"] {
        assert!(
            log.reports(&[what, "portal=power-2 bus=riser unit=21 channel=1 function=5 address=1 "]),
            "{what}: {}",
            String::from_utf8_lossy(&log.0.lock().unwrap())
        );
    }
}
