//! What is worth knowing of an op that was well formed: it reached nothing, or gives one card to two holders. It changes nothing about
//! what the op does.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::super::change::{Note, NoteCode, Op, PortalSet, Subject};
use super::super::id::{CardUid, Holder, Revision};
use super::AccessList;
use super::card::Card;
use super::index::{CardIx, HolderIx};

impl AccessList {
    /// Why an op that is about to be written clears nothing that is known here. It may come before what it clears, so this only informs.
    pub(super) fn clears_nothing(&self, op: &Op) -> Option<String> {
        let (uid, flag) = match op {
            Op::SetFlag { subject: Subject::Card(uid), flag, on: false } => (uid, Some(*flag)),
            Op::Withdraw { subject: Subject::Card(uid) } | Op::Reinstate { uid } => (uid, None),
            _ => return None,
        };
        let Some(card) = self.card(uid) else {
            return Some(format!("no card `{uid}` was known, so there was nothing to clear; compare the UID"));
        };
        let flag = flag.filter(|flag| !card.flag(*flag).is_some_and(|(register, _)| register.on))?;
        Some(format!("card `{uid}` was not {}, so there was nothing to clear", flag.as_str()))
    }

    /// Why an op that is about to be written changes nothing: what it writes has a newer number here.
    pub(super) fn loses_to_newer(&self, op: &Op, revision: Revision) -> Option<String> {
        let card = |uid: &CardUid| self.find(uid).and_then(|ix| self.cards.get(ix.place()));
        let holder = |name: &Holder| self.holders.find(name).and_then(|ix| self.holders.get(ix));
        let newest = match op {
            Op::SetFlag { subject: Subject::Card(uid), flag, .. } => card(uid)?.flags.get(*flag)?.revision,
            Op::SetFlag { subject: Subject::Holder(name), flag, .. } => holder(name)?.flags.get(*flag)?.revision,
            Op::Enrol { uid, .. } | Op::Withdraw { subject: Subject::Card(uid) } => {
                card(uid)?.enrolment.as_ref()?.revision
            }
            Op::Withdraw { subject: Subject::Holder(name) } => holder(name)?.withdrawn()?,
            Op::Power { zone, reason, .. } => self.site.power.get(zone)?.get(reason)?.revision,
            Op::DefineSchedule { name, .. } => self.site.schedules.get(name)?.revision,
            Op::SetPosture { portals: PortalSet::All, .. } => self.site.all_portals?.revision,
            // Of several, one that has no effect may stand beside one that has.
            Op::SetPosture { portals: PortalSet::Some(portals), .. } => {
                let revisions = portals.iter().map(|id| self.site.portals.get(id).map(|register| register.revision));
                revisions.min().flatten()?
            }
            Op::Issue { .. } | Op::Reissue { .. } | Op::Reinstate { .. } => return None,
        };
        let Revision { epoch, seq, place } = newest;
        (newest > revision).then(|| format!("a newer op set this before, {epoch}.{seq}.{place}, so nothing changed"))
    }

    /// What is worth knowing of an op that was just written. `holders`: to whom the message has given
    /// cards so far; `None`: it has one op.
    pub(super) fn note<'o>(
        &self,
        op: &'o Op,
        revision: Revision,
        holders: Option<&mut HashMap<CardUid, &'o Holder, RandomState>>,
    ) -> Option<Note> {
        let note = |code, uid, message| Some(Note { op: revision.place, code, uid, message });
        let (uid, holder) = match op {
            Op::Issue { uid, holder } | Op::Reissue { new_uid: uid, holder, .. } => (uid, holder),
            Op::Enrol { uid, enrolment } => (uid, &enrolment.holder),
            Op::SetFlag { subject: Subject::Holder(holder), .. }
            | Op::Withdraw { subject: Subject::Holder(holder) } => {
                let message = format!("no card of holder `{holder}` is known, so it reached none; compare the id");
                return (!self.reaches(op, holder, revision)).then(|| Note::no_effect(revision.place, message));
            }
            Op::SetFlag { .. }
            | Op::Withdraw { .. }
            | Op::Reinstate { .. }
            | Op::Power { .. }
            | Op::DefineSchedule { .. }
            | Op::SetPosture { .. } => return None,
        };
        if let Some(other) = holders.and_then(|holders| holders.insert(*uid, holder)).filter(|other| *other != holder) {
            let message =
                format!("card `{uid}` is given to `{other}` and to `{holder}` in one message; compare the cards");
            return note(NoteCode::SharedUid, Some(*uid), message);
        }
        let card = self.find(uid).and_then(|ix| self.cards.get(ix.place()))?;
        let name = |ix: HolderIx| self.holders.get(ix).map(|h| &h.name);
        let issued_to = name(card.issued_to?.holder)?;
        let enrolled_for = name(card.packed_enrolment()?.1.holder).filter(|holder| *holder != issued_to)?;
        let message = format!(
            "card `{uid}` is issued to `{issued_to}` and enrolled for `{enrolled_for}`; if the card was given to another person, withdraw \
                 it: until then it opens what `{enrolled_for}` was enrolled for. If it is one person, compare the ids"
        );
        note(NoteCode::HolderDiffers, Some(*uid), message)
    }

    /// Whether an op by holder reaches any card that is known.
    fn reaches(&self, op: &Op, holder: &Holder, revision: Revision) -> bool {
        let Some(holder) = self.holders.find(holder) else { return false };
        let card = |ix: CardIx| self.cards.get(ix.place());
        if matches!(op, Op::Withdraw { .. }) {
            let enrolled = |card: &Card| card.enrolment.as_ref().is_some_and(|register| register.revision < revision);
            self.enrolled_for(holder).filter_map(card).any(enrolled)
        } else {
            self.cards_of(holder).filter_map(card).any(|card| card.birth.is_none_or(|birth| birth < revision))
        }
    }
}
