//! The bytes of a CSV sheet as records: which encoding they have, and where each record begins.

/// Longest file in bytes. A longer one is refused.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a file is no sheet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NoSheet {
    /// The line, from 1; `None`: the file as a whole.
    pub line: Option<u64>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl NoSheet {
    fn file(what: impl Into<String>) -> Self {
        Self { line: None, what: what.into() }
    }

    fn line(line: u64, what: impl Into<String>) -> Self {
        Self { line: Some(line), what: what.into() }
    }
}

/// How the text of a sheet is encoded. Recognised by itself: what is valid UTF-8 is UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// GB18030, which contains GBK and GB 2312: what spreadsheets of a Chinese system write as "CSV".
    Gb18030,
}

impl Encoding {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Gb18030 => "GB18030",
        }
    }
}

/// One line of the sheet; more than one of the file where a cell has line breaks.
pub struct Record {
    /// Where it begins, from 1.
    pub line: u64,
    /// Its cells, without the spaces around them.
    pub cells: Vec<String>,
}

const UTF8_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];
/// What spreadsheet programs themselves write begins so.
const WORKBOOKS: [&[u8]; 2] = [b"PK\x03\x04", b"\xD0\xCF\x11\xE0"];
const UTF16_MARKS: [&[u8]; 2] = [&[0xFF, 0xFE], &[0xFE, 0xFF]];

/// The text of a file. Fails when it is no text of a sheet.
pub fn decode(bytes: &[u8]) -> Result<(String, Encoding), NoSheet> {
    if bytes.len() > BYTES_MAX {
        let what = format!("{} bytes are too many, {BYTES_MAX} are read; divide the sheet", bytes.len());
        return Err(NoSheet::file(what));
    }
    let begins = |marks: &[&[u8]]| marks.iter().any(|mark| bytes.starts_with(mark));
    if begins(&WORKBOOKS) {
        return Err(NoSheet::file(
            "this is a workbook of a spreadsheet program; save it as `CSV UTF-8` and name that file",
        ));
    }
    if begins(&UTF16_MARKS) || bytes.contains(&0) {
        return Err(NoSheet::file(
            "this is UTF-16 or no text at all; save the sheet as `CSV UTF-8` and name that file",
        ));
    }
    let (text, encoding) = match bytes.strip_prefix(UTF8_MARK) {
        Some(rest) => match std::str::from_utf8(rest) {
            Ok(text) => (text.to_owned(), Encoding::Utf8),
            Err(error) => {
                let line = line_at(rest, error.valid_up_to());
                let what = "the file begins as UTF-8, and this line is not; save the whole sheet as `CSV UTF-8` again";
                return Err(NoSheet::line(line, what));
            }
        },
        None => match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), Encoding::Utf8),
            Err(_) => (encoding_rs::GB18030.decode_without_bom_handling(bytes).0.into_owned(), Encoding::Gb18030),
        },
    };
    match text.find('\u{FFFD}') {
        None => Ok((text, encoding)),
        Some(place) => {
            let what = match encoding {
                Encoding::Utf8 => {
                    "a character was lost when the file was converted (`\u{FFFD}`); export the sheet again"
                }
                Encoding::Gb18030 => "the line is neither UTF-8 nor GB18030; save the sheet as `CSV UTF-8`",
            };
            Err(NoSheet::line(line_at(text.as_bytes(), place), what))
        }
    }
}

fn line_at(bytes: &[u8], place: usize) -> u64 {
    let breaks = bytes.iter().take(place).filter(|byte| **byte == b'\n').count();
    u64::try_from(breaks).unwrap_or(u64::MAX).saturating_add(1)
}

/// The records of a text. Lines and columns at the end without any text, which spreadsheets put there, are left out, and so is a first
/// line `sep=;`, which names what stands between the cells.
#[must_use]
pub fn records(text: &str) -> Vec<Record> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator(text))
        .from_reader(text.as_bytes());
    let (mut records, mut record) = (Vec::new(), csv::StringRecord::new());
    // Where the last record began, and its line.
    let (mut at, mut line) = (0, 1);
    // The text is UTF-8 and rows of any length are taken, so there is no other error than the end.
    while matches!(reader.read_record(&mut record), Ok(true)) {
        let from = record.position().map_or(0, csv::Position::byte);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        // A record begins behind the empty lines before it.
        let empty = text.as_bytes().get(from..).unwrap_or_default().iter();
        let from = from + empty.take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        line += line_at(text.as_bytes().get(at..).unwrap_or_default(), from - at) - 1;
        at = from;
        let cells: Vec<String> = record.iter().map(|cell| cell.trim().to_owned()).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            records.push(Record { line, cells });
        }
    }
    if named_separator(text).is_some() && !records.is_empty() {
        records.remove(0);
    }
    let with_text = |record: &Record| record.cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
    let width = records.iter().map(with_text).max().unwrap_or(0);
    for record in &mut records {
        record.cells.truncate(width);
    }
    records
}

/// The line of a quotation mark that opens a cell and is not closed: the text ends before, or goes on behind the one that closes.
#[must_use]
pub fn open_quote(text: &str) -> Option<u64> {
    let separator = separator(text);
    let (mut line, mut opened, mut begins) = (1, None, true);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        line += u64::from(byte == b'\n');
        match opened {
            None if byte == b'"' && begins => opened = Some(line),
            None => begins = byte == separator || matches!(byte, b'\n' | b'\r'),
            Some(_) if byte != b'"' => {}
            Some(at) => match bytes.peek() {
                Some(b'"') => drop(bytes.next()),
                Some(next) if *next != separator && !matches!(next, b'\n' | b'\r') => return Some(at),
                _ => (opened, begins) = (None, false),
            },
        }
    }
    opened
}

/// What stands between the cells: a comma, or what the first line has in its place.
fn separator(text: &str) -> u8 {
    let first = first_line(text).as_bytes();
    let used = [b',', b';', b'\t'].into_iter().find(|separator| first.contains(separator));
    named_separator(text).or(used).unwrap_or(b',')
}

/// That of a first line `sep=;`, as some spreadsheet programs write it for themselves.
fn named_separator(text: &str) -> Option<u8> {
    match first_line(text).trim_matches('"').strip_prefix("sep=")?.as_bytes() {
        [separator] => Some(*separator),
        _ => None,
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// Records as CSV.
#[must_use]
pub fn print(records: &[Vec<String>]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        // Writing to memory does not fail, and all records are of one length.
        drop(writer.write_record(record));
    }
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}
