//! `wal completions` and `wal man`: what a shell and `man` want to know of the command line.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::problem::{Exit, Problem};
use crate::reference;
use crate::screen::Screen;

/// Runs `wal completions`.
pub fn completions(screen: &Screen, shell: Shell) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wal", &mut script);
    let script = String::from_utf8(script).map_err(io::Error::other)?;
    screen.line(script.trim_end())?;
    Ok(Exit::Done)
}

/// Runs `wal man`.
pub fn man(screen: &Screen, folder: &Path) -> Result<Exit, Problem> {
    let mut wal = Cli::command();
    wal.build();
    let mut pages = Vec::new();
    render("wal", &wal, &mut pages)?;
    reference::write(screen, folder, pages)
}

/// The page of a command, then those of its own.
fn render(name: &str, command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Problem> {
    let mut page = Vec::new();
    // Under `wal-topics-plan`, as `man` looks for it; the usage in it shows the words as one types them.
    clap_mangen::Man::new(command.clone()).title(name).render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for own in command.get_subcommands().filter(|own| !own.is_hide_set()) {
        render(&format!("{name}-{}", own.get_name()), own, pages)?;
    }
    Ok(())
}
