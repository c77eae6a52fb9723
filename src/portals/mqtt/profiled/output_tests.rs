//! The output of a device, without a broker: what is published to it, and how that is confirmed.

use std::sync::Arc;

use super::*;
use crate::profile::mqtt::{self, Names};

const TOPIC: &str = "hall";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An output of a device, with a test in the place of the broker.
struct OutputRig {
    output: Arc<MqttOutput>,
    published: mpsc::Receiver<Publish>,
    online: watch::Sender<bool>,
    seen: watch::Sender<Seen>,
}

impl OutputRig {
    fn new(profile: &str) -> Self {
        let output = mqtt::shipped(profile).unwrap().output.unwrap().of(Names { topic: TOPIC, channel: 0 });
        let (orders, published) = mpsc::channel(8);
        let (online, is_online) = watch::channel(true);
        let (seen, reported) = watch::channel(Seen::default());
        let output = MqttOutput::new((TOPIC.into(), 0), output, orders, is_online, reported);
        Self { output: Arc::new(output), published, online, seen }
    }

    /// Gives an order, which the broker takes; what was published for it.
    async fn ordered(&mut self, set: Set) -> (Publish, Result<Instant, NotSet>) {
        let output = Arc::clone(&self.output);
        let ordered = tokio::spawn(async move { output.set(set, None).await });
        let mut publish = self.published.recv().await.unwrap();
        publish.done.take().unwrap().send(Ok(())).unwrap();
        (publish, ordered.await.unwrap())
    }

    fn reports(&self, on: bool) {
        self.seen.send_modify(|seen| seen.reported(on, Some(Instant::now())));
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_is_confirmed_by_what_it_reports_after_the_order_and_by_nothing_older() {
    let mut rig = OutputRig::new("tasmota-relay");
    rig.reports(true);
    tokio::time::advance(ms(10)).await;
    let (publish, set) = rig.ordered(Set::On).await;
    assert!(set.is_ok());
    assert_eq!((publish.order.topic.as_str(), publish.qos), ("cmnd/hall/Backlog0", Qos::AtMostOnce));
    assert_eq!(rig.output.read_back().await, None, "it was on before the order, and reports after each");
    assert_eq!(rig.published.recv().await.unwrap().order.topic, "cmnd/hall/Power1", "it was asked meanwhile");
    // A report of before, on its way at the moment of the order, does not deny it.
    drop(rig.ordered(Set::On).await);
    let output = Arc::clone(&rig.output);
    let read = tokio::spawn(async move { output.read_back().await.map(|(on, _)| on) });
    tokio::time::sleep(ms(20)).await;
    rig.reports(false);
    tokio::time::sleep(ms(20)).await;
    rig.reports(true);
    assert_eq!(read.await.unwrap(), Some(true));
    // A pulse that was over before anybody looked was on.
    drop(rig.ordered(Set::Pulse { hold_ms: 50 }).await);
    rig.reports(true);
    rig.reports(false);
    assert_eq!(rig.output.read_back().await.map(|(on, _)| on), Some(true));
    tokio::time::sleep(ms(1)).await;
    let (publish, _) = rig.ordered(Set::Off).await;
    assert_eq!(publish.qos, Qos::AtLeastOnce);
    rig.reports(true);
    assert_eq!(rig.output.read_back().await.map(|(on, _)| on), Some(true), "it is still on, and reports so");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reports_only_changes_is_off_when_it_was_off_and_reports_nothing() {
    let mut rig = OutputRig::new("esphome-switch");
    drop(rig.ordered(Set::Off).await);
    assert_eq!(rig.output.read_back().await, None, "it has reported nothing yet");
    rig.seen.send_modify(|seen| seen.reported(false, None));
    drop(rig.ordered(Set::Off).await);
    assert_eq!(rig.output.read_back().await.map(|(on, _)| on), Some(false));
    drop(rig.ordered(Set::On).await);
    assert_eq!(rig.output.read_back().await, None, "it would have reported the change");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_to_a_device_that_is_offline_or_past_a_broker_that_is_away() {
    let mut rig = OutputRig::new("shelly-gen2");
    rig.online.send_replace(false);
    for (set, refused) in [(Set::On, true), (Set::Pulse { hold_ms: 3000 }, true), (Set::Off, false)] {
        let not_set = rig.output.set(set, None).await.unwrap_err();
        assert_eq!(
            matches!(&not_set, NotSet::Refused(why) if why.contains("`hall` is offline")),
            refused,
            "{not_set:?}"
        );
        assert!(rig.published.try_recv().is_err());
    }
    rig.online.send_replace(true);
    let output = Arc::clone(&rig.output);
    let ordered = tokio::spawn(async move { output.set(Set::On, None).await });
    let mut publish = rig.published.recv().await.unwrap();
    publish.done.take().unwrap().send(Err("the link is down".into())).unwrap();
    assert!(matches!(ordered.await.unwrap(), Err(NotSet::Busy(why)) if why.contains("the link is down")));
    drop(rig.published);
    assert_eq!(rig.output.set(Set::Off, None).await, Err(NotSet::Ended));
}

#[tokio::test(start_paused = true)]
async fn an_order_is_of_no_use_after_its_deadline_and_a_pulse_that_the_device_ends_is_published_as_one() {
    let mut rig = OutputRig::new("tasmota-relay");
    let until = Instant::now() + ms(300);
    let output = Arc::clone(&rig.output);
    let ordered = tokio::spawn(async move { output.set(Set::Pulse { hold_ms: 3_010 }, Some(until)).await });
    let publish = rig.published.recv().await.unwrap();
    ordered.abort();
    let expected = ("cmnd/hall/TimedPower1", "3050", until, Qos::AtMostOnce);
    assert_eq!((publish.order.topic.as_str(), publish.order.payload.as_str(), publish.until, publish.qos), expected);
    // Only the gateway ends it: on, and off later.
    let mut rig = OutputRig::new("esphome-switch");
    let (publish, _) = rig.ordered(Set::Pulse { hold_ms: 3_010 }).await;
    assert_eq!(publish.order.payload, "ON");
    assert_eq!(rig.output.pulse_ms(3_010), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_retained_or_of_a_device_that_went_offline_confirms_nothing() {
    let mut rig = OutputRig::new("esphome-switch");
    drop(rig.ordered(Set::On).await);
    rig.seen.send_modify(|seen| seen.reported(false, None));
    assert_eq!(rig.output.read_back().await, None, "of which moment it is, nobody knows");
    // It was on, and the order to leave it on reached nobody.
    rig.reports(true);
    tokio::time::advance(ms(10)).await;
    drop(rig.ordered(Set::On).await);
    rig.online.send_replace(false);
    assert_eq!(rig.output.read_back().await, None);
    rig.online.send_replace(true);
    // What it reported live is not forgotten by a retained report that follows.
    drop(rig.ordered(Set::On).await);
    rig.reports(true);
    rig.seen.send_modify(|seen| seen.reported(true, None));
    rig.seen.send_modify(|seen| seen.reported(false, None));
    assert_eq!(rig.output.read_back().await.map(|(on, _)| on), Some(true));
}
