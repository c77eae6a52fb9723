//! The simulated Modbus devices: every shipped profile on TCP and on a serial line, as the gateway's own client reads it; each fault
//! byte by byte; and the commands of `dormgate simulate`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dormgate::access::decision::{GrantReason, Reason};
use dormgate::access::effect::Verdict;
use dormgate::access::event::Outcome;
use dormgate::access::id::CardUid;
use dormgate::access::input::Presented;
use dormgate::config::{BusConfig, BusLine, Parity, Part, PortalDevice, SerialConfig, Surroundings};
use dormgate::portals::modbus::line::{Line as Client, LineError};
use dormgate::profile::{Block, PointType, Profile, Pulse, SHIPPED, Trigger, shipped};
use dormgate::wire::modbus::{ReplyError, Request};
use dormgate::workbench::lines::{Lines, Units};
use dormgate::workbench::modbus::{Line, LineAt};
use dormgate::workbench::site::Site;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_serial::SerialPortBuilderExt;

const LIMIT: Duration = Duration::from_secs(5);
/// How long nothing must be received to count as silence.
const SILENCE: Duration = Duration::from_millis(150);
const CARD: &str = "1EA68671";

fn units(ids: &[(u8, &str)]) -> Units {
    ids.iter().map(|(unit, id)| (*unit, Arc::new(shipped(id).unwrap()))).collect()
}

fn bus(line: BusLine) -> BusConfig {
    BusConfig { id: "riser".into(), line, timeout_ms: 200, echo: None, any_transaction: false, devices_dir: None }
}

fn serial(port: &Path) -> BusConfig {
    let port = port.to_str().unwrap().to_owned();
    bus(BusLine::Serial(SerialConfig { port, baud: 19200, parity: Parity::Even, stop_bits: 1 }))
}

struct Asker {
    client: Client,
    unit: u8,
}

impl Asker {
    async fn ask(&mut self, request: &Request) -> Result<dormgate::wire::modbus::Reply, LineError> {
        timeout(LIMIT, self.client.exchange(self.unit, request))
            .await
            .unwrap_or_else(|_| panic!("{request}: no answer"))
    }

    async fn poll(&mut self, profile: &Profile) -> Block {
        let mut block = Block::default();
        for read in profile.polls.iter().flat_map(|poll| &poll.reads) {
            let reply = self.ask(read).await.unwrap_or_else(|error| panic!("{}: {read}: {error}", profile.id));
            block.add(read, reply);
        }
        block
    }
}

async fn meters(line: &Line, asker: &mut Asker, profile: &Profile) {
    let Some(meter) = &profile.meter else { return };
    for ((point, factor), value) in meter.power.iter().zip([41.2]).chain(meter.energy.iter().zip([103.4])) {
        line.set(asker.unit, &point.name, 0, value / factor).unwrap();
        let read = point.number(&asker.poll(profile).await, 0).unwrap() * factor;
        assert!((read - value).abs() <= point.scale.abs() * factor, "{} {}: {read}", profile.id, point.name);
    }
}

async fn readers(line: &Line, asker: &mut Asker, profile: &Profile) {
    let card: CardUid = CARD.parse().unwrap();
    for (at, reader) in (0..).zip(&profile.readers) {
        assert_eq!(reader.uid.read(&asker.poll(profile).await), None, "{}: no card", profile.id);
        line.present(asker.unit, at, card);
        let block = asker.poll(profile).await;
        assert_eq!(reader.uid.read(&block), Some(Presented::Card(card)), "{}", profile.id);
        line.remove(asker.unit, at);
        match &reader.trigger {
            Trigger::Level(_) => assert_eq!(reader.uid.read(&asker.poll(profile).await), None, "{}", profile.id),
            Trigger::Latch { flag, release, .. } => {
                assert_eq!(flag.flag(&block, 0), Some(true), "{}", profile.id);
                asker.ask(&release.request(0, release.value)).await.unwrap();
                assert_eq!(flag.flag(&asker.poll(profile).await, 0), Some(false), "{}", profile.id);
            }
            Trigger::Counter { count, acknowledge } => {
                assert_eq!(count.number(&block, 0), Some(1.0), "{}", profile.id);
                if let Some(acknowledge) = acknowledge {
                    asker.ask(&acknowledge.request(0, 1)).await.unwrap();
                }
            }
        }
    }
}

