//! Which refusals were said already: a device that refuses is asked again with each poll, and would fill the log.

use std::collections::HashSet;

use crate::wire::modbus::{Exception, Request};

/// Refusals of one line that are remembered as said; what comes beyond is said each time.
const SAID_MAX: usize = 1024;

/// What the units of one line refused since they last answered the same well.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashSet<(u8, u8, u16, Exception)>);

impl Refusals {
    /// `unit` refused `request`. Whether that is worth saying: it was not said since the unit last answered this well.
    pub(super) fn is_news(&mut self, unit: u8, request: &Request, exception: Exception) -> bool {
        let refusal = (unit, request.function(), request.address(), exception);
        if self.0.len() >= SAID_MAX {
            return !self.0.contains(&refusal);
        }
        self.0.insert(refusal)
    }

    /// `unit` answered `request` well.
    pub(super) fn answered(&mut self, unit: u8, request: &Request) {
        let place = (unit, request.function(), request.address());
        if !self.0.is_empty() {
            self.0.retain(|(unit, function, address, _)| (*unit, *function, *address) != place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::Space;

    #[test]
    fn a_refusal_is_news_once_until_the_same_is_answered_well() {
        let read = |address| Request::Read { space: Space::Coil, address, count: 1 };
        let mut said = Refusals::default();
        assert!(said.is_news(1, &read(5), Exception(2)));
        assert!(!said.is_news(1, &read(5), Exception(2)));
        for (unit, address, exception) in [(2, 5, 2), (1, 6, 2), (1, 5, 4)] {
            assert!(said.is_news(unit, &read(address), Exception(exception)));
        }
        said.answered(1, &read(6));
        assert!(!said.is_news(1, &read(5), Exception(4)), "another address was answered");
        said.answered(1, &read(5));
        assert!(said.is_news(1, &read(5), Exception(2)) && said.is_news(1, &read(5), Exception(4)));
        assert!(!said.is_news(2, &read(5), Exception(2)));
    }
}
