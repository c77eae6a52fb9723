//! A backup put back into a data directory, over whatever power cut comes between its steps.
//!
//! What is restored is prepared beside the store and named [`PREPARED`] once all of it is on disk. From then on the restoration is
//! finished, by the command or by the next start, whoever comes first: nobody ever opens a directory that is half of each.
//!
//! A restored directory is one that lost its newest events: the mark of how far the journal was durable is set beyond every number
//! that may have been used, so that the start finds a loss. Then nothing is granted from the list until the centers have sent it
//! again, and no revoked card is revived.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backup::{BackupError, Header, check, file_error};
use super::disk::{Directory, make_data_dir};
use super::marks::{self, MarkWriter};
use super::medium::{JOURNAL, Medium};
use super::reach::Reach;
use super::sealed::{self, StoreKey};
use super::segment::{Frame, NAMED_MAX};
use super::segments;
use super::verify::judge;
use super::{LOCK, claim, generation, store_error};
use crate::access::event::EventKind;
use crate::wire::audit;

/// Numbers skipped after a restoration: more events than were written since any backup that is worth restoring.
pub const RESTORED_NUMBERS: u64 = 10_000_000;
/// Where a restoration is prepared, in the data directory.
const PREPARING: &str = "restoring.unfinished";
/// A restoration that is to be finished: all of it is on disk.
const PREPARED: &str = "restoring";

/// Restores the backup `path` to the data directory `dir` of `gateway`, on which no gateway runs. What is there is laid aside, never
/// deleted; gives where, if there was something. `force`: also where later events are there.
///
/// # Errors
/// [`BackupError`]; up to the last step nothing has changed.
pub fn restore(
    dir: &Path,
    path: &Path,
    gateway: &str,
    key: Option<&StoreKey>,
    force: bool,
) -> Result<(Header, Option<PathBuf>), BackupError> {
    let header = check(path)?;
    if header.gateway != gateway {
        return Err(BackupError::OtherGateway { of: header.gateway, wanted: gateway.to_owned() });
    }
    let fail = file_error(dir);
    make_data_dir(dir).map_err(&fail)?;
    let _held = claim(dir)?;
    finish(dir).map_err(&fail)?;
    prepare(dir, path, &header, key, force)?;
    let aside = finish(dir).map_err(&fail)?;
    // Root restores, and the service has to write there afterwards.
    let own = [Some(dir.join(LOCK)).filter(|lock| lock.exists()), aside.clone()];
    own.into_iter().flatten().try_for_each(|path| give(&path, dir)).map_err(&fail)?;
    Ok((header, aside))
}

/// Puts on disk, beside the store, what is to take its place.
pub(super) fn prepare(
    dir: &Path,
    path: &Path,
    header: &Header,
    key: Option<&StoreKey>,
    force: bool,
) -> Result<(), BackupError> {
    let medium = sealed::over(Arc::new(Directory::new(dir)), key)
        .map_err(|error| BackupError::Store(store_error(dir, error)))?;
    let have = Reach::read(&*medium).floor.max(judge(&*medium, &mut |_, _| Ok(())).map_or(0, |verified| verified.last));
    if have > header.last && !force {
        let (lost, changes, revoked) = later_than(dir, &*medium, header.last)?;
        let (made_at, last, dir) = (header.made_at, header.last, dir.to_owned());
        return Err(BackupError::BackInTime { dir, have, made_at, last, lost, changes, revoked });
    }
    let preparing = dir.join(PREPARING);
    if preparing.exists() {
        fs::remove_dir_all(&preparing).map_err(file_error(&preparing))?;
    }
    unpack(path, header, &preparing)?;
    // A start with this key has to be able to read it: afterwards no door would open until somebody put the old files back.
    let readable = sealed::over(Arc::new(Directory::new(&preparing)), key).and_then(|medium| segments::list(&*medium));
    readable.map_err(|error| BackupError::Store(store_error(path, error)))?;
    let prepared = Directory::new(&preparing);
    let fail = |error| BackupError::Store(store_error(dir, error));
    // Beyond every number that was used since: the start finds that events are missing, and trusts the list no more.
    let mark = (have.max(header.last) + RESTORED_NUMBERS).min(NAMED_MAX);
    MarkWriter::default().reset(&prepared, mark).map_err(fail)?;
    marks::write_restored(&prepared, (header.last, mark)).map_err(fail)?;
    marks::write_acked(&prepared, header.acked).map_err(fail)?;
    let below = generation::below(&preparing).map_err(file_error(&preparing))?;
    below.iter().try_for_each(|path| give(path, dir)).map_err(file_error(&preparing))?;
    generation::sync_all_below(&preparing).map_err(file_error(&preparing))?;
    fs::rename(&preparing, dir.join(PREPARED)).and_then(|()| generation::sync_names(dir)).map_err(file_error(dir))
}