async fn outputs(line: &Line, asker: &mut Asker, profile: &Profile) {
    let Some(output) = &profile.output else { return };
    for channel in 0..output.channels {
        for (request, on) in [(output.on(channel), true), (output.off(channel), false)] {
            asker.ask(&request).await.unwrap_or_else(|error| panic!("{} {channel}: {error}", profile.id));
            assert_eq!(line.relay(asker.unit, channel), on, "{} {channel}", profile.id);
            let state = output.state.as_ref().zip(output.read_back(channel));
            if let Some((state, read)) = state {
                let mut block = Block::default();
                block.add(&read, asker.ask(&read).await.unwrap());
                assert_eq!(state.flag(&block, channel), Some(on), "{} {channel}", profile.id);
            }
        }
    }
    if let Pulse::Device { step_ms, .. } = &output.pulse {
        let (request, ms) = output.pulse(0, *step_ms).unwrap();
        asker.ask(&request).await.unwrap();
        assert!(line.relay(asker.unit, 0), "{}: the pulse begins", profile.id);
        let limit = Duration::from_millis(u64::from(ms)) + LIMIT;
        assert!(line.wait_relay(asker.unit, 0, false, limit).await, "{}: and ends by itself", profile.id);
    }
}

async fn inputs(line: &Line, asker: &mut Asker, profile: &Profile) {
    for input in &profile.inputs {
        for (yes, count) in [(true, 1.0), (false, 1.0)] {
            line.input(asker.unit, input.kind, 0, yes);
            let block = asker.poll(profile).await;
            if input.point.kind == PointType::Bool {
                let reported = input.point.flag(&block, 0).map(|flag| flag == input.when);
                assert_eq!(reported, Some(yes), "{} {:?}", profile.id, input.kind);
            } else {
                assert_eq!(input.point.number(&block, 0), Some(count), "{} {:?}", profile.id, input.kind);
            }
        }
    }
}

/// All shipped profiles on one line, each the device of its number.
async fn every_profile(at: &LineAt, client: impl AsyncFn(&str) -> Client) {
    let profiles: Units = (1..).zip(SHIPPED).map(|(unit, (id, _))| (unit, Arc::new(shipped(id).unwrap()))).collect();
    let line = Line::new(profiles.clone());
    let plugged = line.plug(at).await.unwrap();
    let mut client = client(&plugged.to_string()).await;
    for (unit, profile) in profiles {
        let mut asker = Asker { client, unit };
        meters(&line, &mut asker, &profile).await;
        readers(&line, &mut asker, &profile).await;
        outputs(&line, &mut asker, &profile).await;
        inputs(&line, &mut asker, &profile).await;
        let nowhere = Request::Read { space: dormgate::wire::modbus::Space::Holding, address: 65_000, count: 1 };
        let refused = asker.ask(&nowhere).await;
        assert!(matches!(refused, Err(LineError::Reply(ReplyError::Refused(_)))), "{}: {refused:?}", profile.id);
        client = asker.client;
    }
}

#[tokio::test]
async fn every_shipped_profile_is_simulated_over_tcp() {
    every_profile(&LineAt::Tcp(0), async |at| Client::open(&bus(BusLine::Tcp(at.parse().unwrap())), 0).await.unwrap())
        .await;
}

#[tokio::test]
async fn every_shipped_profile_is_simulated_on_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("riser.pty");
    every_profile(&LineAt::Pty(port.clone()), async |_| Client::open(&serial(&port), 0).await.unwrap()).await;
    assert!(!port.exists() && !port.is_symlink(), "the name goes with the line");
}

/// Sends these bytes and gives what is received until the line is silent; `None`: the connection ended.
async fn at_the_wire(wire: &mut (impl AsyncRead + AsyncWrite + Unpin), sent: &[u8]) -> Option<Vec<u8>> {
    wire.write_all(sent).await.unwrap();
    let mut all = Vec::new();
    let mut bytes = [0; 64];
    while let Ok(read) = timeout(SILENCE, wire.read(&mut bytes)).await {
        match read {
            Ok(0) | Err(_) => return None,
            Ok(read) => all.extend(bytes.iter().take(read)),
        }
    }
    Some(all)
}

