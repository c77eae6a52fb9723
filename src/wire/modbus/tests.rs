//! Frames from manuals, replies to other requests, and bytes at random.

use proptest::prelude::*;

use super::*;

#[test]
fn frames_are_those_of_the_manuals() {
    let on = Request::WriteCoil { address: 0, value: COIL_ON };
    assert_eq!(hex(&rtu_frame(1, &on.encode())), "01 05 00 00 FF 00 8C 3A");
    let pulse = Request::WriteCoil { address: 0x0200, value: 30 };
    assert_eq!(hex(&rtu_frame(1, &pulse.encode())), "01 05 02 00 00 1E 4C 7A");
    let card = Request::Read { space: Space::Holding, address: 2, count: 2 };
    assert_eq!(hex(&rtu_frame(1, &card.encode())), "01 03 00 02 00 02 65 CB");
    let all = Request::WriteCoils { address: 0, on: vec![true; 8] };
    assert_eq!(hex(&rtu_frame(255, &all.encode())), "FF 0F 00 00 00 08 01 FF 30 1D");
}

#[test]
fn a_reply_to_another_request_is_never_taken() {
    let read = Request::Read { space: Space::Holding, address: 2, count: 2 };
    assert_eq!(read.check(&[3, 4, 0x1E, 0xA6, 0x86, 0x71]), Ok(Reply::Words(vec![0x1EA6, 0x8671])));
    assert_eq!(read.check(&[3, 2, 0x1E, 0xA6]), Err(ReplyError::Length { wanted: 6, got: 4 }));
    assert_eq!(read.check(&[3, 2, 0, 0, 0, 0]), Err(ReplyError::Malformed));
    assert_eq!(read.check(&[4, 4, 0, 0, 0, 0]), Err(ReplyError::Function { asked: 3, got: 4 }));
    assert_eq!(read.check(&[0x83, 2]), Err(ReplyError::Refused(Exception(2))));
    let write = Request::WriteCoil { address: 1, value: COIL_ON };
    assert_eq!(write.check(&[5, 0, 1, 0xFF, 0]), Ok(Reply::Written));
    assert_eq!(write.check(&[5, 0, 9, 0xFF, 0]), Err(ReplyError::Echo));
    assert_eq!(write.check(&[]), Err(ReplyError::Length { wanted: 5, got: 0 }));
}

#[test]
fn the_request_that_ends_a_server_of_the_crate_is_refused() {
    let pdu = [0x0F, 0, 0, 0x07, 0xD0, 1, 0xFF];
    assert_eq!(Request::decode(&pdu), Err(Exception::ILLEGAL_VALUE));
    assert_eq!(Request::decode(&[0x10, 0, 0, 0x80, 1, 2, 0, 0]), Err(Exception::ILLEGAL_VALUE));
}

#[test]
fn a_read_is_reported_with_its_first_and_last_address() {
    let read = |space, address, count| Request::Read { space, address, count }.to_string();
    assert_eq!(read(Space::Coil, 0, 1), "FC01 read coil 0");
    assert_eq!(read(Space::Holding, 1000, 12), "FC03 read holding 1000 to 1011");
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        (prop::sample::select(Space::ALL), any::<u16>(), 1..=125u16)
            .prop_map(|(space, address, count)| Request::Read { space, address, count }),
        (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Request::WriteCoil { address, value }),
        (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Request::WriteRegister { address, value }),
        (any::<u16>(), prop::collection::vec(any::<bool>(), 1..=WRITE_BITS_MAX))
            .prop_map(|(address, on)| Request::WriteCoils { address, on }),
        (any::<u16>(), prop::collection::vec(any::<u16>(), 1..=WRITE_REGISTERS_MAX))
            .prop_map(|(address, values)| Request::WriteRegisters { address, values }),
        (any::<u16>(), 1..=125u16, any::<u16>(), prop::collection::vec(any::<u16>(), 1..=121))
            .prop_map(|(read, count, write, values)| Request::ReadWrite { read, count, write, values }),
    ]
}

proptest! {
    #[test]
    fn frames_are_found_in_pieces_and_between_noise(
        requests in prop::collection::vec((1..=9_u8, requests(), prop::collection::vec(any::<u8>(), 0..3)), 1..6),
        piece in 1..9_usize,
    ) {
        let sent: Vec<Vec<u8>> = requests.iter().map(|(unit, request, _)| rtu_frame(*unit, &request.encode())).collect();
        let bytes: Vec<u8> = requests.iter().zip(&sent).flat_map(|((.., noise), frame)| [&noise[..], frame].concat()).collect();
        // A checksum of 16 bits is right by chance once in 65 536 times: then the bytes hold a frame that nobody sent.
        let windows = (0..bytes.len()).flat_map(|start| (start + 1..=bytes.len()).map(move |end| start..end));
        let frames = windows.filter_map(|window| bytes.get(window));
        let frames = frames.filter(|b| rtu_request_bytes(b) == Some(b.len()) && rtu_open(b).is_some()).count();
        prop_assume!(frames == sent.len());
        let mut decoder = RtuDecoder::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.push(piece);
            while let Some((_, frame)) = decoder.next(|b| rtu_request_bytes(b) == Some(b.len()), |_| 0) {
                found.push(frame);
            }
        }
        prop_assert_eq!(found, sent);
        prop_assert_eq!(decoder.rest(), &[] as &[u8]);
    }

    #[test]
    fn a_request_is_read_back_as_it_was(request in requests()) {
        let pdu = request.encode();
        prop_assert!(pdu.len() <= PDU_BYTES_MAX);
        prop_assert_eq!(Request::decode(&pdu), Ok(request));
    }

    #[test]
    fn what_any_bytes_are_read_as_is_written_as_the_same(bytes in prop::collection::vec(any::<u8>(), 0..300), request in requests()) {
        if let Ok(read) = Request::decode(&bytes) {
            prop_assert_eq!(Request::decode(&read.encode()), Ok(read));
        }
        if let Ok(reply) = request.check(&bytes) {
            prop_assert_eq!(request.check(&request.answer(&reply)), Ok(reply));
        }
        let header = bytes.first_chunk().map(|h| Mbap::parse(*h));
        prop_assert!(header.flatten().is_none_or(|h| (1..=PDU_BYTES_MAX).contains(&h.pdu_bytes)));
    }
}
