//! Sheets as offices send them: what is read, and what is refused with its line, its column and what to do.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::access::credential::{CardMark, ZoneSet};

fn reading() -> Reading {
    Reading { timezone: TimeZone::get("Asia/Shanghai").unwrap(), ignored: vec!["姓名".to_owned()] }
}

fn read_text(text: &str) -> Result<Sheet, Faults> {
    read(text.as_bytes(), &reading())
}

/// Each fault as `line/column: what`.
fn faults(text: &str) -> Vec<String> {
    let faults = read_text(text).unwrap_err();
    faults.listed.iter().map(ToString::to_string).collect()
}

fn entitlement(text: &str) -> Entitlement {
    cell::entitlement(text).unwrap()
}

#[test]
fn a_sheet_with_every_column_is_read() {
    let text = "uid,holder,role,marks,gate,door,power_box,entitlements,not_before,not_after,姓名\n\
                1ea68671,08193021,staff,duress 第二凭证,* east:term,412,412,door:411 power_box:411:night,2026-09-01,2027/7/1 12:30,Li\n\n\
                04:A1:B2:C3:D4:E5:F6,h-2,,,-,,,,2026-09-01T08:00:00Z,,\n,,,,,,,,,,\n";
    let sheet = read_text(text).unwrap();
    assert_eq!(sheet.encoding, Encoding::Utf8);
    let first = &sheet.enrolments[&"1EA68671".parse().unwrap()];
    assert_eq!((first.holder.as_str(), first.role), ("08193021", Role::Staff));
    assert_eq!(first.marks, CardMark::Duress | CardMark::SecondToken);
    let expected = ["gate:*", "gate:east:term", "door:411", "door:412", "power_box:411:night", "power_box:412"];
    let mut expected = expected.map(entitlement).to_vec();
    expected.sort();
    assert_eq!(first.entitlements, expected);
    let time = |at: Option<Timestamp>| at.unwrap().to_string();
    assert_eq!(time(first.not_before), "2026-08-31T16:00:00.000Z");
    assert_eq!(time(first.not_after), "2027-07-01T04:30:00.000Z");
    let second = &sheet.enrolments[&"04A1B2C3D4E5F6".parse().unwrap()];
    assert_eq!((second.role, second.entitlements.as_slice(), second.not_after), (Role::Resident, &[][..], None));
    assert_eq!(time(second.not_before), "2026-09-01T08:00:00.000Z");
}

const CHINESE: &str = "物理卡号,学号,姓名,身份,闸机,房间,取电,生效日期,失效日期\r\n1EA68671,202608193021,李雷,学生,*,412,412,2026年9月1日,2027-07-01\r\n";

#[test]
fn chinese_names_are_read_from_utf_8_with_and_without_a_mark_and_from_gb18030() {
    let plain = read_text(CHINESE).unwrap();
    assert_eq!(plain.encoding, Encoding::Utf8);
    assert_eq!(plain.enrolments.len(), 1);
    let marked = read(&[b"\xEF\xBB\xBF", CHINESE.as_bytes()].concat(), &reading()).unwrap();
    assert_eq!(marked, plain);
    let gb = read(&encoding_rs::GB18030.encode(CHINESE).0, &reading()).unwrap();
    assert_eq!((gb.encoding, gb.enrolments), (Encoding::Gb18030, plain.enrolments));
}

#[test]
fn semicolons_and_tabs_separate_cells_too() {
    for separator in [";", "\t"] {
        let text = "uid,holder,gate\n1EA68671,h1,*\n".replace(',', separator);
        assert_eq!(read_text(&text).unwrap().enrolments.len(), 1);
    }
}

#[test]
fn what_a_spreadsheet_puts_around_a_list_is_passed_over() {
    let separator_named = read_text("sep=;\r\nuid;holder;gate\r\n1EA68671;h1;*\r\n").unwrap();
    assert_eq!(separator_named.enrolments.len(), 1);
    assert_eq!(faults("\"sep=|\"\nuid|holder|gate\n1EA6867|h1|*\n")[0].split(',').next(), Some("line 3"));
    let columns_without_name = "uid,holder,gate,,\n1EA68671,h1,*,,\n04A1B2C3D4E5F6,h2,*\n";
    assert_eq!(read_text(columns_without_name).unwrap().enrolments.len(), 2);
    assert!(!faults("uid,holder,gate,\n1EA68671,h1,*,note\n").is_empty(), "what stands there would be lost");
}

