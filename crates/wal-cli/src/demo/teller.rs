//! How the story is told: line by line as it happens, and a table at the end; or as lines of JSON.

use std::time::Duration;

use serde::Serialize;

use super::script::{Action, Request, Step};
use crate::paint::{Paint, Tone};
use crate::problem::Problem;
use crate::screen::{Format, Screen, Table};

/// From this width on a table holds whole log ids.
const WIDE: usize = 112;
/// Columns of a quote: what is left of 80 beside the times.
const QUOTE: usize = 64;

/// What happened, for a script. Printed, keep stable.
#[derive(Serialize)]
struct EventJson<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<f64>,
    detail: &'a str,
}

/// What became of a step, for the table.
pub struct Row {
    /// What was done.
    pub operation: String,
    /// Where it went.
    pub target: String,
    /// The entry it made or met.
    pub log_id: Option<String>,
    /// The entry's status and reason, or the answer.
    pub answer: (Tone, String),
    /// When the receipt said that it is durable.
    pub durable_after: Option<Duration>,
    /// When the first attempt came; or why none did.
    pub delivered: Result<Duration, &'static str>,
    /// How many attempts came.
    pub attempts: usize,
    /// How long after it was due each retry came, in milliseconds.
    pub late: Vec<i64>,
}

/// A row, for a script. Printed, keep stable.
#[derive(Serialize)]
struct RowJson<'a> {
    operation: &'a str,
    target: &'a str,
    log_id: Option<&'a str>,
    answer: &'a str,
    durable_after_ms: Option<f64>,
    delivered_after_ms: Option<f64>,
    attempts: usize,
    late_ms: &'a [i64],
}

/// The summary, for a script. Printed, keep stable.
#[derive(Serialize)]
struct SummaryJson<'a> {
    event: &'static str,
    success: bool,
    seconds: f64,
    steps: Vec<RowJson<'a>>,
}

/// Tells the story.
pub struct Teller<'a> {
    screen: &'a Screen,
    step: Option<usize>,
}

