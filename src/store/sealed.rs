//! A store that is encrypted at rest (`[store] encrypt = true`): a medium over a medium, which encrypts what holds persons' data, the
//! events with their evidence and the records of generations, and nothing of the rules above it changes.
//!
//! ChaCha20-Poly1305 under one key of the site, a random nonce for each event and record. The number of an event and the lengths are
//! in clear and authenticated; so the journal is still repaired, cut and copied without the key. A frame has the same length on the
//! disk and in memory: what is read has the room of nonce and tag, see [`segment`].
//!
//! Why encryption and no hashes of UIDs in the list: the journal keeps the centers' signed messages, which have the UIDs in clear and
//! from which the list is replayed; the digest of a stream is made of UIDs; a lossy reader is matched with UIDs; and a hash still
//! leaves holders and rooms to whoever steals the box. Encrypted, all of it is hidden, and a decision costs nothing more.

use std::fmt;
use std::io;
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use super::medium::{Container, ContainerError, JOURNAL, Medium, SEALED_MANIFEST};
use super::segment::{self, NONCE_BYTES, TAG_BYTES};
use super::segments::{self, Segment};

/// Segments tried with the key at the start.
const SEGMENTS_TRIED: usize = 3;

/// The key of a store. Never printed.
#[derive(Clone)]
pub struct StoreKey(Arc<LessSafeKey>);

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(…)")
    }
}

impl StoreKey {
    /// The key made of this secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let mut sum = Sha256::new_with_prefix(b"dormgate store key 1\n");
        sum.update(secret);
        let key: [u8; 32] = sum.finalize().into();
        Some(Self(Arc::new(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?))))
    }

    /// Encrypts `text` in place; gives nonce and tag.
    fn seal(&self, about: &[u8], text: &mut [u8]) -> io::Result<([u8; NONCE_BYTES], [u8; TAG_BYTES])> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let sealed = self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), text);
        let tag = sealed.map_err(|_| io::Error::other("it is too long to be encrypted"))?;
        let mut bytes = [0; TAG_BYTES];
        bytes.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Ok((nonce, bytes))
    }

    /// Decrypts `text`, which is followed by its tag, in place. `false`: it is not what this key encrypted.
    fn open(&self, about: &[u8], nonce: [u8; NONCE_BYTES], text: &mut [u8]) -> bool {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(about), text).is_ok()
    }

    /// Encrypts the body of a frame that has room for it.
    fn seal_body(&self, body: &mut [u8]) -> io::Result<()> {
        let parts = segment::sealed_parts(body).ok_or_else(|| io::Error::other("a frame has no room"))?;
        let (nonce, tag) = self.seal(parts.about, parts.text)?;
        *parts.nonce = nonce;
        *parts.tag = tag;
        *parts.version = segment::SEALED;
        Ok(())
    }

    /// Decrypts the body of a frame. `false`: it is not what this key encrypted.
    fn open_body(&self, body: &mut [u8]) -> bool {
        let Some(parts) = segment::sealed_parts(body) else { return false };
        let nonce = *parts.nonce;
        let mut text = [&*parts.text, &*parts.tag].concat();
        if !self.open(parts.about, nonce, &mut text) {
            return false;
        }
        parts.text.iter_mut().zip(&text).for_each(|(to, from)| *to = *from);
        *parts.version = segment::OPENED;
        true
    }

    fn seal_record(&self, place: usize, record: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = record.to_vec();
        let (nonce, tag) = self.seal(&(place as u64).to_le_bytes(), &mut text)?;
        Ok([nonce.as_slice(), &text, &tag].concat())
    }

    fn open_record(&self, place: usize, record: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = record.split_first_chunk()?;
        let mut text = text.to_vec();
        let is_ours = self.open(&(place as u64).to_le_bytes(), *nonce, &mut text);
        text.truncate(text.len().saturating_sub(TAG_BYTES));
        is_ours.then_some(text)
    }
}

/// An encrypted medium.
pub(super) struct Sealed {
    inner: Arc<dyn Medium>,
    key: StoreKey,
}

/// `medium`, encrypted if there is a key.
///
/// # Errors
/// `InvalidInput`: what is there was encrypted with another key. The error of the disk.
pub(super) fn over(medium: Arc<dyn Medium>, key: Option<&StoreKey>) -> io::Result<Arc<dyn Medium>> {
    let Some(key) = key else { return Ok(medium) };
    let sealed = Sealed { inner: medium, key: key.clone() };
    sealed.try_key()?;
    Ok(Arc::new(sealed))
}

fn is_segment(path: &str) -> bool {
    let name = path.strip_prefix(JOURNAL).and_then(|name| name.strip_prefix('/'));
    name.is_some_and(|name| segment::first_of(name.strip_suffix(".new").unwrap_or(name)).is_some())
}