#[test]
fn a_word_for_yes_or_no_is_no_zone() {
    for word in ["TRUE", "false", "yes", "No", "all", "any", "none"] {
        let found = faults(&format!("uid,holder,gate\n1EA68671,h1,{word}\n"));
        assert!(found[0].contains("`*` opens all") && found[0].contains("`-` none"), "{found:?}");
    }
}

#[test]
fn what_a_spreadsheet_did_to_a_cell_is_named_with_line_column_and_remedy() {
    // Column, cell, part of the fault.
    let table = [
        ("uid", "1.23E+09", "a spreadsheet makes of a long number"),
        ("uid", "1E+13", "the last digits are lost"),
        ("uid", "1EA6867", "has 7 digits"),
        ("uid", "4A1B2C3D4E5F6", "has removed a leading zero: format the column as Text"),
        ("uid", "1EA686712", "has 9 digits"),
        ("uid", "0514229873", "as a decimal number it is the UID `1EA68671`"),
        ("uid", "202608193021", "read the card"),
        ("uid", "12345678.0", "makes of the text `12345678`"),
        ("uid", "１ＥＡ68671", "full-width character `１`; write `1EA68671`"),
        ("uid", "1EA\u{A0}68671", "U+00A0; delete the cell"),
        ("uid", "'1EA68671", "leave out `=`, `'`"),
        ("uid", "\"=\"\"1EA68671\"\"\"", "leave out `=`, `'`"),
        ("uid", "#N/A", "repair the sheet"),
        ("uid", "########", "repair the sheet"),
        ("uid", "", "is empty; fill it in"),
        ("uid", "1EA6867G", "written in hex"),
        ("uid", "00000000", "all 00 or all FF"),
        ("uid", "08A1B2C3", "random UID"),
        ("uid", "8804A1B2", "cut a longer UID off"),
        ("holder", "2.02608E+11", "format the column as Text"),
        ("holder", "202608193021.0", "makes of the text `202608193021`"),
        ("holder", "李雷", "an identifier is 1 to 64 of"),
        ("holder", "０８193021", "write `08193021`"),
        ("holder", "", "is empty"),
        ("marks", "slow", "write some of second_token, extended_hold, duress, or 第二凭证"),
        ("role", "guest", "write one of resident, staff, visitor"),
        ("role", "校长", "write one of resident, staff, visitor"),
        ("gate", "4月12日", "a room like `4-12`"),
        ("gate", "12-Apr", "a room like `4-12`"),
        ("gate", "east west！", "full-width character `！`"),
        ("gate", "412.0", "makes of the text `412`"),
        ("gate", "east:", "an identifier is 1 to 64 of"),
        ("entitlements", "window:412", "`window` is no kind of portal; write one of gate, door, power_box"),
        ("entitlements", "412", "write KIND:ZONE"),
        ("entitlements", "door:4+2", "or `*` for any"),
        ("not_before", "46266", "a spreadsheet's number for 2026-09-01"),
        ("not_before", "46266.333", "a spreadsheet's number for 2026-09-01"),
        ("not_before", "9/1/2026", "is not a time; write `2026-09-01`"),
        ("not_before", "2026-13-01", "is not a time"),
        ("not_before", "2026-09-01 25:00", "is not a time"),
        ("not_before", "2026-09-01 08:00:00:00", "is not a time"),
        ("not_before", "26-09-01", "is not a time"),
        ("not_before", "1999-09-01", "before 2000-01-01"),
        ("not_after", "2026-08-01", "is not after the time it begins"),
        ("not_after", "2026-09-01", "is not after the time it begins"),
        ("not_after", "######", "repair the sheet"),
    ];
    let columns = ["uid", "holder", "role", "marks", "gate", "entitlements", "not_before", "not_after"];
    for (column, damaged, part) in table {
        let good = ["1EA68671", "08193021", "staff", "duress", "*", "door:412", "2026-09-01", "2027-07-01"];
        let cell =
            |(name, good): (&&str, &'static str)| if *name == column { damaged.to_owned() } else { good.to_owned() };
        let row: Vec<String> = columns.iter().zip(good).map(cell).collect();
        let text = format!("{}\n1EA68672,h2,,,*,,,\n{}\n", columns.join(","), row.join(","));
        let faults = faults(&text);
        assert_eq!(faults.len(), 1, "{damaged}: {faults:?}");
        assert!(faults[0].starts_with(&format!("line 3, column `{column}`: ")), "{damaged}: {faults:?}");
        assert!(faults[0].contains(part), "{damaged}: {faults:?}");
    }
}

#[test]
fn what_is_wrong_with_the_first_line_hides_nothing_of_the_rows_below() {
    let text = "uid,holder,gate,floor\n1EA6867G,h1,*,4\n1EA68671,李雷,*,4\n";
    let [first, second, third] = &faults(text)[..] else { panic!("{:?}", faults(text)) };
    assert!(first.starts_with("line 1, column `floor`: no column has this name"), "{first}");
    assert!(second.starts_with("line 2, column `uid`: "), "{second}");
    assert!(third.starts_with("line 3, column `holder`: "), "{third}");
    // A column that is missing is one fault, not one in each row.
    let text = "card,holder\n1EA68671,李雷\n1EA68672,h2\n";
    let [card, uid, rights, holder] = &faults(text)[..] else { panic!("{:?}", faults(text)) };
    assert!(card.starts_with("line 1, column `card`: this may be the number printed on the card"), "{card}");
    assert!(uid.starts_with("line 1: there is no column `uid`"), "{uid}");
    assert!(rights.starts_with("line 1: no column names what a card opens"), "{rights}");
    assert!(holder.starts_with("line 2, column `holder`: "), "{holder}");
}

#[test]
fn what_is_wrong_with_the_first_line_or_the_whole_file_is_named() {
    let table: [(&[u8], &str); 19] = [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"uid,holder,gate\n", "the list is empty"),
        (b"uid,holder,gate\n,,\n", "the list is empty"),
        (b"PK\x03\x04rest", "save it as `CSV UTF-8`"),
        (b"\xFF\xFEu\0i\0d\0", "this is UTF-16"),
        (b"uid,holder,gate\nA\0,b,c\n", "no text at all"),
        (b"\xEF\xBB\xBFuid,holder,gate\n\xD6\xD0,b,c\n", "line 2: the file begins as UTF-8"),
        (b"uid,holder,gate\n1EA68671,h1,*\n\xFF\xFF\xFF,b,c\n", "line 3: the line is neither UTF-8 nor GB18030"),
        ("uid,holder,gate\n1EA68671,h\u{FFFD},*\n".as_bytes(), "line 2: a character was lost"),
        (b"holder,gate\nh1,*\n", "line 1: there is no column `uid`; one of uid, card_uid, "),
        (b"uid,gate\n1EA68671,*\n", "line 1: there is no column `holder`"),
        (b"uid,holder\n1EA68671,h1\n", "line 1: no column names what a card opens"),
        ("卡号,holder,gate,uid\n".as_bytes(), "line 1, column `卡号`: this may be the number printed on the card"),
        (b"uid,holder,gate,Card UID\n", "line 1, column `Card UID`: the column `uid` means the same"),
        (b"uid,holder,gate,not_befor\n", "did you mean `not_before`?; pass over it with `--ignore not_befor`"),
        (b"uid,holder,,gate\n1EA68671,h1,,*\n", "line 1, column ``: the column has no name"),
        ("uid,holder,gate,\u{FF52}ole\n".as_bytes(), "write `role`"),
        (b"uid,holder,gate\n1EA68671,h1\n", "line 2: the line has 2 cells and the first line 3"),
    ];
    for (bytes, part) in table {
        let faults = read(bytes, &reading()).unwrap_err();
        let all = faults.to_string();
        assert_eq!(faults.listed.len(), 1, "{all}");
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn a_row_has_a_largest_number_of_zones_and_a_cell_a_longest_text() {
    let zones = |count: usize| (0..count).map(|n| format!("z{n}")).collect::<Vec<_>>().join(" ");
    let sheet = |gate: &str| format!("uid,holder,gate\n1EA68671,h1,{gate}\n");
    let most = crate::wire::limits::ENTITLEMENTS_MAX;
    let read = read_text(&sheet(&zones(most))).unwrap();
    assert_eq!(read.enrolments.values().next().unwrap().entitlements.len(), most);
    let too_many = faults(&sheet(&zones(most + 1)));
    assert!(too_many[0].contains("1025 zones are too many, 1024 are allowed"), "{too_many:?}");
    let once = read_text(&sheet("east west east")).unwrap();
    assert_eq!(once.enrolments.values().next().unwrap().entitlements.len(), 2, "a zone named twice counts once");
    let longest = 16 * 1024;
    let long = |chars: usize| faults(&format!("uid,holder,gate\n1EA68671,{},*\n", "h".repeat(chars)));
    assert!(long(longest)[0].contains("an identifier is 1 to 64 of"));
    assert!(long(longest + 1)[0].contains("is a double quote not closed?"));
}

#[test]
fn a_time_that_the_clock_there_skips_or_shows_twice_is_refused_and_the_earliest_is_not() {
    let reading = Reading { timezone: TimeZone::get("America/New_York").unwrap(), ignored: Vec::new() };
    let read = |time: &str| read(format!("uid,holder,gate,not_before\n1EA68671,h1,*,{time}\n").as_bytes(), &reading);
    for time in ["2026-03-08 02:30", "2026-11-01 01:30"] {
        let faults = read(time).unwrap_err().to_string();
        assert!(faults.contains("does not exist or exists twice there"), "{faults}");
    }
    let begins = |time: &str| read(time).unwrap().enrolments.values().next().unwrap().not_before.unwrap().to_string();
    assert_eq!(begins("2026-11-01T01:30:00-05:00"), "2026-11-01T06:30:00.000Z");
    assert_eq!(begins("2000-01-01T00:00:00Z"), "2000-01-01T00:00:00.000Z");
    assert!(read("1999-12-31T23:59:59Z").is_err());
}

#[test]
fn a_card_that_stands_twice_and_a_row_that_opens_nothing_are_faults() {
    let text = "uid,holder,gate,door\n1EA68671,h1,*,\n\"1E:A6:86:71\",h2,,412\n1EA68672,h3,,\n1EA68671,h1,west,\n";
    assert_eq!(
        faults(text),
        [
            "line 3, column `uid`: card 1EA68671 stands on line 2 already; a card has one row, with all that it opens",
            "line 4: the row opens nothing; name a zone or `*` in one of the columns of what it opens, write `-` there if it is to open nothing, or remove the row",
            "line 5, column `uid`: card 1EA68671 stands on line 2 already; a card has one row, with all that it opens",
        ]
    );
}

#[test]
fn all_faults_come_at_once_up_to_the_limit_and_the_others_are_counted() {
    let rows: String = (0..FAULTS_MAX + 7).map(|_| "1,h1,*\n").collect();
    let faults = read_text(&format!("uid,holder,gate\n{rows}")).unwrap_err();
    assert_eq!((faults.listed.len(), faults.more), (FAULTS_MAX, 7));
    assert_eq!(faults.listed[FAULTS_MAX - 1].line, Some(FAULTS_MAX as u64 + 1));
    assert!(faults.to_string().ends_with("and 7 more faults; nothing was loaded"));
    let two = read_text("uid,holder,gate\n1EA6867,,\n").unwrap_err();
    assert_eq!(two.listed.len(), 3, "{two}");
}

#[test]
fn a_line_is_counted_in_the_file_not_in_records() {
    let text = "\n\r\nuid,holder,gate\r\n\r\n\"1EA68671\",h1,\"east\r\nwest\"\r\n\r\nnot a card,h2,*\r\n";
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("line 8, column `uid`: `not a card`"), "{faults:?}");
}

#[test]
fn a_sheet_of_decimal_numbers_is_recognised_by_the_missing_letters() {
    let rows = |n: u32| (0..n).map(|n| format!("{},h{n},*\n", 17_452_163 + n * 3_331)).collect::<String>();
    assert!(read_text(&format!("uid,holder,gate\n{}", rows(5))).is_ok(), "that happens by chance");
    let faults = faults(&format!("uid,holder,gate\n{}", rows(6)));
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("so they are decimal numbers; set the reader"), "{faults:?}");
    assert!(read_text(&format!("uid,holder,gate\n{}1EA68671,h,*\n", rows(6))).is_ok());
}

