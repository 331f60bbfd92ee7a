//! The page of the command line: what `--help` says of each command.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::args::Cli;

const ABOUT: &str = "\
# Command line

What `--help` says of each command; the global options stand at the first. `wal completions SHELL` makes a shell complete them, `wal man --dir DIR` writes their man pages.
";

/// So that the page is the same whatever the terminal.
const WIDTH: usize = 100;

/// The page.
pub fn page() -> String {
    let mut wal = Cli::command().term_width(WIDTH);
    wal.build();
    let mut text = ABOUT.to_owned();
    tell(&mut text, "wal", &wal);
    text
}

/// A command, then its own.
fn tell(text: &mut String, name: &str, command: &Command) {
    let mut shown = command.clone();
    if command.get_name() != "wal" {
        // What holds for every command stands at the first one.
        shown = shown.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    }
    let help = shown.render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n"));
    for own in command.get_subcommands().filter(|own| !own.is_hide_set()) {
        tell(text, &format!("{name} {}", own.get_name()), own);
    }
}
