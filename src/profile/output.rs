//! The relays of a device: what is written to switch them, how that is confirmed, and how often and how long it is tried.
//!
//! Owns `[output]` of a profile and its contradictions. When what is written, and what a failure means, is the driver's.

use crate::profile::document::Table;
use crate::wire::modbus::Request;

use super::read::{REGISTER, polled, read_write};
use super::scope::{CHANNELS_MAX, Scope, small, whole};
use super::{Point, PointType, Poll, Write};

/// Latest deadline of a release, in milliseconds, and the one that holds where a profile says nothing: a grant counts no longer.
pub const DEADLINE_MS_MAX: u32 = 1500;
/// Earliest deadline of a release, in milliseconds.
const DEADLINE_MS_MIN: i64 = 50;
/// Further tries where a profile says nothing.
const RETRY: i64 = 2;
/// Most further tries.
const RETRY_MAX: i64 = 10;

/// Who ends a pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The device, so that a crash of the gateway never leaves a door open.
    Device {
        /// What to write; the time in steps is added to its value.
        write: Write,
        /// Length of a step, in milliseconds.
        step_ms: u32,
        /// Longest time, in steps; 0: the value says it all and the time is one step.
        steps_max: u16,
    },
    /// The gateway: on, wait, off. At the start everything is switched off.
    Gateway,
}

/// How it is known that a write was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The point of [`Output::state`] is read back.
    State,
    /// The device's echo of the write has to do.
    Echo {
        /// Why nothing better is to be had, for people.
        because: String,
    },
}

/// The relays of a device: equal channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// How many.
    pub channels: u16,
    /// From one channel's write to the next, in addresses.
    pub stride: u16,
    /// The point that says whether a channel is on; `None`: the device cannot be asked.
    pub state: Option<Point>,
    /// Switches on.
    pub on: Write,
    /// Switches off.
    pub off: Write,
    /// Switches on for a moment.
    pub pulse: Pulse,
    /// How long after a write the state may still be the old one, in milliseconds.
    pub settle_ms: u32,
    /// How it is known that a write was carried out.
    pub confirm: Confirm,
    /// How many further tries a release gets within its deadline. What must go off is tried for ever.
    pub retry: u16,
    /// When a release that is not confirmed is given up and reported, in milliseconds after it was ordered.
    pub deadline_ms: u32,
}

impl Output {
    /// Switches `channel` on.
    #[must_use]
    pub fn on(&self, channel: u16) -> Request {
        self.on.request(channel.saturating_mul(self.stride), self.on.value)
    }

    /// Switches `channel` off.
    #[must_use]
    pub fn off(&self, channel: u16) -> Request {
        self.off.request(channel.saturating_mul(self.stride), self.off.value)
    }

    /// Switches `channel` on for `hold_ms`, rounded up to the device's steps and cut at its longest; and for how long that is
    /// in milliseconds. `None`: the gateway has to end the pulse.
    #[must_use]
    pub fn pulse(&self, channel: u16, hold_ms: u32) -> Option<(Request, u32)> {
        let Pulse::Device { write, step_ms, steps_max } = &self.pulse else { return None };
        let steps = hold_ms.div_ceil((*step_ms).max(1)).clamp(1, u32::from(*steps_max).max(1));
        let added = if *steps_max == 0 { 0 } else { u16::try_from(steps).unwrap_or(u16::MAX) };
        let request = write.request(channel.saturating_mul(self.stride), write.value.saturating_add(added));
        Some((request, steps.saturating_mul(*step_ms)))
    }

    /// Reads the state of `channel`; `None`: its echo is all that confirms a write.
    #[must_use]
    pub fn read_back(&self, channel: u16) -> Option<Request> {
        let state = match &self.confirm {
            Confirm::State => self.state.as_ref()?,
            Confirm::Echo { .. } => return None,
        };
        Some(Request::Read { space: state.space, address: state.address_of(channel), count: state.registers })
    }
}

