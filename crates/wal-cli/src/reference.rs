//! `wal reference`: the references that are made from the code, so that they cannot say anything else than the code does.
//!
//! One page is one function; a new page is one more line in [`PAGES`].

mod cli;
mod configuration;
mod errors;

use std::path::Path;

use serde::Serialize;

use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};

/// A page: the name of its file, and the function that makes its text.
type Page = (&'static str, fn() -> String);

/// Every page.
const PAGES: [Page; 3] =
    [("cli.md", cli::page), ("configuration.md", configuration::page), ("errors.md", errors::page)];

/// What stands at the head of every page, for whoever would change it by hand.
const HEAD: &str = "<!-- Made by `wal reference` from the code. Change the code, then make it again. -->";

/// A page that was written, as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct WrittenJson {
    file: String,
}

/// Runs `wal reference`.
pub fn run(screen: &Screen, folder: &Path) -> Result<Exit, Problem> {
    write(screen, folder, PAGES.iter().map(|(name, page)| ((*name).to_owned(), with_head(&page()).into_bytes())))
}

fn with_head(page: &str) -> String {
    format!("{HEAD}\n\n{}\n", page.trim_end())
}

/// Writes files into a folder, which is made if it is missing.
pub fn write(
    screen: &Screen,
    folder: &Path,
    files: impl IntoIterator<Item = (String, Vec<u8>)>,
) -> Result<Exit, Problem> {
    let failed = |path: &Path, error: &std::io::Error| {
        Problem::new(Exit::Failed, "WAL_FILE_UNWRITABLE", format!("write {}", path.display())).because(error)
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(|error| failed(&path, &error))?;
        let file = path.display().to_string();
        match screen.format {
            Format::Json => screen.json(&WrittenJson { file })?,
            Format::Table => screen.line(&file)?,
        }
    }
    Ok(Exit::Done)
}

/// Text in a cell of a table: a bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
