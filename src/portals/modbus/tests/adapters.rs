//! Adapters, converters and devices that behave oddly, as people meet them: each must cost nobody a door.

use super::cable::{Adapter, CALM, Cable};
use super::*;
use crate::portals::modbus::bus::{Bus, BusError};
use crate::wire::modbus::{Exception, Reply, Space};

const READ: Request = Request::Read { space: Space::Coil, address: 0, count: 8 };
const SERIAL: Option<u32> = Some(19_200);

fn write(on: bool) -> Request {
    Request::WriteCoil { address: 0, value: if on { 0xFF00 } else { 0 } }
}

/// A relay board as unit 21 behind such an adapter.
fn relay(adapter: Adapter, baud: Option<u32>, options: impl Fn(&mut BusSpec)) -> (Line, Bus) {
    let line = Line::new([(21, profile("waveshare-relay-8ch"))]);
    let cable = Cable::new(&line, baud, &CALM, |_| {});
    cable.adapter(adapter);
    let mut spec = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    options(&mut spec);
    let (bus, task) = task::open(spec, &HashMap::from([(21, Duration::ZERO)]), Arc::new(()));
    tokio::spawn(task);
    (line, bus)
}

async fn read(bus: &Bus) -> Result<Reply, BusError> {
    bus.call(21, READ, Priority::Card, None).await.map(|answer| answer.reply)
}

async fn switch(bus: &Bus, on: bool) -> Result<Reply, BusError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    bus.call(21, write(on), Priority::Release, Some(deadline)).await.map(|answer| answer.reply)
}

#[tokio::test(start_paused = true)]
async fn a_byte_of_noise_before_each_answer_takes_no_unit_offline() {
    let (line, bus) = relay(Adapter::Noise, SERIAL, |_| {});
    for on in [true, false, true] {
        assert!(read(&bus).await.is_ok());
        assert_eq!(switch(&bus, on).await, Ok(Reply::Written));
        assert_eq!(line.relay(21, 0), on);
    }
    assert_eq!(*bus.unit(21).unwrap().borrow(), UnitState::Online);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_returns_what_is_sent_is_found_and_confirms_no_unplugged_relay() {
    for read_first in [true, false] {
        for configured in [true, false] {
            let (line, bus) = relay(Adapter::Echoes, SERIAL, |spec| spec.echo = configured.then_some(true));
            if read_first {
                assert!(read(&bus).await.is_ok());
            }
            assert_eq!(switch(&bus, true).await, Ok(Reply::Written), "first {read_first}, configured {configured}");
            assert!(line.relay(21, 0) && read(&bus).await.is_ok());
            line.fault(21, Fault::Silent);
            let unplugged = switch(&bus, true).await;
            assert!(matches!(unplugged, Err(BusError::Unknown(_))), "{unplugged:?}");
        }
    }
    // The relay is unplugged before anything was ever read on the line.
    let (line, bus) = relay(Adapter::Echoes, SERIAL, |_| {});
    line.fault(21, Fault::Silent);
    let unplugged = switch(&bus, true).await;
    assert!(matches!(unplugged, Err(BusError::Unknown(_))), "{unplugged:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_write_on_a_line_without_echo_is_confirmed() {
    let (line, bus) = relay(Adapter::Plain, SERIAL, |_| {});
    assert_eq!(switch(&bus, true).await, Ok(Reply::Written));
    assert!(line.relay(21, 0));
    let begun = Instant::now();
    assert_eq!(switch(&bus, false).await, Ok(Reply::Written));
    assert!(begun.elapsed() < Duration::from_millis(50), "what is known once is not asked again");
}

#[tokio::test(start_paused = true)]
async fn a_converter_that_closes_after_each_answer_loses_no_grant() {
    let (line, bus) = relay(Adapter::Closes, None, |_| {});
    let polls = bus.clone();
    tokio::spawn(async move {
        loop {
            read(&polls).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    for grant in 0..8 {
        for on in [true, false] {
            tokio::time::sleep(Duration::from_millis(20 + grant)).await;
            assert_eq!(switch(&bus, on).await, Ok(Reply::Written), "grant {grant}");
            assert_eq!(line.relay(21, 0), on);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_relay_is_asked_again_until_the_deadline_and_not_after_it() {
    for code in [5, 6] {
        let (line, bus) = relay(Adapter::Plain, SERIAL, |_| {});
        assert!(read(&bus).await.is_ok());
        line.fault(21, Fault::Refuses(code));
        let busy = line.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(350)).await;
            busy.fault(21, Fault::None);
        });
        assert_eq!(switch(&bus, true).await, Ok(Reply::Written));
        line.fault(21, Fault::Refuses(code));
        let begun = Instant::now();
        assert_eq!(switch(&bus, false).await, Err(BusError::Refused(Exception(code))));
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(*bus.unit(21).unwrap().borrow(), UnitState::Online, "busy is not broken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_answers_with_any_transaction_works_where_it_is_configured() {
    let (line, bus) = relay(Adapter::TransactionZero, None, |spec| spec.any_transaction = true);
    assert!(read(&bus).await.is_ok());
    assert_eq!(switch(&bus, true).await, Ok(Reply::Written));
    assert!(line.relay(21, 0));
    let (_, bus) = relay(Adapter::TransactionZero, None, |_| {});
    let error = read(&bus).await.unwrap_err().to_string();
    assert!(error.contains("another transaction number") && error.contains("any_transaction"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_answers_every_question_with_an_exception_is_offline_with_the_cause() {
    let (line, specs) = boxes(1);
    line.fault(1, Fault::Refuses(2));
    let cable = Cable::new(&line, SERIAL, &CALM, |_| {});
    let fake = FakeGateway::on(BusSpec::new("riser", LineSpec::Memory(cable), 200), line, specs, &[CARD]);
    let named = |cause: &str| cause.contains("answers every request with exception 2");
    fake.reports(|r| r.online == Some(false) && r.cause.as_deref().is_some_and(named)).await;
    fake.line.fault(1, Fault::None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
}
