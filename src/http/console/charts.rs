//! `GET /api/v1/charts`: the last 24 h in memory: decisions, power, lines, flushes. Read from the metrics every five minutes, so that
//! nothing is counted twice and no task but this one has work with it. Empty after a start: what is to be kept for longer is what
//! Prometheus is for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use crate::access::id::Timestamp;
use crate::http::api::{body, refuse};
use crate::lock;

/// Time between two samples, in seconds.
pub const SAMPLE_EVERY_S: u64 = 300;
/// Samples kept: 24 h.
pub const SAMPLES_MAX: usize = 288;
/// Series kept, about one for each power box and three for each line; more are left out. With [`SAMPLES_MAX`] some 4 MiB.
pub const SERIES_MAX: usize = 4_096;

/// What the metrics stand at: by series, and whether it only grows.
type Totals = BTreeMap<String, (f64, bool)>;

/// One stretch of time: how much each series grew in it, or stood at its end.
type Sample = (Timestamp, BTreeMap<String, f32>);

/// See the module's head.
#[derive(Default)]
pub(super) struct Charts(Mutex<History>);

#[derive(Default)]
struct History {
    since: Option<(Timestamp, Totals)>,
    samples: VecDeque<(Timestamp, Vec<f32>)>,
    /// The series, in the order of the samples' numbers.
    series: Vec<String>,
}

impl History {
    /// What grew since the last sample; `None`: there was none.
    fn grown(&self, at: Timestamp, totals: &Totals) -> Option<Sample> {
        let (_, before) = self.since.as_ref()?;
        let grown = |(name, (total, grows)): (&String, &(f64, bool))| {
            let base = if *grows { before.get(name).map_or(0.0, |(total, _)| *total) } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a picture")]
            let value = (total - base) as f32;
            (name.clone(), value)
        };
        Some((at, totals.iter().map(grown).collect()))
    }

    fn take(&mut self, at: Timestamp, totals: Totals) {
        if let Some((at, grown)) = self.grown(at, &totals) {
            let new = grown.keys().filter(|name| !self.series.contains(name)).cloned().collect::<Vec<_>>();
            let room = SERIES_MAX - self.series.len();
            self.series.extend(new.into_iter().take(room));
            let values = self.series.iter().map(|name| grown.get(name).copied().unwrap_or(f32::NAN));
            if self.samples.len() >= SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back((at, values.collect()));
        }
        self.since = Some((at, totals));
    }

    /// By column, with the stretch that has just begun.
    fn json(&self, at: Timestamp, totals: &Totals) -> Value {
        let last = self.grown(at, totals).map(|(at, grown)| {
            let values = self.series.iter().map(|name| grown.get(name).copied().unwrap_or(f32::NAN));
            let new = grown.iter().filter(|(name, _)| !self.series.contains(name));
            (at, values.collect::<Vec<_>>(), new.map(|(name, value)| (name.clone(), *value)).collect::<Vec<_>>())
        });
        let new: Vec<(String, f32)> = last.as_ref().map_or(Vec::new(), |(.., new)| new.clone());
        let rows: Vec<(Timestamp, &[f32])> = self.samples.iter().map(|(at, values)| (*at, values.as_slice())).collect();
        let rows = || rows.iter().copied().chain(last.iter().map(|(at, values, _)| (*at, values.as_slice())));
        let number = |value: Option<&f32>| value.filter(|value| value.is_finite()).map_or(Value::Null, |v| json!(v));
        let mut series = Map::new();
        for (place, name) in self.series.iter().enumerate() {
            series.insert(name.clone(), rows().map(|(_, values)| number(values.get(place))).collect());
        }
        let missing = rows().count().saturating_sub(1);
        for (name, value) in &new {
            let column = std::iter::repeat_n(Value::Null, missing).chain([number(Some(value))]);
            series.insert(name.clone(), column.collect());
        }
        let at = rows().map(|(at, _)| json!(at)).collect::<Value>();
        json!({ "every_s": SAMPLE_EVERY_S, "at": at, "series": series })
    }
}

/// Samples the metrics for as long as the console is served.
pub(super) async fn sample(console: Shared) {
    let mut ticks = interval(Duration::from_secs(SAMPLE_EVERY_S));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match totals(&console) {
            Ok(totals) => lock(&console.charts.0).take(console.clock.now().wall, totals),
            Err(error) => tracing::warn!(%error, "the metrics cannot be sampled"),
        }
    }
}

pub(super) async fn charts(State(console): State<Shared>) -> Response {
    match totals(&console) {
        Ok(totals) => body(&lock(&console.charts.0).json(console.clock.now().wall, &totals)),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be read: {error}")),
    }
}