impl<'a> Teller<'a> {
    /// A teller on this screen.
    pub fn new(screen: &'a Screen) -> Teller<'a> {
        Teller { screen, step: None }
    }

    /// The brush for what is told.
    pub fn paint(&self) -> Paint {
        self.screen.out
    }

    /// A line outside of any step.
    pub fn say(&self, text: &str) -> Result<(), Problem> {
        match self.screen.format {
            Format::Table => self.screen.line(text),
            Format::Json => self.event("note", None, text.trim()),
        }
    }

    /// A fact about what runs.
    pub fn fact(&self, name: &str, value: &str, remark: &str) -> Result<(), Problem> {
        let paint = self.screen.out;
        match self.screen.format {
            Format::Table => {
                let (name, value) = (format!("{name:<9}"), format!("{value:<24}"));
                let (value, remark) = (paint.tone(Tone::Name, &value), paint.tone(Tone::Faint, remark));
                self.screen.line(&format!("  {} {value} {remark}", paint.tone(Tone::Faint, &name)))
            }
            Format::Json => self.event(name, None, value),
        }
    }

    /// A heading.
    pub fn title(&self, text: &str) -> Result<(), Problem> {
        self.say(&self.screen.out.tone(Tone::Strong, text))
    }

    /// A step begins.
    pub fn begin(&mut self, at: usize, step: &Step) -> Result<(), Problem> {
        self.step = Some(at + 1);
        if self.screen.format == Format::Json {
            return self.event("step", None, step.title);
        }
        let paint = self.screen.out;
        let number = paint.tone(Tone::Name, &format!("{}", at + 1));
        self.screen.line(&format!("\n{number}  {}", paint.tone(Tone::Strong, step.title)))?;
        self.screen.line(&format!("   {}", step.remark))?;
        let request = match &step.action {
            Action::Write(request, _) | Action::Refuse(request, _) => Some(request),
            Action::Repeat { .. } => None,
        };
        match request {
            Some(Request { json, .. }) => {
                let text = paint.tone(Tone::Faint, json).replace('\n', "\n     ");
                self.screen.line(&format!("     {text}\n"))
            }
            None => self.screen.line(""),
        }
    }

    /// Something happened, so long after the request.
    pub fn happened(&self, tone: Tone, what: &str, after: Duration, detail: &str) -> Result<(), Problem> {
        if self.screen.format == Format::Json {
            return self.event(what, Some(after), detail);
        }
        let paint = self.screen.out;
        let time = paint.tone(Tone::Faint, &format!("{:>7} ms", millis(after)));
        let what = paint.tone(tone, &format!("{what:<10}"));
        self.screen.line(&format!("{time}  {what} {detail}"))
    }

    /// A name that what happened last brought up: too long to stand beside it.
    pub fn name(&self, name: &str) -> Result<(), Problem> {
        match self.screen.format {
            Format::Table => self.screen.line(&format!("   {}", self.screen.out.tone(Tone::Name, name))),
            Format::Json => self.event("log_id", None, name),
        }
    }

    /// What somebody said, word for word but for the line breaks.
    pub fn quote(&self, text: &str) -> Result<(), Problem> {
        match self.screen.format {
            Format::Table => {
                wrapped(text).iter().try_for_each(|line| self.screen.line(&format!("               {line}")))
            }
            Format::Json => self.event("quote", None, text),
        }
    }

    /// What is left to say to a person after the table; a script has it all in the summary.
    pub fn farewell(&self, remark: &str, verdict: &str, next: &str) -> Result<(), Problem> {
        match self.screen.format {
            Format::Table => {
                let verdict = self.screen.out.tone(Tone::Good, verdict);
                self.screen.line(&format!("\n{remark}\n\n{verdict} {next}"))
            }
            Format::Json => Ok(()),
        }
    }

    /// The end: all of it in a table.
    pub fn summary(&mut self, rows: &[Row], took: Duration, is_well: bool) -> Result<(), Problem> {
        self.step = None;
        if self.screen.format == Format::Json {
            return self.screen.json(&SummaryJson {
                event: "summary",
                success: is_well,
                seconds: took.as_secs_f64(),
                steps: rows.iter().map(Row::json).collect(),
            });
        }
        let columns = ["request", "log id", "end", "durable", "delivered"];
        let mut table = Table::new(&columns).numbers(&[3, 4]);
        for row in rows {
            table.row(row.cells(self.screen.width));
        }
        self.screen.line(&format!("\n{}", self.screen.table(&table)))
    }

    fn event(&self, event: &str, after: Option<Duration>, detail: &str) -> Result<(), Problem> {
        let after_ms = after.map(|after| (after.as_secs_f64() * 10_000.0).round() / 10.0);
        self.screen.json(&EventJson { event, step: self.step, after_ms, detail })
    }
}

impl Row {
    fn json(&self) -> RowJson<'_> {
        let millis = |after: Duration| (after.as_secs_f64() * 10_000.0).round() / 10.0;
        RowJson {
            operation: &self.operation,
            target: &self.target,
            log_id: self.log_id.as_deref(),
            answer: &self.answer.1,
            durable_after_ms: self.durable_after.map(millis),
            delivered_after_ms: self.delivered.ok().map(millis),
            attempts: self.attempts,
            late_ms: &self.late,
        }
    }

