//! A damaged disk: nothing panics, and nothing acknowledged is lost without a report.

use proptest::prelude::*;

use super::*;

const LAST: u64 = 70;

/// A journal of seven segments or more, two generations (at 25 and 50) and 20 events after them.
fn written() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=LAST);
    disk.image()
}

fn segment_of(disk: &MemoryDisk, n: u64) -> String {
    let names = disk.list("journal").unwrap();
    let firsts = names.iter().filter_map(|name| segment::first_of(name));
    segments::Segment::path(firsts.filter(|first| *first <= n).max().unwrap())
}

/// Where the frame of event `n` begins and ends in its segment.
fn frame_of(disk: &MemoryDisk, n: u64) -> (String, usize, usize) {
    let path = segment_of(disk, n);
    let bytes = disk.read(&path, 0, u64::MAX).unwrap();
    let step = segment::Walk::new(&bytes, segment::HEADER_BYTES)
        .find(|s| matches!(s.found, segment::Found::Frame(frame) if frame.n == n))
        .unwrap();
    (path, step.from, step.to)
}

fn truncate_before(disk: &MemoryDisk, n: u64, more: usize) {
    let (path, from, _) = frame_of(disk, n);
    disk.damage(&path, |bytes| bytes.truncate(from + more));
}

#[test]
fn a_write_cut_short_before_it_was_reported_durable_is_removed() {
    let disk = written();
    // The same bytes, with a mark that has not seen the last event.
    let mark = marks::seal(LAST - 1);
    disk.damage("journal/durable", |bytes| {
        bytes[..12].copy_from_slice(&mark);
        bytes[512..524].copy_from_slice(&mark);
    });
    truncate_before(&disk, LAST, 30);
    let recovered = open(&disk).2;
    assert_eq!((recovered.state, recovered.integrity), (log_of(1..LAST), Integrity::Complete));
    assert_eq!(recovered.next_n, LAST);
    assert!(matches!(recovered.issues[..], [RecoveryIssue::TornTail { bytes: 30, .. }]), "{:?}", recovered.issues);
}

#[test]
fn an_acknowledged_tail_that_is_gone_is_reported_at_every_start_until_a_log_gap_names_it() {
    for more in [0, 30] {
        let disk = written();
        truncate_before(&disk, LAST - 1, more);
        let damaged = Integrity::Damaged { lost_from: LAST - 1, lost_to: LAST };
        for _ in 0..2 {
            let mut opened = open(&disk);
            assert_eq!(opened.2.integrity, damaged);
            assert_eq!((&opened.2.state, opened.2.next_n), (&log_of(1..LAST - 1), LAST + 1));
            opened.0.request_generation();
            opened.3.chores();
            let reported = drain(&mut opened.1);
            assert!(
                !reported.iter().any(|e| matches!(e, StoreEvent::GenerationWritten { .. })),
                "it would hide the loss"
            );
        }
        // Other events after the loss do not heal it, ...
        let mut opened = open(&disk);
        let lost = opened.2.lost.clone();
        assert_eq!(lost, [(LAST - 1, LAST)]);
        write(&mut opened, LAST + 1..=LAST + 5);
        disk.crash(0);
        let mut opened = open(&disk);
        assert_eq!((opened.2.integrity, opened.2.next_n), (damaged, LAST + 6));
        assert_eq!(opened.2.state, log_of((1..LAST - 1).chain(LAST + 1..=LAST + 5)));
        // ... the event that names it does.
        opened.0.append(vec![gap(LAST + 6, lost[0])]);
        opened.3.flush();
        opened.0.request_generation();
        opened.3.chores();
        assert!(drain(&mut opened.1).iter().any(|e| matches!(e, StoreEvent::GenerationWritten { .. })));
        disk.crash(0);
        let recovered = open(&disk).2;
        assert_eq!((recovered.integrity, recovered.next_n), (Integrity::Complete, LAST + 7));
        let verified = verify_on(&disk).unwrap();
        assert_eq!(verified.explained, [(LAST - 1, LAST)]);
        assert_eq!(verified.broken, None, "{more}");
    }
}

#[test]
fn a_loss_is_still_found_when_the_header_that_names_it_is_damaged_too() {
    let disk = written();
    truncate_before(&disk, LAST - 1, 0);
    let mut opened = open(&disk);
    write(&mut opened, LAST + 1..=LAST + 2);
    disk.crash(0);
    disk.damage(&segments::Segment::path(LAST + 1), |bytes| bytes[20] ^= 1);
    let recovered = open(&disk).2;
    assert_eq!(recovered.integrity, Integrity::Damaged { lost_from: LAST - 1, lost_to: LAST });
    assert_eq!(recovered.state, log_of((1..LAST - 1).chain(LAST + 1..=LAST + 2)));
}

