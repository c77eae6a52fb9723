//! A gateway is upgraded at a cut of the power: its disk is made one that an earlier program has left.
//!
//! Of what a gateway writes, the programs since record version 5 differ in two things: which entries a generation has, and that a boot
//! event names the owners of registers since version 11. So every generation is rewritten with the entries of the earlier version, and
//! the newest one stands after the last start: no start reads what an earlier program would have written otherwise.

use dormgate::store::{Fault, MemoryDisk};
use sha2::{Digest, Sha256};

use crate::dice::Dice;
use crate::life::Life;

/// A record version, and how many kinds of entry it has. The order of the kinds is part of the format.
const VERSIONS: [(u8, u8); 6] = [(5, 11), (6, 13), (7, 14), (8, 15), (9, 16), (10, 17)];

/// What a manifest holds before the number of records and their sum: format 1 · n 8 · hash 32 · trusted time 8.
const PLACE_BYTES: usize = 49;

impl Life {
    /// The power goes, and what starts afterwards is a later program.
    pub fn upgrade(&mut self, place: usize, dice: &mut Dice) {
        let began = self.sites[place].run.began;
        if newest(&self.sites[place].disk) < began {
            self.sites[place].disk.set_fault(Fault::None);
            self.write(place);
            let site = &mut self.sites[place];
            site.run.store.request_generation();
            site.run.chores();
        }
        self.broker.disconnect(&self.sites[place].id);
        let site = &mut self.sites[place];
        site.disk.crash(dice.below(2_000));
        if newest(&site.disk) >= began {
            let (version, kinds) = dice.pick(&VERSIONS);
            let rewritten = generations(&site.disk);
            rewritten.iter().for_each(|path| site.disk.damage(path, |bytes| as_written_by(bytes, version, kinds)));
            let text = format!("{} has {} generations of version {version}", site.id, rewritten.len());
            self.note(text);
        }
        self.start(place);
    }
}

/// The files of the finished generations, the oldest first.
fn generations(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.files().into_iter().map(|(name, _)| name);
    names.filter(|name| position(name).is_some()).collect()
}

fn position(name: &str) -> Option<u64> {
    let (digits, _) = name.strip_prefix("generations/")?.split_once('-')?;
    digits.parse().ok()
}

/// The last event in the newest generation; 0 before the first one.
fn newest(disk: &MemoryDisk) -> u64 {
    generations(disk).iter().filter_map(|name| position(name)).max().unwrap_or(0)
}

/// Rewrites a generation of a simulated disk: a seal, and the manifest and each record with their lengths.
fn as_written_by(bytes: &mut Vec<u8>, version: u8, kinds: u8) {
    let mut parts = Vec::new();
    let mut rest = &bytes[32..];
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let (part, after) = after.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
        parts.push(part.to_vec());
        rest = after;
    }
    let mut manifest = parts.remove(0);
    // A record is its version, its kind and the entry.
    parts.retain(|record| record[1] < kinds);
    parts.iter_mut().for_each(|record| record[0] = version);
    let with_length = |part: &Vec<u8>| [&(part.len() as u64).to_le_bytes(), part.as_slice()].concat();
    let records: Vec<u8> = parts.iter().flat_map(with_length).collect();
    manifest.truncate(PLACE_BYTES);
    manifest.extend((parts.len() as u64).to_le_bytes());
    manifest.extend(Sha256::digest(&records));
    let content = [with_length(&manifest), records].concat();
    *bytes = [Sha256::digest(&content).to_vec(), content].concat();
}