pub(super) fn read_output(t: &mut Table<'_>, scope: &Scope, polls: &[Poll], reply_ms: u32) -> Option<Output> {
    let channels = small(t.number("channels", 1..CHANNELS_MAX + 1, 1));
    let stride = small(t.number("stride", 0..1025, 1));
    let settle_ms = whole(t.number("settle_ms", 0..5001, 0));
    let state = polled(t, "state", scope, polls);
    if let Some(point) = &state
        && point.channels < channels
    {
        t.diagnostic_at("state", format!(
                "`{}` has {} channels, the output {channels}: write `channels = {channels}` at that point, or correct those of the output",
                point.name, point.channels
            ));
    }
    if let Some(point) = &state
        && point.kind != PointType::Bool
    {
        t.diagnostic_at(
            "state",
            format!(
                "`{}` has to be a `bool`, also in a register, where it is on when the register is not 0",
                point.name
            ),
        );
    }
    let on = t
        .need_or("on", "say what switches a relay on, e.g. `on = { space = \"coil\", address = 0, value = 0xFF00 }`")
        .and_then(|v| v.table(|t| read_write(t, scope, None)));
    let off = t
        .need_or("off", "say what switches a relay off, e.g. `off = { space = \"coil\", address = 0, value = 0 }`")
        .and_then(|v| v.table(|t| read_write(t, scope, Some(0))));
    let pulse = t
        .need_or(
            "pulse",
            "say who ends a pulse: `pulse = { by = \"gateway\" }`, or `by = \"device\"` with what is written for it",
        )
        .and_then(|v| v.table(|t| read_pulse(t, scope)))
        .flatten();
    let confirm = read_confirm(t);
    let retry = small(t.number("retry", 0..RETRY_MAX + 1, RETRY));
    let deadlines = DEADLINE_MS_MIN..i64::from(DEADLINE_MS_MAX) + 1;
    let deadline_ms = whole(t.number("deadline_ms", deadlines, i64::from(DEADLINE_MS_MAX)));
    let output =
        Output { channels, stride, state, on: on?, off: off?, pulse: pulse?, settle_ms, confirm, retry, deadline_ms };
    contradictions(t, &output, reply_ms);
    Some(output)
}

fn read_confirm(t: &mut Table<'_>) -> Confirm {
    if !t.has("confirm") && !t.has("state") {
        t.diagnostic(
            "name the point that says whether a relay is on as `state`, or say why there is none: \
             `confirm = { by = \"echo\", because = \"…\" }`",
        );
    }
    let read = t.table("confirm", |t| {
        let echo =
            t.need_or("by", "write `state` or `echo`").and_then(|v| v.choice(&[("state", false), ("echo", true)]));
        let Some(echo) = echo else {
            t.give_up();
            return None;
        };
        if !echo {
            if t.text("because").is_some() {
                t.diagnostic_at("because", "a reason is for `by = \"echo\"`; reading the state back needs none");
            }
            return Some(Confirm::State);
        }
        let because = t
            .need_or("because", "say why the relay cannot be read back")
            .and_then(|v| v.parsed(reason))
            .unwrap_or_default();
        Some(Confirm::Echo { because })
    });
    if let Some(Some(Confirm::State)) = &read
        && !t.has("state")
    {
        t.diagnostic_at("confirm", "`by = \"state\"` reads `state` back, and there is none: add `state = \"POINT\"`");
    }
    read.flatten().unwrap_or(Confirm::State)
}

fn reason(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("say why the relay cannot be read back") } else { Ok(text.to_owned()) }
}