#[test]
fn a_damaged_end_that_a_generation_holds_is_kept_and_lost_to_the_audit_only() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=50);
    disk.crash(0);
    truncate_before(&disk, 50, 40);
    let path = segment_of(&disk, 50);
    let length = disk.length(&path).unwrap();
    let mut opened = open(&disk);
    assert_eq!((&opened.2.state, opened.2.integrity, opened.2.next_n), (&log_of(1..=50), Integrity::Complete, 51));
    assert!(opened.2.issues.contains(&RecoveryIssue::AuditLost { from: 50, to: 50 }), "{:?}", opened.2.issues);
    assert_eq!(disk.length(&path).unwrap(), length);
    write(&mut opened, 51..=53);
    disk.crash(0);
    assert_eq!((open(&disk).2.state, open(&disk).2.integrity), (log_of(1..=53), Integrity::Complete));
}

#[test]
fn events_after_a_bad_spot_still_count_and_the_bad_segment_is_kept() {
    let disk = written();
    let (path, from, to) = frame_of(&disk, 60);
    disk.damage(&path, |bytes| bytes[to - 5] ^= 4);
    let recovered = open(&disk).2;
    assert_eq!(recovered.integrity, Integrity::Damaged { lost_from: 60, lost_to: 60 });
    assert_eq!(recovered.state, log_of((1..=LAST).filter(|n| *n != 60)));
    let bad = RecoveryIssue::BadBytes { segment: path.clone(), from: from as u64, to: to as u64 };
    assert!(recovered.issues.contains(&bad), "{:?}", recovered.issues);
    let name = path.strip_prefix("journal/").unwrap();
    assert_eq!(disk.list("damaged").unwrap(), [name]);
    let broken = verify_on(&disk).unwrap().broken.unwrap();
    assert_eq!((broken.n, broken.file, broken.offset), (60, path, from as u64));
}

#[test]
fn a_missing_segment_is_a_loss() {
    let disk = written();
    let path = segment_of(&disk, 60);
    let first = frame_numbers(&disk, &path);
    disk.remove(&path).unwrap();
    disk.sync_dir("journal").unwrap();
    let recovered = open(&disk).2;
    let (lost_from, lost_to) = (*first.first().unwrap(), *first.last().unwrap());
    assert_eq!(recovered.integrity, Integrity::Damaged { lost_from, lost_to });
}

fn frame_numbers(disk: &MemoryDisk, path: &str) -> Vec<u64> {
    let bytes = disk.read(path, 0, u64::MAX).unwrap();
    let frames = segment::Walk::new(&bytes, segment::HEADER_BYTES).filter_map(|s| match s.found {
        segment::Found::Frame(frame) => Some(frame.n),
        segment::Found::Bad => None,
    });
    frames.collect()
}

#[test]
fn what_a_generation_holds_is_lost_to_the_audit_only_and_the_scrub_reports_it() {
    let disk = written();
    let (path, _, to) = frame_of(&disk, 10);
    disk.damage(&path, |bytes| bytes[to - 5] ^= 4);
    let (store, mut events, recovered, mut stepper) = open(&disk);
    assert_eq!((recovered.integrity, recovered.state), (Integrity::Complete, log_of(1..=LAST)));
    stepper.keeper.scrub();
    let reported = drain(&mut events);
    assert!(reported.contains(&StoreEvent::Found(RecoveryIssue::AuditLost { from: 10, to: 10 })), "{reported:?}");
    assert_eq!(numbers(&store), (1..=LAST).filter(|n| *n != 10).collect::<Vec<_>>());
}

#[test]
fn a_log_gap_explains_what_the_audit_alone_lacks_and_no_start_reports_it_again() {
    let disk = written();
    let (path, _, to) = frame_of(&disk, 10);
    disk.damage(&path, |bytes| bytes[to - 5] ^= 4);
    let cause = GapCause::AuditDamaged;
    let body = Event::LogGap { from: 10, to: 10, cause, ranges: Vec::new() };
    let mut opened = open(&disk);
    let event = AuditEvent { body, ..event(LAST + 1) };
    opened.0.append(vec![Record { event, evidence: Vec::new(), flush: Flush::Soon }]);
    opened.3.flush();
    disk.crash(0);
    let verified = verify_on(&disk).unwrap();
    assert_eq!((verified.explained, verified.broken), (vec![(10, 10)], None));
    let mut opened = open(&disk);
    assert_eq!((opened.2.integrity, &opened.2.issues), (Integrity::Complete, &vec![]));
    opened.3.keeper.scrub();
    let reported = drain(&mut opened.1);
    let is_lost = |event: &StoreEvent| matches!(event, StoreEvent::Found(RecoveryIssue::AuditLost { .. }));
    assert!(!reported.iter().any(is_lost), "{reported:?}");
    // A state that must do without the generations lacks the event all the same.
    break_generation(&disk, 25);
    break_generation(&disk, 50);
    assert_eq!(open(&disk).2.integrity, Integrity::Damaged { lost_from: 10, lost_to: 10 });
}