    fn cells(&self, width: Option<usize>) -> Vec<(Tone, String)> {
        // On a terminal a cell has two lines; in plain columns a row is a line.
        let (request, log_id, answer) = match width {
            None => (format!("{} → {}", self.operation, self.target), self.log_id.clone(), self.answer.1.clone()),
            Some(width) => {
                let log_id = self.log_id.as_ref().map(|log_id| folded_id(log_id, width));
                (format!("{}\n→ {}", self.operation, self.target), log_id, folded_answer(&self.answer.1, width))
            }
        };
        let between = if width.is_some() { "\n" } else { ", " };
        let durable = self.durable_after.map_or("-".to_owned(), |after| format!("{} ms", millis(after)));
        let delivered = match self.delivered {
            Ok(after) if self.attempts > 1 => {
                (Tone::Plain, format!("{} ms{between}{} times", millis(after), self.attempts))
            }
            Ok(after) => (Tone::Plain, format!("{} ms", millis(after))),
            Err(why) => (Tone::Faint, why.to_owned()),
        };
        let log_id = (Tone::Name, log_id.unwrap_or_else(|| "-".to_owned()));
        vec![(Tone::Plain, request), log_id, (self.answer.0, answer), (Tone::Plain, durable), delivered]
    }
}

/// A log id on two lines where it is whole, else shortened to what tells it from others nearby.
fn folded_id(log_id: &str, width: usize) -> String {
    let Some((name_and_time, uuid)) = log_id.rsplit_once('_') else { return log_id.to_owned() };
    if width >= WIDE {
        format!("{name_and_time}\n_{uuid}")
    } else {
        format!("wal_…\n_{}…", uuid.get(..8).unwrap_or(uuid))
    }
}

/// A status above its reason; a code on two lines where there is little room.
fn folded_answer(answer: &str, width: usize) -> String {
    match (answer.split_once(" ("), answer.rsplit_once('_')) {
        (Some((status, reason)), _) => format!("{status}\n({reason}"),
        (None, Some((head, tail))) if width < WIDE => format!("{head}\n_{tail}"),
        (None, Some(_) | None) => answer.to_owned(),
    }
}

/// Lines that fit a terminal beside the times.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= QUOTE => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Milliseconds as people compare them: one decimal below ten.
pub fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis > 0.0 && millis < 10.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG_ID: &str = "wal_canonical_model_20261124T100000000Z_0191d1a4-0000-5000-8000-000000000000";

    fn rendered(width: Option<usize>) -> String {
        let mut table = Table::new(&["request", "log id", "end", "durable", "delivered"]).numbers(&[3, 4]);
        let row = |log_id: Option<&str>, answer: &str, delivered| Row {
            operation: "register_model".into(),
            target: "canonical_model_registry".into(),
            log_id: log_id.map(str::to_owned),
            answer: (Tone::Plain, answer.to_owned()),
            durable_after: Some(Duration::from_micros(12_345)),
            delivered,
            attempts: 3,
            late: vec![2, 3],
        };
        table.row(row(Some(LOG_ID), "failed (exhausted)", Ok(Duration::from_micros(9_876))).cells(width));
        table.row(row(None, "WAL_UNKNOWN_FIELD", Err("not again")).cells(width));
        table.render(Paint::plain(), width)
    }

    #[test]
    fn the_table_fits_narrow_and_wide_terminals() {
        for width in [80, 112] {
            let text = rendered(Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            for whole in ["→ canonical_model_registry", " 12 ms", " 9.9 ms", "3 times", "(exhausted)", "not again"] {
                assert!(text.contains(whole), "{whole} was broken:\n{text}");
            }
        }
        let wide = rendered(Some(112));
        assert!(wide.contains(" _0191d1a4-0000-5000-8000-000000000000"), "a log id was broken:\n{wide}");
    }

    #[test]
    fn quotes_are_wrapped_between_words() {
        let lines = wrapped(&"word ".repeat(30));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= QUOTE && !line.ends_with(' ')), "{lines:?}");
    }

    #[test]
    fn a_piped_row_is_one_line() {
        let text = rendered(None);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains(LOG_ID) && text.contains("register_model → canonical_model_registry"));
        assert!(text.contains("failed (exhausted)") && text.contains("9.9 ms, 3 times"), "{text}");
    }
}