/// What could never work, however well the device does.
fn contradictions(t: &Table<'_>, output: &Output, reply_ms: u32) {
    writes(t, output);
    // The write and the read each take up to `reply_ms`, and the read waits for the state to settle; by echo there is time for the
    // write and one more.
    let (settles_ms, what) = match output.confirm {
        Confirm::State => (output.settle_ms, "`settle_ms` and twice `reply_ms`"),
        Confirm::Echo { .. } => (0, "twice `reply_ms`: the write, and one more"),
    };
    let needs = settles_ms.saturating_add(reply_ms.saturating_mul(2));
    if output.deadline_ms < needs {
        let key = ["deadline_ms", "settle_ms"].into_iter().find(|key| t.has(key)).unwrap_or("deadline_ms");
        t.diagnostic_at(
            key,
            format!(
                "`deadline_ms` is {} and a release may take {needs} ms to be confirmed ({what}): \
                 raise it, up to {DEADLINE_MS_MAX}, or lower those",
                output.deadline_ms
            ),
        );
    }
    if let Pulse::Device { step_ms, .. } = &output.pulse
        && output.confirm == Confirm::State
        && *step_ms <= output.settle_ms
    {
        t.diagnostic_at(
            "settle_ms",
            format!("a pulse may last {step_ms} ms and is over before its state settles: lower `settle_ms`, or confirm by echo"),
        );
    }
}

/// What writes say against each other, and against the number of channels.
fn writes(t: &Table<'_>, output: &Output) {
    let same = |a: &Write, b: &Write| a.request(0, a.value) == b.request(0, b.value);
    if same(&output.on, &output.off) {
        t.diagnostic_at(
            "off",
            "it writes the same as `on`, so nothing would ever be switched off: correct `value` or `address`",
        );
    }
    if output.stride == 0 && output.channels > 1 {
        t.diagnostic_at(
            "stride",
            format!(
                "with 0, all {} channels would be one relay: write how far apart they are, or `channels = 1`",
                output.channels
            ),
        );
    }
    let further = u32::from(output.channels.saturating_sub(1)) * u32::from(output.stride);
    let pulse = match &output.pulse {
        Pulse::Device { write, .. } => Some(("pulse", write)),
        Pulse::Gateway => None,
    };
    for (key, write) in [("on", &output.on), ("off", &output.off)].into_iter().chain(pulse) {
        if u32::from(write.address) + further > u32::from(u16::MAX) {
            t.diagnostic_at(
                key,
                "the last channel lies beyond the last address, 65535: correct `address`, `channels` or `stride`",
            );
        }
    }
}

fn read_pulse(t: &mut Table<'_>, scope: &Scope) -> Option<Pulse> {
    let device = t
        .need_or("by", "write `gateway`, or `device` if the device ends the pulse itself")
        .and_then(|v| v.choice(&[("device", true), ("gateway", false)]));
    let Some(device) = device else {
        t.give_up();
        return None;
    };
    if !device {
        return Some(Pulse::Gateway);
    }
    let write = read_write(t, scope, None);
    let step_ms = t
        .need_or("step_ms", "write how long one step of the device's time is, in milliseconds")
        .and_then(|v| v.number(1..600_001))
        .map_or(1000, whole);
    let steps_max = small(t.number("steps_max", REGISTER, 0));
    if write.value.checked_add(steps_max).is_none() {
        t.diagnostic_at("steps_max", "`value` plus `steps_max` is more than a register holds: lower one of them");
    }
    if write.multiple && write.space.is_bits() && steps_max > 0 {
        t.diagnostic_at(
            "multiple",
            "FC 15 carries one bit, so the time of the pulse would be lost: leave `multiple` out, or `steps_max`",
        );
    }
    Some(Pulse::Device { write, step_ms, steps_max })
}

#[cfg(test)]
mod tests {
    use crate::profile::check_text;

    /// A relay board with these further lines in `[output]`.
    fn board(state: &str, pulse: &str, more: &str) -> Result<String, String> {
        let text = format!(
            "schema = 1\nid = \"board\"\nsource = \"s\"\nlink = {{ address_base = 0 }}\n[points]\n\
             relay = {{ space = \"coil\", address = 0, type = \"bool\" }}\n\
             number = {{ space = \"input\", address = 0, type = \"u16\" }}\n\
             [[poll]]\nname = \"status\"\nevery_ms = 1000\npoints = [\"relay\", \"number\"]\n\
             [output]\n{state}\non = {{ space = \"coil\", address = 0 }}\noff = {{ space = \"coil\", address = 0 }}\n\
             pulse = {{ {pulse} }}\n{more}\n"
        );
        check_text("board.toml", &text)
    }

