//! `dormgate uid`: every reading of a UID that readers, printers and spreadsheets give, and what is wrong with it.

use super::{Exit, print_error, print_line};
use crate::wire::uid::{Order, Readings, readings};

/// Report every reading of a card UID: bytes, reversed, decimal, Wiegand 26/34; and what is wrong with it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The UID in hex; separators `:`, `-` and space are allowed.
    text: String,
}

pub(super) fn run(args: &Args) -> Exit {
    match readings(&args.text) {
        Ok(found) => {
            let faulty = found.notes.iter().any(|note| note.is_fault());
            match (print_line(text(&found)), faulty) {
                (Exit::Done, true) => Exit::Failed,
                (exit, _) => exit,
            }
        }
        Err(error) => {
            print_error(error);
            Exit::Failed
        }
    }
}

fn text(found: &Readings) -> String {
    let order = |name: &str, order: &Order| {
        format!(
            "{name:<14} {}  decimal {}  Wiegand-26 {},{:05}  Wiegand-34 {},{:05}",
            order.hex,
            order.decimal,
            order.wiegand26.facility,
            order.wiegand26.number,
            order.wiegand34.facility,
            order.wiegand34.number
        )
    };
    let mut lines = vec![
        format!("uid            {}", found.uid),
        format!("bytes          {}", found.bytes),
        order("air order", &found.air),
        order("reversed", &found.reversed),
        format!("byte by byte   {}  run together {}", found.per_byte, found.run_together),
    ];
    lines.extend(found.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}
