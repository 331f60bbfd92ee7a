//! Where words go: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::presets::{NOTHING, UTF8_HORIZONTAL_ONLY};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement};
use serde::Serialize;

use crate::paint::{Paint, Tone, When};
use crate::problem::Problem;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object a line, with field names that stay.
    Json,
}

/// The two streams of a command.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// How results are written.
    pub format: Format,
    /// For standard output.
    pub out: Paint,
    /// For standard error.
    pub err: Paint,
    /// Columns of the terminal on standard output; `None` where there is none.
    pub width: Option<usize>,
}

impl Screen {
    /// The screen of this process.
    pub fn new(format: Format, when: When) -> Screen {
        let width = comfy_table::Table::new().width().map(usize::from);
        Screen { format, out: when.applies_to(&io::stdout()), err: when.applies_to(&io::stderr()), width }
    }

    /// A line of a result.
    pub fn line(&self, text: &str) -> Result<(), Problem> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        // Whoever reads a pipe wants the line now, not when a buffer is full.
        Ok(out.flush()?)
    }

    /// Words to the terminal itself, such as where to go on writing.
    pub fn draw(&self, text: &str) -> Result<(), Problem> {
        let mut out = io::stdout().lock();
        write!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// A result as one line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Problem> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(&text)
    }

    /// A line that is no result. Nobody may be there to read it, and that is no reason to stop.
    pub fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// What went wrong.
    pub fn problem(&self, problem: &Problem) {
        match self.format {
            Format::Table => self.note(&problem.text(self.err)),
            Format::Json => self.note(&problem.json()),
        }
    }

    /// Whether progress may be drawn on standard error.
    pub fn shows_progress(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// A table in the look of this screen.
    pub fn table(&self, table: &Table) -> String {
        table.render(self.out, self.width)
    }
}

/// A table: lines and colour on a terminal, plain columns anywhere else.
pub struct Table {
    rows: Vec<Vec<(Tone, String)>>,
    header: Vec<&'static str>,
    numbers: Vec<usize>,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: &[&'static str]) -> Table {
        Table { rows: Vec::new(), header: header.to_vec(), numbers: Vec::new() }
    }

    /// Columns that hold numbers, and so stand to the right.
    pub fn numbers(mut self, columns: &[usize]) -> Table {
        self.numbers = columns.to_vec();
        self
    }

    /// Adds a row; a cell may have several lines.
    pub fn row(&mut self, cells: Vec<(Tone, String)>) {
        self.rows.push(cells);
    }

    /// The lines of the table, without an end to the last. Without a width nothing is wrapped.
    pub fn render(&self, paint: Paint, width: Option<usize>) -> String {
        let mut table = comfy_table::Table::new();
        match width {
            Some(width) => {
                table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
                table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
            }
            None => {
                table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        match paint.is_coloured() {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table.set_header(self.header.iter().map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
        for row in &self.rows {
            table.add_row(row.iter().map(|(tone, text)| cell(*tone, text)));
        }
        for column in &self.numbers {
            if let Some(column) = table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

fn cell(tone: Tone, text: &str) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Strong => cell.add_attribute(Attribute::Bold),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Odd => cell.fg(Color::Yellow),
        Tone::Name => cell.fg(Color::Cyan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["topic", "partitions"]).numbers(&[1]);
        table.row(vec![(Tone::Name, "wal.ingress".into()), (Tone::Plain, "12".into())]);
        table.row(vec![(Tone::Name, "wal.acks".into()), (Tone::Plain, "3".into())]);
        table
    }

    #[test]
    fn a_piped_table_is_plain_columns() {
        let text = table().render(Paint::plain(), None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, [" topic        partitions", " wal.ingress          12", " wal.acks              3"]);
    }

    #[test]
    fn a_table_on_a_terminal_stays_within_it() {
        let mut table = table();
        table.row(vec![(Tone::Name, "a".repeat(200)), (Tone::Plain, "1".into())]);
        let text = table.render(Paint::plain(), Some(80));
        assert!(text.contains('─'));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn colour_is_only_there_when_wanted() {
        let coloured = When::Always.applies_to(&io::stdout());
        assert!(table().render(coloured, Some(80)).contains("\x1b["));
        assert!(!table().render(Paint::plain(), Some(80)).contains('\x1b'));
    }
}
