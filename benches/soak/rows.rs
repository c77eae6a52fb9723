//! The rows of a soak: written as they come, compared by quarter at the end, and drawn.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::asker::Window;
use super::support::broker::Kept;
use super::support::status_mib;

/// The columns, each with its unit.
const COLUMNS: [&str; 9] = [
    "decisions",
    "unanswered",
    "decision_p50_ms",
    "decision_p99_ms",
    "echo_p50_ms",
    "echo_p99_ms",
    "resident_mib",
    "descriptors",
    "processor_ms",
];
/// What is drawn: a title, and the columns of one picture.
const PANELS: [(&str, &[usize]); 4] = [
    ("resident memory, MiB", &[6]),
    ("open descriptors", &[7]),
    ("request to decision, ms: p50, p99", &[2, 3]),
    ("bare echo at the same time, ms: p50, p99", &[4, 5]),
];

/// A panel's size, and the room beside and between, in pixels.
const WIDTH: f64 = 800.0;
const PANEL: f64 = 110.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 40.0;

/// What was measured in one interval.
pub struct Row {
    at: Duration,
    values: [f64; 9],
}

impl Row {
    pub fn new(at: Duration, mut window: Window, gateway: &Kept, processor_ms: f64) -> Self {
        let pid = gateway.0.id();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as f64;
        let (p50, p99) = percentiles(&mut window.decisions);
        let (echo_p50, echo_p99) = percentiles(&mut window.echoes);
        let (decisions, unanswered) = (window.decisions.len() as f64, f64::from(window.unanswered));
        let resident = status_mib(pid, "VmRSS:");
        let values = [decisions, unanswered, p50, p99, echo_p50, echo_p99, resident, descriptors, processor_ms];
        Self { at, values }
    }
}

/// In milliseconds.
fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len().max(1) - 1) * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    (at(50), at(99))
}

pub struct Rows {
    all: Vec<Row>,
    file: File,
    picture: PathBuf,
}

impl Rows {
    pub fn new(dir: &Path) -> Self {
        let mut file = File::create(dir.join("soak.csv")).unwrap();
        writeln!(file, "s,{}", COLUMNS.join(",")).unwrap();
        Self { all: Vec::new(), file, picture: dir.join("soak.svg") }
    }

    pub fn push(&mut self, row: Row) {
        let values: Vec<_> = row.values.iter().map(|value| format!("{value:.2}")).collect();
        let line = format!("{},{}", row.at.as_secs(), values.join(","));
        writeln!(self.file, "{line}").unwrap();
        println!("{line}");
        self.all.push(row);
    }

    /// The first quarter beside the last one: the median of each column, and its largest value.
    pub fn finish(&self) {
        let quarter = (self.all.len() / 4).max(1);
        let (first, last) = (&self.all[..quarter], &self.all[self.all.len() - quarter..]);
        println!("{:<18} {:>10} {:>10} {:>10} {:>10}", "", "first", "last", "first max", "last max");
        for (column, name) in COLUMNS.iter().enumerate() {
            let of = |rows: &[Row]| {
                let mut values: Vec<_> = rows.iter().map(|row| row.values[column]).filter(|v| !v.is_nan()).collect();
                values.sort_unstable_by(f64::total_cmp);
                (values.get(values.len() / 2).copied().unwrap_or(f64::NAN), values.last().copied().unwrap_or(f64::NAN))
            };
            let ((first, first_max), (last, last_max)) = (of(first), of(last));
            println!("{name:<18} {first:>10.2} {last:>10.2} {first_max:>10.2} {last_max:>10.2}");
        }
        std::fs::write(&self.picture, self.draw()).unwrap();
    }

    /// One panel under the other, time from left to right; readable on white and on black.
    fn draw(&self) -> String {
        let height = GAP + PANELS.len() as f64 * (PANEL + GAP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            LEFT + WIDTH + LEFT
        );
        let whole = self.all.last().map_or(1.0, |row| row.at.as_secs_f64());
        for (panel, (title, columns)) in PANELS.iter().enumerate() {
            let bottom = (panel + 1) as f64 * (PANEL + GAP);
            let values = || self.all.iter().flat_map(|row| columns.iter().map(|column| row.values[*column]));
            let most = values().filter(|value| !value.is_nan()).fold(0.0, f64::max) * 1.1;
            writeln!(
                svg,
                "<text x=\"{LEFT}\" y=\"{:.0}\">{title}</text>\n<path d=\"M{LEFT} {:.0}V{bottom:.0}H{:.0}\" fill=\"none\" stroke=\"#999\"/>\n\
                 <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{most:.1}</text><text x=\"{:.0}\" y=\"{bottom:.0}\" text-anchor=\"end\">0</text>\n\
                 <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{:.0} min</text>",
                bottom - PANEL - 6.0,
                bottom - PANEL,
                LEFT + WIDTH,
                LEFT - 6.0,
                bottom - PANEL + 12.0,
                LEFT - 6.0,
                LEFT + WIDTH,
                bottom + 15.0,
                whole / 60.0
            )
            .unwrap();
            for (column, colour) in columns.iter().zip(["#1f6feb", "#c2410c"]) {
                let points: Vec<_> = self
                    .all
                    .iter()
                    .filter(|row| !row.values[*column].is_nan())
                    .map(|row| {
                        let (x, y) = (row.at.as_secs_f64() / whole * WIDTH, row.values[*column] / most * PANEL);
                        format!("{:.1},{:.1}", LEFT + x, bottom - y)
                    })
                    .collect();
                writeln!(
                    svg,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                    points.join(" ")
                )
                .unwrap();
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}
