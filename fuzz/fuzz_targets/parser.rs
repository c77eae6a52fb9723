//! Any bytes to the reader that `PARSER` names, one of `tests/support/parsers.rs`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/parsers.rs"]
mod parsers;

static PARSER: LazyLock<parsers::Parser> = LazyLock::new(|| {
    let name = std::env::var("PARSER").unwrap_or_default();
    parsers::by_name(&name).unwrap_or_else(|| panic!("PARSER={name}: name one of tests/support/parsers.rs"))
});

fuzz_target!(|bytes: &[u8]| (*PARSER)(bytes));
