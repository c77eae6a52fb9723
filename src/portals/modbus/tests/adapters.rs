//! Devices, adapters and converters that behave oddly, and answers that come late: none costs a release, and no bytes are taken for an
//! answer that they are not.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::cable::Adapter;
use super::logs::Log;
use super::*;
use crate::portals::device::SourceState;
use crate::portals::modbus::late::LATE_MS_MIN;

const SERIAL: Option<u32> = Some(19_200);
const WRITTEN: Result<Reply, BusError> = Ok(Reply::Written);

fn behind(adapter: Adapter, baud: Option<u32>, change: impl FnOnce(&mut BusConfig)) -> Board {
    let board = Board::new(1, baud, change);
    board.cable.adapter(adapter);
    board
}

fn is_online(board: &Board) -> bool {
    *board.bus.unit(1).unwrap().borrow() == SourceState::Online
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_are_never_trusted_and_cost_the_neighbour_nothing() {
    let faults = [
        Fault::WrongUnit,
        Fault::Garbage,
        Fault::HalfFrame,
        Fault::Short,
        Fault::Silent,
        Fault::Slow(ms(250)),
        Fault::Disconnects,
    ];
    for (baud, faults) in [(None, &faults[..]), (SERIAL, &faults[..6])] {
        for fault in faults {
            let line = devices(&boxes(2));
            line.present(1, 0, uid(CARD));
            let cable = Cable::new(&line, baud);
            match fault {
                Fault::Slow(after) => cable.slow(1, *after),
                _ => line.fault(1, *fault),
            }
            let rig = Rig::at(bus_on(&cable), &line, boxes(2), &[CARD]);
            rig.receives(1, report_of("power-1", |r| r.online == Some(false))).await;
            rig.receives(1, report_of("power-2", |r| r.card_present == Some(false))).await;
            assert_eq!(rig.count(report_of("power-2", |r| r.card_present == Some(true))), 0, "{fault:?}");
            assert_eq!(rig.requests(), 0, "{fault:?}");
            rig.line.present(2, 0, uid(CARD));
            rig.relay(21, 1, true).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_of_noise_before_each_answer_takes_no_unit_offline() {
    let board = behind(Adapter::Noise, SERIAL, |_| {});
    for on in [true, false, true] {
        assert!(board.read(1).await.is_ok());
        assert_eq!(board.switch(on).await, WRITTEN);
        assert_eq!(board.line.relay(1, 0), on);
    }
    assert!(is_online(&board));
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_returns_what_is_sent_is_found_and_confirms_no_unplugged_relay() {
    for (read_first, configured) in [(true, None), (false, None), (true, Some(true)), (false, Some(true))] {
        let board = behind(Adapter::Echoes, SERIAL, |spec| spec.echo = configured);
        if read_first {
            assert!(board.read(1).await.is_ok());
        }
        assert_eq!(board.switch(true).await, WRITTEN, "first {read_first}, configured {configured:?}");
        assert!(board.line.relay(1, 0) && board.read(1).await.is_ok());
        board.line.fault(1, Fault::Silent);
        let unplugged = board.switch(true).await;
        assert!(matches!(unplugged, Err(BusError::Timeout(_))), "{unplugged:?}");
    }
    // The relay is unplugged before anything was ever read on the line.
    let board = behind(Adapter::Echoes, SERIAL, |_| {});
    board.line.fault(1, Fault::Silent);
    let unplugged = board.switch(true).await;
    assert!(matches!(unplugged, Err(BusError::Timeout(_))), "{unplugged:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_is_changed_for_one_without_echo_is_learned_by_an_answer_or_by_a_write() {
    for read_first in [true, false] {
        let log = Log::listen();
        let board = behind(Adapter::Echoes, SERIAL, |_| {});
        assert!(board.read(1).await.is_ok());
        board.cable.adapter(Adapter::Plain);
        if read_first {
            assert!(board.read(1).await.is_ok());
        }
        for on in [true, false, true] {
            assert_eq!(board.switch(on).await, WRITTEN, "first {read_first}");
            assert_eq!(board.line.relay(1, 0), on);
        }
        assert_eq!(log.lines(&["returns what is sent no more"]).len(), 1);
        // And back: a relay that is unplugged is not confirmed by the echo.
        board.cable.adapter(Adapter::Echoes);
        assert!(board.read(1).await.is_ok());
        board.line.fault(1, Fault::Silent);
        let unplugged = board.switch(true).await;
        assert!(matches!(unplugged, Err(BusError::Timeout(_))), "{unplugged:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_write_on_a_line_without_echo_is_confirmed_whatever_is_configured() {
    for configured in [None, Some(true), Some(false)] {
        let board = behind(Adapter::Plain, SERIAL, |spec| spec.echo = configured);
        assert_eq!(board.switch(true).await, WRITTEN, "{configured:?}");
        assert!(board.line.relay(1, 0));
        let begun = Instant::now();
        assert_eq!(board.switch(false).await, WRITTEN, "{configured:?}");
        assert!(begun.elapsed() < ms(50), "what is known once is not asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_converter_that_closes_after_each_answer_loses_no_grant() {
    let board = Arc::new(behind(Adapter::Closes, None, |_| {}));
    let polled = Arc::clone(&board);
    tokio::spawn(async move {
        loop {
            polled.read(1).await.unwrap();
            sleep(ms(10)).await;
        }
    });
    sleep(ms(100)).await;
    for grant in 0..8 {
        for on in [true, false] {
            sleep(ms(20 + grant)).await;
            assert_eq!(board.switch(on).await, WRITTEN, "grant {grant}");
            assert_eq!(board.line.relay(1, 0), on);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_answers_with_any_transaction_works_where_it_is_configured() {
    let board = behind(Adapter::TransactionZero, None, |spec| spec.any_transaction = true);
    assert!(board.read(1).await.is_ok());
    assert_eq!(board.switch(true).await, WRITTEN);
    assert!(board.line.relay(1, 0));
    let error = behind(Adapter::TransactionZero, None, |_| {}).read(1).await.unwrap_err().to_string();
    assert!(error.contains("any_transaction"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_answers_every_question_with_an_exception_is_offline_with_the_cause() {
    let line = devices(&boxes(1));
    line.fault(1, Fault::Refuses(2));
    let rig = Rig::on(&line, SERIAL, boxes(1), &[CARD]);
    let named = |cause: &String| cause.contains("exception 2");
    rig.reports(|r| r.online == Some(false) && r.cause.as_ref().is_some_and(named)).await;
    rig.line.fault(1, Fault::None);
    sleep(Duration::from_secs(30)).await;
    rig.line.present(1, 0, uid(CARD));
    rig.relay(21, 0, true).await;
}

/// The neighbour is switched at every phase of the slow unit's exchanges: before it is offline, while it is tried again, and while its
/// answer arrives late.
#[tokio::test(start_paused = true)]
async fn a_late_answer_costs_no_neighbour_its_release() {
    for baud in [SERIAL, None] {
        for slow_ms in (230..LATE_MS_MIN).step_by(90) {
            let board = Arc::new(Board::new(2, baud, |_| {}));
            board.cable.slow(1, ms(slow_ms));
            let polled = Arc::clone(&board);
            let polls = tokio::spawn(async move {
                loop {
                    assert!(polled.read(1).await.is_err(), "late by {slow_ms} ms at {baud:?}");
                    sleep(ms(10)).await;
                }
            });
            for n in 0..60 {
                sleep(ms(37)).await;
                let (on, ordered) = (n % 2 == 0, Instant::now());
                assert_eq!(board.switch_of(2, on).await, WRITTEN, "late by {slow_ms} ms at {baud:?}, order {n}");
                assert_eq!(board.line.relay(2, 0), on);
                assert!(ordered.elapsed() < ms(600), "{:?}, late by {slow_ms} ms at {baud:?}", ordered.elapsed());
            }
            polls.abort();
            assert!(polls.await.unwrap_err().is_cancelled());
        }
    }
}

/// Counts the late answers of unit 5.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Observer for Counting {
    fn late(&self, bus: &str, unit: u8) {
        assert_eq!((bus, unit), ("riser", 5));
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_always_slow_never_has_the_answer_to_one_poll_taken_for_that_to_another() {
    const TIMEOUT_MS: u32 = 60;
    for slow_ms in (u64::from(TIMEOUT_MS) + 20..LATE_MS_MIN).step_by(10) {
        let spec = with(whole(PortalKind::PowerBox, "two-slots", 0), |parts| parts.slots = 2);
        let line = devices(std::slice::from_ref(&spec));
        line.present(5, 0, uid(CARD));
        let cable = Cable::new(&line, Some(57_600));
        cable.slow(5, ms(slow_ms));
        let bus = BusConfig { timeout_ms: TIMEOUT_MS, ..bus_on(&cable) };
        let counting = Counting::default();
        let rig = Rig::with(bus, &line, vec![spec], counting.clone(), |_| None);
        sleep(Duration::from_secs(30)).await;
        let right = |i: &Input| match i {
            Input::Report { report, .. } => report.slot == 1 && report.card_present == Some(true),
            Input::Request(request) => request.slot == 1,
            _ => false,
        };
        assert_eq!(rig.count(right), 0, "late by {slow_ms} ms: {:?}", rig.gateway.received.borrow());
        assert!(counting.0.load(Ordering::Relaxed) > 0, "late by {slow_ms} ms, and not counted");
        rig.running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_sent_because_the_line_never_fell_silent_is_reported_as_not_sent() {
    let board = Board::new(1, Some(9600), |_| {});
    let off = || board.bus.call(1, coil(0, false), Priority::Cut, None);
    assert!(off().await.is_ok());
    let received = board.line.received().len();
    board.cable.babble(true);
    let error = timeout(LIMIT, off()).await.expect("it waits for the line for ever").unwrap_err();
    assert!(matches!(&error, BusError::LineDown(cause) if cause.contains("does not fall silent")), "{error:?}");
    assert_eq!(board.line.received().len(), received, "it was sent");
    board.cable.babble(false);
    sleep(ms(6000)).await;
    assert!(off().await.is_ok(), "it is not back");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_waited_too_long_for_the_line_to_fall_silent_is_not_sent() {
    let board = Board::new(1, Some(2_400), |_| {});
    let on = |deadline| board.bus.call(1, coil(0, true), Priority::Release, deadline);
    assert!(on(None).await.is_ok());
    let received = board.line.received().len();
    board.cable.babble(true);
    let silent = async {
        sleep(ms(60)).await;
        board.cable.babble(false);
    };
    let (reported, ()) = tokio::join!(on(Some(Instant::now() + ms(40))), silent);
    assert_eq!(reported.unwrap_err(), BusError::Expired);
    assert_eq!(board.line.received().len(), received, "it was sent");
    assert!(on(None).await.is_ok(), "the line goes on");
}

#[tokio::test(start_paused = true)]
async fn a_late_echo_that_names_no_value_never_confirms_another_write() {
    const SLOW: Duration = Duration::from_millis(150);
    let board = Board::new(1, Some(57_600), |spec| spec.timeout_ms = 60);
    let write = |on| board.bus.call(1, Request::WriteCoils { address: 0, on: vec![on] }, Priority::Cut, None);
    board.cable.slow(1, SLOW);
    let first = write(true).await.unwrap_err();
    assert!(matches!(first, BusError::Timeout(_)), "{first:?}");
    let asked = Instant::now();
    let second = write(false).await;
    assert!(asked.elapsed() < SLOW, "the first echo did not come meanwhile");
    let second = second.expect_err("the first write's echo was taken for the second's");
    assert!(matches!(&second, BusError::Broken(cause) if cause.contains("earlier write")), "{second:?}");
}
