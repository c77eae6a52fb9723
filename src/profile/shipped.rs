//! The built-in profiles: every file of `devices/`, collected by `devices/build.rs`.

use super::model::Profile;
use super::read::read;

/// Id and text of every built-in profile, in alphabetical order.
pub const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The built-in profile of this id.
#[must_use]
pub fn shipped(id: &str) -> Option<Profile> {
    let (_, text) = SHIPPED.iter().find(|(name, _)| *name == id)?;
    read(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_devices_is_built_in_and_has_no_diagnostic() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/devices");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
            .collect();
        files.sort();
        let built_in: Vec<&str> = SHIPPED.iter().map(|(id, _)| *id).collect();
        assert_eq!(files, built_in);
        for (id, text) in SHIPPED {
            let profile = read(text).unwrap_or_else(|diagnostics| panic!("{id}: {diagnostics:#?}"));
            assert_eq!(profile.id, *id, "the id of a profile is the name of its file");
        }
    }
}
