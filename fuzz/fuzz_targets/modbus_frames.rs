//! Any bytes as a frame of Modbus TCP, of a serial line, and as a PDU; and a request that was read is written as it was.
#![no_main]

use dormgate::wire::modbus::{Mbap, Request, rtu_open, rtu_request_length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What they say does not matter here: nothing may panic.
    let _ = (bytes.first_chunk().map(|header| Mbap::parse(*header)), rtu_open(bytes), rtu_request_length(bytes));
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
});
