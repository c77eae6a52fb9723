//! The bytes of a journal segment: a header, then frames. Pure: bytes in, frames out, nothing panics on any bytes.
//!
//! No files and no meaning of events here. Numbers are little-endian.
//!
//! ```text
//! header: magic 16 · version 1 · first n 8 · lost_to 8 · trusted time 8 · prev 32 · CRC-32 of all that 4
//! frame:  mark 4 · body length 4 · CRC-32 of length and body 4 · body
//! body:   version 1 · n 8 · JSON length 4 · JSON · evidence
//!         version 1 · n 8 · JSON length 4 · nonce 12 · JSON · evidence · tag 16
//! ```
//! A body of the second kind is encrypted on the disk; in memory it is open, and the room of nonce and tag stays.

use crate::access::id::Timestamp;
use crate::wire::audit::Hash;

/// First bytes of every segment.
const MAGIC: &[u8; 16] = b"dormgate journal";
/// Version of header, frames and the events in them. A journal of another version is not opened.
pub const VERSION: u8 = 3;
/// The same for a segment whose frames are encrypted.
pub const SEALED: u8 = 0x83;
/// Version of a frame that is encrypted on the disk, as it is in memory.
pub const OPENED: u8 = 0x93;
/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 16 + 1 + 8 + 8 + 8 + 32 + 4;
/// First bytes of every frame: after damage the next frame is looked for by them. No UTF-8 text contains 0xF5 or 0xFF, so
/// no signed message kept as evidence can pretend to be a frame.
const MARK: [u8; 4] = [0xF5, 0xD0, 0x4A, 0xFF];
/// Bytes of a frame before its body.
const FRAME_HEAD_BYTES: usize = 4 + 4 + 4;
/// Bytes of a body before its JSON.
const BODY_HEAD_BYTES: usize = 1 + 8 + 4;
/// Length of a nonce in bytes.
pub const NONCE_BYTES: usize = 12;
/// Length of a tag in bytes.
pub const TAG_BYTES: usize = 16;
pub use crate::access::event::EVENT_MAX;
/// No file beside the journal names a higher number: the numbers above it are for what is written after a restoration or a loss.
pub const NAMED_MAX: u64 = EVENT_MAX / 2;
/// No segment is longer, in bytes: one is full at 8 MiB, and what is written at once then is at most one longest body and what waited
/// with it.
pub const SEGMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Longest body in bytes: a whole snapshot is one event, and 64 MiB is far above a campus.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the first event.
    pub first_n: u64,
    /// When this segment was begun, the events from the last readable one up to this were lost by damage; 0: none.
    pub lost_to: u64,
    /// The latest trusted time up to the first event, for retention.
    pub trusted_at: Timestamp,
    /// Hash of the event before the first.
    pub prev: Hash,
    /// Its frames are encrypted.
    pub sealed: bool,
}

/// Takes numbers and bytes off the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(front)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| *byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.push(if self.sealed { SEALED } else { VERSION });
        out.extend_from_slice(&self.first_n.to_le_bytes());
        out.extend_from_slice(&self.lost_to.to_le_bytes());
        out.extend_from_slice(&self.trusted_at.0.to_le_bytes());
        out.extend_from_slice(&self.prev);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the front of `segment`; `None` if it is short, damaged or of another version.
    #[must_use]
    pub fn decode(segment: &[u8]) -> Option<Self> {
        let (head, crc) = segment.get(..HEADER_BYTES)?.split_last_chunk::<4>()?;
        if crc32fast::hash(head) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut bytes = Bytes(head);
        let (magic, version) = (bytes.array::<16>()?, bytes.u8()?);
        if magic != MAGIC || !matches!(version, VERSION | SEALED) {
            return None;
        }
        let (first_n, lost_to) = (bytes.u64()?, bytes.u64()?);
        let trusted_at = Timestamp(i64::from_le_bytes(*bytes.array()?));
        let header = Self { first_n, lost_to, trusted_at, prev: *bytes.array()?, sealed: version == SEALED };
        (first_n <= EVENT_MAX && lost_to <= EVENT_MAX).then_some(header)
    }
}

/// The version of a segment of another version; `None` for one of this version, and for what is no header of any.
#[must_use]
pub fn other_version(segment: &[u8]) -> Option<u8> {
    let (head, crc) = segment.get(..HEADER_BYTES)?.split_last_chunk::<4>()?;
    let version = *head.strip_prefix(MAGIC)?.first()?;
    (crc32fast::hash(head) == u32::from_le_bytes(*crc) && !matches!(version, VERSION | SEALED)).then_some(version)
}

