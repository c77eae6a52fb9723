//! What is kept of a run: every frame in hex with its time, and for each device a file like those of `devices/golden/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dormgate::access::input::Presented;
use dormgate::clock::Clock;
use dormgate::profile::{Block, InputKind, PointType, Profile, Trigger};
use dormgate::wire::modbus::{MBAP_BYTES, hex, rtu_frame};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The trace of the lines, see "Every frame in hex" in deploy/README.md.
const FRAMES: &str = "dormgate::frames";

/// One frame, as the trace reported it: `> 01 04 …` or `< …`.
#[derive(Clone)]
pub struct Frame {
    at: String,
    pub text: String,
}

struct Kept {
    frames: Vec<Frame>,
    all: File,
    /// What is in the file of each device, to which blocks are added.
    devices: BTreeMap<String, String>,
}

#[derive(Clone)]
pub struct Recorder {
    kept: Arc<Mutex<Kept>>,
    clock: Clock,
    folder: PathBuf,
}

fn wall(clock: &Clock) -> String {
    jiff::Timestamp::from_millisecond(clock.now().wall.0).expect("a time").to_string()
}

impl Recorder {
    /// Records from now on in `hil-TIME` in `folder`, for as long as the process lives.
    pub fn start(folder: &Path) -> Self {
        let clock = Clock::system();
        let began = wall(&clock);
        let folder = folder.join(format!("hil-{}", began.replace(':', "-")));
        fs::create_dir_all(&folder)
            .unwrap_or_else(|e| panic!("`{}`: {e}; DORMGATE_HIL_RECORD reports where", folder.display()));
        let mut all = File::create(folder.join("frames.txt")).expect("a file in a new folder");
        writeln!(all, "# every frame since {began}: time, line, > sent or < answered").expect("room on the disk");
        let kept = Kept { frames: Vec::new(), all, devices: BTreeMap::new() };
        let recorder = Self { kept: Arc::new(Mutex::new(kept)), clock, folder };
        tracing_subscriber::registry().with(recorder.clone()).init();
        recorder
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many frames there are: a place to look from.
    pub fn mark(&self) -> usize {
        self.kept.lock().expect("no panic").frames.len()
    }

    pub fn since(&self, mark: usize) -> Vec<Frame> {
        self.kept.lock().expect("no panic").frames.iter().skip(mark).cloned().collect()
    }

    /// Adds a block to the file of a device: what was done, the frames, what was learnt.
    pub fn block(&self, device: &str, over_tcp: bool, doing: &str, frames: &[Frame], learnt: &[String]) {
        let mut block = format!("# {}\n{doing}\n", frames.first().map_or("", |frame| &frame.at));
        for frame in frames {
            let text = if over_tcp { serial(&frame.text) } else { frame.text.clone() };
            writeln!(block, "{text}").expect("text");
        }
        for line in learnt {
            writeln!(block, "{line}").expect("text");
        }
        let mut kept = self.kept.lock().expect("no panic");
        let file = kept.devices.entry(device.to_owned()).or_default();
        if !file.is_empty() {
            file.push('\n');
        }
        file.push_str(&block);
        fs::write(self.folder.join(format!("{device}.txt")), file).expect("room on the disk");
    }
}

/// A TCP frame as it would stand on a serial line: golden files have no headers, and checksums instead.
fn serial(text: &str) -> String {
    let (way, bytes) = text.split_once(' ').expect("a direction");
    let bytes: Vec<u8> = bytes.split(' ').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    let (head, pdu) = bytes.split_at(MBAP_BYTES);
    format!("{way} {}", hex(&rtu_frame(*head.last().expect("a header"), pdu)))
}

#[derive(Default)]
struct Reported {
    line: String,
    message: String,
}

impl Visit for Reported {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "line" {
            value.clone_into(&mut self.line);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "line" => self.line = format!("{value:?}"),
            _ => {}
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != FRAMES {
            return;
        }
        let mut reported = Reported::default();
        event.record(&mut reported);
        let at = wall(&self.clock);
        let mut kept = self.kept.lock().expect("no panic");
        writeln!(kept.all, "{at} {} {}", reported.line, reported.message).expect("room on the disk");
        kept.frames.push(Frame { at, text: reported.message });
    }
}

/// What a block reports, in the words of golden files.
pub fn learnt(profile: &Profile, block: &Block) -> Vec<String> {
    let mut lines = Vec::new();
    let on = |flag: bool| if flag { "on" } else { "off" };
    for (at, reader) in profile.readers.iter().enumerate() {
        match reader.uid.read(block) {
            Some(Presented::Card(uid)) => lines.push(format!("card {at} {uid}")),
            Some(Presented::Lossy(reading)) => {
                lines.push(format!("card {at} {:X}:{}", reading.value, reading.transform));
            }
            None if reader.uid.point.decode(block, 0).is_some() => lines.push(format!("card {at} none")),
            Some(Presented::Malformed(_)) | None => {}
        }
        match &reader.trigger {
            Trigger::Latch { flag, .. } if at == 0 => {
                lines.extend(flag.flag(block, 0).map(|flag| format!("latch {}", on(flag))));
            }
            Trigger::Level(Some(flag)) if at == 0 => {
                lines.extend(flag.flag(block, 0).map(|flag| format!("present {}", on(flag))));
            }
            Trigger::Counter { count, .. } => {
                lines.extend(count.number(block, 0).map(|count| format!("counter {at} {count}")));
            }
            Trigger::Latch { .. } | Trigger::Level(_) => {}
        }
    }
    if let Some((output, state)) = profile.output.as_ref().and_then(|output| Some((output, output.state.as_ref()?))) {
        let relay = |at: u16| state.flag(block, at).map(|flag| format!("relay {at} {}", on(flag)));
        lines.extend((0..output.channels).filter_map(relay));
    }
    if let Some(meter) = &profile.meter {
        let number = |of: &Option<(dormgate::profile::Point, f64)>| {
            of.as_ref().and_then(|(point, factor)| Some(point.number(block, 0)? * factor))
        };
        lines.extend(number(&meter.power).map(|power| format!("power {power} W")));
        lines.extend(number(&meter.energy).map(|energy| format!("energy {energy} kWh")));
    }
    for input in &profile.inputs {
        let kind = match input.kind {
            InputKind::ContactOpen => "contact_open",
            InputKind::ExitButton => "exit_button",
            InputKind::Tamper => "tamper",
            InputKind::Fire => "fire",
            InputKind::Overload => "overload",
            InputKind::RestrictedLoad => "restricted_load",
            InputKind::PassedIn => "passed_in",
            InputKind::PassedOut => "passed_out",
        };
        let reported = if input.point.kind == PointType::Bool {
            input.point.flag(block, 0).map(|flag| if flag == input.when { "yes".to_owned() } else { "no".to_owned() })
        } else {
            input.point.number(block, 0).map(|count| count.to_string())
        };
        lines.extend(reported.map(|reported| format!("input {kind} 0 {reported}")));
    }
    lines
}
