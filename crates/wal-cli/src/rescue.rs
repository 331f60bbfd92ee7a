//! `wal rescue` and `wal stuck`: what is owed for long, and how it is delivered again.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wal_model::{Clock as _, Code, SystemClock, Timestamp};

use crate::args;
use crate::card;
use crate::gateway::Gateway;
use crate::moment::age;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};

/// The largest page that the gateway gives.
const PAGE: u64 = 1000;

/// What the gateway is told.
#[derive(Serialize)]
struct Wish<'a> {
    namespace: &'a str,
    from: Timestamp,
    to: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    limit: u64,
    dry_run: bool,
    force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_token: Option<String>,
}

/// What it did.
#[derive(Deserialize)]
struct Rescued {
    entries: Vec<Box<RawValue>>,
    next_page_token: Option<String>,
    stopped: Option<Stopped>,
}

#[derive(Deserialize)]
struct Stopped {
    code: String,
    detail: String,
}

#[derive(Deserialize)]
struct Row {
    log_id: String,
    target: String,
    status: String,
    attempt: u32,
    due: Timestamp,
    outcome: String,
    why: Option<String>,
}

/// How many of each.
#[derive(Default)]
struct Tally {
    delivered: u64,
    would_be: u64,
    left: u64,
    unknown: u64,
}

/// Runs `wal rescue`.
pub async fn rescue(screen: &Screen, gateway: &Gateway, rescue: &args::Rescue) -> Result<Exit, Problem> {
    let now = SystemClock.now();
    let mut wish = Wish {
        namespace: rescue.namespace.as_str(),
        from: rescue.from.resolve(now),
        to: rescue.to.resolve_end(now),
        status: rescue.status.map(args::Unfinished::as_str),
        tenant: rescue.tenant.as_ref().map(|tenant| tenant.as_str()),
        limit: 0,
        dry_run: !rescue.yes,
        force: rescue.force,
        page_token: None,
    };
    let mut table = Table::new(&["due", "log id", "target", "attempt", "status", "rescue"]).numbers(&[3]);
    let (mut tally, mut seen, mut stopped) = (Tally::default(), 0, None);
    while seen < rescue.limit {
        wish.limit = (rescue.limit - seen).min(PAGE);
        let page: Rescued = gateway.post("/v1/rescue", &wish).await?;
        for json in &page.entries {
            seen += 1;
            show_rescued(screen, json, now, &mut table, &mut tally)?;
        }
        (wish.page_token, stopped) = (page.next_page_token, page.stopped);
        if wish.page_token.is_none() || stopped.is_some() {
            break;
        }
    }
    if screen.format == Format::Table && seen > 0 {
        screen.line(&screen.table(&table))?;
    }
    let more = if wish.page_token.is_some() && stopped.is_none() { "; there are more, see --limit" } else { "" };
    screen.note(&screen.err.tone(Tone::Strong, &format!("{}{more}", tally.sentence(rescue.yes))));
    match stopped {
        None => Ok(Exit::Done),
        Some(Stopped { code, detail }) => {
            let exit = if code == Code::OutcomeUnknown.as_str() { Exit::Unknown } else { Exit::Partial };
            Err(Problem::new(exit, code, format!("rescue the others: {detail}")).hint(
                "the same again: what was delivered already comes a second time, with the same log id and attempt",
            ))
        }
    }
}

fn show_rescued(
    screen: &Screen,
    json: &RawValue,
    now: Timestamp,
    table: &mut Table,
    tally: &mut Tally,
) -> Result<(), Problem> {
    let row: Row = serde_json::from_str(json.get()).map_err(|error| not_understood(&error))?;
    let (count, tone, word) = match row.outcome.as_str() {
        "delivered" => (&mut tally.delivered, Tone::Good, "delivered"),
        "would_be_delivered" => (&mut tally.would_be, Tone::Name, "would be delivered"),
        "unknown" => (&mut tally.unknown, Tone::Odd, "unknown"),
        _ => (&mut tally.left, Tone::Faint, "left"),
    };
    *count += 1;
    if screen.format == Format::Json {
        return screen.line(json.get());
    }
    let why = row.why.map_or(String::new(), |why| format!(": {why}"));
    table.row(vec![
        (Tone::Faint, when(row.due, now)),
        (Tone::Strong, row.log_id),
        (Tone::Name, row.target),
        (Tone::Plain, row.attempt.to_string()),
        (card::status_tone(&row.status), row.status),
        (tone, format!("{word}{why}")),
    ]);
    Ok(())
}

