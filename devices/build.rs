//! Builds the shipped device profiles in: one line of a table for each `devices/*.toml` and `devices/mqtt/*.toml`, so that who adds a
//! file is done.
//!
//! A macro that reads the folder would not be reported when a file is added to it; cargo reports this program.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let devices = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("devices");
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("shipped.rs"), table(&devices)?)?;
    fs::write(Path::new(&out).join("shipped_mqtt.rs"), table(&devices.join("mqtt"))?)?;
    Ok(())
}

/// The table of the profiles in one folder.
fn table(folder: &Path) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("the device profiles in `{}` cannot be listed: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        // An editor's lock or backup, and a folder, are no profile.
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && path.is_file() && path.extension().is_some_and(|extension| extension == "toml") {
            let id = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a profile's file name is no text")?;
            files.push((id.to_owned(), path.to_str().ok_or("the path of a profile is no text")?.to_owned()));
        }
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (id, path) in files {
        writeln!(table, "    ({id:?}, include_str!({path:?})),")?;
    }
    table.push_str("]\n");
    Ok(table)
}