#[test]
fn the_scrub_does_not_report_a_loss_that_the_start_has_reported() {
    let disk = written();
    let (path, _, to) = frame_of(&disk, 60);
    disk.damage(&path, |bytes| bytes[to - 5] ^= 4);
    let mut opened = open(&disk);
    assert_eq!(opened.2.lost, [(60, 60)]);
    opened.3.keeper.scrub();
    let reported = drain(&mut opened.1);
    assert!(
        !reported.iter().any(|event| matches!(event, StoreEvent::Found(RecoveryIssue::AuditLost { .. }))),
        "{reported:?}"
    );
}

fn break_generation(disk: &MemoryDisk, position: u64) {
    let name = disk.list("generations").unwrap().into_iter().find(|n| generation::position_of(n) == Some(position));
    disk.damage(&format!("generations/{}/records", name.unwrap()), |bytes| bytes[200] ^= 1);
}

#[test]
fn a_damaged_generation_costs_nothing_but_a_longer_replay() {
    let disk = written();
    break_generation(&disk, 50);
    let recovered = open(&disk).2;
    assert_eq!(
        (&recovered.state, recovered.integrity, recovered.events_replayed),
        (&log_of(1..=LAST), Integrity::Complete, 45)
    );
    assert!(matches!(recovered.issues[..], [RecoveryIssue::GenerationSetAside { .. }]));
    assert_eq!(disk.list("damaged").unwrap().len(), 1);
    break_generation(&disk, 25);
    let recovered = open(&disk).2;
    assert_eq!(
        (recovered.state, recovered.integrity, recovered.events_replayed),
        (log_of(1..=LAST), Integrity::Complete, LAST)
    );
    assert_eq!(disk.list("damaged").unwrap().len(), 2);
}

#[test]
fn with_no_generation_and_a_journal_without_its_beginning_the_state_is_damaged() {
    let disk = written();
    break_generation(&disk, 25);
    break_generation(&disk, 50);
    let first = segment_of(&disk, 1);
    disk.remove(&first).unwrap();
    disk.sync_dir("journal").unwrap();
    let recovered = open(&disk).2;
    let Integrity::Damaged { lost_from: 1, lost_to } = recovered.integrity else { panic!("{:?}", recovered.integrity) };
    assert_eq!(recovered.state, log_of(lost_to + 1..=LAST));
}

#[test]
fn an_emptied_journal_directory_is_a_loss_and_numbers_go_on() {
    let disk = written();
    disk.remove("journal").unwrap();
    disk.sync_dir("journal").unwrap();
    let recovered = open(&disk).2;
    // Nothing but the generation names the past any more, and a revocation may have stood after it.
    assert_eq!(recovered.state, log_of(1..=50));
    assert_eq!(recovered.integrity, Integrity::Damaged { lost_from: 51, lost_to: 10_050 });
    assert_eq!(recovered.next_n, 10_051, "no number is used twice");
    assert!(recovered.issues.contains(&RecoveryIssue::AuditLost { from: 1, to: 50 }), "{:?}", recovered.issues);
    assert!(recovered.issues.contains(&RecoveryIssue::MarkUnreadable));
}

#[test]
fn an_edited_event_with_a_right_checksum_breaks_the_chain() {
    let disk = written();
    let (path, from, to) = frame_of(&disk, 60);
    disk.damage(&path, |bytes| {
        let old = bytes[from..to].to_vec();
        let segment::Found::Frame(frame) = segment::Walk::new(&old, 0).next().unwrap().found else { panic!() };
        let json = String::from_utf8(frame.json.to_vec()).unwrap().replace("\"mono_ms\":60", "\"mono_ms\":99");
        let mut new = Vec::new();
        assert!(segment::push_frame(&mut new, &segment::Frame { json: json.as_bytes(), ..frame }, false));
        bytes.splice(from..to, new);
    });
    let broken = verify_on(&disk).unwrap().broken.unwrap();
    assert_eq!((broken.n, broken.file), (61, segment_of(&disk, 61)));
    let recovered = open(&disk).2;
    assert_eq!(recovered.integrity, Integrity::Damaged { lost_from: 60, lost_to: 60 });
    assert!(recovered.issues.contains(&RecoveryIssue::ChainBroken { n: 61 }));
}

