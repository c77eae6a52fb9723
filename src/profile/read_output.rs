//! `[output]` of a profile: the writes that switch a relay, how they are confirmed, and the checks that these do not contradict each
//! other.

use serde::Deserialize;

use super::document::{Key, Log, NotBlank, Text, Whole};
use super::model::{Confirm, DEADLINE_MS_MAX, Output, Pulse};
use super::points::{PointType, Write};
use super::scope::{Channels, Register, Scope, WriteTable};
use crate::wire::modbus::Space;

/// Earliest deadline of a release, in milliseconds.
const DEADLINE_MS_MIN: i64 = 50;
/// Further tries of a release if the profile names no number.
const RETRY: u16 = 2;

#[derive(Deserialize)]
pub(super) struct OutputTable {
    channels: Key<Channels>,
    stride: Key<Whole<0, 1024>>,
    settle_ms: Key<Whole<0, 5000>>,
    state: Key<String>,
    on: Key<WriteTable>,
    off: Key<WriteTable>,
    pulse: Key<PulseTable>,
    confirm: Key<ConfirmTable>,
    retry: Key<Whole<0, 10>>,
    deadline_ms: Key<Whole<DEADLINE_MS_MIN, { DEADLINE_MS_MAX as i64 }>>,
}

#[derive(Deserialize)]
struct PulseTable {
    by: Key<EndedBy>,
    space: Key<Space>,
    address: Key<i64>,
    value: Key<Register>,
    multiple: Key<bool>,
    step_ms: Key<Whole<1, 600_000>>,
    steps_max: Key<Register>,
}

/// Who ends a pulse.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndedBy {
    Device,
    Gateway,
}

