//! Whether a device is connected, and why not.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_device_is_online_by_its_last_will_and_offline_by_it_by_silence_and_by_its_bridge() {
    let mut rig = Rig::new("zigbee2mqtt-plug");
    let online = rig.device.watch();
    let (bridge, own) = ("zigbee2mqtt/bridge/state", "zigbee2mqtt/hall/availability");
    rig.kept(bridge, r#"{"state":"online"}"#);
    assert_eq!(rig.states(), [SourceState::Online], "its own availability may be switched off");
    rig.sends(own, r#"{"state":"offline"}"#);
    let offline = |states: Vec<SourceState>, part: &str| {
        assert!(matches!(&states[..], [SourceState::Offline { cause }] if cause.contains(part)), "{part}: {states:?}");
    };
    offline(rig.states(), own);
    assert!(!*online.borrow(), "its output takes no orders");
    rig.sends(own, r#"{"state":"online"}"#);
    rig.now += ms(1_000);
    rig.device.tick(rig.now);
    assert_eq!(rig.states(), [SourceState::Online]);
    assert!(*online.borrow());
    rig.sends(bridge, r#"{"state":"offline"}"#);
    offline(rig.states(), bridge);
    // By the version and the settings it is the word alone.
    rig.sends(bridge, "online");
    rig.after_quietly(1_000);
    assert_eq!(rig.states(), [SourceState::Online]);
    rig.sends(own, "offline");
    offline(rig.states(), own);
    // Neither.
    assert!(rig.sends(bridge, "maybe").malformed);
    assert_eq!(rig.states(), []);
    for (payload, why) in
        [("maybe", "it is not JSON"), (r#"{"state":"maybe"}"#, "it is neither `online` nor `offline`")]
    {
        let mut rig = Rig::new("zigbee2mqtt-plug");
        rig.kept(bridge, payload);
        rig.device.absent();
        offline(rig.states(), &format!("came on `{bridge}`, but could not be read: {why}"));
    }
    // Nothing comes at all: a wrong name, or no power.
    let mut rig = Rig::new("tasmota-rc522");
    rig.sends("tele/Hall/LWT", "Online");
    rig.device.absent();
    offline(rig.states(), "nothing came on `tele/hall/LWT` within 5000 ms; check the name `hall`");
    rig.device.absent();
    assert_eq!(rig.states(), []);
    rig.device.cut_off("connection refused");
    offline(rig.states(), "the local broker cannot be reached: connection refused");
    rig.device.connected();
    rig.kept(LWT, "Online");
    assert_eq!(rig.states(), [SourceState::Online]);
    // The broker is lost while the device starts: that it was connected is not known any more.
    rig.sends(LWT, "Offline");
    rig.sends(LWT, "Online");
    rig.device.cut_off("the connection broke");
    rig.device.connected();
    drop(rig.states());
    rig.after(2_000);
    assert!(!rig.device.is_online());
    rig.device.absent();
    offline(rig.states(), "nothing came on `tele/hall/LWT`");
    // The device alone is not enough where its bridge is needed too.
    let mut rig = Rig::new("zigbee2mqtt-plug");
    rig.sends(own, r#"{"state":"online"}"#);
    rig.after(2_000);
    assert!(!rig.device.is_online());
}
