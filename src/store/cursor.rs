//! How far the center has the audit, in a small file that is replaced as a whole. A lost cursor only sends events again.

use std::io;

use super::durable_mark::{seal, unseal};
use super::medium::{Medium, replace};
use super::replay::JOURNAL;

/// The file.
const NAME: &str = "acked";

/// The last event the center has; 0 if the file cannot be read.
pub(super) fn read(medium: &dyn Medium) -> u64 {
    let bytes = medium.read(&format!("{JOURNAL}/{NAME}"), 0, 64).unwrap_or_default();
    unseal(&bytes).unwrap_or(0)
}

/// Makes `n` the cursor, durably.
pub(super) fn write(medium: &dyn Medium, n: u64) -> io::Result<()> {
    replace(medium, JOURNAL, NAME, &seal(n))
}