    const STATE: &str = "state = \"relay\"";
    const GATEWAY: &str = "by = \"gateway\"";

    #[test]
    fn what_confirms_a_release_and_how_long_it_is_tried_is_said_and_shown() {
        let text = board(STATE, GATEWAY, "confirm = { by = \"state\" }\nretry = 4\ndeadline_ms = 900").unwrap();
        assert!(text.contains("confirmed by reading `relay` back"), "{text}");
        assert!(text.contains("4 further tries, given up and reported after 900 ms"), "{text}");
        let text = board("", GATEWAY, "confirm = { by = \"echo\", because = \"no register for it\" }").unwrap();
        assert!(text.contains("NOT read back (no register for it)"), "{text}");
        assert!(text.contains("2 further tries, given up and reported after 1500 ms"), "{text}");
    }

    #[test]
    fn what_contradicts_itself_about_a_release_is_told_with_its_line_and_a_remedy() {
        let device = "by = \"device\", space = \"coil\", address = 8, step_ms = 100";
        for (state, pulse, more, wanted) in [
            (
                "",
                GATEWAY,
                "",
                "board.toml:12:1: `output`: name the point that says whether a relay is on as `state`, or say why",
            ),
            (
                "",
                GATEWAY,
                "confirm = { by = \"state\" }",
                "board.toml:17:1: `output.confirm`: `by = \"state\"` reads `state` back",
            ),
            (STATE, GATEWAY, "confirm = { by = \"echo\" }", "`because` is missing"),
            (
                STATE,
                GATEWAY,
                "confirm = { by = \"echo\", because = \" \" }",
                "`output.confirm.because`: say why the relay",
            ),
            (
                STATE,
                GATEWAY,
                "confirm = { by = \"state\", because = \"x\" }",
                "`output.confirm.because`: a reason is for",
            ),
            (
                STATE,
                GATEWAY,
                "confirm = { by = \"hope\" }",
                "`output.confirm.by`: one of `state`, `echo` is wanted, got `hope`",
            ),
            (STATE, GATEWAY, "retry = 11", "board.toml:17:9: `output.retry`: a whole number from 0 to 10 is wanted"),
            (STATE, GATEWAY, "deadline_ms = 1501", "`output.deadline_ms`: a whole number from 50 to 1500 is wanted"),
            (
                STATE,
                GATEWAY,
                "deadline_ms = 300",
                "board.toml:17:1: `output.deadline_ms`: `deadline_ms` is 300 and a release may take 400 ms",
            ),
            (
                STATE,
                GATEWAY,
                "settle_ms = 1200",
                "`output.settle_ms`: `deadline_ms` is 1500 and a release may take 1600 ms",
            ),
            (
                "",
                GATEWAY,
                "confirm = { by = \"echo\", because = \"x\" }\ndeadline_ms = 399",
                "board.toml:18:1: `output.deadline_ms`: `deadline_ms` is 399 and a release may take 400 ms to be confirmed (twice",
            ),
            (
                STATE,
                "by = \"device\", space = \"coil\", address = 8, step_ms = 100, steps_max = 9, multiple = true, value = 0",
                "",
                "`output.pulse.multiple`: FC 15 carries one bit, so the time of the pulse would be lost",
            ),
            (
                STATE,
                GATEWAY,
                "channels = 2\nstride = 0",
                "board.toml:18:1: `output.stride`: with 0, all 2 channels would be one relay",
            ),
            ("state = \"number\"", GATEWAY, "", "board.toml:13:1: `output.state`: `number` has to be a `bool`"),
            (STATE, device, "settle_ms = 100", "`output.settle_ms`: a pulse may last 100 ms and is over before"),
            (STATE, GATEWAY, "retries = 3", "`output.retries`: unknown key; did you mean `retry`?"),
        ] {
            let said = board(state, pulse, more).unwrap_err();
            assert!(said.contains(wanted), "{wanted}\nis not in:\n{said}");
        }
    }
}