#[test]
fn too_many_rows_and_too_many_bytes_are_refused() {
    let faults = read(&vec![b' '; BYTES_MAX + 1], &reading()).unwrap_err();
    assert!(faults.to_string().contains("are too many"), "{faults}");
    let rows: String = (0..=ROWS_MAX).map(|n| format!("1E{n:06X},h,*\n")).collect();
    let faults = read_text(&format!("uid,holder,gate\n{rows}")).unwrap_err();
    assert_eq!(faults.listed.len(), 1);
    assert!(faults.to_string().starts_with(&format!("line {}: more than {ROWS_MAX} rows", ROWS_MAX + 2)), "{faults}");
}

fn identifier() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,8}".prop_filter("not what a spreadsheet makes of a room", |text| {
        cell::damage(text).is_none() && cell::zone_set(text).is_ok()
    })
}

fn enrolment() -> impl Strategy<Value = Enrolment> {
    let zone = prop_oneof![Just(ZoneSet::Any), identifier().prop_map(|zone| ZoneSet::One(zone.parse().unwrap()))];
    let kind = prop::sample::select(PortalKind::ALL);
    let schedule = prop::option::of(identifier().prop_map(|name| name.parse().unwrap()));
    let one = (kind, zone, schedule).prop_map(|(kind, zone, schedule)| Entitlement { kind, zone, schedule });
    let time = || 946_684_800_000_i64..4_102_444_800_000;
    let times = (prop::option::of(time()), prop::option::of(1..1_000_000_000_000_i64));
    let role = prop::sample::select(Role::ALL);
    let marks = prop::collection::vec(prop::sample::select(CardMark::ALL), 0..3);
    (identifier(), role, marks, prop::collection::btree_set(one, 0..5), times).prop_map(
        |(holder, role, marks, all, (from, lasts))| {
            let marks = marks.into_iter().collect();
            let not_before = from.map(Timestamp);
            let not_after = lasts.map(|lasts| Timestamp(from.unwrap_or(946_684_800_000) + lasts));
            let entitlements = all.into_iter().collect();
            Enrolment { holder: holder.parse().unwrap(), role, marks, not_before, not_after, entitlements }
        },
    )
}