impl Tally {
    fn sentence(&self, is_done: bool) -> String {
        let Tally { delivered, would_be, left, unknown } = self;
        let unknown = if *unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
        match is_done {
            true => format!("{delivered} delivered again, {left} left alone{unknown}"),
            false if *would_be > 0 => {
                format!("dry run: {would_be} would be delivered again, {left} left alone; --yes delivers them")
            }
            false => format!("dry run: nothing would be delivered again, {left} left alone"),
        }
    }
}

/// What the gateway found.
#[derive(Deserialize)]
struct Stuck {
    entries: Vec<Box<RawValue>>,
    more: bool,
}

#[derive(Deserialize)]
struct StuckRow {
    log_id: String,
    target: String,
    status: String,
    attempt: u32,
    due: Timestamp,
}

/// Runs `wal stuck`.
pub async fn stuck(screen: &Screen, gateway: &Gateway, stuck: &args::Stuck) -> Result<Exit, Problem> {
    let older_than = humantime::format_duration(stuck.older_than).to_string();
    let limit = stuck.limit.to_string();
    let mut query = vec![("older_than", older_than.as_str()), ("limit", &*limit)];
    query.extend(stuck.namespace.as_ref().map(|namespace| ("namespace", namespace.as_str())));
    query.extend(stuck.tenant.as_ref().map(|tenant| ("tenant", tenant.as_str())));
    let found: Option<Stuck> = gateway.get("/v1/stuck", &query).await?;
    let found = found.unwrap_or(Stuck { entries: Vec::new(), more: false });
    let now = SystemClock.now();
    let mut table = Table::new(&["unanswered since", "log id", "target", "attempt", "status"]).numbers(&[3]);
    for json in &found.entries {
        if screen.format == Format::Json {
            screen.line(json.get())?;
            continue;
        }
        let row: StuckRow = serde_json::from_str(json.get()).map_err(|error| not_understood(&error))?;
        table.row(vec![
            (Tone::Odd, when(row.due, now)),
            (Tone::Strong, row.log_id),
            (Tone::Name, row.target),
            (Tone::Plain, row.attempt.to_string()),
            (card::status_tone(&row.status), row.status),
        ]);
    }
    if screen.format == Format::Table && !found.entries.is_empty() {
        screen.line(&screen.table(&table))?;
    }
    let count = match found.entries.len() {
        0 => "nothing is".to_owned(),
        1 => "1 entry is".to_owned(),
        count => format!("{count} entries are"),
    };
    let more = if found.more { "; there may be more, see --limit" } else { "" };
    screen.note(&screen.err.tone(Tone::Faint, &format!("{count} unanswered for more than {older_than}{more}")));
    Ok(Exit::Done)
}

fn when(due: Timestamp, now: Timestamp) -> String {
    if due > now { due.to_string() } else { age(now.saturating_since(due)) }
}

fn not_understood(error: &serde_json::Error) -> Problem {
    Problem::new(Exit::Failed, "WAL_GATEWAY_UNREACHABLE", "understand the gateway's answer")
        .because(error)
        .hint("gateway and wal may be of different versions; -o json shows the answer as it came")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_what_was_done_or_would_be() {
        let tally = Tally { would_be: 2, left: 3, ..Tally::default() };
        assert_eq!(tally.sentence(false), "dry run: 2 would be delivered again, 3 left alone; --yes delivers them");
        let tally = Tally { delivered: 2, left: 3, unknown: 1, ..Tally::default() };
        assert_eq!(tally.sentence(true), "2 delivered again, 3 left alone, 1 unknown");
        assert_eq!(Tally::default().sentence(false), "dry run: nothing would be delivered again, 0 left alone");
    }
}
