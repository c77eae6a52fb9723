//! The log lines of failed requests and orders: they name the device, and what to do.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Once;

use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::prelude::*;

use super::cable::Adapter;
use super::*;

thread_local! {
    /// What was logged on this thread since a test listens on it.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Makes logs readable by [`Log`]. It is one subscriber for all threads and is installed before the first line is logged: installed while
/// another thread logs a line for the first time, it may never receive that line.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| ToThread);
        let listening = |meta: &tracing::Metadata<'_>| {
            *meta.level() <= tracing::Level::DEBUG && LOGGED.with_borrow(Option::is_some)
        };
        tracing_subscriber::registry()
            .with(lines.with_filter(dynamic_filter_fn(move |meta, _| listening(meta))))
            .init();
    });
}

struct ToThread;

impl io::Write for ToThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.as_mut().map(|logged| logged.extend(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this thread logs while it lives.
pub struct Log;

impl Log {
    pub fn listen() -> Self {
        install();
        LOGGED.set(Some(Vec::new()));
        Self
    }

    /// The lines that have all of these.
    pub fn lines(&self, parts: &[&str]) -> Vec<String> {
        let text = LOGGED.with_borrow(|logged| String::from_utf8(logged.clone().unwrap()).unwrap());
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }

    /// Some line has all of these.
    fn reports(&self, parts: &[&str]) {
        assert!(!self.lines(parts).is_empty(), "no line has {parts:?}: {:#?}", self.lines(&[]));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LOGGED.set(None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_of_the_log_names_bus_unit_function_address_and_what_came() {
    // The unit that is asked has this fault, and the line this speed.
    for (fault, baud, reported) in [
        (Fault::Silent, Some(9600), "no answer within 2"),
        (Fault::Silent, None, "no answer within 200 ms"),
        (Fault::Refuses(2), Some(9600), "exception 2"),
        (Fault::WrongUnit, Some(9600), "only unit 3 answered within 2"),
        (Fault::WrongUnit, None, "unit 3 answered, unit 2 was asked"),
        (Fault::Short, Some(9600), "3 bytes came, beginning with `02 3"),
        (Fault::HalfFrame, Some(9600), " bytes came, beginning with `02 81`"),
        (Fault::HalfFrame, None, " bytes came, beginning with `00 01"),
        (Fault::Garbage, Some(9600), "beginning with `48 54 54`, and are no frame"),
        (Fault::Garbage, None, "no Modbus TCP frame"),
    ] {
        let log = Log::listen();
        let board = Board::new(2, baud, |_| {});
        board.line.fault(2, fault);
        let read = Request::Read { space: Space::Coil, address: 0, count: 16 };
        let error = board.bus.call(2, read, Priority::Card, None).await.unwrap_err().to_string();
        assert!(error.contains(reported), "{fault:?} at {baud:?}: {error}");
        log.reports(&["bus=riser ", "unit=2 ", "function=1 ", "address=0 ", "error=", reported]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_answers_too_late_is_named_with_what_to_raise_once_an_episode() {
    let log = Log::listen();
    let line = devices(&boxes(1));
    let cable = Cable::new(&line, Some(57_600));
    cable.slow(1, ms(350));
    let rig = Rig::at(bus_on(&cable), &line, boxes(1), &[]);
    rig.reports(|r| r.online == Some(false)).await;
    sleep(Duration::from_secs(20)).await;
    log.reports(&["WARN", "bus=riser ", "unit=1 ", "function=", "address=", "`timeout_ms`", "`reply_ms`", "200 ms"]);
    assert_eq!(log.lines(&["came too late"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_echo_option_that_does_not_fit_the_adapter_is_reported_once() {
    let absent = ["WARN", "bus=riser", "remove `echo = true`"];
    let present = ["INFO", "bus=riser", "set `echo = true`"];
    for (adapter, configured, reported) in [
        (Adapter::Plain, Some(true), Some(&absent)),
        (Adapter::Echoes, None, Some(&present)),
        (Adapter::Echoes, Some(false), Some(&present)),
        (Adapter::Echoes, Some(true), None),
        (Adapter::Plain, None, None),
    ] {
        let log = Log::listen();
        let board = Board::new(1, Some(19_200), |spec| spec.echo = configured);
        board.cable.adapter(adapter);
        for _ in 0..3 {
            assert!(board.read(1).await.is_ok());
        }
        let lines = log.lines(&["`echo = true`"]);
        assert_eq!(lines.len(), usize::from(reported.is_some()), "{adapter:?}, {configured:?}: {lines:#?}");
        reported.iter().for_each(|parts| log.reports(*parts));
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_refuses_every_poll_is_reported_once_until_it_answers_well() {
    for (exception, of_the_map) in [(2, true), (6, false)] {
        let log = Log::listen();
        let rig = Rig::new(boxes(1), &[]).await;
        for episode in 1..=2 {
            rig.line.fault(1, Fault::Refuses(exception));
            sleep(Duration::from_secs(20)).await;
            let warned = log.lines(&["WARN"]);
            let once: BTreeSet<_> = warned.iter().map(|line| line.split("address=").nth(1).unwrap()).collect();
            assert_eq!(warned.len(), once.len() * episode, "{warned:#?}");
            assert!(!once.is_empty());
            log.reports(&["DEBUG", "the same exception again"]);
            assert_eq!(!log.lines(&["is it the right profile?"]).is_empty(), of_the_map, "exception {exception}");
            rig.line.fault(1, Fault::None);
            sleep(Duration::from_secs(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_an_order_names_where_the_relay_is() {
    let log = Log::listen();
    let rig = Rig::new(boxes(2), &[]).await;
    rig.cut("power-2");
    sleep(ms(2000)).await;
    rig.line.fault(21, Fault::Silent);
    rig.energise("power-2");
    rig.receives(1, failed("")).await;
    for what in ["switched off", "the grant is consumed", "an alarm is raised"] {
        log.reports(&[what, "portal=power-2 bus=riser unit=21 channel=1 function=5 address=1 "]);
    }
}

/// What goes wrong at a portal has to stand in Chinese on a page in Chinese.
pub(super) fn shows_in_chinese(input: &Input) {
    let (Input::Alarm { detail: cause, .. }
    | Input::Released { failed: Some(cause), .. }
    | Input::Report { report: PortalReport { cause: Some(cause), .. }, .. }) = input
    else {
        return;
    };
    crate::chinese::is_in_chinese(cause);
}