/// One record as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Number of the event.
    pub n: u64,
    /// The event's bytes.
    pub json: &'a [u8],
    /// What proves it; may be empty.
    pub evidence: &'a [u8],
}

/// Appends a frame to `out`, with room to be encrypted if it is to be `sealed`. `false`: it would be longer than [`BODY_BYTES_MAX`], and nothing is appended.
#[must_use]
pub fn push_frame(out: &mut Vec<u8>, frame: &Frame<'_>, sealed: bool) -> bool {
    let (version, nonce, tag): (u8, &[u8], &[u8]) =
        if sealed { (OPENED, &[0; NONCE_BYTES], &[0; TAG_BYTES]) } else { (VERSION, &[], &[]) };
    let length = BODY_HEAD_BYTES + nonce.len() + frame.json.len() + frame.evidence.len() + tag.len();
    let (Ok(body), Ok(json)) = (u32::try_from(length), u32::try_from(frame.json.len())) else { return false };
    if length > BODY_BYTES_MAX {
        return false;
    }
    let mut crc = crc32fast::Hasher::new();
    let n = frame.n.to_le_bytes();
    let parts: [&[u8]; 8] =
        [&body.to_le_bytes(), &[version], &n, &json.to_le_bytes(), nonce, frame.json, frame.evidence, tag];
    parts.iter().for_each(|part| crc.update(part));
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&body.to_le_bytes());
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    parts.iter().skip(1).for_each(|part| out.extend_from_slice(part));
    true
}

/// The body of the frame at the front of `bytes`, if its checksum is right.
fn body_at(bytes: &[u8]) -> Option<&[u8]> {
    let mut head = Bytes(bytes);
    if head.array::<4>()? != &MARK {
        return None;
    }
    let length_bytes = head.array::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length_bytes)).ok()?;
    let crc = head.u32()?;
    if length > BODY_BYTES_MAX {
        return None;
    }
    let body = head.take(length)?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(length_bytes);
    sum.update(body);
    (sum.finalize() == crc).then_some(body)
}

/// What stands at the front of `bytes`: a frame, its whole length, and whether it is encrypted on the disk.
fn frame_at(bytes: &[u8]) -> Option<(Frame<'_>, usize, bool)> {
    let whole = body_at(bytes)?;
    let mut body = Bytes(whole);
    let version = body.u8()?;
    let n = body.u64().filter(|n| *n <= EVENT_MAX)?;
    let json_length = usize::try_from(body.u32()?).ok()?;
    let tag = match version {
        VERSION => 0,
        OPENED => body.array::<NONCE_BYTES>().map(|_| TAG_BYTES)?,
        _ => return None,
    };
    let json = body.take(json_length)?;
    let evidence = body.take(body.0.len().checked_sub(tag)?)?;
    Some((Frame { n, json, evidence }, FRAME_HEAD_BYTES + whole.len(), version == OPENED))
}

/// The parts of a body that is encrypted, or has room for it.
pub(super) struct SealedParts<'a> {
    pub version: &'a mut u8,
    /// Number and JSON length: in clear, and not to be changed.
    pub about: &'a [u8],
    pub nonce: &'a mut [u8; NONCE_BYTES],
    /// JSON and evidence.
    pub text: &'a mut [u8],
    pub tag: &'a mut [u8; TAG_BYTES],
}

/// Takes the body of an encrypted frame apart; `None`: it is too short for one.
pub(super) fn sealed_parts(body: &mut [u8]) -> Option<SealedParts<'_>> {
    let (version, rest) = body.split_first_mut()?;
    let (about, rest) = rest.split_at_mut_checked(BODY_HEAD_BYTES - 1)?;
    let (nonce, rest) = rest.split_first_chunk_mut()?;
    let (text, tag) = rest.split_last_chunk_mut()?;
    Some(SealedParts { version, about, nonce, text, tag })
}

