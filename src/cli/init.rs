//! `dormgate init`: a first configuration for a described building.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Ended, bad_config, failed, print_line};
use crate::access::id::GatewayId;
use crate::config::{self, Building, SHEET, Wiring};

/// Write a first configuration for a building: a file, and a sheet with a row for each portal
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write `dormgate.toml` and `portals.csv`; made if it is not there. Nothing is overwritten.
    dir: PathBuf,
    /// The id of the gateway, e.g. the name of the building.
    #[arg(long, value_name = "ID")]
    gateway: GatewayId,
    /// How many floors have rooms; 0: only gates are described.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=99))]
    floors: u16,
    /// How many rooms each floor has; 0: only gates are described.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=999))]
    rooms: u16,
    /// How many gates lead in, and as many out.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=99))]
    gates: u16,
    /// What a gate is wired to: `mqtt`, `controller`, or the device profiles `READER,OUTPUT`, each for Modbus or with MQTT topics of its own.
    #[arg(long, value_name = "WIRING", default_value = "mqtt")]
    gate: Wiring,
    /// What a room's door is wired to; without it, doors have no reader.
    #[arg(long, value_name = "WIRING")]
    door: Option<Wiring>,
    /// What a room's power box is wired to, `READER,OUTPUT,METER` among others; without it, rooms have none.
    #[arg(long, value_name = "WIRING")]
    power: Option<Wiring>,
}

impl Args {
    fn building(&self) -> Building {
        Building {
            gateway: self.gateway.clone(),
            floors: self.floors,
            rooms: self.rooms,
            gates: self.gates,
            gate: self.gate.clone(),
            door: self.door.clone(),
            power: self.power.clone(),
        }
    }
}

pub(super) fn run(args: &Args) -> Ended {
    let (dir, building) = (&args.dir, args.building());
    let (file, sheet) = config::describe(&building).map_err(failed)?;
    let path = dir.join("dormgate.toml");
    let files = [(path.clone(), file), (dir.join(SHEET), sheet)];
    write(dir, &files).map_err(failed)?;
    config::load(&path).map_err(|error| {
        // Devices that do not fit their role: nothing is left behind, so that the command can be given again.
        for (path, _) in &files {
            drop(std::fs::remove_file(path));
        }
        bad_config(error)
    })?;
    Ok(print_line(format!(
        "{building}: wrote `{}` and `{SHEET}`. Now write into them the addresses, the units as they are wired, and the offices' keys; \
         then `dormgate check --config {}` lists what is left to do.",
        path.display(),
        path.display()
    )))
}

/// Writes the files; none of them if one is there.
fn write(dir: &Path, files: &[(PathBuf, String)]) -> Result<(), String> {
    std::fs::create_dir_all(dir)
        .map_err(|error| format!("{}: cannot be made: {error}; name a directory that can", dir.display()))?;
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(format!("{}: is there already; name another directory, or move it away", path.display()));
    }
    for (path, text) in files {
        let new = |path| -> io::Result<()> {
            OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
        };
        new(path).map_err(|error| {
            format!("{}: cannot be written: {error}; name a directory that can be written", path.display())
        })?;
    }
    Ok(())
}