fn totals(console: &Shared) -> Result<Totals, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &console.pages.registry)?;
    Ok(read(&text))
}

/// The series of the charts, from the text of `/metrics`.
fn read(text: &str) -> Totals {
    let mut totals = Totals::new();
    let mut add = |name: String, value: f64, grows: bool| totals.entry(name).or_insert((0.0, grows)).0 += value;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let label = |wanted: &str| {
            let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once("=\""));
            pairs.into_iter().find(|(label, _)| *label == wanted).map_or("", |(_, value)| value.trim_end_matches('"'))
        };
        match name {
            "dormgate_decisions_total" => add(format!("decisions.{}", label("decision")), value, true),
            "dormgate_portal_power_watts" => add(format!("power.{}", label("portal")), value, false),
            "dormgate_modbus_request_seconds_sum" => add(format!("busy_s.{}", label("bus")), value, true),
            "dormgate_modbus_requests_total" => {
                add(format!("requests.{}", label("bus")), value, true);
                if label("outcome") != OK {
                    add(format!("errors.{}", label("bus")), value, true);
                }
            }
            "dormgate_store_flush_seconds_sum" => add("flush_s".to_owned(), value, true),
            "dormgate_store_flush_seconds_count" => add("flushes".to_owned(), value, true),
            _ => {}
        }
    }
    totals
}

/// The outcome of a Modbus request that is no error.
const OK: &str = "ok";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(grants: u32, watts: &str) -> Totals {
        read(&format!(
            "# HELP dormgate_decisions decisions\n# TYPE dormgate_decisions counter\n\
             dormgate_decisions_total{{kind=\"gate\",decision=\"grant\",reason=\"granted\"}} {grants}\n\
             dormgate_decisions_total{{kind=\"door\",decision=\"grant\",reason=\"exit\"}} 1\n\
             dormgate_decisions_total{{kind=\"door\",decision=\"deny\",reason=\"lost\"}} 2\n\
             {watts}\
             dormgate_modbus_requests_total{{bus=\"riser-2\",outcome=\"ok\"}} 100\n\
             dormgate_modbus_requests_total{{bus=\"riser-2\",outcome=\"timeout\"}} {grants}\n\
             dormgate_modbus_request_seconds_sum{{bus=\"riser-2\"}} 1.5\n\
             dormgate_modbus_request_seconds_bucket{{bus=\"riser-2\",le=\"0.1\"}} 7\n\
             dormgate_store_flush_seconds_sum 0.25\ndormgate_store_flush_seconds_count 9\n# EOF\n"
        ))
    }

    const METER: &str = "dormgate_portal_power_watts{portal=\"power-412\"} 41.2\n";

    #[test]
    fn a_sample_has_what_grew_since_the_last_one_and_what_a_meter_shows() {
        let mut history = History::default();
        history.take(Timestamp(0), text(10, ""));
        assert!(history.samples.is_empty(), "what was before the start is not of the last five minutes");
        history.take(Timestamp(300_000), text(13, METER));
        let json = history.json(Timestamp(310_000), &text(14, ""));
        assert_eq!(json["at"], json!(["1970-01-01T00:05:00.000Z", "1970-01-01T00:05:10.000Z"]));
        let series = &json["series"];
        assert_eq!(series["decisions.grant"], json!([3.0, 1.0]));
        assert_eq!(series["decisions.deny"], json!([0.0, 0.0]));
        assert_eq!(series["errors.riser-2"], json!([3.0, 1.0]));
        assert_eq!(series["requests.riser-2"], json!([3.0, 1.0]));
        assert_eq!((series["power.power-412"][0].as_f64().unwrap() * 10.0).round(), 412.0);
        assert_eq!(series["power.power-412"][1], Value::Null, "the meter is silent");
        assert_eq!(series["busy_s.riser-2"], json!([0.0, 0.0]));
        assert_eq!((&series["flush_s"], &series["flushes"]), (&json!([0.0, 0.0]), &json!([0.0, 0.0])));
        // A meter that comes later has no past.
        let json = history.json(Timestamp(310_000), &read("dormgate_portal_power_watts{portal=\"b\"} 7\n"));
        assert_eq!(json["series"]["power.b"], json!([null, 7.0]));
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut history = History::default();
        for n in 0..=SAMPLES_MAX + 5 {
            history.take(Timestamp(i64::try_from(n).unwrap() * 300_000), text(u32::try_from(n).unwrap(), METER));
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        let many: String =
            (0..2 * SERIES_MAX).map(|n| format!("dormgate_portal_power_watts{{portal=\"p{n}\"}} 1\n")).collect();
        history.take(Timestamp(0), read(&many));
        assert_eq!(history.series.len(), SERIES_MAX);
    }
}