/// Calls `change` with the body of each frame whose checksum is right, whatever its version; sets the checksum again where it returns
/// `true`.
pub(super) fn change_bodies(bytes: &mut [u8], change: &mut dyn FnMut(&mut [u8]) -> bool) {
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let Some(length) = body_at(rest).map(<[u8]>::len) else {
            // The next mark; most bytes are none.
            let next = rest.iter().skip(1).position(|byte| *byte == MARK[0]);
            at += next.map_or(rest.len(), |skipped| skipped + 1);
            continue;
        };
        let Some((head, body)) = rest.split_at_mut_checked(FRAME_HEAD_BYTES) else { return };
        let Some(body) = body.get_mut(..length) else { return };
        if change(body) {
            let Some((_, rest)) = head.split_first_chunk::<4>() else { return };
            let Some(length_bytes) = rest.first_chunk::<4>() else { return };
            let mut sum = crc32fast::Hasher::new();
            sum.update(length_bytes);
            sum.update(body);
            let crc = sum.finalize().to_le_bytes();
            head.iter_mut().skip(8).zip(crc).for_each(|(to, from)| *to = from);
        }
        at += FRAME_HEAD_BYTES + length;
    }
}

/// What is found on a walk through the frames of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A frame whose checksum is right.
    Frame(Frame<'a>),
    /// Bytes that are none, up to the next good frame or the end.
    Bad,
}

/// One step of a walk: what, from where to where in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// First byte.
    pub from: usize,
    /// First byte after it.
    pub to: usize,
    /// What lies there.
    pub found: Found<'a>,
    /// It is a frame that is encrypted on the disk.
    pub opened: bool,
}

/// A walk through frames; after bad bytes it goes on at the next frame whose checksum is right.
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// The walk through `bytes`, whose first frame is at `at`.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let from = self.at;
        let rest = self.bytes.get(from..).filter(|rest| !rest.is_empty())?;
        if let Some((frame, length, opened)) = frame_at(rest) {
            self.at = from + length;
            return Some(Step { from, to: self.at, found: Found::Frame(frame), opened });
        }
        let next = (1..rest.len()).find(|skip| rest.get(*skip..).is_some_and(|tail| frame_at(tail).is_some()));
        self.at = from + next.unwrap_or(rest.len());
        Some(Step { from, to: self.at, found: Found::Bad, opened: false })
    }
}

/// The file name of the segment whose first event is `first_n`; names sort as numbers do.
#[must_use]
pub fn file_name(first_n: u64) -> String {
    format!("{first_n:020}.seg")
}

/// The number in a name, which is one of an event.
pub(super) fn number(digits: &str) -> Option<u64> {
    let is_number = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|n| is_number && *n <= EVENT_MAX)
}

/// The first event of the segment with this file name; `None` if it is no segment's.
#[must_use]
pub fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(".seg").and_then(number)
}

/// Whether the name has the form of a segment's, whatever its number is.
pub(super) fn looks_like(name: &str) -> bool {
    name.strip_suffix(".seg").is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn three() -> Vec<u8> {
        let header = Header { first_n: 7, lost_to: 0, trusted_at: Timestamp(5), prev: [9; 32], sealed: false };
        let mut bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Some(header));
        for n in 7..10 {
            assert!(push_frame(&mut bytes, &Frame { n, json: b"{}", evidence: &b"evidence"[..4] }, false));
        }
        bytes
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        let frames = Walk::new(bytes, HEADER_BYTES).filter_map(|s| match s.found {
            Found::Frame(frame) => Some(frame.n),
            Found::Bad => None,
        });
        frames.collect()
    }

    #[test]
    fn a_segments_name_gives_its_first_event() {
        assert_eq!(first_of(&file_name(88001)), Some(88001));
        assert_eq!(first_of("durable"), None);
        assert_eq!(first_of("+0000000000000000001.seg"), None);
    }

    proptest! {
        #[test]
        fn one_flipped_byte_costs_at_most_one_frame(at in HEADER_BYTES..150usize, bit in 0..8u8) {
            let mut bytes = three();
            prop_assume!(at < bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(numbers(&bytes).len(), 2);
        }

        #[test]
        fn a_walk_over_any_bytes_ends_and_covers_each_byte_once(noise in any::<Vec<u8>>(), cut in 0..200usize) {
            let mut bytes = three();
            bytes.truncate(cut);
            bytes.extend_from_slice(&noise);
            prop_assert_eq!(Header::decode(&noise), None);
            let mut at = HEADER_BYTES.min(bytes.len());
            for step in Walk::new(&bytes, at) {
                prop_assert_eq!(step.from, at);
                prop_assert!(step.to > at);
                at = step.to;
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
