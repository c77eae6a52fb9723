//! What the rules take from the configuration and may take again while the gateway runs.

use super::calendar::Calendar;
use super::policy::Policy;
use super::portal::Portal;

/// The choices of a site that may change without a restart.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The portals. A running engine keeps what each is and where: its id, kind, zone and direction.
    pub portals: Vec<Portal>,
    /// The site's choices. A running engine keeps [`Policy::hash_uids`].
    pub policy: Policy,
    /// The schedules of the configuration, and the time zone.
    pub calendar: Calendar,
}
