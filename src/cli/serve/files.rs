//! The limit of open files: raised at the start, and shared so that the pages leave enough to the links and the store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Site;
use crate::http::console::CONNECTIONS_MAX;
use crate::portals::modbus::server::CONNECTIONS_MAX as CONTROLLERS_MAX;

/// Open at once beside lines, controllers and pages: the links to brokers, the store and a generation that it writes, the runtime,
/// and commands of an operator.
const BASE: usize = 48;
/// Connections of pages at least, so that `/readyz` answers under any limit.
const PAGES_MIN: usize = 4;

/// How many files may be open.
fn limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// Raises the limit to what the system allows this process.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// How many files the gateway may have open at once without its pages.
fn needed(config: &Site) -> usize {
    let controllers = config.modbus_server.as_ref().and_then(|server| server.tcp).map_or(0, |_| CONTROLLERS_MAX);
    BASE + config.buses.len() + controllers
}

/// How many connections of pages fit.
fn room(limit: usize, needed: usize) -> usize {
    limit.saturating_sub(needed).clamp(PAGES_MIN, CONNECTIONS_MAX)
}

/// How many connections the pages may have at once.
pub(super) fn room_of_pages(config: &Site) -> usize {
    let (limit, needed) = (limit(), needed(config));
    if limit < needed + PAGES_MIN {
        tracing::warn!(
            limit,
            "fewer files may be open than this gateway may need ({}): connections can fail; raise the limit (`LimitNOFILE=` of the service)",
            needed + PAGES_MIN
        );
    }
    room(limit, needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_get_what_the_rest_leaves_and_never_nothing() {
        assert_eq!([64, 0, 100, usize::MAX].map(|limit| room(limit, BASE)), [16, PAGES_MIN, 52, CONNECTIONS_MAX]);
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
