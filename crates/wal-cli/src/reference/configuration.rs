//! The page of the configuration: every key of `config/default.toml`, section by section.

use std::fmt::Write as _;

use wal_runtime::config::{Key, Kind};

use super::cell;

const ABOUT: &str = "\
# Configuration

Every key there is, from [config/default.toml](../../../config/default.toml). A file of your own (`--config FILE`) overrides the
defaults, `WAL__SECTION__KEY` variables override the file, and a secret may be given as the name of a file that holds it:
`WAL__SECTION__KEY_FILE`. An unknown key fails the start.

`wal config check` reads a configuration as services do, `wal config print` tells what holds and where it comes from, and
`wal config explain KEY` tells of one key.

A service reads its configuration again on SIGHUP, the same file, variables and files of secrets. What says SIGHUP under \"change\" is then
taken over, what says start takes effect at the next start and is named in one WARN line. If anything cannot be used, nothing is taken
over, and one ERROR line names the key.
";

/// The page.
pub fn page() -> String {
    let mut text = ABOUT.to_owned();
    let mut section = String::new();
    for key in Key::all() {
        let own = match key.kind {
            Kind::FreeTable => key.name.clone(),
            _ => key.name.rsplit_once('.').map_or_else(String::new, |(section, _)| section.to_owned()),
        };
        if own != section {
            let _ = write!(
                text,
                "\n## `[{own}]`\n\n| key | default | takes | what it is | change |\n| --- | --- | --- | --- | --- |\n"
            );
            section = own;
        }
        let default = if key.default.is_empty() { "nothing".to_owned() } else { format!("`{}`", key.default) };
        let name = if key.kind == Kind::FreeTable { "names of your own" } else { &format!("`{}`", key.name) };
        let takes = if key.kind == Kind::FreeTable { "text" } else { key.kind.as_str() };
        let change = if key.is_live() { "SIGHUP" } else { "start" };
        let _ = writeln!(text, "| {name} | {} | {takes} | {} | {change} |", cell(&default), cell(&key.comment));
    }
    text
}
