//! The picture: charts below each other over one axis of time, as SVG. Small by hand: lines, a few ticks, and colours for light and dark.

use std::fmt::Write as _;

use crate::plan::{GIB, Plan};
use crate::run::{Begun, Sample, Story};
use crate::writer::Taken;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 112.0;
const TOP: f64 = 66.0;
const HEIGHT: f64 = 108.0;
const GAP: f64 = 40.0;
/// Points of a line: more would be closer than what a screen shows, and the file larger.
const COLUMNS: usize = 300;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-size:16px;font-weight:600;fill:#1f2328}.h{font-weight:600;fill:#1f2328}\
    .g{stroke:#d0d7de;stroke-width:1}.r{stroke:#8c959f;stroke-width:1;stroke-dasharray:2 3}.k{stroke:#cf222e;stroke-width:1;stroke-dasharray:4 3}\
    .l{fill:none;stroke-width:1.5;stroke-linejoin:round}.a{stroke:#0969da}.b{stroke:#bc4c00}.fa{fill:#0969da}.fb{fill:#bc4c00}.fk{fill:#cf222e}\
    @media(prefers-color-scheme:dark){text{fill:#9198a1}.t,.h{fill:#f0f6fc}.g{stroke:#3d444d}.r{stroke:#7d8590}.k{stroke:#ff7b72}\
    .a{stroke:#58a6ff}.b{stroke:#f0883e}.fa{fill:#58a6ff}.fb{fill:#f0883e}.fk{fill:#ff7b72}}";

/// What is drawn of a column of seconds.
#[derive(Clone, Copy)]
enum Of {
    Middle,
    Most,
}

struct Line {
    name: &'static str,
    of: Of,
    pick: fn(&Sample) -> f64,
}

struct Chart {
    title: &'static str,
    scale: Scale,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Decades,
}

/// Draws all of it.
pub fn draw(story: &Story, plan: &Plan, rate: f64) -> String {
    let charts = charts();
    let minutes = story.samples.last().map_or(1.0, |sample| sample.at / 60.0);
    let height = TOP + charts.len() as f64 * (HEIGHT + GAP) + 14.0;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"><title>wal-writer under an even load, restarted again and again</title><style>{STYLE}</style>"#
    );
    text(
        &mut svg,
        (LEFT, 22.0),
        "t",
        &format!("wal-writer, {rate:.0} requests/s of {} bytes for {minutes:.0} minutes", plan.payload),
    );
    let legend = "dashed: a restart, by SIGTERM (grey) or by SIGKILL (red); a gap: no receipts, or no process";
    text(&mut svg, (LEFT, 42.0), "", legend);
    for (number, chart) in charts.iter().enumerate() {
        let top = TOP + number as f64 * (HEIGHT + GAP) + 14.0;
        chart.draw(&mut svg, story, (top, minutes));
    }
    let bottom = height - 22.0;
    for minute in ticks(minutes) {
        text(&mut svg, (x(minute, minutes) - 4.0, bottom), "", &format!("{minute}"));
    }
    text(&mut svg, (WIDTH - RIGHT + 14.0, bottom), "", "minutes");
    svg.push_str("</svg>\n");
    svg
}

fn charts() -> Vec<Chart> {
    fn taken(sample: &Sample, pick: fn(Taken) -> f64) -> f64 {
        sample.taken.map_or(f64::NAN, pick)
    }
    let one = |name, of, pick| Line { name, of, pick };
    vec![
        Chart {
            title: "request due to receipt, ms",
            scale: Scale::Decades,
            lines: vec![
                one("p50", Of::Middle, |sample| sample.latency.at(0.5)),
                one("p99, worst", Of::Most, |sample| sample.latency.at(0.99)),
            ],
        },
        Chart {
            title: "resident memory, MiB",
            scale: Scale::Linear,
            lines: vec![one("memory", Of::Middle, |sample| taken(sample, |taken| taken.memory))],
        },
        Chart {
            title: "file descriptors and threads",
            scale: Scale::Linear,
            lines: vec![
                one("descriptors", Of::Middle, |sample| taken(sample, |taken| taken.descriptors)),
                one("threads", Of::Middle, |sample| taken(sample, |taken| taken.threads)),
            ],
        },
        Chart {
            title: "receipts a second",
            scale: Scale::Linear,
            lines: vec![one("received", Of::Middle, |sample| sample.received)],
        },
        Chart {
            title: "the store's file, GiB",
            scale: Scale::Linear,
            lines: vec![one("store", Of::Most, |sample| sample.store / GIB)],
        },
    ]
}

impl Chart {
    fn draw(&self, svg: &mut String, story: &Story, (top, minutes): (f64, f64)) {
        let drawn: Vec<Vec<(f64, f64)>> = self.lines.iter().map(|line| points(line, &story.samples)).collect();
        let values = || drawn.iter().flatten().map(|point| point.1).filter(|value| value.is_finite());
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(1.0, f64::max));
        let (low, high, marks) = match self.scale {
            Scale::Linear => {
                let step = step(most, 4.0);
                let high = (most / step).ceil() * step;
                (0.0, high, (0..).map(|mark| f64::from(mark) * step).take_while(|mark| *mark <= high * 1.001).collect())
            }
            Scale::Decades => {
                let (low, high) = (least.log10().floor(), most.log10().ceil());
                let marks: Vec<f64> =
                    (0..).map(|mark| low + f64::from(mark)).take_while(|mark| *mark <= high).collect();
                (low, high, marks)
            }
        };
        let y = |value: f64| top + HEIGHT - HEIGHT * (value - low) / (high - low);
        text(svg, (LEFT, top - 8.0), "h", self.title);
        for mark in marks {
            let name = if self.scale == Scale::Decades { 10_f64.powf(mark) } else { mark };
            let _ = write!(svg, r#"<path class="g" d="M{LEFT} {:.1}H{}"/>"#, y(mark), WIDTH - RIGHT);
            let _ = write!(svg, r#"<text x="{}" y="{:.1}" text-anchor="end">{name}</text>"#, LEFT - 6.0, y(mark) + 4.0);
        }
        for phase in &story.phases {
            let class = match phase.begun {
                Begun::First => continue,
                Begun::AfterTerm => "r",
                Begun::AfterKill => "k",
            };
            let at = x(phase.from / 60.0, minutes);
            let _ = write!(svg, r#"<path class="{class}" d="M{at:.1} {top:.1}v{HEIGHT}"/>"#);
        }
        for (number, (line, points)) in self.lines.iter().zip(&drawn).enumerate() {
            let class = ["a", "b"][number % 2];
            let mut path = String::new();
            let mut is_down = false;
            for (minute, value) in points {
                let value = if self.scale == Scale::Decades { value.log10() } else { *value };
                if value.is_finite() {
                    let _ =
                        write!(path, "{}{:.1} {:.1}", if is_down { 'L' } else { 'M' }, x(*minute, minutes), y(value));
                }
                is_down = value.is_finite();
            }
            let _ = write!(svg, r#"<path class="l {class}" d="{path}"/>"#);
            text(svg, (WIDTH - RIGHT + 8.0, top + 14.0 + 18.0 * number as f64), &format!("f{class}"), line.name);
        }
    }
}

/// A line's points: minute and value, not a number where there is none.
fn points(line: &Line, samples: &[Sample]) -> Vec<(f64, f64)> {
    let column = samples.len().div_ceil(COLUMNS).max(1);
    let point = |some: &[Sample]| {
        let mut values: Vec<f64> = some.iter().map(line.pick).filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let value = match line.of {
            Of::Middle => values.get(values.len() / 2),
            Of::Most => values.last(),
        };
        (some[some.len() / 2].at / 60.0, value.copied().unwrap_or(f64::NAN))
    };
    samples.chunks(column).map(point).collect()
}

fn x(minute: f64, minutes: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * minute / minutes
}

/// At most so many steps up to the most, each 1, 2 or 5 of some power of ten.
fn step(most: f64, count: f64) -> f64 {
    let power = 10_f64.powf((most / count).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|times| times * power).find(|step| most / step <= count).unwrap_or(10.0 * power)
}

fn ticks(most: f64) -> impl Iterator<Item = f64> {
    let step = step(most, 8.0).max(1.0);
    (0..).map(move |tick| f64::from(tick) * step).take_while(move |tick| *tick <= most)
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, text: &str) {
    let _ = write!(svg, r#"<text x="{x:.0}" y="{y:.0}" class="{class}">{text}</text>"#);
}