#[test]
fn a_journal_of_another_version_is_not_opened_and_not_touched() {
    let disk = written();
    let path = segment_of(&disk, 30);
    disk.damage(&path, |bytes| {
        bytes[16] += 1;
        let crc = crc32fast::hash(&bytes[..segment::HEADER_BYTES - 4]).to_le_bytes();
        bytes[segment::HEADER_BYTES - 4..segment::HEADER_BYTES].copy_from_slice(&crc);
    });
    let before = disk.files();
    let error = Store::open_in_memory::<EventLog>(&disk, small()).err().unwrap();
    let StoreError::Version { detail, .. } = error else { panic!("{error}") };
    let version = segment::VERSION;
    assert_eq!(detail, format!("`{path}` has format {}, this program reads format {version}", version + 1));
    assert_eq!(disk.files(), before);
}

/// What must hold of a start after any damage to events 1 to `LAST`, all of which were reported to be durable.
fn check(disk: &MemoryDisk) {
    let (store, _, recovered, mut stepper) = open(disk);
    let full = log_of(1..=LAST);
    for (n, kept) in &full.0 {
        let lost = recovered.lost.iter().any(|(from, to)| from <= n && n <= to);
        match recovered.state.0.get(n) {
            Some(found) => assert_eq!(found, kept),
            None => assert!(lost, "event {n} is lost without a report: {:?}", recovered.issues),
        }
    }
    assert_eq!(recovered.integrity == Integrity::Complete, recovered.lost.is_empty());
    assert!(recovered.next_n > LAST, "number {} is used twice", recovered.next_n);
    // What is not in the audit any more is reported too, at once or by the scrub.
    let read = numbers(&store);
    assert!(read.is_sorted());
    // The next start finds the same, and after a `log_gap` all is well.
    let mut next = recovered.next_n;
    store.append(vec![change(next * 3)]);
    stepper.flush();
    next = next * 3 + 1;
    disk.crash(0);
    let (store, _, again, mut stepper) = open(disk);
    assert_eq!(again.lost, recovered.lost, "{:?}", recovered.issues);
    assert_eq!(again.next_n, next);
    store.append(again.lost.iter().zip(next..).map(|(range, n)| gap(n, *range)).collect());
    stepper.flush();
    store.request_generation();
    stepper.chores();
    disk.crash(0);
    let (_, _, healed, _) = open(disk);
    assert_eq!(healed.integrity, Integrity::Complete, "{:?}", healed.issues);
    assert_eq!(healed.events_replayed, 0);
    assert!(healed.state.0.contains_key(&(next - 1)));
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(u8),
    Truncate,
    Zero(usize),
    Insert(Vec<u8>),
}

fn harms() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (0..8u8).prop_map(Harm::Flip),
        2 => Just(Harm::Truncate),
        1 => (1..600usize).prop_map(Harm::Zero),
        1 => any::<Vec<u8>>().prop_map(Harm::Insert),
    ]
}

proptest! {
    #[test]
    fn any_damage_to_a_file_loses_no_event_without_a_report(
        file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), harm in harms(),
    ) {
        thread_local!(static WRITTEN: MemoryDisk = written());
        let disk = WRITTEN.with(MemoryDisk::image);
        let files: Vec<_> = disk.files().into_iter().filter(|(name, _)| name != "reserve").collect();
        let (name, length) = files[file.index(files.len())].clone();
        let at = at.index(length);
        disk.damage(&name, |bytes| match harm {
            Harm::Flip(bit) => bytes[at] ^= 1 << bit,
            Harm::Truncate => bytes.truncate(at),
            Harm::Zero(count) => bytes.iter_mut().skip(at).take(count).for_each(|b| *b = 0),
            Harm::Insert(noise) => drop(bytes.splice(at..at, noise)),
        });
        let _ = verify_on(&disk).unwrap();
        check(&disk);
    }
}

/// The program of before: what [`EventLog`] writes is of a version that it does not know.
#[derive(Debug, Default)]
struct Earlier;

impl Fold for Earlier {
    fn apply(&mut self, _: &AuditEvent, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn export(&self) -> Result<Vec<Vec<u8>>, String> {
        Ok(Vec::new())
    }

    fn import(_: &[Vec<u8>]) -> Result<Self, String> {
        Err("it is of another version".to_owned())
    }

    fn later_version(_: &[u8]) -> Option<u8> {
        Some(99)
    }
}

#[test]
fn an_earlier_program_refuses_a_generation_of_a_later_one_and_leaves_it_for_that() {
    let disk = written();
    let before = generation::names(&disk);
    match Store::open_in_memory::<Earlier>(&disk, small()) {
        Err(StoreError::Version { detail, .. }) => assert!(detail.contains("version 99"), "{detail}"),
        other => panic!("{:?}", other.map(|opened| opened.2)),
    }
    assert_eq!(generation::names(&disk), before);
    assert_eq!(open(&disk).2.state, log_of(1..=LAST));
}