impl Sealed {
    /// Tries the key at the newest segments. Nothing has been changed yet, so a wrong key costs nothing.
    fn try_key(&self) -> io::Result<()> {
        self.inner.list(JOURNAL)?;
        for first_n in segments::names(&*self.inner).into_iter().rev().take(SEGMENTS_TRIED) {
            let path = Segment::path(first_n);
            let read = self.inner.read(&path, 0, u64::MAX);
            let mut bytes = read.map_err(|error| super::in_file(&path, &error))?;
            let (mut fits, mut tried) = (false, false);
            segment::change_bodies(&mut bytes, &mut |body| {
                if body.first() != Some(&segment::SEALED) || fits {
                    return false;
                }
                (fits, tried) = (self.key.open_body(body), true);
                fits
            });
            if fits {
                return Ok(());
            }
            if tried {
                let why = "it was encrypted with another key; put the right one into `store.key_file`: without it nothing here can be read";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        Ok(())
    }
}

impl Medium for Sealed {
    fn seals(&self) -> bool {
        true
    }

    fn read(&self, path: &str, from: u64, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = self.inner.read(path, from, max)?;
        if is_segment(path) {
            let open = |body: &mut [u8]| body.first() == Some(&segment::SEALED) && self.key.open_body(body);
            segment::change_bodies(&mut bytes, &mut { open });
        }
        Ok(bytes)
    }

    fn write_at(&self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        if !is_segment(path) {
            return self.inner.write_at(path, at, bytes);
        }
        let (mut bytes, mut failed) = (bytes.to_vec(), None);
        segment::change_bodies(&mut bytes, &mut |body| {
            if body.first() != Some(&segment::OPENED) {
                return false;
            }
            self.key.seal_body(body).map_err(|error| failed.get_or_insert(error).kind()).is_ok()
        });
        match failed {
            // Nothing is written in clear.
            Some(error) => Err(error),
            None => self.inner.write_at(path, at, &bytes),
        }
    }

    fn write_container(&self, dir: &str, container: &Container) -> io::Result<()> {
        let seal = |(place, record): (usize, &Vec<u8>)| self.key.seal_record(place, record);
        let records = container.records.iter().enumerate().map(seal).collect::<io::Result<_>>()?;
        let manifest = [&[SEALED_MANIFEST], container.manifest.as_slice()].concat();
        self.inner.write_container(dir, &Container { records, manifest, opened: false })
    }

    fn read_container(&self, dir: &str) -> Result<Container, ContainerError> {
        let container = self.inner.read_container(dir)?;
        let Some(manifest) = container.manifest.strip_prefix(&[SEALED_MANIFEST]) else { return Ok(container) };
        let open = |(place, record): (usize, &Vec<u8>)| self.key.open_record(place, record);
        match container.records.iter().enumerate().map(open).collect() {
            Some(records) => Ok(Container { records, manifest: manifest.to_vec(), opened: true }),
            // Perhaps another key opens it: it stays where it is.
            None => Err(ContainerError::Unreadable(io::Error::other("this key does not decrypt it"))),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn has_container(&self, dir: &str) -> bool {
        self.inner.has_container(dir)
    }

    fn is_special(&self, path: &str) -> bool {
        self.inner.is_special(path)
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        self.inner.length(path)
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        self.inner.truncate(path, length)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        self.inner.sync(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn keep(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.keep(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(secret: &str) -> StoreKey {
        StoreKey::new(secret.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_is_opened_with_its_key_in_its_place_and_unchanged_only() {
        let (own, record) = (key("one"), b"a record with a holder".as_slice());
        let sealed = own.seal_record(3, record).unwrap();
        assert!(!sealed.windows(4).any(|part| record.windows(4).any(|text| text == part)));
        assert_eq!(own.open_record(3, &sealed).as_deref(), Some(record));
        assert_eq!((own.open_record(2, &sealed), key("two").open_record(3, &sealed)), (None, None));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(own.open_record(3, &changed), None, "byte {at}");
        }
    }

    #[test]
    fn an_event_is_opened_under_its_own_number_and_length_only() {
        let (own, mut bytes) = (key("one"), Vec::new());
        assert!(segment::push_frame(&mut bytes, &segment::Frame { n: 7, json: b"{}", evidence: b"signed" }, true));
        segment::change_bodies(&mut bytes, &mut |body| own.seal_body(body).is_ok());
        let opens = |changed: Option<usize>| {
            let mut opened = false;
            segment::change_bodies(&mut bytes.clone(), &mut |body| {
                changed.into_iter().for_each(|at| body[at] ^= 1);
                opened = own.open_body(body);
                opened
            });
            opened
        };
        // The version, then number and length in clear.
        assert_eq!((opens(None), (1..13).filter(|at| opens(Some(*at))).collect::<Vec<_>>()), (true, Vec::new()));
    }

    #[test]
    fn no_nonce_is_used_twice_also_where_the_same_is_written_again() {
        let own = key("one");
        let nonce = |place: usize| own.seal_record(place, b"again").unwrap()[..NONCE_BYTES].to_vec();
        let nonces: BTreeSet<_> = (0..500).map(|n| nonce(n % 5)).collect();
        assert_eq!(nonces.len(), 500);
    }
}
