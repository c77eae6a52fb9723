//! dormgate: the access gateway of a university dormitory.
//!
//! One process a building holds the access list in memory, answers gates, doors and power boxes from it, and changes it the
//! moment a center publishes the change. Everything else in here serves those two sentences.
//!
//! # Architecture
//! Imports point up this table only; `tests/architecture.rs` holds it. Within a row nobody names another.
//!
//! | layer | what it owns |
//! |---|---|
//! | [`access`] | who may open what, when, and why: `list` (what is known), `decide` (the ladder), `power_box` (one box as a state machine), `calendar` (which schedules are open), `presence` (which cards passed which gates), `roll_call` (who is inside), `explain` (why, for a person), `engine` (inputs to ordered effects; `alarms` among them). Pure: it is given the time and touches nothing |
//! | [`wire`] | bytes to access types and back: topics, signed envelopes, bodies, registers; `snapshot`, the parts of one. Pure |
//! | [`profile`] | what the registers of a device mean, and the messages of those with MQTT topics of their own: the files of `devices/`, checked; and how documents are read, with a [`profile::diagnostic`] for each error, and `sheet` for those in CSV |
//! | [`config`], [`clock`] | the file as a checked `Site`, its portals also from a `sheet`; the first file of a described `building`; the wall clock, and whether it can be trusted |
//! | [`store`] | what survives: the journal of audit events, and generations of the list; `sealed` encrypts both where the site wants it |
//! | [`gateway`] | the one task that owns the engine: inbox, engine and store (`owner`), effects to whoever carries them out |
//! | [`mqtt`] | one MQTT `connection` as the links use it; `probe` tries a broker step by step |
//! | [`browser`] | what both consoles have in common towards a browser: sessions, wrong tokens, the origin of a request, what a browser is to refuse |
//! | [`uplink`], [`portals`], [`http`], [`center`], [`workbench`] | the links: to the center; to gates, doors and boxes (`portals/device`, with the adapters `portals/mqtt`, whose `profiled` is for other makers' devices, and `portals/modbus`, whose `server` controllers ask; `portals/parts` puts a portal together from both); to people, with the pages for wardens in `http/console`; the other end of the uplink, a center whose task is `center/work`, that keeps its state in a `directory` of files or in a `database`, and takes orders over HTTP (`center/http`) and lists of cards from a `sheet`; and simulators for portals |
//! | [`cli`] | one file a command (`simulate`, `center`, `audit`, `diag`, ...); `serve` puts the gateway together, `demo` a dormitory around it |
//! | `main` | arguments to a command to an exit code |
//!
//! # What always holds
//! 1. Revoked means now: once the engine has a change, nothing that it took away is granted, and a box held on by it is cut.
//! 2. Revoked means for ever: no restart, replay, reordering, snapshot or damage revives a card; only `reinstate` or `found` does.
//! 3. Durable, then acknowledged: acks wait for the disk; decisions, releases and cuts never do.
//! 4. A grant is a thing you hold: only `access` makes one, and opening or energising takes it by value.
//! 5. Fail closed on entry, never on exit.
//! 6. Nothing old opens anything: not what is retained, queued, replayed, expired or late.
//! 7. One owner: one task has the engine; the same inputs give the same effects.
//! 8. Every queue, list, retry and wait has a named limit with a unit, and reports what happens there.
//! 9. Every decision is in the audit, numbered without holes; a loss is itself an event.
//! 10. One dead part hurts nobody else.
//!
//! # Where to start reading
//! How a card is judged: [`access`], its `decide`. The messages that it receives and sends: [`wire`]. How both meet:
//! [`gateway`]. What a site can choose: [`config`].
#![forbid(unsafe_code)]

pub mod access;
pub mod browser;
#[cfg(any(feature = "workbench", feature = "center"))]
pub mod center;
#[cfg(test)]
#[path = "../tests/support/chinese.rs"]
mod chinese;
pub mod cli;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod http;
pub mod mqtt;
pub mod portals;
pub mod profile;
pub mod store;
pub mod uplink;
pub mod wire;
#[cfg(feature = "workbench")]
pub mod workbench;

/// What is behind `mutex`, also after a panic of another holder: every statement under a lock of this program leaves it whole.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The first `most` of these and how many more there are: `a, b and 3 more`.
pub(crate) fn few<T: ToString>(all: &[T], most: usize, between: &str) -> String {
    let named = all.iter().take(most).map(ToString::to_string).collect::<Vec<_>>().join(between);
    match all.len().saturating_sub(most) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Lets every other thread go first from here on: what this one does can wait, and a card cannot.
pub(crate) fn wait_behind_requests() {
    /// Of 19, the last. High enough to be passed by whatever becomes ready, and not so high that a busy machine never comes to it.
    #[cfg(target_os = "linux")]
    const NICE: i32 = 10;
    // Linux has a priority for each thread. Where it is not permitted, it is slower for nobody but the others.
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE).ok();
}
