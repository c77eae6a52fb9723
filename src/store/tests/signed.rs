//! The messages of centers that are kept beside the events: what the engine records of them, over the disk, and the keys.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;

use super::*;
use crate::access::change::{Changes, ErrorCode, Op, OpError, Position, RegisterKind};
use crate::access::effect::Effect;
use crate::access::engine::{Engine, Setup, StreamRole};
use crate::access::input::{Input, Receipt, ReceivedChanges};
use crate::access::state::State;
use crate::wire::envelope::sign;
use crate::wire::signed::{Proof, StreamKeys, prove};

/// A journal of three messages of an office that signs with this key, of which the second was rejected for its content.
fn journal(key: &SigningKey) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    let owns = [RegisterKind::Standing].into();
    let streams = vec![StreamRole { name: "office".parse().unwrap(), owns }];
    let mut engine = Engine::new(Setup { streams, ..Setup::default() }, State::default());
    let issue = || vec![Op::Issue { uid: "1EA68671".parse().unwrap(), holder: "h1".parse().unwrap() }];
    let now = Now { wall: Timestamp(1_788_249_600_000), mono: Mono(1), clock: ClockTrust::Trusted };
    let no = || vec![OpError::message(ErrorCode::ForbiddenOp, "no")];
    for (seq, content) in [(1, Ok(issue())), (2, Err(no())), (3, Ok(issue()))] {
        let claims = format!(r#"{{"v":1,"iss":"office","aud":"g","iat":1,"epoch":1,"seq":{seq},"ops":[]}}"#);
        let evidence = sign(&claims, &"office".parse().unwrap(), key).into_bytes();
        let at = Position { epoch: NonZeroU32::MIN, seq };
        let changes = Changes { stream: "office".parse().unwrap(), at, iat: None, content };
        let received = ReceivedChanges { changes, evidence, receipt: Receipt(seq), received_at: now.wall };
        let records = engine.handle(Input::Changes(received), now).into_iter().filter_map(|effect| match effect {
            Effect::Record(record) => Some(*record),
            _ => None,
        });
        opened.0.append(records.collect());
        assert_eq!(opened.3.flush(), Stepped::Idle);
    }
    disk
}

#[test]
fn a_journal_with_a_message_that_was_rejected_for_its_content_is_whole() {
    let own = SigningKey::from_bytes(&[1; 32]);
    let disk = journal(&own);
    let keys: StreamKeys = BTreeMap::from([("office".to_owned(), vec![own.verifying_key()])]);
    let mut verified = 0;
    let found = crate::store::verify::judge(&disk, &mut |event, evidence| match prove(event, evidence, &keys) {
        Some(Proof::Wrong(why)) => Err(why),
        Some(Proof::NoKey(stream)) => Err(stream),
        Some(Proof::Verified) => {
            verified += 1;
            Ok(())
        }
        None => Ok(()),
    });
    let found = found.unwrap();
    assert_eq!((found.broken, found.unsigned, verified), (None, None, 2));
}