#[derive(Deserialize)]
struct ConfirmTable {
    by: Key<ConfirmedBy>,
    because: Key<Text<NotBlank>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConfirmedBy {
    State,
    Echo,
}

pub(super) fn output(scope: &Scope<'_>, key: &Key<OutputTable>, t: &OutputTable) -> Option<Output> {
    let log = scope.log;
    let channels = t.channels.number(1);
    let state = scope.polled(&t.state);
    if let Some(point) = &state {
        if point.channels < channels {
            t.state.wrong(log, format!(
                "`{}` has {} channels, the output {channels}: write `channels = {channels}` at that point, or correct those of the output",
                point.name, point.channels
            ));
        }
        if point.kind != PointType::Bool {
            let message = format!(
                "`{}` has to be a `bool`, also in a register, where it is on when the register is not 0",
                point.name
            );
            t.state.wrong(log, message);
        }
    }
    let (on, off) = (
        "write what switches a relay on, e.g. `on = { space = \"coil\", address = 0, value = 0xFF00 }`",
        "write what switches a relay off, e.g. `off = { space = \"coil\", address = 0, value = 0 }`",
    );
    let on = t.on.need(log, on).map(|table| scope.write(table, None));
    let off = t.off.need(log, off).map(|table| scope.write(table, Some(0)));
    let ends =
        "write who ends a pulse: `pulse = { by = \"gateway\" }`, or `by = \"device\"` with what is written for it";
    let pulse = t.pulse.need(log, ends).and_then(|table| pulse(scope, table));
    let output = Output {
        channels,
        stride: t.stride.number(1),
        state,
        confirm: confirm(log, key, t),
        on: on?,
        off: off?,
        pulse: pulse?,
        settle_ms: t.settle_ms.number(0),
        retry: t.retry.number(RETRY),
        deadline_ms: t.deadline_ms.number(DEADLINE_MS_MAX),
    };
    writes(log, t, &output);
    times(log, t, &output, scope.link.reply_ms);
    Some(output)
}

fn confirm(log: &Log, key: &Key<OutputTable>, t: &OutputTable) -> Confirm {
    if !t.confirm.is_set() && !t.state.is_set() {
        let message = "name as `state` the point that shows whether a relay is on, or write why the device has no such point: \
             `confirm = { by = \"echo\", because = \"…\" }`";
        key.wrong(log, message);
    }
    let Some(table) = t.confirm.get() else { return Confirm::State };
    match table.by.need(log, "write `state` or `echo`") {
        Some(ConfirmedBy::State) => {
            table.because.must_not_be_set(log, "a reason is for `by = \"echo\"`; leave it out");
            if !t.state.is_set() {
                let message = "`by = \"state\"` reads `state` back, and it is missing: add `state = \"POINT\"`";
                t.confirm.wrong(log, message);
            }
            Confirm::State
        }
        Some(ConfirmedBy::Echo) => {
            let because = table.because.need(log, "write why the relay cannot be read back");
            Confirm::Echo { because: because.map(|because| because.0.0.clone()).unwrap_or_default() }
        }
        None => Confirm::State,
    }
}

fn pulse(scope: &Scope<'_>, t: &PulseTable) -> Option<Pulse> {
    let log = scope.log;
    match t.by.need(log, "write `gateway`, or `device` if the device ends the pulse itself")? {
        EndedBy::Gateway => {
            let why = "the gateway ends the pulse: leave this out, or write `by = \"device\"`";
            t.space.must_not_be_set(log, why);
            t.address.must_not_be_set(log, why);
            t.value.must_not_be_set(log, why);
            t.multiple.must_not_be_set(log, why);
            t.step_ms.must_not_be_set(log, why);
            t.steps_max.must_not_be_set(log, why);
            Some(Pulse::Gateway)
        }
        EndedBy::Device => {
            let (space, address) = (t.space.clone(), t.address.clone());
            let table = WriteTable { space, address, value: t.value.clone(), multiple: t.multiple.clone() };
            let write = scope.write(&table, None);
            t.step_ms.need(log, "write how long one step of the device's time is, in milliseconds");
            let steps_max: u16 = t.steps_max.number(0);
            if write.value.checked_add(steps_max).is_none() {
                let message = "`value` plus `steps_max` is more than a register holds: lower one of them";
                t.steps_max.wrong(log, message);
            }
            if write.multiple && write.space.is_bits() && steps_max > 0 {
                let message = "FC 15 carries one bit, so the time of the pulse would be lost: leave `multiple` out, or `steps_max`";
                t.multiple.wrong(log, message);
            }
            Some(Pulse::Device { write, step_ms: t.step_ms.number(1000), steps_max })
        }
    }
}

/// Reports times that no device can keep.
fn times(log: &Log, t: &OutputTable, output: &Output, reply_ms: u32) {
    // The write and the read take up to `reply_ms` each, and the read waits for the state to settle. By echo, the deadline leaves
    // time for the write and one repetition.
    let (settles_ms, what) = match output.confirm {
        Confirm::State => (output.settle_ms, "`settle_ms` and twice `reply_ms`"),
        Confirm::Echo { .. } => (0, "twice `reply_ms`: the write and one repetition"),
    };
    let needs = settles_ms.saturating_add(reply_ms.saturating_mul(2));
    if output.deadline_ms < needs {
        let message = format!(
            "`deadline_ms` is {} and a release may take {needs} ms to be confirmed ({what}): \
             raise it, up to {DEADLINE_MS_MAX}, or lower those",
            output.deadline_ms
        );
        if t.deadline_ms.is_set() || !t.settle_ms.is_set() {
            t.deadline_ms.wrong(log, message);
        } else {
            t.settle_ms.wrong(log, message);
        }
    }
    if let Pulse::Device { step_ms, .. } = &output.pulse
        && output.confirm == Confirm::State
        && *step_ms <= output.settle_ms
    {
        t.settle_ms.wrong(log, format!(
            "a pulse may last {step_ms} ms and is over before its state settles: lower `settle_ms`, or confirm by echo"
        ));
    }
}

/// Reports writes that contradict each other or the number of channels.
fn writes(log: &Log, t: &OutputTable, output: &Output) {
    let same = |a: &Write, b: &Write| a.request(0, a.value) == b.request(0, b.value);
    if same(&output.on, &output.off) {
        let message =
            "this writes the same as `on`, so a relay would never be switched off: correct `value` or `address`";
        t.off.wrong(log, message);
    }
    if output.stride == 0 && output.channels > 1 {
        let message = format!(
            "with 0, all {} channels would be the same relay: write how far apart they are, or `channels = 1`",
            output.channels
        );
        t.stride.wrong(log, message);
    }
    let further = u32::from(output.channels.saturating_sub(1)) * u32::from(output.stride);
    let pulse = match &output.pulse {
        Pulse::Device { write, .. } => Some((&t.pulse.place, write)),
        Pulse::Gateway => None,
    };
    for (place, write) in [(&t.on.place, &output.on), (&t.off.place, &output.off)].into_iter().chain(pulse) {
        if u32::from(write.address) + further > u32::from(u16::MAX) {
            log.add(
                place.clone(),
                "the last channel lies beyond the last address, 65535: correct `address`, `channels` or `stride`",
            );
        }
    }
}
