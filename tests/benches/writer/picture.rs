//! A long run as a picture: one panel for each figure, restarts as lines across all of them.

use std::fmt::Write as _;

use crate::soak::Look;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 44.0;
/// Marks on an axis.
const MARKS: usize = 4;

/// What a panel shows.
struct Panel {
    name: &'static str,
    lines: &'static [Line],
    /// Latencies span from milliseconds to the seconds that a killed writer's session takes.
    is_logarithmic: bool,
}

struct Line {
    name: &'static str,
    colour: &'static str,
    of: fn(&Look) -> f64,
}

const PANELS: [Panel; 4] = [
    Panel {
        name: "from request due to receipt, ms",
        lines: &[
            Line { name: "p50", colour: "#2f7ed8", of: |look| look.p50 },
            Line { name: "p99", colour: "#d9822b", of: |look| look.p99 },
        ],
        is_logarithmic: true,
    },
    Panel {
        name: "receipts per second",
        lines: &[Line { name: "", colour: "#2f9e6e", of: |look| look.rate }],
        is_logarithmic: false,
    },
    Panel {
        name: "resident memory, MiB",
        lines: &[Line { name: "", colour: "#8a63d2", of: |look| look.memory_mib }],
        is_logarithmic: false,
    },
    Panel {
        name: "open files",
        lines: &[Line { name: "", colour: "#c2477f", of: |look| look.files }],
        is_logarithmic: false,
    },
];

/// The picture, as SVG. It has no background, and its greys are read on light and on dark.
pub fn draw(title: &str, looks: &[Look], restarts: &[f64]) -> String {
    let height = TOP + PANELS.len() as f64 * (PANEL + GAP);
    let end = looks.last().map_or(1.0, |look| look.at).max(1.0);
    let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - RIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#808080\">\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{title}</text>\n\
         <text x=\"{LEFT}\" y=\"42\">dashed: the writer was ended and started again</text>\n"
    );
    for (number, panel) in PANELS.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP) + 16.0;
        one(&mut svg, panel, looks, top, &x);
        for restart in restarts {
            let (x, bottom) = (x(*restart), top + PANEL);
            add(
                &mut svg,
                format_args!("<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#808080\" stroke-dasharray=\"3 3\"/>"),
            );
        }
    }
    for mark in 0..=MARKS {
        let seconds = end * mark as f64 / MARKS as f64;
        let (x, y) = (x(seconds), height - GAP + 34.0);
        add(
            &mut svg,
            format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{:.1} min</text>", seconds / 60.0),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn one(svg: &mut String, panel: &Panel, looks: &[Look], top: f64, x: &impl Fn(f64) -> f64) {
    let bottom = top + PANEL;
    let all = panel.lines.iter().flat_map(|line| looks.iter().map(line.of)).filter(|value| value.is_finite());
    let (least, most) = all.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    let (from, to) =
        if panel.is_logarithmic { (least.max(1.0) / 1.5, most * 1.5) } else { (0.0, (most * 1.1).max(1.0)) };
    let scale = |value: f64| match panel.is_logarithmic {
        true => (value.max(from) / from).ln() / (to / from).ln(),
        false => value / to,
    };
    let y = |value: f64| bottom - scale(value) * PANEL;
    add(svg, format_args!("<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>", top - 6.0, panel.name));
    for mark in 0..=MARKS {
        let share = mark as f64 / MARKS as f64;
        let value = if panel.is_logarithmic { from * (to / from).powf(share) } else { to * share };
        let (y, end) = (y(value), WIDTH - RIGHT);
        add(svg, format_args!("<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#808080\" stroke-opacity=\"0.25\"/>"));
        add(
            svg,
            format_args!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>", LEFT - 8.0, y + 4.0),
        );
    }
    for (number, line) in panel.lines.iter().enumerate() {
        let mut path = String::new();
        let mut is_drawing = false;
        for look in looks {
            let value = (line.of)(look);
            // Where nothing came there is no latency: the line has a gap.
            if value.is_finite() {
                let command = if is_drawing { 'L' } else { 'M' };
                write!(path, "{command}{:.1} {:.1}", x(look.at), y(value)).expect("a String takes everything");
            }
            is_drawing = value.is_finite();
        }
        add(svg, format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>", line.colour));
        if !line.name.is_empty() {
            let at = WIDTH - RIGHT - 40.0 * (panel.lines.len() - number) as f64;
            add(
                svg,
                format_args!("<text x=\"{at}\" y=\"{:.1}\" fill=\"{}\">{}</text>", top - 6.0, line.colour, line.name),
            );
        }
    }
}

fn add(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("a String takes everything");
}