/// Finishes a restoration that is prepared in `dir`; each step may be the last before a power cut. Gives where what was there is now.
pub(super) fn finish(dir: &Path) -> io::Result<Option<PathBuf>> {
    finish_steps(dir, &mut || Ok(()))
}

/// [`finish`], with `moved` called after each step; an error of it ends the work there.
pub(super) fn finish_steps(dir: &Path, moved: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Option<PathBuf>> {
    let prepared = dir.join(PREPARED);
    if !prepared.exists() {
        return Ok(None);
    }
    let mut put = |from: &Path, to: &Path, part: &str| -> io::Result<()> {
        fs::rename(from.join(part), to.join(part))?;
        generation::sync_names(to)?;
        generation::sync_names(from)?;
        moved()
    };
    let mut aside = None;
    for part in [JOURNAL, generation::GENERATIONS] {
        // Not there: an earlier run has put it into its place.
        if !prepared.join(part).exists() {
            continue;
        }
        if dir.join(part).exists() {
            let to = match aside.take() {
                Some(to) => to,
                None => make_aside(dir)?,
            };
            put(dir, &to, part)?;
            aside = Some(to);
        }
        put(&prepared, dir, part)?;
    }
    fs::remove_dir(&prepared)?;
    generation::sync_names(dir)?;
    Ok(aside)
}

/// A new directory for what is laid aside.
fn make_aside(dir: &Path) -> io::Result<PathBuf> {
    let aside = (1u32..).map(|i| dir.join(format!("replaced-{i}"))).find(|free| !free.exists()).unwrap_or_default();
    DirBuilder::new().mode(0o700).create(&aside)?;
    Ok(aside)
}

/// To whom a file of `has` is given so that it belongs to the owner and group of the data directory, `of`; `None`: it is theirs.
pub(super) fn owner_to_give(has: (u32, u32), of: (u32, u32)) -> Option<(u32, u32)> {
    // One's own files may have any group that the directory gave them.
    (has.0 != of.0).then_some(of)
}

/// Gives `path` to the owner and group of the directory `like`.
fn give(path: &Path, like: &Path) -> io::Result<()> {
    let (has, of) = (fs::symlink_metadata(path)?, fs::metadata(like)?);
    match owner_to_give((has.uid(), has.gid()), (of.uid(), of.gid())) {
        Some((user, group)) => lchown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

fn unpack(path: &Path, header: &Header, to: &Path) -> Result<(), BackupError> {
    for part in [JOURNAL, generation::GENERATIONS] {
        let part = to.join(part);
        fs::create_dir_all(&part).map_err(file_error(&part))?;
    }
    let fail = file_error(path);
    let mut reader = BufReader::new(File::open(path).map_err(&fail)?);
    for _ in 0..2 {
        reader.read_until(b'\n', &mut Vec::new()).map_err(&fail)?;
    }
    for (name, length) in &header.files {
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(file_error(parent))?;
        }
        let mut file = File::create(&target).map_err(file_error(&target))?;
        io::copy(&mut (&mut reader).take(*length), &mut file).map_err(file_error(&target))?;
    }
    Ok(())
}

/// How many events after `n` are in the journal of `dir`, and how many of them are messages of centers and revocations.
fn later_than(dir: &Path, medium: &dyn Medium, n: u64) -> Result<(u64, u64, u64), BackupError> {
    let fail = |error| BackupError::Store(store_error(dir, error));
    let (mut lost, mut changes, mut revoked) = (0, 0, 0);
    let mut count = |frame: Frame<'_>| {
        if frame.n <= n {
            return;
        }
        lost += 1;
        match audit::decode(frame.json).map(|decoded| decoded.event.kind()) {
            Ok(EventKind::ChangesApplied) => changes += 1,
            Ok(EventKind::Revoked) => revoked += 1,
            Ok(_) | Err(_) => {}
        }
    };
    let segments = segments::list(medium).map_err(fail)?;
    segments::each_frame(medium, segments::after(&segments, n), &mut count).map_err(fail)?;
    Ok((lost, changes, revoked))
}
