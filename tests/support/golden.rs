//! Golden frames: raw bytes and what they mean. The frames were written without this program's encoder, so a profile and its
//! frames check each other; and what a test against hardware records is written in the same way.
//!
//! A block is what is done (`poll NAME`, `on CHANNEL`, `off CHANNEL`, `pulse CHANNEL MS`, `release [COUNT]`), the frames (`>` sent,
//! `<` answered), and what was learnt.

use dormgate::access::input::Presented;
use dormgate::profile::{Block, InputKind, Profile, Trigger};
use dormgate::wire::modbus::{ReplyError, Request, hex, rtu_frame, rtu_open};

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()).collect()
}

fn requests(profile: &Profile, doing: &[&str]) -> Vec<Request> {
    let output = || profile.output.as_ref().unwrap();
    let number = |at: usize| doing[at].parse::<u16>().unwrap();
    match doing {
        ["poll", name] => profile.polls.iter().find(|poll| poll.name == *name).unwrap().reads.clone(),
        ["on", _] => vec![output().on(number(1))],
        ["off", _] => vec![output().off(number(1))],
        ["pulse", _, ms] => vec![output().pulse(number(1), ms.parse().unwrap()).unwrap().0],
        ["release", count @ ..] => match &profile.readers[0].trigger {
            Trigger::Latch { release, .. } => vec![release.request(0, release.value)],
            Trigger::Counter { acknowledge: Some(write), .. } => vec![write.request(0, count[0].parse().unwrap())],
            other => panic!("{other:?} has nothing to release"),
        },
        other => panic!("unknown doing {other:?}"),
    }
}

fn means(profile: &Profile, block: &Block, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let index = |text: &str| text.parse::<usize>().unwrap();
    let channel = |text: &str| text.parse::<u16>().unwrap();
    let card = |reader: usize| match profile.readers[reader].uid.read(block) {
        None => "none".to_owned(),
        Some(Presented::Card(uid)) => uid.to_string(),
        Some(Presented::Lossy(reading)) => format!("{:X}:{}", reading.value, reading.transform),
        Some(Presented::Malformed(text)) => format!("malformed:{text}"),
    };
    let near = |got: f64, wanted: &str| {
        let wanted: f64 = wanted.parse().unwrap();
        assert!((got - wanted).abs() < 0.001 * wanted.abs().max(1.0), "{line}: got {got}");
    };
    match words.as_slice() {
        ["card", wanted] => assert_eq!(card(0), *wanted),
        ["card", reader, wanted] => assert_eq!(card(index(reader)), *wanted),
        ["latch" | "present", wanted] => {
            let (Trigger::Latch { flag, .. } | Trigger::Level(Some(flag))) = &profile.readers[0].trigger else {
                panic!("no flag");
            };
            assert_eq!(flag.flag(block, 0), Some(*wanted == "on"), "{line}");
        }
        ["counter", reader, wanted] => {
            let Trigger::Counter { count, .. } = &profile.readers[index(reader)].trigger else { panic!("no counter") };
            near(count.number(block, 0).unwrap(), wanted);
        }
        ["relay", at, wanted] => {
            let state = profile.output.as_ref().unwrap().state.as_ref().unwrap();
            assert_eq!(state.flag(block, channel(at)), Some(*wanted == "on"), "{line}");
        }
        ["power", wanted, "W"] => {
            let (point, factor) = profile.meter.as_ref().unwrap().power.as_ref().unwrap();
            near(point.number(block, 0).unwrap() * factor, wanted);
        }
        ["energy", wanted, "kWh"] => {
            let (point, factor) = profile.meter.as_ref().unwrap().energy.as_ref().unwrap();
            near(point.number(block, 0).unwrap() * factor, wanted);
        }
        ["input", kind, at, wanted] => {
            let kinds = [
                ("contact_open", InputKind::ContactOpen),
                ("exit_button", InputKind::ExitButton),
                ("tamper", InputKind::Tamper),
                ("fire", InputKind::Fire),
                ("overload", InputKind::Overload),
                ("restricted_load", InputKind::RestrictedLoad),
                ("passed_in", InputKind::PassedIn),
                ("passed_out", InputKind::PassedOut),
            ];
            let kind = kinds.iter().find(|(name, _)| name == kind).unwrap().1;
            let input = profile.inputs.iter().find(|input| input.kind == kind).unwrap();
            match *wanted {
                "yes" | "no" => {
                    let yes = input.point.flag(block, channel(at)).map(|flag| flag == input.when);
                    assert_eq!(yes, Some(*wanted == "yes"), "{line}");
                }
                number => near(input.point.number(block, channel(at)).unwrap(), number),
            }
        }
        other => panic!("unknown meaning {other:?}"),
    }
}

/// Holds `profile` against the blocks of `golden`.
pub fn run(profile: &Profile, golden: &str) {
    for paragraph in golden.split("\n\n") {
        let mut lines = paragraph.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let doing: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        let mut wanted = requests(profile, &doing).into_iter();
        let mut block = Block::default();
        let mut refused = None;
        let mut asked: Option<Request> = None;
        for line in lines {
            if let Some(frame) = line.strip_prefix("> ") {
                let sent = bytes(frame);
                let request = wanted.next().unwrap_or_else(|| panic!("{doing:?}: a frame too many: {line}"));
                assert_eq!(hex(&rtu_frame(sent[0], &request.encode())), hex(&sent), "{doing:?}");
                asked = Some(request);
            } else if let Some(frame) = line.strip_prefix("< ") {
                let frame = bytes(frame);
                let (_, pdu) = rtu_open(&frame).unwrap_or_else(|| panic!("{doing:?}: wrong checksum: {line}"));
                let request = asked.clone().unwrap();
                match request.check(pdu) {
                    Ok(reply) => block.add(&request, reply),
                    Err(ReplyError::Refused(exception)) => refused = Some(exception.0),
                    Err(error) => panic!("{doing:?}: {error}: {line}"),
                }
            } else if let Some(code) = line.strip_prefix("refused ") {
                assert_eq!(refused, code.parse().ok());
            } else {
                means(profile, &block, line);
            }
        }
        assert!(wanted.next().is_none(), "{doing:?}: a frame too few");
    }
}
