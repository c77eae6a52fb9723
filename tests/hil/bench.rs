//! The lines under test and the devices on them, asked one thing at a time by the gateway's own client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dormgate::config::{BusConfig, BusLine, Parts};
use dormgate::portals::modbus::line::{Line, LineError};
use dormgate::profile::{Block, Poll, Profile};
use dormgate::wire::modbus::{Reply, ReplyError, Request};
use tokio::time::{sleep, timeout};

use crate::record::{Frame, Recorder, learnt};

/// How long the line is left alone after something was wrong: what comes late does not disturb the next device, so that the
/// report names the one that is late.
const QUIET: Duration = Duration::from_millis(1_500);

/// How long a serial port that was just opened is emptied.
const AT_OPEN: Duration = Duration::from_millis(50);

/// A device on a line.
#[derive(Clone)]
pub struct Device {
    pub bus: String,
    pub unit: u8,
    pub profile: Arc<Profile>,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({})", self.bus, self.unit, self.profile.id)
    }
}

/// Every device that the portals name, once for each profile that it is asked by.
pub fn devices<'p>(portals: impl Iterator<Item = &'p Parts>) -> Vec<Device> {
    let parts = portals.flat_map(Parts::all).filter_map(dormgate::config::Part::modbus);
    let device = |part: &dormgate::config::ModbusPart| {
        let device = Device { bus: part.bus.clone(), unit: part.unit, profile: Arc::clone(&part.profile) };
        ((part.bus.clone(), part.unit, part.profile.id.clone()), device)
    };
    parts.map(device).collect::<BTreeMap<_, _>>().into_values().collect()
}

struct Lead {
    spec: BusConfig,
    line: Option<Line>,
    transaction: u16,
}

pub struct Bench {
    leads: BTreeMap<String, Lead>,
    pub recorder: Recorder,
}

/// Silence, or something that is no answer; or the device output no.
pub enum NoAnswer {
    Nothing(String),
    Refused(u8),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing(why) => f.write_str(why),
            Self::Refused(code) => write!(f, "refused with exception {code}"),
        }
    }
}

impl Bench {
    pub fn new(buses: Vec<BusConfig>, recorder: Recorder) -> Self {
        let lead = |spec: BusConfig| (spec.id.clone(), Lead { spec, line: None, transaction: 1 });
        Self { leads: buses.into_iter().map(lead).collect(), recorder }
    }

    fn over_tcp(&self, device: &Device) -> bool {
        matches!(self.leads.get(&device.bus).expect("a bus").spec.line, BusLine::Tcp(_))
    }

    /// Asks once. After anything but an answer the line is opened again.
    pub async fn ask(&mut self, device: &Device, request: &Request) -> Result<(Reply, Vec<Frame>), NoAnswer> {
        let lead = self.leads.get_mut(&device.bus).expect("the configuration was checked");
        let limit = Duration::from_millis(u64::from(lead.spec.timeout_ms.max(device.profile.link.reply_ms)));
        if lead.line.is_none() {
            let opened = Line::open(&lead.spec, lead.transaction).await;
            let name = &lead.spec.line;
            let mut line = opened.map_err(|e| NoAnswer::Nothing(format!("`{name}` cannot be opened: {e}")))?;
            if line.is_serial() {
                // What lay in the port before it was ours is nobody's answer.
                line.settle(AT_OPEN).await.map_err(|e| NoAnswer::Nothing(format!("`{name}` failed: {e}")))?;
            }
            lead.line = Some(line);
        }
        let line = lead.line.as_mut().expect("it is open");
        let mark = self.recorder.mark();
        let answer = match timeout(limit, line.exchange(device.unit, request)).await {
            Ok(Ok(reply)) => return Ok((reply, self.recorder.since(mark))),
            Ok(Err(LineError::Reply(ReplyError::Refused(exception)))) => return Err(NoAnswer::Refused(exception.0)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", limit.as_millis()),
        };
        lead.transaction = line.transaction();
        if !line.is_serial() {
            lead.line = None;
            sleep(QUIET.max(limit)).await;
        } else if line.settle(QUIET.max(limit)).await.is_err() {
            lead.line = None;
        }
        Err(NoAnswer::Nothing(answer))
    }

    /// One poll, and the block for the device's file.
    pub async fn poll(&mut self, device: &Device, poll: &Poll, keep: bool) -> Result<Block, NoAnswer> {
        let (mut block, mut frames) = (Block::default(), Vec::new());
        for read in &poll.reads {
            let (reply, reported) = self.ask(device, read).await?;
            block.add(read, reply);
            frames.extend(reported);
        }
        if keep {
            self.keep(device, &format!("poll {}", poll.name), &frames, &learnt(&device.profile, &block));
        }
        Ok(block)
    }

    /// One write, and the block for the device's file.
    pub async fn write(&mut self, device: &Device, doing: &str, request: &Request) -> Result<(), NoAnswer> {
        let (_, frames) = self.ask(device, request).await?;
        self.keep(device, doing, &frames, &[]);
        Ok(())
    }

    fn keep(&self, device: &Device, doing: &str, frames: &[Frame], learnt: &[String]) {
        let name = format!("{}-{}-{}", device.bus, device.unit, device.profile.id);
        self.recorder.block(&name, self.over_tcp(device), doing, frames, learnt);
    }

    /// Gives the lines back, for the gateway.
    pub fn close(&mut self) {
        for lead in self.leads.values_mut() {
            lead.line = None;
        }
    }
}
