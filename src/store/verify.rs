//! The whole journal judged without a state, for `dormgate audit verify`. Changes nothing; a gateway may be running on it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::Directory;
use super::events::{Break, RecoveryIssue, Verified};
use super::marks::{self, Mark};
use super::medium::{JOURNAL, Medium};
use super::reach::Reach;
use super::replay::{Judge, Prove, Replayed};
use super::sealed::{self, StoreKey};
use super::{LOCK, StoreError, generation, segments, store_error};

/// Checks the journal in a data directory, from its first kept byte to its last: checksums, evidence and the chain of hashes.
/// Changes nothing; a gateway may be running on it.
pub fn verify(data_dir: &Path, key: Option<&StoreKey>) -> Result<Verified, StoreError> {
    verify_signed(data_dir, key, &mut |_, _| Ok(()))
}

/// As [`verify()`]; `prove` judges what is kept beside each event, and an error is what is wrong with it.
pub fn verify_signed(data_dir: &Path, key: Option<&StoreKey>, prove: Prove<'_>) -> Result<Verified, StoreError> {
    let medium = sealed::over(Arc::new(Directory::new(data_dir)), key);
    let mut verified =
        medium.and_then(|medium| judge(&*medium, prove)).map_err(|error| store_error(data_dir, error))?;
    // Every start makes it, before anything is written.
    if verified.broken.is_none() && data_dir.join(LOCK).exists() && !data_dir.join(JOURNAL).exists() {
        let why = "the journal is not there, and a gateway was started here".to_owned();
        verified.broken = Some(Break { n: 1, file: JOURNAL.to_owned(), offset: 0, why });
    }
    Ok(verified)
}

/// Judges the journal on `medium`.
pub(super) fn judge(medium: &dyn Medium, prove: Prove<'_>) -> io::Result<Verified> {
    // Before the segments: a running gateway writes them first.
    let mut reach = Reach::read(medium);
    if let Some((n, path)) = generation::newest_sealed(medium) {
        reach.named(n, &path);
    }
    let mut judge = Judge::new(medium, None, None);
    judge.prove = Some(prove);
    // Before the mark of what retention removed is read: a running gateway moves it first, then removes.
    let segments = segments::list(medium)?;
    let front = judge.front(segments.first());
    judge.segments(&segments);
    let last = judge.place.map_or(0, |place| place.n);
    // No start has reported yet what is missing since.
    let restored = judge.bad.is_none() && marks::read_restored(medium) == Some((last, reach.floor));
    let restored = restored.then_some((last + 1, reach.floor));
    // What stands after the last event that was reported durable may be a write under way.
    if last < reach.floor && judge.bad.is_some() {
        judge.wrong(last + 1, ("", 0), "the bytes are damaged", None);
    } else if last < reach.floor && restored.is_none() && judge.out.breaks.is_empty() {
        let why = format!("it names event {}, and the journal ends before it", reach.floor);
        judge.wrong(last + 1, (&reach.named_by, 0), why, None);
    }
    // A gateway that was started meanwhile has made it.
    if reach.mark == Mark::Unknown && marks::read(medium) == Mark::Unknown {
        let why = "it is damaged or missing: nothing names how far the journal was durable, so nobody can know whether it is whole";
        judge.wrong(last + 1, (marks::PATH, 0), why, None);
    }
    for found in &reach.foreign {
        if let RecoveryIssue::NotOurs { file, why } = found {
            judge.wrong(last + 1, (file, 0), why, None);
        }
    }
    let Replayed { first, events, erased, unsigned, breaks, gaps, .. } = judge.out;
    let mut out = Verified { first, last, events, erased, restored, front, unsigned, ..Verified::default() };
    for (found, missing) in breaks {
        match missing.filter(|missing| gaps.cover(*missing)) {
            Some(missing) => out.explained.push(missing),
            None => {
                out.broken = Some(found);
                break;
            }
        }
    }
    Ok(out)
}
