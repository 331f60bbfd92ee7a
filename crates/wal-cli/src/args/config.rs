//! The commands that explain: the configuration, and the codes of errors.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `wal config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show what holds of every key, and where it comes from; secrets as ***
    Print(Print),
    /// Check a configuration as services do at their start: every problem by name, and an exit code
    Check(Check),
    /// Tell what a key is for, what it takes, its default, and what holds now
    Explain(ExplainKey),
}

/// `wal explain`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wal explain WAL_TARGET_UNKNOWN
  wal explain exhausted
  wal explain                     all codes, each with what it means")]
pub struct Explain {
    /// A code as receipts, dead letters, the gateway and `wal` itself tell it, or the reason of a failed entry
    pub code: Option<String>,
}

/// `wal config print`
#[derive(Debug, Args)]
pub struct Print {
    /// Only what somebody has set
    #[arg(long)]
    pub changed: bool,
}

/// `wal config check`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 services can start with it, 2 they cannot. With `-o json` each problem is a line.
WAL__SECTION__KEY variables of this shell count, as they do for a service.")]
pub struct Check {
    /// The file to check, instead of --config
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `wal config explain`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wal config explain policy.retry_count
  wal config explain WAL__KAFKA__INSTANCE
  wal config explain topics")]
pub struct ExplainKey {
    /// A key, the variable that sets it, or a section
    #[arg(value_name = "KEY")]
    pub key: String,
}

/// `wal completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wal completions bash > ~/.local/share/bash-completion/completions/wal
  wal completions zsh > \"${fpath[1]}/_wal\"
  wal completions fish > ~/.config/fish/completions/wal.fish")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_enum, hide_possible_values = true)]
    pub shell: clap_complete::Shell,
}

/// Where to write files.
#[derive(Debug, Args)]
pub struct Written {
    /// The folder they are written to; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}
