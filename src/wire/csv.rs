//! An audit event as a line of CSV (RFC 4180): a named column for each field that people sort and search by. `deploy/reference.md`
//! lists them.

use serde_json::Value;

/// The columns, in order. Each is the field of that name in the event; `stream`, `epoch` and `seq` are its `revision`.
const COLUMNS: [&str; 25] = [
    "n",
    "at",
    "clock",
    "type",
    "portal",
    "uid",
    "holder",
    "role",
    "decision",
    "reason",
    "also",
    "flags",
    "direction",
    "alarm",
    "count",
    "ended",
    "stream",
    "epoch",
    "seq",
    "received_at",
    "cut",
    "revoked",
    "from",
    "to",
    "detail",
];

/// The names of the columns.
#[must_use]
pub fn header() -> String {
    COLUMNS.join(",")
}

/// One event. Times are RFC 3339 in UTC, lists are separated by spaces, and what the event does not have is empty.
///
/// # Errors
/// What is wrong with `event`, which is not JSON.
pub fn line(event: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str(event).map(|event| cells(&event))
}

fn cells(event: &Value) -> String {
    let revision = event.get("revision").and_then(Value::as_object).and_then(|revision| revision.iter().next());
    let cells = COLUMNS.iter().map(|column| match (*column, revision) {
        ("stream", Some((stream, _))) => quoted(stream),
        ("epoch", Some((_, at))) => cell(at.get(0)),
        ("seq", Some((_, at))) => cell(at.get(1)),
        _ => cell(event.get(column)),
    });
    cells.collect::<Vec<_>>().join(",")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(items)) => {
            let items = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            quoted(&items.collect::<Vec<_>>().join(" "))
        }
        Some(other) => other.to_string(),
    }
}

/// A text as a cell. One that a spreadsheet would take for a formula begins with an apostrophe.
fn quoted(text: &str) -> String {
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    if is_formula || text.contains(['"', ',', '\n', '\r']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_with_a_cell_for_each_column() {
        let revoked = json!({
            "n": 7, "at": "2026-09-01T08:00:00.000Z", "clock": "trusted", "type": "revoked", "uid": "1EA68671", "holder": "p1",
            "revision": { "card-office": [3, 1042] }, "received_at": "2026-09-01T08:00:00.000Z", "cut": ["power-412", "power-413"],
        });
        assert_eq!(
            cells(&revoked),
            "7,2026-09-01T08:00:00.000Z,trusted,revoked,,1EA68671,p1,,,,,,,,,,card-office,3,1042,2026-09-01T08:00:00.000Z,\
             power-412 power-413,,,,"
        );
        assert_eq!(header().split(',').count(), cells(&revoked).split(',').count());
    }

    #[test]
    fn no_text_is_a_formula_or_ends_its_cell() {
        for (text, expected) in [
            ("=HYPERLINK(1)", "\"'=HYPERLINK(1)\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            (" @SUM(A1)", "\"' @SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("a \"b\", c", "\"a \"\"b\"\", c\""),
            ("two\nlines", "\"two\nlines\""),
            ("plain", "plain"),
        ] {
            let event = json!({ "n": 1, "detail": text });
            assert!(cells(&event).ends_with(&format!(",{expected}")), "{}", cells(&event));
        }
    }
}
