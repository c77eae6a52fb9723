//! A described building becomes a configuration without a diagnostic.

use super::directory;
use crate::access::portal::PortalKind;
use crate::config::{Building, PortalDevice, SHEET, Site, Unservable, Wiring, describe, load};

fn building(floors: u16, rooms: u16, door: Option<&str>, power: Option<&str>) -> Building {
    let wiring = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    Building {
        gateway: "xing1".parse().unwrap(),
        floors,
        rooms,
        gates: 2,
        gate: Wiring::Native,
        door: wiring(door),
        power: wiring(power),
    }
}

fn site(building: &Building) -> Site {
    let (file, sheet) = describe(building).unwrap();
    let dir = directory(&[("d.toml", &file), (SHEET, &sheet)]);
    load(&dir.path().join("d.toml")).unwrap_or_else(|error| panic!("{error}\n{file}\n{sheet}"))
}

#[test]
fn a_described_building_is_a_configuration_without_a_diagnostic() {
    let parts = "technotrade-vrd-485,waveshare-relay-8ch,eastron-sdm120";
    let doors = [
        None,
        Some("mqtt"),
        Some("controller"),
        Some("inveo-rfid-ind-m1,waveshare-relay-8ch"),
        Some("tasmota-rc522,shelly-gen2"),
        Some("esphome-wiegand34,waveshare-relay-8ch"),
    ];
    let boxes = [
        None,
        Some("mqtt"),
        Some("controller"),
        Some(parts),
        Some("esphome-tag,tasmota-relay,tasmota-relay"),
        Some("technotrade-vrd-485,zigbee2mqtt-plug,zigbee2mqtt-plug"),
    ];
    for door in &doors {
        for power in boxes {
            let site = site(&building(2, 60, *door, power));
            let of = |kind| site.portals.iter().filter(|portal| portal.portal.kind == kind).count();
            let rooms = |wiring: Option<&str>| if wiring.is_some() { 120 } else { 0 };
            let found = (of(PortalKind::Gate), of(PortalKind::Door), of(PortalKind::PowerBox));
            assert_eq!(found, (4, rooms(*door), rooms(power)), "{door:?} {power:?}");
        }
    }
}

#[test]
fn what_is_described_is_named_as_it_is_written() {
    let shown = |door, power| building(2, 60, door, power).to_string();
    assert_eq!(shown(Some("mqtt"), None), "2 gate(s) each way, 120 room(s) on 2 floor(s)");
    assert!(
        shown(None, None).ends_with("no door and no power box, since `--door` and `--power` name no reader for them")
    );
}

#[test]
fn devices_with_several_channels_and_of_several_roles_are_shared_within_a_floor() {
    let site = site(&building(2, 9, Some("inveo-rfid-ind-m1,waveshare-relay-8ch"), None));
    let output = |id: &str| {
        let portal = site.portals.iter().find(|portal| portal.portal.id.as_str() == id).unwrap();
        let PortalDevice::Parts(parts) = &portal.device else { panic!("{id}") };
        let output = parts.output.modbus().unwrap();
        (output.bus.clone(), output.unit, output.channel)
    };
    assert_eq!(output("door-101"), ("floor-1".to_owned(), 2, 0));
    assert_eq!(output("door-108"), ("floor-1".to_owned(), 2, 7));
    assert_eq!(output("door-109").2, 0, "the ninth door has a second relay board");
    assert_eq!(output("door-201"), ("floor-2".to_owned(), 2, 0));
    assert_eq!(site.buses.len(), 2);
}

#[test]
fn a_device_at_the_broker_is_named_after_its_portal_and_a_plug_that_measures_is_one_device() {
    let site =
        site(&building(1, 2, Some("tasmota-rc522,shelly-gen2"), Some("esphome-tag,tasmota-relay,tasmota-relay")));
    let named = |id: &str| {
        let portal = site.portals.iter().find(|portal| portal.portal.id.as_str() == id).unwrap();
        let PortalDevice::Parts(parts) = &portal.device else { panic!("{id}") };
        parts.all().map(|part| part.mqtt().unwrap().topic.clone()).collect::<Vec<_>>()
    };
    assert_eq!(named("door-101"), ["door-101-reader", "door-101"]);
    assert_eq!(named("power-102"), ["power-102-reader", "power-102", "power-102"]);
    assert!(site.local.is_some() && site.buses.is_empty());
    let shared = "technotrade-vrd-485,shelly-gen2,zigbee2mqtt-plug";
    let (file, sheet) = describe(&building(1, 1, None, Some(shared))).unwrap();
    assert!(sheet.contains("power-101-meter") && file.contains("give each device that name"), "{file}\n{sheet}");
}

#[test]
fn what_cannot_be_wired_is_refused_with_the_place() {
    let doors = |floors, rooms, wiring| describe(&building(floors, rooms, Some(wiring), None)).unwrap_err();
    assert_eq!(doors(1, 248, "inveo-rfid-ind-m1,waveshare-relay-8ch"), Unservable::Line("floor-1".to_owned()));
    assert_eq!(doors(3, 100, "controller"), Unservable::Controllers);
    assert_eq!(doors(100, 1, "mqtt"), Unservable::Rooms);
    for (text, wanted) in [
        ("mqt", "`mqtt`, `controller`, or the profiles"),
        (
            "inveo-rfid-ind-m,waveshare-relay-8ch",
            "there is no device profile `inveo-rfid-ind-m`; did you mean `inveo-rfid-ind-m1`?",
        ),
        ("tasmota-rc52,shelly-gen2", "did you mean `tasmota-rc522`?"),
        ("shelly-gen2,shelly-gen2", "the device profile `shelly-gen2` has no reader"),
        ("eastron-sdm120,waveshare-relay-8ch", "the device profile `eastron-sdm120` has no reader; name one that has"),
        ("a,b,c,d", "are wanted"),
    ] {
        let found = text.parse::<Wiring>().unwrap_err();
        assert!(found.contains(wanted), "{found}");
    }
}
