//! A building of a given number of cards, for the benchmarks.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "shared by several benchmarks; a panic ends a benchmark, and it measures time"
)]

pub mod all_rules;
pub mod broker;
pub mod office;

use std::io::{Read, Write};
use std::num::NonZeroU32;

use dormgate::access::change::{Op, Position};
use dormgate::access::credential::{Enrolment, Entitlement, ZoneSet};
use dormgate::access::decide::{Observed, Question};
use dormgate::access::id::{CardUid, ClockTrust, Mono, Now, Timestamp};
use dormgate::access::input::Presented;
use dormgate::access::list::AccessList;
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Assurance, Portal, PortalKind};

/// Cards in one room.
const ROOM_CARDS: u32 = 4;

pub const NOW: Now = Now { wall: Timestamp(1_788_249_600_000), mono: Mono(1_000), clock: ClockTrust::Trusted };

pub fn uid(card: u32) -> CardUid {
    // 7 bytes, the maker's byte of NXP first; spread, so that neighbours in the list are not neighbours in the table.
    let spread = card.wrapping_mul(0x9E37_79B1).to_be_bytes();
    let number = card.to_be_bytes();
    CardUid::from_bytes(&[0x04, spread[0], spread[1], spread[2], number[1], number[2], number[3]]).unwrap()
}

pub fn holder(card: u32) -> dormgate::access::id::Holder {
    format!("{:08}", 8_190_000 + card).parse().unwrap()
}

/// A card at a portal, and nothing observed of it before.
pub fn question<'a>(portal: Option<&'a Portal>, presented: &'a Presented) -> Question<'a> {
    let (assurance, observed) = (Assurance::Uid, Observed::default());
    Question { portal, presented, direction: None, stale: false, assurance, observed }
}

pub fn enrolment(card: u32) -> Enrolment {
    let room = || ZoneSet::One(format!("{}", card / ROOM_CARDS).parse().unwrap());
    let entitlement = |kind, zone| Entitlement { kind, zone, schedule: None };
    Enrolment::resident(
        holder(card),
        vec![
            entitlement(PortalKind::Gate, ZoneSet::Any),
            entitlement(PortalKind::Door, room()),
            entitlement(PortalKind::PowerBox, room()),
        ],
    )
}

pub fn at(epoch: u32, seq: u64) -> Position {
    Position { epoch: NonZeroU32::new(epoch).unwrap(), seq }
}

pub fn list_of(cards: u32) -> AccessList {
    let mut list = AccessList::default();
    let policy = Policy::default();
    for card in 0..cards {
        let ops = [
            Op::Issue { uid: uid(card), holder: holder(card) },
            Op::Enrol { uid: uid(card), enrolment: enrolment(card) },
        ];
        list.apply(&ops, (at(1, u64::from(card) + 1), NOW.wall), &policy, NOW.wall);
    }
    list
}

/// A figure of a process from `/proc/PID/status`, in MiB.
pub fn status_mib(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The gateway's metrics, asked for over this stream.
pub fn metrics(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

pub fn door(room: u32) -> Portal {
    let (id, zone) = (format!("door-{room}").parse().unwrap(), format!("{room}").parse().unwrap());
    Portal { hold_ms: 5_000, held_open_ms: 15_000, ..Portal::new(id, PortalKind::Door, zone) }
}

pub fn power_box(room: u32) -> Portal {
    Portal {
        id: format!("power-{room}").parse().unwrap(),
        kind: PortalKind::PowerBox,
        delay_off_ms: 15_000,
        ..door(room)
    }
}
