//! A configuration as it may be shown to others: for a bug report.

use std::path::Path;

use toml::{Table, Value};

use super::{ConfigError, Surroundings, parse, read_file, sheet};

/// What is shown in place of a value.
const HIDDEN: &str = "(hidden)";

/// The configuration in the file at `path` with its sheet of portals, without comments and remarks, in which anything may stand. A
/// right one has no secrets in itself, only the names of their files. In one that is wrong a secret may stand under a wrong key, so
/// of that only the keys are shown. Fails when the file cannot be read.
pub fn without_secrets(path: &Path) -> Result<String, ConfigError> {
    Ok(shown(&read_file(path)?, &Surroundings::of(path)))
}

fn shown(text: &str, around: &Surroundings) -> String {
    let is_right = parse(text, around).is_ok();
    let whole = match sheet::Sheet::of(text, around) {
        Some(sheet) => sheet.behind(text),
        None => text.to_owned(),
    };
    let Ok(mut table) = whole.parse::<Table>() else { return "it is not TOML, so nothing of it is shown".to_owned() };
    if !is_right {
        table.iter_mut().for_each(|(_, value)| hide(value));
    }
    let text = toml::to_string(&table).unwrap_or_else(|error| format!("it cannot be written: {error}"));
    if is_right {
        text
    } else {
        format!("# It has errors, or names files that whoever asks cannot read: only its keys are shown.\n{text}")
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| hide(value)),
        Value::Array(values) => values.iter_mut().for_each(hide),
        other => *other = Value::String(HIDDEN.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, sheet: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("portals.csv"), sheet).unwrap();
        shown(text, &Surroundings { base_dir: dir.path().to_owned(), credentials_dir: None })
    }

    #[test]
    fn comments_and_remarks_are_left_out_and_portals_of_the_sheet_are_there() {
        let text = "# the old password was hunter2\nportals = \"portals.csv\"\n[gateway]\nid = \"g\" # hunter3\n[local]\nurls = [\"mqtt://127.0.0.1:1\"]\n";
        let found = of(text, "id,kind,zone,device.mqtt,#remark\ngate-7,gate,lobby,native,hunter4\n");
        assert!(found.contains("id = \"gate-7\"") && found.contains("mqtt://127.0.0.1:1"), "{found}");
        assert!(!found.contains("hunter") && !found.contains(HIDDEN), "{found}");
    }

    #[test]
    fn of_a_wrong_file_only_the_keys_are_shown() {
        let found =
            of("[gateway]\nid = \"g\"\n[uplink]\npassword = \"hunter2\"\npin = 4711\nurls = [\"hunter3\"]\n", "");
        assert!(found.contains("password = \"(hidden)\"") && found.contains("only its keys"), "{found}");
        assert!(!found.contains("hunter") && !found.contains("4711"), "{found}");
        assert_eq!(of("[gateway\npassword hunter2", ""), "it is not TOML, so nothing of it is shown");
    }
}
