//! The commands that answer, cancel and deliver again, all of them through the gateway.

use std::time::Duration;

use clap::{Args, ValueEnum};
use wal_model::lifecycle::Seconds;
use wal_model::{LogId, Namespace, Tenant};

use super::duration;
use crate::moment::Moment;

/// `wal complete`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wal complete LOG_ID
  wal complete LOG_ID --attempt 2 --result '{\"paid\":true}'")]
pub struct Complete {
    /// The entry
    pub log_id: LogId,
    /// The attempt that is meant; refused if another one is under way [default: the one under way]
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// What came of it: JSON, @file, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub result: Option<String>,
}

/// `wal fail`
#[derive(Debug, Args)]
#[command(after_help = "\
Its lifecycle decides what becomes of it, unless a wish is given.

Examples:
  wal fail LOG_ID --error-code CARD_DECLINED --error 'no funds'
  wal fail LOG_ID --error-code TIMEOUT --error 'down until noon' --retry-after 7200
  wal fail LOG_ID --error-code UNKNOWN_CUSTOMER --error 'no such customer' --for-good")]
pub struct Fail {
    /// The entry
    pub log_id: LogId,
    /// The attempt that is meant; refused if another one is under way [default: the one under way]
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// A code for machines
    #[arg(long, value_name = "CODE")]
    pub error_code: String,
    /// A message for people
    #[arg(long, value_name = "TEXT")]
    pub error: String,
    /// Retrying cannot help: it ends here
    #[arg(long, conflicts_with = "retry_after", help_heading = "Wish")]
    pub for_good: bool,
    /// The next attempt after so many seconds, instead of what the lifecycle says; the scheduler grants a day at most,
    /// unless it is set otherwise
    #[arg(long, value_name = "SECONDS", help_heading = "Wish")]
    pub retry_after: Option<Seconds>,
}

/// `wal retry`
#[derive(Debug, Args)]
#[command(
    after_help = "The attempt under way counts as failed, and uses up one of the retries; refused if it is the last."
)]
pub struct Retry {
    /// The entry
    pub log_id: LogId,
    /// The attempt that is meant; refused if another one is under way [default: the one under way]
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

/// `wal cancel`
#[derive(Debug, Args)]
#[command(
    after_help = "An attempt that is delivered already is not called back; if its consumer completes it, it is completed."
)]
pub struct Cancel {
    /// The entry
    pub log_id: LogId,
    /// The round that is meant; refused if the entry stands in another [default: the one it stands in]
    #[arg(long, value_name = "N")]
    pub round: Option<u32>,
}

/// `wal rescue`
#[derive(Debug, Args)]
#[command(after_help = "\
The way back when a topic lost what the store still has. At least once: what was not lost after all
comes a second time, with the same log id and attempt. No status is changed. Left alone is what is not
due, what is past its deadline, and what changed so recently that it may well be under way.

Examples:
  wal rescue orders --from -2h            shows what would be delivered
  wal rescue orders --from -2h --yes      delivers it

Times: now, -2h, -1h30m, 2026-11-23, 2026-11-23T10:00:00Z")]
pub struct Rescue {
    /// The namespace
    pub namespace: Namespace,
    /// Written at or after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Moment,
    /// Written before this time
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    pub to: Moment,
    /// Only those that stand so: pending or retrying
    #[arg(long, value_enum, hide_possible_values = true)]
    pub status: Option<Unfinished>,
    /// Only those of this tenant
    #[arg(long)]
    pub tenant: Option<Tenant>,
    /// The most entries to look at
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Also those that changed recently: for when it is known that what was under way is lost
    #[arg(long)]
    pub force: bool,
    /// Deliver them; else it is only shown what would be delivered
    #[arg(long)]
    pub yes: bool,
}

/// Where an unfinished entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unfinished {
    /// No attempt was answered in this round.
    Pending,
    /// The last attempt failed.
    Retrying,
}

/// `wal stuck`
#[derive(Debug, Args)]
#[command(after_help = "`wal complete`, `wal fail` and `wal retry` answer; `wal rescue` delivers again.")]
pub struct Stuck {
    /// Unanswered for longer than this, such as 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub older_than: Duration,
    /// Only those of this namespace
    #[arg(long, value_name = "NS")]
    pub namespace: Option<Namespace>,
    /// Only those of this tenant
    #[arg(long)]
    pub tenant: Option<Tenant>,
    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
}

impl Unfinished {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Unfinished::Pending => "pending",
            Unfinished::Retrying => "retrying",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use crate::args::{Cli, Command};

    const LOG_ID: &str = "wal_orders_20261124T100000000Z_0191d1a4-0000-5000-8000-000000000000";

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let line = line.replace("LOG_ID", LOG_ID);
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn an_answer_names_its_entry_and_a_failure_its_error() {
        assert!(
            matches!(parse("wal complete LOG_ID --attempt 2"), Ok(Command::Complete(told)) if told.attempt == Some(2))
        );
        assert_eq!(parse("wal complete order-7").unwrap_err(), ErrorKind::ValueValidation);
        assert_eq!(parse("wal fail LOG_ID --error x").unwrap_err(), ErrorKind::MissingRequiredArgument);
        let both = "wal fail LOG_ID --error x --error-code X --for-good --retry-after 1";
        assert_eq!(parse(both).unwrap_err(), ErrorKind::ArgumentConflict);
        assert_eq!(
            parse("wal fail LOG_ID --error x --error-code X --retry-after -1").unwrap_err(),
            ErrorKind::UnknownArgument
        );
    }

    #[test]
    fn a_rescue_says_where_it_begins_and_delivers_only_when_told() {
        assert_eq!(parse("wal rescue orders").unwrap_err(), ErrorKind::MissingRequiredArgument);
        let Ok(Command::Rescue(rescue)) = parse("wal rescue orders --from -2h --status pending") else {
            panic!("no rescue")
        };
        assert!(!rescue.yes && !rescue.force);
        assert_eq!(parse("wal rescue orders --from -2h --status failed").unwrap_err(), ErrorKind::InvalidValue);
    }
}
