//! `[output]` of a profile: what is published to switch a relay or lock, how that is confirmed, and the checks that these do not
//! contradict each other.

use serde::Deserialize;

use super::model::{Confirm, Order, Output, Place, Pulse, Two};
use super::tables::{Channels, OrderTable, Scope, TwoTable};
use crate::profile::document::{Key, List, Log, Place as At, Whole};
use crate::profile::model::DEADLINE_MS_MAX;
use crate::profile::read_output::EndedBy;

/// Earliest deadline of a release, and least time for a confirmation, in milliseconds.
const CONFIRM_MS_MIN: i64 = 50;
/// How long a device may take to report its state, if the profile names no time, in milliseconds.
const CONFIRM_MS: u32 = 700;
/// Further tries of a release if the profile names no number.
const RETRY: u16 = 1;

#[derive(Deserialize)]
pub(super) struct OutputTable {
    channels: Key<Channels>,
    on: Key<OrderTable>,
    off: Key<OrderTable>,
    pulse: Key<PulseTable>,
    state: List<TwoTable>,
    query: Key<OrderTable>,
    reports: Key<Reports>,
    confirm_ms: Key<Whole<CONFIRM_MS_MIN, { DEADLINE_MS_MAX as i64 }>>,
    retry: Key<Whole<0, 10>>,
    deadline_ms: Key<Whole<CONFIRM_MS_MIN, { DEADLINE_MS_MAX as i64 }>>,
}

#[derive(Deserialize)]
struct PulseTable {
    by: Key<EndedBy>,
    topic: Key<String>,
    payload: Key<String>,
    step_ms: Key<Whole<1, 600_000>>,
    max_ms: Key<Whole<1, 86_400_000>>,
}

/// When a device reports the state.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Reports {
    /// After each order.
    Each,
    /// When it has changed.
    Changes,
}

pub(super) fn output(scope: &Scope<'_>, t: &OutputTable) -> Option<Output> {
    let log = scope.log;
    let order = |key: &Key<OrderTable>| key.get().and_then(|t| scope.order(&t.topic, &t.payload, false));
    t.on.need(log, "write what switches on, e.g. `on = { topic = \"cmnd/{topic}/Power{number}\", payload = \"ON\" }`");
    t.off.need(
        log,
        "write what switches off, e.g. `off = { topic = \"cmnd/{topic}/Power{number}\", payload = \"OFF\" }`",
    );
    let (on, off, query) = (order(&t.on), order(&t.off), order(&t.query));
    let ends =
        "write who ends a pulse: `pulse = { by = \"gateway\" }`, or `by = \"device\"` with what is published for it";
    let pulse = t.pulse.need(log, ends).and_then(|table| pulse(scope, table));
    let remedy = "write where the state is reported, e.g. `[[output.state]]` with `topic`, `at`, `yes = \"ON\"`, `no = \"OFF\"`: \
                  an order that nothing confirms may not have been carried out";
    if t.state.need(log, remedy).is_some_and(Vec::is_empty) {
        t.state.wrong(log, remedy);
    }
    let state = t.state.values().filter_map(|table| {
        table.needed.must_not_be_set(log, "this is for `[[available]]`; leave it out");
        scope.two(table, true)
    });
    let state: Vec<Two> = state.collect();
    let remedy =
        "write `each` if the device reports its state after each order, or `changes` if only when it has changed";
    let reports = t.reports.need(log, remedy).copied();
    if reports == Some(Reports::Changes) && !t.query.is_set() && state.iter().all(|two| !two.place.retained) {
        t.reports.wrong(
            log,
            "whether it is off already would never be known: write a `query`, or `retained = true` at its state if \
                              the device keeps it retained",
        );
    }
    let (confirm_ms, deadline_ms) = (t.confirm_ms.number(CONFIRM_MS), t.deadline_ms.number(DEADLINE_MS_MAX));
    if deadline_ms < confirm_ms {
        let message = format!(
            "`deadline_ms` is {deadline_ms} and a device may take {confirm_ms} ms to confirm: raise it, or lower `confirm_ms`"
        );
        t.deadline_ms.wrong(log, message);
    }
    let output = Output {
        channels: t.channels.number(1),
        on: on?,
        off: off?,
        pulse: pulse?,
        state,
        confirm: Confirm { within_ms: confirm_ms, each: reports? == Reports::Each, query },
        retry: t.retry.number(RETRY),
        deadline_ms,
    };
    if output.on == output.off {
        t.off.wrong(
            log,
            "this publishes the same as `on`, so it would never be switched off: correct the payload or the topic",
        );
    }
    if output.channels > 1 {
        channels(log, t, &output);
    }
    Some(output)
}

fn pulse(scope: &Scope<'_>, t: &PulseTable) -> Option<Pulse> {
    let log = scope.log;
    match t.by.need(log, "write `gateway`, or `device` if the device ends the pulse itself")? {
        EndedBy::Gateway => {
            let why = "the gateway ends the pulse: leave this out, or write `by = \"device\"`";
            t.topic.must_not_be_set(log, why);
            t.payload.must_not_be_set(log, why);
            t.step_ms.must_not_be_set(log, why);
            t.max_ms.must_not_be_set(log, why);
            Some(Pulse::Gateway)
        }
        EndedBy::Device => {
            let order = scope.order(&t.topic, &t.payload, true);
            t.step_ms.need(log, "write of which steps the device's time is, in milliseconds");
            let step_ms = t.step_ms.number(1_000);
            let order = order?;
            let timed = ["{hold_ms}", "{hold_s}"].iter().any(|name| order.payload.contains(name));
            if timed {
                t.max_ms.need(log, "write the longest time that the device takes, in milliseconds");
                if t.max_ms.number(step_ms) < step_ms {
                    t.max_ms.wrong(log, "this is shorter than one step: correct `max_ms` or `step_ms`");
                }
            } else {
                let why = "without `{hold_ms}` or `{hold_s}` in the payload every pulse lasts one step: leave it out";
                t.max_ms.must_not_be_set(log, why);
            }
            Some(Pulse::Device { order, step_ms, max_ms: if timed { t.max_ms.number(step_ms) } else { step_ms } })
        }
    }
}

/// Reports what does not distinguish the channels.
fn channels(log: &Log, t: &OutputTable, output: &Output) {
    let names = |text: &str| text.contains("{channel}") || text.contains("{number}");
    let of_order = |order: &Order| names(&order.topic) || names(&order.payload);
    let of_place = |place: &Place| {
        names(&place.topic)
            || place.at.as_deref().is_some_and(names)
            || place.only.as_ref().is_some_and(|(at, is)| names(at) || names(is))
    };
    let pulse = match &output.pulse {
        Pulse::Device { order, .. } => Some((&t.pulse.place, of_order(order))),
        Pulse::Gateway => None,
    };
    let query = output.confirm.query.as_ref().map(|query| (&t.query.place, of_order(query)));
    let states = t.state.items().iter().zip(&output.state);
    let states = states.map(|(key, two)| (&key.place, two.channel.is_some() || of_place(&two.place)));
    let orders = [(&t.on.place, of_order(&output.on)), (&t.off.place, of_order(&output.off))];
    let all: Vec<(&At, bool)> = orders.into_iter().chain(pulse).chain(query).chain(states).collect();
    for (place, _) in all.into_iter().filter(|(_, distinguishes)| !distinguishes) {
        let message = format!(
            "all {} channels would be the same here: write `{{channel}}` (from 0) or `{{number}}` (from 1) where they differ, or `channels = 1`",
            output.channels
        );
        log.add(place.clone(), message);
    }
}
