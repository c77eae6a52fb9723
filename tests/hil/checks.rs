//! What is tested of the devices themselves, without a gateway: each answers, cards are read, relays move, meters measure.

use std::time::Duration;

use dormgate::access::id::{CardUid, PortalId};
use dormgate::access::input::Presented;
use dormgate::config::{ModbusPart, Part, Parts};
use dormgate::profile::{Block, Reader, Trigger};
use dormgate::wire::modbus::{Request, Space};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, Device, NoAnswer};
use crate::person::{Report, heading, please, wait};

/// How often each device is asked to see whether the line is a good one.
const ROUNDS: usize = 50;
/// A unit number that a device of a building should not have.
const NOBODY: u8 = 247;
/// How long a relay is closed, in milliseconds.
const PULSE_MS: u32 = 1_000;
/// How long after the end of a pulse the relay may still be read as closed, in milliseconds.
const GRACE_MS: u32 = 2_000;
/// How long a relay that was moved is ordered off until a device reports that it did so, in milliseconds.
const OFF_FOR_MS: u64 = 5_000;
/// Wait between two tries of it, in milliseconds.
const OFF_AGAIN_MS: u64 = 200;
/// No room draws more, in watts; beyond, the profile reads the wrong register.
const POWER_W_MAX: f64 = 50_000.0;

pub async fn every_device_answers(bench: &mut Bench, devices: &[Device], report: &mut Report) {
    heading("Each device answers what its profile asks");
    for device in devices {
        for poll in &device.profile.polls {
            match bench.poll(device, poll, true).await {
                Ok(_) => report.ok(format_args!("{device}: {}", poll.name)),
                Err(error) => report.failed(format_args!("{device}: {}: {error}", poll.name)),
            }
        }
    }
}

pub async fn every_device_goes_on_answering(bench: &mut Bench, devices: &[Device], report: &mut Report) {
    heading(format_args!("Each device answers {ROUNDS} times in a row"));
    for device in devices {
        let Some(read) = device.profile.polls.first().and_then(|poll| poll.reads.first()) else { continue };
        let (mut took, mut errors) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            match bench.ask(device, read).await {
                Ok(_) => took.push(began.elapsed()),
                Err(error) => errors.push(error.to_string()),
            }
            // A device that is not there is not waited for fifty times.
            if errors.len() >= 3 {
                break;
            }
        }
        took.sort();
        match (took.get(took.len() / 2), took.last(), errors.first()) {
            (Some(median), Some(slowest), None) => {
                report.ok(format_args!("{device}: median {median:.1?}, slowest {slowest:.1?}"));
            }
            (_, _, error) => {
                let error = error.map_or("no answer", String::as_str);
                report.failed(format_args!(
                    "{device}: {} of {} failed, {error}",
                    errors.len(),
                    errors.len() + took.len()
                ));
            }
        }
    }
}

pub async fn nobody_answers_for_another(bench: &mut Bench, devices: &[Device], report: &mut Report) {
    heading("A number that nobody has is not answered, and the line goes on");
    let mut buses: Vec<&Device> = Vec::new();
    for device in devices {
        if !buses.iter().any(|other| other.bus == device.bus) {
            buses.push(device);
        }
    }
    for device in buses {
        if devices.iter().any(|other| other.bus == device.bus && other.unit == NOBODY) {
            report.left_out(format_args!("line `{}`: unit {NOBODY} is somebody", device.bus));
            continue;
        }
        let nobody = Device { unit: NOBODY, ..device.clone() };
        let asked = bench.ask(&nobody, &Request::Read { space: Space::Holding, address: 0, count: 1 }).await;
        let Some(read) = device.profile.polls.first().and_then(|poll| poll.reads.first()) else { continue };
        match (asked, bench.ask(device, read).await) {
            (Ok(_), _) => report.failed(format_args!(
                "line `{}`: unit {NOBODY} answers; a device answers to every number, or one is not in the configuration",
                device.bus
            )),
            (Err(_), Err(error)) => report.failed(format_args!("line `{}` is disturbed by it: {error}", device.bus)),
            (Err(_), Ok(_)) => report.ok(format_args!("line `{}`", device.bus)),
        }
    }
}

fn device(part: &ModbusPart) -> Device {
    Device { bus: part.bus.clone(), unit: part.unit, profile: part.profile.clone() }
}

/// Reads all that reports of the card; `keep`s it for the device's file.
async fn look(bench: &mut Bench, at: &Device, reader: &Reader, keep: bool) -> Result<Block, NoAnswer> {
    let points = reader.points();
    let mut all = Block::default();
    for poll in at.profile.clone().polls_of(&points) {
        let block = bench.poll(at, poll, keep).await?;
        all.extend(block);
    }
    Ok(all)
}

