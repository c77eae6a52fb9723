//! What was observed of a portal and a card, in words: the facts behind the rungs that look beyond the list.

use super::super::credential::CardMark;
use super::super::decision::Reason;
use super::super::event::Moment;
use super::super::id::{CardUid, ClockTrust, Now};
use super::super::policy::{Policy, Severity};
use super::super::portal::{Portal, PortalKind};
use super::Engine;
use super::observed::CloneSign;

impl Engine {
    /// What the rung of `reason` is judged by, as observed; `None`: the rung does not concern this portal.
    pub(super) fn observed_for(
        &self,
        reason: Reason,
        portal: &Portal,
        card: Option<CardUid>,
        now: Now,
    ) -> Option<String> {
        match reason {
            Reason::AntiPassback if self.anti_passback_at(portal) != Severity::Off => {
                Some(card.map_or(String::new(), |uid| self.last_passage(portal, &uid)))
            }
            Reason::InUseElsewhere if self.policy.clone != Severity::Off => {
                Some(card.map_or(String::new(), |uid| self.elsewhere(portal, &uid, now)))
            }
            Reason::EscortRequired if self.policy.visitor_escort_ms > 0 && portal.kind == PortalKind::Gate => {
                let (within_s, ago_ms) = (self.policy.visitor_escort_ms / 1000, self.host_ago_ms(portal, now));
                Some(match ago_ms {
                    None => format!(
                        "no host whose card opens this gate has entered; a visitor follows one within {within_s} s"
                    ),
                    Some(ms) => format!("a host entered {} s ago; a visitor follows within {within_s} s", ms / 1000),
                })
            }
            Reason::LockedOut if self.policy.lockout_s > 0 => Some(self.denials_at(portal, now)),
            Reason::SecondCardRequired if portal.two_card_ms > 0 => Some(match self.first_of_two(portal, now) {
                None => format!("wants two cards within {} s; no first one waits", portal.two_card_ms / 1000),
                Some(first) => {
                    let (holder, left_s) = (&first.holder, first.until.since_ms(now.mono) / 1000);
                    format!("the card of {holder} waits for a second one for {left_s} s more")
                }
            }),
            Reason::Interlocked if !portal.interlock.is_empty() => Some(match self.interlocked_by(portal, now) {
                None => "all doors of the interlock are closed".to_owned(),
                Some(other) => format!("{other} is open or released"),
            }),
            _ => None,
        }
    }

    /// The passage that counts for anti-passback: which way, where, when, how certain, and the event that reports it.
    fn last_passage(&self, portal: &Portal, uid: &CardUid) -> String {
        let Some(last) = self.passages_in_area(portal, uid).next() else {
            return format!("no passage of it in {} is known", portal.zone);
        };
        let (way, certainty) = (last.direction.as_str(), last.certainty.as_str());
        let Moment { at, clock, n, .. } = last.moment;
        let clock = if clock == ClockTrust::Trusted { "" } else { " by a clock that was not trusted" };
        let forgiven = if last.forgiven { "; it does not count any more" } else { "" };
        format!("last {way} at {} at {at}{clock} ({certainty}, event {n}){forgiven}", last.portal)
    }

    fn elsewhere(&self, portal: &Portal, uid: &CardUid, now: Now) -> String {
        if self.state.list.card(uid).is_some_and(|card| card.is_marked(CardMark::SecondToken)) {
            return "its UID exists twice with the office's knowledge (second_token): not judged".to_owned();
        }
        match self.clone_sign(portal, uid, now) {
            Some(CloneSign::InBox(id)) => format!("{id} shows the card in it"),
            Some(CloneSign::TooFar { from, ago_ms, walk_ms }) => {
                format!("granted at {from} {} s ago, from where the way takes {} s", ago_ms / 1000, walk_ms / 1000)
            }
            None => "in no other box, and no walking time is undercut".to_owned(),
        }
    }

    fn denials_at(&self, portal: &Portal, now: Now) -> String {
        let (max, window_s) = (self.policy.max_denials, Policy::DENIAL_WINDOW_MS / 1000);
        match self.locked_out_ms(&portal.id, now) {
            Some(left_ms) => {
                format!("{max} denials within {window_s} s; locked out for {} s more", left_ms.div_ceil(1000))
            }
            None => format!("{} of {max} denials within {window_s} s", self.recent_denials(&portal.id, now)),
        }
    }
}
