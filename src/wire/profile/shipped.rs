//! The profiles that are built in: every file of `devices/`.

use super::Profile;

macro_rules! profiles {
    ($($id:literal,)*) => {
        /// Id and text of every built-in profile.
        pub const SHIPPED: &[(&str, &str)] =
            &[$(($id, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/devices/", $id, ".toml")))),*];
    };
}

profiles! {
    "acrel-ddsy1352",
    "chint-ddsu666",
    "clone-relay-0100",
    "eastron-sdm120",
    "eastron-sdm220",
    "eastron-sdm230",
    "eletechsup-r421a08",
    "generic-door-controller",
    "generic-power-box",
    "generic-turnstile",
    "hiking-dds238",
    "inveo-rfid-ind-m1",
    "inveo-rfid-mb-10",
    "lc-tech-relay-8ch",
    "pzem-014",
    "quio-qm-950-4-hf",
    "sequent-3x40a",
    "technotrade-vrd-485",
    "waveshare-relay-8ch",
}

/// The built-in profile of this id.
#[must_use]
pub fn shipped(id: &str) -> Option<Profile> {
    let (_, text) = SHIPPED.iter().find(|(name, _)| *name == id)?;
    super::read(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_devices_is_built_in_and_has_no_mistake() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/devices");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
            .collect();
        files.sort();
        let built_in: Vec<&str> = SHIPPED.iter().map(|(id, _)| *id).collect();
        assert_eq!(files, built_in);
        for (id, text) in SHIPPED {
            let profile = super::super::read(text).unwrap_or_else(|mistakes| panic!("{id}: {mistakes:#?}"));
            assert_eq!(profile.id, *id);
        }
    }
}
