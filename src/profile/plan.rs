//! From points to the fewest read requests that cover them.

use crate::wire::modbus::{Request, Space};

use super::points::Point;

/// The requests that bring all channels of all `points`, in order of table and address. Neighbours with at most `max_gap`
/// unused items between them share a request of at most `read_max` items (bits: sixteen times as many).
pub(super) fn reads(points: &[&Point], read_max: u16, max_gap: u16) -> Vec<Request> {
    let mut requests = Vec::new();
    for space in Space::ALL {
        let max = if space.is_bits() { u32::from(read_max) * 16 } else { u32::from(read_max) };
        let mut spans: Vec<(u32, u32)> =
            points.iter().filter(|p| p.space == space).map(|p| (u32::from(p.address), p.end())).collect();
        spans.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (start, end) in spans {
            match joined.last_mut() {
                Some(last) if start <= last.1 + u32::from(max_gap) && end.max(last.1) - last.0 <= max => {
                    last.1 = last.1.max(end);
                }
                _ => joined.push((start, end)),
            }
        }
        requests.extend(joined.into_iter().filter_map(|(start, end)| {
            let (address, count) = (u16::try_from(start).ok()?, u16::try_from(end - start).ok()?);
            Some(Request::Read { space, address, count })
        }));
    }
    requests
}