/// Requests that read the eight relays of unit 1 and of unit 2, written by hand.
const ASK_1: &[u8] = &[0x01, 0x01, 0x00, 0x00, 0x00, 0x08, 0x3D, 0xCC];
const ASK_2: &[u8] = &[0x02, 0x01, 0x00, 0x00, 0x00, 0x08, 0x3D, 0xFF];
const ALL_OFF_1: &[u8] = &[0x01, 0x01, 0x01, 0x00, 0x51, 0x88];
const ALL_OFF_2: &[u8] = &[0x02, 0x01, 0x01, 0x00, 0x51, 0xCC];
const ON: &[u8] = &[0x01, 0x05, 0x00, 0x00, 0xFF, 0x00, 0x8C, 0x3A];

async fn two_relay_boards(at: LineAt) -> Lines {
    let mut lines = Lines::default();
    lines.add("riser".into(), at, units(&[(1, "waveshare-relay-8ch"), (2, "waveshare-relay-8ch")])).await.unwrap();
    lines
}

#[tokio::test]
async fn each_fault_sends_its_bytes_on_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("riser.pty");
    let lines = two_relay_boards(LineAt::Pty(port.clone())).await;
    let open = || tokio_serial::new(port.to_str().unwrap(), 19200).open_native_async().unwrap();
    let mut wire = open();
    let faults: [(&[&str], &[u8], &[u8]); 8] = [
        (&["none"], ASK_1, ALL_OFF_1),
        (&["silent"], ASK_1, &[]),
        (&["slow", "50"], ASK_1, ALL_OFF_1),
        (&["exception", "2"], ASK_1, &[0x01, 0x81, 0x02, 0xC1, 0x91]),
        (&["wrong-unit"], ASK_1, ALL_OFF_2),
        (&["garbage"], ASK_1, b"HTTP/1.0 400 Bad Request\r\n\r\n"),
        (&["cut"], ASK_1, &[0x01, 0x01, 0x01]),
        (&["wrong-echo"], ON, &[0x01, 0x05, 0x00, 0x08, 0xFF, 0x00, 0x0D, 0xF8]),
    ];
    for (fault, sent, wanted) in faults {
        lines.fault("riser/1", fault).await.unwrap();
        assert_eq!(at_the_wire(&mut wire, sent).await.as_deref(), Some(wanted), "{fault:?}");
        assert_eq!(at_the_wire(&mut wire, ASK_2).await.as_deref(), Some(ALL_OFF_2), "{fault:?} is of unit 1 alone");
    }
    lines.fault("riser", &["none"]).await.unwrap();
    at_the_wire(&mut wire, &[0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0xCD, 0xCA]).await.unwrap();

    lines.fault("riser/1", &["late", "60"]).await.unwrap();
    let crossed = at_the_wire(&mut wire, &[ASK_1, ASK_2].concat()).await.unwrap();
    assert_eq!(crossed, [ALL_OFF_2, ALL_OFF_1].concat(), "the late answer comes behind that of another");

    lines.fault("riser", &["unplugged"]).await.unwrap();
    assert!(at_the_wire_or_gone(&mut wire).await, "the port has hung up");
    assert!(!port.is_symlink(), "the adapter's name is gone");
    let reported = lines.fault("riser", &["none"]).await.unwrap();
    assert!(reported.contains("plugged in again"), "{reported}");
    assert_eq!(at_the_wire(&mut open(), ASK_1).await.as_deref(), Some(ALL_OFF_1));
}

async fn at_the_wire_or_gone(wire: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let ends = async { matches!(wire.read(&mut [0; 8]).await, Ok(0) | Err(_)) };
    timeout(LIMIT, ends).await.unwrap_or(false)
}

