//! Any bytes as a frame of Modbus TCP, of a serial line, and as a PDU; and a request that was read is written as it was.
#![no_main]

use dormgate::wire::modbus::{Mbap, Request, RtuDecoder, rtu_open, rtu_request_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The results do not matter here: nothing may panic.
    let _ = (bytes.first_chunk().map(|header| Mbap::parse(*header)), rtu_open(bytes), rtu_request_bytes(bytes));
    let mut decoder = RtuDecoder::default();
    decoder.push(bytes);
    while decoder.next(|bytes| rtu_request_bytes(bytes) == Some(bytes.len())).is_some() {}
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
});
