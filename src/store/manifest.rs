//! What makes records a generation: its place in the journal and a sum over all records, checked before any is used.
//! Which generation counts, and which are kept.

use sha2::{Digest, Sha256};

use super::Fold;
use super::integrity::RecoveryIssue;
use super::medium::{Container, ContainerError, DAMAGED, Medium};
use super::replay::Place;
use crate::access::id::Timestamp;
use crate::wire::audit::Hash;

/// Where the generations are.
pub(super) const GENERATIONS: &str = "generations";
/// How the directory of an unfinished generation begins.
const UNFINISHED: &str = "building-";
/// Format of manifest and container. Another one is not read.
const FORMAT: u8 = 2;
/// Generations kept: the newest, and the one to fall back to.
const KEPT: usize = 2;

/// SHA-256 over all records in order, each with its length.
fn sum(records: &[Vec<u8>]) -> Hash {
    let mut sum = Sha256::new();
    for record in records {
        sum.update((record.len() as u64).to_le_bytes());
        sum.update(record);
    }
    sum.finalize().into()
}

/// format 1 · n 8 · hash at n 32 · trusted time at n 8 · record count 8 · sum 32.
fn encode(place: Place, records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&place.n.to_le_bytes());
    out.extend_from_slice(&place.hash);
    out.extend_from_slice(&place.trusted_at.0.to_le_bytes());
    out.extend_from_slice(&(records.len() as u64).to_le_bytes());
    out.extend_from_slice(&sum(records));
    out
}

fn decode(manifest: &[u8]) -> Option<Place> {
    let (format, rest) = manifest.split_first()?;
    let (n, rest) = rest.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let (trusted_at, _) = rest.split_first_chunk()?;
    let place =
        Place { n: u64::from_le_bytes(*n), hash: *hash, trusted_at: Timestamp(i64::from_le_bytes(*trusted_at)) };
    (*format == FORMAT).then_some(place)
}

/// The state behind a container.
fn open<F: Fold>(name: &str, container: &Container) -> Result<(F, Place), String> {
    let place = decode(&container.manifest).ok_or("its manifest is missing or of another version")?;
    if container.manifest != encode(place, &container.records) || position_of(name) != Some(place.n) {
        return Err("its records are not those of its manifest".to_owned());
    }
    let state = F::import(&container.records)?;
    Ok((state, place))
}

/// The journal position in a generation's name.
pub(super) fn position_of(name: &str) -> Option<u64> {
    let (digits, _) = name.split_once('-')?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn path(name: &str) -> String {
    format!("{GENERATIONS}/{name}")
}

/// The names of all generations, oldest first.
pub(super) fn names(medium: &dyn Medium) -> Vec<String> {
    let mut names = medium.list(GENERATIONS).unwrap_or_default();
    names.retain(|name| position_of(name).is_some());
    names
}

/// The state of the newest generation that is good, or the empty state at the start of the journal. A damaged one is moved
/// to `damaged/`.
pub(super) fn newest<F: Fold>(medium: &dyn Medium, issues: &mut Vec<RecoveryIssue>) -> (F, Place) {
    for name in names(medium).into_iter().rev() {
        let why = match medium.read_container(&path(&name)) {
            Ok(container) => match open::<F>(&name, &container) {
                Ok(found) => return found,
                Err(why) => why,
            },
            Err(ContainerError::Damaged(why)) => why,
            Err(ContainerError::Unreadable(error)) => {
                issues.push(RecoveryIssue::GenerationUnreadable { name, why: error.to_string() });
                continue;
            }
        };
        set_aside(medium, &name);
        issues.push(RecoveryIssue::GenerationSetAside { name, why });
    }
    (F::default(), Place::START)
}

fn set_aside(medium: &dyn Medium, name: &str) {
    let taken = medium.list(DAMAGED).unwrap_or_default();
    // A generation of the same position may have been set aside before; neither is deleted.
    let free = (0u32..).map(|i| format!("{name}.{i}")).find(|free| !taken.contains(free));
    let target = format!("{DAMAGED}/{}", free.unwrap_or_else(|| name.to_owned()));
    let moved = medium.rename(&path(name), &target);
    let moved = moved.and_then(|()| medium.sync_dir(GENERATIONS)).and_then(|()| medium.sync_dir(DAMAGED));
    if let Err(error) = moved {
        tracing::warn!("cannot move the damaged generation `{name}` to `damaged/`: {error}");
    }
}

/// Writes `state` as the generation at `place`, reads it back, makes it current, and returns how many records it has. After
/// an error nothing has changed.
pub(super) fn write<F: Fold>(medium: &dyn Medium, state: &F, place: Place) -> Result<u64, String> {
    let records = state.export()?;
    let manifest = encode(place, &records);
    let container = Container { records, manifest };
    let count = container.records.len() as u64;
    let name = format!("{UNFINISHED}{:020}", place.n);
    let written = build(medium, &path(&name), &path(&format!("{:020}-{FORMAT}", place.n)), &container);
    if written.is_err() {
        drop(medium.remove(&path(&name)));
    }
    written.map(|()| count)
}

fn build(medium: &dyn Medium, new: &str, current: &str, container: &Container) -> Result<(), String> {
    let disk = |error: std::io::Error| error.to_string();
    medium.remove(new).map_err(disk)?;
    medium.write_container(new, container).map_err(disk)?;
    match medium.read_container(new) {
        Ok(read) if read == *container => {}
        Ok(_) => return Err("it does not read back as it was written".to_owned()),
        Err(ContainerError::Damaged(why)) => return Err(why),
        Err(ContainerError::Unreadable(error)) => return Err(disk(error)),
    }
    medium.rename(new, current).map_err(disk)?;
    medium.sync_dir(GENERATIONS).map_err(disk)
}

/// Removes all but the newest generations and what was never finished.
pub(super) fn prune(medium: &dyn Medium) {
    let names = names(medium);
    let old = names.iter().take(names.len().saturating_sub(KEPT)).cloned();
    let unfinished = medium.list(GENERATIONS).unwrap_or_default().into_iter().filter(|n| n.starts_with(UNFINISHED));
    for name in old.chain(unfinished) {
        if let Err(error) = medium.remove(&path(&name)) {
            tracing::warn!("cannot remove the old generation `{name}`: {error}");
        }
    }
}

/// The journal is needed from here on: the older kept generation's position; `None`: from its start.
pub(super) fn needed_after(medium: &dyn Medium) -> Option<u64> {
    let names = names(medium);
    let older = names.len().checked_sub(KEPT)?;
    names.get(older).and_then(|name| position_of(name))
}