#[tokio::test]
async fn each_fault_sends_its_bytes_over_tcp() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let lines = two_relay_boards(LineAt::Tcp(port)).await;
    let open = async || TcpStream::connect(("127.0.0.1", port)).await;
    let ask = |transaction: u8, unit: u8| [0, transaction, 0, 0, 0, 6, unit, 1, 0, 0, 0, 8];
    let mut wire = open().await.unwrap();
    let faults: [(&[&str], &[u8]); 7] = [
        (&["none"], &[0, 7, 0, 0, 0, 4, 1, 1, 1, 0]),
        (&["silent"], &[]),
        (&["slow", "50"], &[0, 7, 0, 0, 0, 4, 1, 1, 1, 0]),
        (&["exception", "2"], &[0, 7, 0, 0, 0, 3, 1, 0x81, 2]),
        (&["wrong-unit"], &[0, 7, 0, 0, 0, 4, 2, 1, 1, 0]),
        (&["garbage"], b"HTTP/1.0 400 Bad Request\r\n\r\n"),
        (&["cut"], &[0, 7, 0, 0, 0]),
    ];
    for (fault, wanted) in faults {
        lines.fault("riser/1", fault).await.unwrap();
        assert_eq!(at_the_wire(&mut wire, &ask(7, 1)).await.as_deref(), Some(wanted), "{fault:?}");
    }
    lines.fault("riser/1", &["late", "60"]).await.unwrap();
    let crossed = at_the_wire(&mut wire, &[ask(8, 1), ask(9, 2)].concat()).await.unwrap();
    assert_eq!(crossed, [0, 9, 0, 0, 0, 4, 2, 1, 1, 0, 0, 8, 0, 0, 0, 4, 1, 1, 1, 0]);
    lines.fault("riser/1", &["disconnects"]).await.unwrap();
    assert_eq!(at_the_wire(&mut wire, &ask(7, 1)).await, None);

    let mut wire = open().await.unwrap();
    assert_eq!(at_the_wire(&mut wire, &ask(7, 2)).await.unwrap().len(), 10);
    lines.fault("riser", &["unplugged"]).await.unwrap();
    assert!(at_the_wire_or_gone(&mut wire).await, "the connection ended");
    assert!(open().await.is_err(), "nothing listens");
    lines.fault("riser", &["none"]).await.unwrap();
    assert_eq!(at_the_wire(&mut open().await.unwrap(), &ask(7, 1)).await.unwrap().len(), 10);
}

/// The card's flag of this reader is register 1000 and also coil 1016, and a write to either clears it. The frames are those of its
/// manual.
#[tokio::test]
async fn the_simulated_ind_m1_releases_its_card_by_a_write_to_either_place() {
    const ASK: &[u8] = &[0x01, 0x03, 0x03, 0xE8, 0x00, 0x01, 0x04, 0x7A];
    const FLAG: &[u8] = &[0x01, 0x01, 0x03, 0xF8, 0x00, 0x01, 0x7C, 0x7F];
    const CLEAR: &[u8] = &[0x01, 0x05, 0x03, 0xF8, 0x00, 0x00, 0x4C, 0x7F];
    const CLEAR_REGISTER: &[u8] = &[0x01, 0x06, 0x03, 0xE8, 0x00, 0x00, 0x09, 0xBA];
    let register = |value: u8| [0x01, 0x03, 0x02, 0x00, value];
    let coil = |value: u8| [0x01, 0x01, 0x01, value];
    let advised = "release = { space = \"coil\", address = 1016, value = 0 }";
    let (id, text) = SHIPPED.iter().find(|(id, _)| *id == "inveo-rfid-ind-m1").unwrap();
    let copied = text.replace("release = { space = \"holding\", address = 1000, value = 0 }", advised);
    let copied = copied.replace(id, "ind-m1-of-the-site");
    assert!(copied.contains(advised) && copied.contains("ind-m1-of-the-site"));
    // The shipped profile; and a copy with the release that its caveat advises, of which only the coil is known to the simulator.
    for (profile, clears) in [(*text, &[CLEAR, CLEAR_REGISTER][..]), (copied.as_str(), &[CLEAR])] {
        let profile = dormgate::profile::read(profile).unwrap();
        let both = profile.id == *id;
        let line = Line::new([(1, Arc::new(profile))]);
        let (mut wire, far) = tokio::io::duplex(256);
        let _served = tokio::spawn({
            let line = line.clone();
            async move { line.serve_rtu(far).await }
        });
        for clear in clears {
            line.present(1, 0, CARD.parse().unwrap());
            assert!(at_the_wire(&mut wire, ASK).await.unwrap().starts_with(&register(1)));
            if both {
                assert!(at_the_wire(&mut wire, FLAG).await.unwrap().starts_with(&coil(1)));
            }
            assert_eq!(at_the_wire(&mut wire, clear).await.as_deref(), Some(*clear), "it echoes");
            assert!(at_the_wire(&mut wire, ASK).await.unwrap().starts_with(&register(0)));
            if both {
                assert!(at_the_wire(&mut wire, FLAG).await.unwrap().starts_with(&coil(0)));
            }
        }
    }
}