/// Looks until `seen` makes something of what the reader reports, or the person's time is over.
async fn until<T>(
    bench: &mut Bench,
    at: &Device,
    reader: &Reader,
    seen: impl Fn(&Block) -> Option<T>,
) -> Result<T, String> {
    let deadline = Instant::now() + wait();
    let mut trouble = String::new();
    while Instant::now() < deadline {
        match look(bench, at, reader, false).await {
            Ok(block) => {
                if let Some(found) = seen(&block) {
                    // Once more, for the file: what was seen is still there.
                    drop(look(bench, at, reader, true).await);
                    return Ok(found);
                }
            }
            Err(error) => trouble = format!("; {error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(format!("nothing within {} s{trouble}", wait().as_secs()))
}

fn card_in(reader: &Reader, block: &Block) -> Option<Presented> {
    let there = match &reader.trigger {
        Trigger::Level(None) | Trigger::Counter { .. } => true,
        Trigger::Level(Some(flag)) | Trigger::Latch { flag, .. } => flag.flag(block, 0)?,
    };
    if there { reader.uid.read(block) } else { None }
}

/// Lets the person present a card at a portal and take it away again. The card that was read.
pub async fn a_card_is_read_and_goes(
    bench: &mut Bench,
    (id, parts): (&PortalId, &Parts),
    report: &mut Report,
) -> Option<CardUid> {
    let part = parts.reader.modbus()?;
    let at = device(part);
    let reader = part.profile.readers.get(usize::from(part.channel))?.clone();
    heading(format_args!("Cards at `{}`, {at}", id));
    let before = match look(bench, &at, &reader, false).await {
        Ok(block) => block,
        Err(error) => {
            report.failed(format_args!("`{}`: {error}", id));
            return None;
        }
    };
    let counted = match &reader.trigger {
        Trigger::Latch { release, .. } => {
            // A card that was there before somebody asked is forgotten.
            drop(bench.ask(&at, &release.request(0, release.value)).await);
            None
        }
        Trigger::Counter { count, .. } => count.number(&before, 0),
        Trigger::Level(_) => {
            if card_in(&reader, &before).is_some() {
                please(format_args!("take the card away from `{}`", id));
                let gone = |block: &Block| card_in(&reader, block).is_none().then_some(());
                if let Err(error) = until(bench, &at, &reader, gone).await {
                    report.failed(format_args!("`{}`: the card does not go: {error}", id));
                    return None;
                }
            }
            None
        }
    };
    please(format_args!("present a card at `{}` and leave it there", id));
    let fresh = |block: &Block| match &reader.trigger {
        Trigger::Counter { count, .. } if count.number(block, 0) == counted => None,
        Trigger::Counter { .. } | Trigger::Level(_) | Trigger::Latch { .. } => card_in(&reader, block),
    };
    let card = match until(bench, &at, &reader, fresh).await {
        Ok(Presented::Card(uid)) => {
            report.ok(format_args!("`{}`: card {uid}; compare it with what is printed on it", id));
            Some(uid)
        }
        Ok(Presented::Lossy(reading)) => {
            report.ok(format_args!("`{}`: {reading}; the reader gives no whole card number", id));
            None
        }
        Ok(Presented::Malformed(text)) => {
            report.failed(format_args!("`{}`: `{text}` is no card number; is it the right profile?", id));
            None
        }
        Err(error) => {
            report.failed(format_args!("`{}`: no card: {error}", id));
            None
        }
    };
    let took = match &reader.trigger {
        Trigger::Level(_) => None,
        Trigger::Latch { release, .. } => Some(("release".to_owned(), release.request(0, release.value))),
        Trigger::Counter { count, acknowledge } => {
            let now = look(bench, &at, &reader, false).await.ok().and_then(|block| count.number(&block, 0));
            // Counters are whole and small; what is no such number acknowledges nothing.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a register's number")]
            let number = now.map_or(0, |number| number as u16);
            acknowledge.as_ref().map(|write| (format!("release {number}"), write.request(0, number)))
        }
    };
    if let Some((doing, request)) = took {
        match bench.write(&at, &doing, &request).await {
            Ok(()) => report.ok(format_args!("`{}`: the reader is free for the next card", id)),
            Err(error) => report.failed(format_args!("`{}`: the card is not taken over: {error}", id)),
        }
    }
    please(format_args!("take the card away from `{}`", id));
    if matches!(reader.trigger, Trigger::Level(_)) {
        let gone = |block: &Block| card_in(&reader, block).is_none().then_some(());
        match until(bench, &at, &reader, gone).await {
            Ok(()) => report.ok(format_args!("`{}`: the card has left", id)),
            Err(error) => report.failed(format_args!("`{}`: the card does not go: {error}", id)),
        }
    }
    card
}

/// How the test of a relay went wrong.
enum Wrong {
    /// Nothing was moved.
    Untouched(String),
    /// It was ordered to close, or may have been.
    Moved(String),
}

/// Whatever went wrong, a relay does not stay closed: ordered off until the device has taken it, or the time is over.
async fn off(bench: &mut Bench, at: &Device, request: &Request) -> Result<(), NoAnswer> {
    let deadline = Instant::now() + Duration::from_millis(OFF_FOR_MS);
    loop {
        match bench.ask(at, request).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(OFF_AGAIN_MS)).await,
        }
    }
}

pub async fn a_relay_closes_and_opens(bench: &mut Bench, (id, parts): (&PortalId, &Parts), report: &mut Report) {
    let Some(part) = parts.output.modbus() else { return };
    let (at, channel) = (device(part), part.channel);
    let Some(output) = part.profile.output.clone() else { return };
    heading(format_args!("The relay of `{}`, {at}, channel {channel}: it closes for a moment", id));
    let state = async |bench: &mut Bench| -> Result<Option<bool>, NoAnswer> {
        let (Some(state), Some(read)) = (&output.state, output.read_back(channel)) else { return Ok(None) };
        let (reply, _) = bench.ask(&at, &read).await?;
        let mut block = Block::default();
        block.add(&read, reply);
        Ok(state.flag(&block, channel))
    };
    let (doing, request, by_device) = match output.pulse(channel, PULSE_MS) {
        Some((request, ms)) => (format!("pulse {channel} {PULSE_MS}"), request, Some(ms)),
        None => (format!("on {channel}"), output.on(channel), None),
    };
    let settle = Duration::from_millis(u64::from(output.settle_ms));
    let run = async |bench: &mut Bench| -> Result<String, Wrong> {
        let text = |error: NoAnswer| Wrong::Moved(error.to_string());
        if state(bench).await.map_err(|error| Wrong::Untouched(error.to_string()))? == Some(true) {
            let reported = "it is closed already; is the room in use? Nothing was moved";
            return Err(Wrong::Untouched(reported.to_owned()));
        }
        bench.write(&at, &doing, &request).await.map_err(text)?;
        sleep(settle).await;
        let closed = state(bench).await.map_err(text)?;
        if closed == Some(false) {
            return Err(Wrong::Moved("it was ordered to close and reads as open".to_owned()));
        }
        let limit = match by_device {
            Some(ms) => Duration::from_millis(u64::from(ms + GRACE_MS)),
            None => {
                sleep(Duration::from_millis(u64::from(PULSE_MS))).await;
                bench.write(&at, &format!("off {channel}"), &output.off(channel)).await.map_err(text)?;
                settle + Duration::from_millis(u64::from(GRACE_MS))
            }
        };
        if closed.is_none() {
            return Ok("it cannot be read back: you have received it close and open, or it did not".to_owned());
        }
        let deadline = Instant::now() + limit;
        while state(bench).await.map_err(text)? == Some(true) {
            if Instant::now() > deadline {
                return Err(Wrong::Moved("it was to open and reads as closed".to_owned()));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok("closed, read back, open again, read back".to_owned())
    };
    match run(bench).await {
        Ok(reported) => report.ok(format_args!("`{}`: {reported}", id)),
        Err(Wrong::Untouched(error)) => report.failed(format_args!("`{}`: {error}", id)),
        Err(Wrong::Moved(error)) => {
            report.failed(format_args!("`{}`: {error}", id));
            if let Err(error) = off(bench, &at, &output.off(channel)).await {
                report.failed(format_args!(
                    "`{}`: IT MAY STILL BE CLOSED, it could not be switched off: {error}; switch it off by hand",
                    id
                ));
            }
        }
    }
}

pub async fn a_meter_measures(bench: &mut Bench, (id, parts): (&PortalId, &Parts), report: &mut Report) {
    let Some(part) = parts.meter.as_ref().and_then(Part::modbus) else { return };
    let at = device(part);
    let Some(meter) = &part.profile.meter else { return };
    heading(format_args!("The meter of `{}`, {at}", id));
    for (what, unit, of, max) in
        [("power", "W", &meter.power, POWER_W_MAX), ("energy", "kWh", &meter.energy, f64::INFINITY)]
    {
        let Some((point, factor)) = of else { continue };
        let points = [point];
        let Some(poll) = at.profile.polls_of(&points).next().cloned() else { continue };
        match bench
            .poll(&at, &poll, false)
            .await
            .map(|block| point.number(&block, part.channel).map(|number| number * factor))
        {
            Ok(Some(value)) if (0.0..=max).contains(&value.abs()) => {
                report.ok(format_args!("`{}`: {what} {value:.3} {unit}; compare it with the display", id));
            }
            Ok(value) => report.failed(format_args!("`{}`: {what} is {value:?} {unit}", id)),
            Err(error) => report.failed(format_args!("`{}`: {what}: {error}", id)),
        }
    }
}