fn uid() -> impl Strategy<Value = CardUid> {
    "(A1|04B2C3D4|04B2C3D4E5F6A7)[0-9A-F]{6}".prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn a_list_that_is_written_is_read_back_the_same(
        list in prop::collection::btree_map(uid(), enrolment(), 1..12),
        zone in prop::sample::select(vec!["Asia/Shanghai", "UTC", "America/New_York"]),
        is_gb in any::<bool>(),
    ) {
        let timezone = TimeZone::get(zone).unwrap();
        let text = write(&list, &timezone);
        let bytes = if is_gb { text.replace("uid,holder", "物理卡号,学号") } else { text.clone() };
        let bytes = if is_gb { encoding_rs::GB18030.encode(&bytes).0.into_owned() } else { bytes.into_bytes() };
        let sheet = read(&bytes, &Reading { timezone, ignored: Vec::new() });
        prop_assert_eq!(sheet.map_err(|f| f.to_string()).map(|s| s.enrolments), Ok(list), "{}", text);
    }

    #[test]
    fn whatever_the_bytes_are_each_fault_names_a_line_of_the_file(bytes in "(uid,holder,gate\n)?[ -~\n,\"物理卡号０]{0,80}") {
        if let Err(faults) = read(bytes.as_bytes(), &reading()) {
            let lines = bytes.lines().count() as u64;
            prop_assert!(!faults.listed.is_empty());
            for fault in &faults.listed {
                prop_assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{} of {}", fault, bytes);
            }
        }
    }
}