#[tokio::test]
async fn a_command_for_a_place_that_does_not_exist_names_those_that_do() {
    let lines = two_relay_boards(LineAt::Tcp(0)).await;
    let reported = async |place: &str, words: &[&str]| lines.fault(place, words).await.unwrap_err().to_string();
    assert_eq!(reported("riser-9/1", &["silent"]).await, "line `riser-9` is not simulated; there are `riser`");
    let unit = reported("riser/3", &["silent"]).await;
    assert!(unit.contains("not a unit of line `riser`; there are 1 (waveshare-relay-8ch), 2 "), "{unit}");
    assert!(reported("riser/1", &["silnt"]).await.contains("did you mean `silent`?"));
    assert!(reported("riser/1", &["unplugged"]).await.contains("without a unit"));
    let set = |place: &str, point: &str| lines.set(place, point, 0, 1.0).unwrap_err().to_string();
    assert!(set("riser", "state").contains("e.g. `riser/3`"));
    assert!(set("riser/1", "power").contains("no point `power`; there are "));
}

#[tokio::test]
async fn a_real_port_is_never_replaced_by_a_simulator() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("ttyUSB0");
    std::fs::write(&port, "").unwrap();
    let line = Line::new(units(&[(1, "waveshare-relay-8ch")]));
    let error = line.plug(&LineAt::Pty(port.clone())).await.unwrap_err();
    assert!(error.to_string().contains("real port") && port.is_file(), "{error}");
    // The link of a simulator that was killed is replaced.
    std::fs::remove_file(&port).unwrap();
    std::os::unix::fs::symlink("/dev/pts/4095", &port).unwrap();
    line.plug(&LineAt::Pty(port)).await.unwrap();
}

#[tokio::test]
async fn setting_the_state_of_a_relay_switches_it() {
    let line = Line::new(units(&[(7, "generic-power-box"), (21, "waveshare-relay-8ch")]));
    for (unit, channel) in [(7, 0), (21, 3)] {
        line.force(unit, channel, true);
        assert_eq!(line.set(unit, "relay", channel, 0.0).as_deref(), Ok("0"));
        assert!(!line.relay(unit, channel), "{unit}");
        line.set(unit, "relay", channel, 1.0).unwrap();
        assert!(line.relay(unit, channel), "{unit}");
        assert!(!line.relay(unit, channel + 1), "{unit}: no other one");
    }
}

#[tokio::test]
async fn a_set_value_is_given_as_the_point_holds_it_or_refused_with_what_it_can_hold() {
    let mut lines = Lines::default();
    let meters = units(&[(40, "chint-ddsu666"), (41, "acrel-ddsy1352"), (42, "technotrade-vrd-485")]);
    lines.add("t2".into(), LineAt::Tcp(0), meters).await.unwrap();
    let set = |place: &str, point: &str, value: f64| {
        lines.set(place, point, 0, value).unwrap_or_else(|error| error.to_string())
    };
    assert_eq!(set("t2/40", "power", 55.5), "t2/40: power is 55.5 kW");
    assert_eq!(set("t2/41", "power", 5.5), "t2/41: power is 5.5 kW");
    assert_eq!(set("t2/41", "power", 0.0017), "t2/41: power is 0.002 kW", "the nearest that it can hold");
    let wanted = "`power` cannot hold 55.5: it holds numbers from -32.768 to 32.767 kW in steps of 0.001";
    assert_eq!(set("t2/41", "power", 55.5), wanted);
    assert_eq!(set("t2/40", "power", f64::NAN), "`power` cannot hold NaN: it holds numbers of 32 bits, as an `f32`");
    assert!(set("t2/42", "uid", 5.0).contains("it holds bytes, "));
}

