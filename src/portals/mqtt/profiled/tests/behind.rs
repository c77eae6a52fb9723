//! A portal that does not keep up with the messages of its device.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_portal_that_does_not_keep_up_starts_again_and_nothing_it_missed_opens_anything() {
    let mut rig = Rig::online("tasmota-rc522");
    let overflowed = (0..20).filter(|n| rig.sends(SENSOR, &card("1EA68671", *n)).overflowed).count();
    assert_eq!(overflowed, 12, "its queue has 8 places");
    rig.drain();
    rig.now += ms(TICK_MS);
    rig.device.tick(rig.now);
    let states = rig.states();
    assert!(matches!(&states[..], [SourceState::Offline { .. }, SourceState::Online]), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_starts_again_knows_what_its_contacts_and_its_output_last_reported() {
    for (profile, topic, open, last) in [
        ("shelly-gen2-contact", "hall/status/input:0", r#"{"state":true}"#, r#"{"state":false}"#),
        ("shelly-gen2", "hall/status/switch:0", r#"{"output":false}"#, r#"{"output":true}"#),
    ] {
        let mut rig = Rig::online(profile);
        let overflowed = (0..20).filter(|_| rig.sends(topic, open).overflowed).count();
        assert_eq!(overflowed, 12, "{profile}");
        rig.sends(topic, last);
        drop(rig.readings());
        rig.now += ms(TICK_MS);
        rig.device.tick(rig.now);
        let readings = rig.readings();
        assert!(
            matches!(&readings[..], [Reading::Contact { active: true, .. } | Reading::Output(true)]),
            "{profile}: {readings:?}"
        );
    }
}

/// Fills the queue of the portal.
fn fill(rig: &mut Rig) {
    while rig.device.listeners[0].events.try_send(Event::Accepted { slot: 0, at: Instant::now(), failed: None }).is_ok()
    {
    }
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_does_not_keep_up_as_its_device_comes_or_goes_is_counted_and_still_learns_that_it_went() {
    let mut rig = Rig::new("tasmota-rc522");
    fill(&mut rig);
    assert!(rig.kept(LWT, "Online").overflowed, "it comes online with a message");
    let mut rig = Rig::online("tasmota-rc522");
    fill(&mut rig);
    assert!(rig.sends(LWT, "Offline").overflowed);
    rig.drain();
    rig.now += ms(TICK_MS);
    rig.device.tick(rig.now);
    let states = rig.states();
    assert!(matches!(&states[..], [SourceState::Offline { .. }]), "{states:?}");
}
