//! What one input caused, for tests: readers of the engine's effects.

use dormgate::access::decision::{Decision, GrantFlag};
use dormgate::access::effect::{Ack, Effect, PortalOrder, Reply, Resync};
use dormgate::access::event::{AlarmKind, EventKind, Record};
use dormgate::access::portal::Posture;

/// What one input caused.
#[derive(Debug)]
pub struct Seen(pub Vec<Effect>);

impl Seen {
    pub fn decision(&self) -> &Decision {
        let answer = |e: &Effect| matches!(e, Effect::Order(PortalOrder::Answer { .. }));
        match self.0.iter().find(|e| answer(e)) {
            Some(Effect::Order(PortalOrder::Answer { decision, .. })) => decision,
            _ => panic!("no answer among {:#?}", self.0),
        }
    }
    pub fn reason(&self) -> &'static str {
        self.decision().reason_str()
    }
    /// The reason, with further reasons and flags behind it as in the printed matrix.
    pub fn verdict(&self) -> String {
        let decision = self.decision();
        let also = decision.also().iter().map(|reason| reason.as_str()).collect::<Vec<_>>();
        let all: Vec<_> = std::iter::once(decision.reason_str())
            .chain(also)
            .chain(decision.flags().iter().map(GrantFlag::as_str))
            .collect();
        all.join(" ")
    }
    /// The details of the alarms of this kind.
    pub fn details(&self, kind: AlarmKind) -> Vec<&str> {
        let all = self.0.iter().filter_map(|e| match e {
            Effect::Alarm(alarm) if alarm.kind == kind => Some(alarm.detail.as_str()),
            _ => None,
        });
        all.collect()
    }
    pub fn cuts(&self) -> Vec<(&str, &'static str)> {
        let cut = |e: &'_ Effect| matches!(e, Effect::Order(PortalOrder::Cut { .. }));
        let it = self.0.iter().filter(|e| cut(e));
        it.map(|e| match e {
            Effect::Order(PortalOrder::Cut { portal, reason }) => (portal.as_str(), *reason),
            _ => unreachable!(),
        })
        .collect()
    }
    pub fn ack(&self) -> &Ack {
        self.ack_after().1
    }
    pub fn ack_after(&self) -> (u64, &Ack) {
        let found = self.0.iter().find_map(|e| match e {
            Effect::Acknowledge { after, ack, .. } => Some((*after, &**ack)),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no ack among {:#?}", self.0))
    }
    pub fn reply(&self) -> &Reply {
        let found = self.0.iter().find_map(|e| match e {
            Effect::Reply { reply, .. } => Some(&**reply),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no reply among {:#?}", self.0))
    }
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().filter_map(|e| match e {
            Effect::Record(record) => Some(&**record),
            _ => None,
        })
    }
    pub fn recorded(&self) -> Vec<EventKind> {
        self.records().map(|r| r.event.kind()).collect()
    }
    pub fn alarms(&self) -> Vec<AlarmKind> {
        let alarm = |e: &Effect| match e {
            Effect::Alarm(alarm) if !alarm.ended => Some(alarm.kind),
            _ => None,
        };
        self.0.iter().filter_map(alarm).collect()
    }
    /// The alarms whose end was published.
    pub fn ended(&self) -> Vec<AlarmKind> {
        let ended = |e: &Effect| match e {
            Effect::Alarm(alarm) if alarm.ended => Some(alarm.kind),
            _ => None,
        };
        self.0.iter().filter_map(ended).collect()
    }
    pub fn modes(&self) -> Vec<(&str, Posture)> {
        let mode = |e: &'_ Effect| matches!(e, Effect::Order(PortalOrder::Mode { .. }));
        let it = self.0.iter().filter(|e| mode(e));
        it.map(|e| match e {
            Effect::Order(PortalOrder::Mode { portal, posture }) => (portal.as_str(), *posture),
            _ => unreachable!(),
        })
        .collect()
    }
    /// What controllers of power boxes are to read: where, the posture, and whether it was on before a restart.
    pub fn informed(&self) -> Vec<(&str, Posture, bool)> {
        self.0
            .iter()
            .filter_map(|e| match e {
                Effect::Order(PortalOrder::Inform { portal, posture, on }) => {
                    Some((portal.as_str(), *posture, on.is_some()))
                }
                _ => None,
            })
            .collect()
    }
    pub fn resyncs(&self) -> Vec<&Resync> {
        self.0
            .iter()
            .filter_map(|e| match e {
                Effect::Resync(resync) => Some(&**resync),
                _ => None,
            })
            .collect()
    }
    /// How many releases and switchings-on without a request.
    pub fn openings(&self) -> usize {
        self.0
            .iter()
            .filter(|e| {
                matches!(e, Effect::Order(PortalOrder::Release { .. }) | Effect::Order(PortalOrder::Energise { .. }))
            })
            .count()
    }
}