/// A box with two slots and a relay. No gateway runs; the tests move the relay.
async fn box_with_slots() -> Site {
    let text = "[gateway]\nid = \"g\"\n[[bus]]\nid = \"riser\"\ntcp = \"127.0.0.1:502\"\n\
                [[portal]]\nid = \"box\"\nkind = \"power_box\"\nzone = \"1\"\n\
                reader = { modbus = \"riser\", unit = 2, profile = \"generic-power-box\" }\n\
                output = { modbus = \"riser\", unit = 21, profile = \"waveshare-relay-8ch\" }\n";
    let mut config = dormgate::config::parse(text, &Surroundings::default()).unwrap();
    let PortalDevice::Parts(parts) = &mut config.portals.first_mut().unwrap().device else { panic!("a box of parts") };
    let Part::Modbus(reader) = &mut parts.reader else { panic!("a reader on the line") };
    (reader.profile, parts.slots) = (Arc::new(shipped("generic-turnstile").unwrap()), 2);
    let lines = [("riser".to_owned(), LineAt::Tcp(0))].into();
    Site::start(&config, lines).await.unwrap().0
}

async fn no_verdict() -> Result<Verdict, String> {
    Err("no gateway".to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_decision_of_the_gateway_is_reported_before_what_the_relay_does() {
    let site = box_with_slots().await;
    for (outcome, also, reported) in [
        (
            Outcome::Deny(Reason::Frozen),
            vec![Reason::Replaced],
            "slot 0: deny frozen replaced; the relay did not move in 3000 ms",
        ),
        (
            Outcome::Grant(GrantReason::Granted),
            vec![],
            "slot 0: grant granted; the relay did not move in 3000 ms: see `dormgate status` and the gateway's log whether it \
             reaches the reader and the relay",
        ),
    ] {
        let verdict = async { Ok(Verdict::new("box".parse().unwrap(), outcome, also)) };
        assert_eq!(site.present("box", CARD, None, Some(0), verdict).await.as_deref(), Ok(reported));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_relay_of_a_box_does_is_reported_whether_it_was_on_or_off() {
    let site = box_with_slots().await;
    let relay = async |on: f64| drop(site.lines().set("riser/21", "relay", 0, on).unwrap());
    let present = |slot: u16| site.present("box", CARD, None, Some(slot), no_verdict());
    let nothing = "slot 0: the relay did not move in 3000 ms; the decision is not known: no gateway";
    assert_eq!(present(0).await.unwrap(), nothing);
    // The relay moves while `present` waits for it.
    let (reported, ()) = tokio::join!(present(0), relay(1.0));
    assert!(reported.as_deref().unwrap().starts_with("slot 0: relay on after "), "{reported:?}");
    assert_eq!(
        present(1).await.unwrap(),
        "slot 1: the relay was on and stays on, for 3000 ms at least; the decision is not known: no gateway"
    );
    let (reported, ()) = tokio::join!(present(0), relay(0.0));
    assert!(reported.as_deref().unwrap().starts_with("slot 0: relay off after "), "{reported:?}");
}

#[tokio::test(start_paused = true)]
async fn a_card_goes_into_the_slot_that_is_named_or_the_first_that_is_empty() {
    let site = box_with_slots().await;
    let present = async |uid: &str, slot: Option<u16>| match site.present("box", uid, None, slot, no_verdict()).await {
        Ok(reported) => reported.split(':').next().unwrap().to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(present(CARD, None).await, "slot 0");
    assert_eq!(present("DEADBEEF", None).await, "slot 1");
    assert_eq!(present("DEADBEEF", None).await, "slot 1", "where it lies");
    assert_eq!(present("12030405", None).await, "slot 0", "all are taken");
    assert_eq!(present(CARD, Some(2)).await, "`box` has 2 slot(s), counted from 0");
    assert_eq!(site.remove("box", Some(0)).await.unwrap(), "slot 0: removed");
    assert_eq!(site.remove("box", None).await.unwrap(), "slot 1: removed", "the first with a card");
    assert_eq!(present(CARD, Some(1)).await, "slot 1");
    assert!(site.remove("box", Some(2)).await.is_err());
}
