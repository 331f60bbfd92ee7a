//! `wal entry`: what the log has, asked from the gateway.

use serde_json::value::RawValue;
use wal_model::{Clock, LogId, SystemClock, Timestamp};

use crate::args;
use crate::card;
use crate::entry_json::EntryJson;
use crate::gateway::Gateway;
use crate::json_text;
use crate::moment::age;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};

/// The largest page that the gateway gives.
const PAGE: u64 = 1000;

/// Runs `wal entry`.
pub async fn run(screen: &Screen, gateway: &Gateway, entry: args::Entry) -> Result<Exit, Problem> {
    match entry {
        args::Entry::Show(show) => show_entry(screen, gateway, &show).await,
        args::Entry::List(list) => list_entries(screen, gateway, &list).await,
    }
}

async fn show_entry(screen: &Screen, gateway: &Gateway, show: &args::Show) -> Result<Exit, Problem> {
    let found = match (show.id.parse::<LogId>(), &show.namespace) {
        (Ok(log_id), _) => gateway.entry(&log_id, show.tenant.as_ref()).await?.into_iter().collect(),
        (Err(_), Some(namespace)) => of_request(gateway, namespace.as_str(), show).await?,
        (Err(not_a_log_id), None) => {
            let what = format!("look up `{}` without knowing its namespace", show.id);
            let hint = "a request id or idempotency key needs --namespace NS; a log id is wal_NAMESPACE_TIME_UUID";
            return Err(Problem::usage(what).because(&not_a_log_id).hint(hint));
        }
    };
    if found.is_empty() {
        return Err(not_found(show));
    }
    let now = SystemClock.now();
    for (at, json) in found.iter().enumerate() {
        match screen.format {
            Format::Json => screen.line(&one_line(json))?,
            Format::Table => {
                let space = if at > 0 { "\n" } else { "" };
                screen.line(&format!("{space}{}", card::entry(&EntryJson::read(json)?, now, screen.out)))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn of_request(gateway: &Gateway, namespace: &str, show: &args::Show) -> Result<Vec<Box<RawValue>>, Problem> {
    let mut query = vec![("namespace", namespace)];
    if let Some(tenant) = &show.tenant {
        query.push(("tenant", tenant.as_str()));
    }
    for identity in ["request_id", "idempotency_key"] {
        let mut entries = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = query.clone();
            query.push((identity, &show.id));
            if let Some(token) = &token {
                query.push(("page_token", token));
            }
            let page = gateway.entries(&query).await?;
            entries.extend(page.entries);
            match page.next_page_token {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

/// The payload is passed on as it was written, with line breaks if it had some.
fn one_line(json: &RawValue) -> String {
    json_text::compact(json.get().as_bytes()).unwrap_or_else(|| json.get().to_owned())
}

fn not_found(show: &args::Show) -> Problem {
    let hint = match show.tenant {
        Some(_) => "not found means not yet: ask again, or send the same request again, which answers for certain",
        None => {
            "not found means not yet: ask again, or send the same request again, which answers for certain; \
             an entry of a tenant that is asked for by its request needs --tenant"
        }
    };
    Problem::new(Exit::NotFound, "WAL_ENTRY_NOT_FOUND", format!("find {} in the log", show.id)).hint(hint)
}

async fn list_entries(screen: &Screen, gateway: &Gateway, list: &args::List) -> Result<Exit, Problem> {
    let now = SystemClock.now();
    let (from, to) = (list.from.resolve(now).to_string(), list.to.resolve_end(now).to_string());
    let mut listing = Listing::new(screen, now);
    let mut token: Option<String> = None;
    loop {
        let limit = (list.limit - listing.count).min(PAGE).to_string();
        let mut query =
            vec![("namespace", list.namespace.as_str()), ("from", &*from), ("to", &*to), ("limit", &*limit)];
        if let Some(tenant) = &list.tenant {
            query.push(("tenant", tenant.as_str()));
        }
        if let Some(token) = &token {
            query.push(("page_token", token));
        }
        let page = gateway.entries(&query).await?;
        for json in &page.entries {
            listing.add(json)?;
        }
        token = page.next_page_token;
        if token.is_none() || listing.count >= list.limit {
            break;
        }
    }
    listing.finish()?;
    let more = if token.is_some() { "; there are more, see --limit" } else { "" };
    let found = match listing.count {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    screen.note(&screen.err.tone(Tone::Faint, &format!("{found} of {} from {from} to {to}{more}", list.namespace)));
    Ok(Exit::Done)
}

/// Entries on their way to the screen: JSON at once, a table at the end.
struct Listing<'a> {
    screen: &'a Screen,
    now: Timestamp,
    table: Table,
    count: u64,
}

impl<'a> Listing<'a> {
    fn new(screen: &'a Screen, now: Timestamp) -> Listing<'a> {
        let table = Table::new(&["written", "log id", "target", "operation", "status", "retries"]).numbers(&[5]);
        Listing { screen, now, table, count: 0 }
    }

    fn add(&mut self, json: &RawValue) -> Result<(), Problem> {
        self.count += 1;
        if self.screen.format == Format::Json {
            return self.screen.line(&one_line(json));
        }
        let entry = EntryJson::read(json)?;
        self.table.row(vec![
            (Tone::Faint, age(self.now.saturating_since(entry.timestamp))),
            (Tone::Strong, entry.log_id),
            (Tone::Name, entry.target),
            (Tone::Plain, entry.metadata.operation.unwrap_or_else(|| "-".into())),
            (card::status_tone(&entry.status), entry.status),
            (Tone::Plain, format!("{}/{}", entry.retry_count, entry.lifecycle.retry_count)),
        ]);
        Ok(())
    }

    fn finish(&self) -> Result<(), Problem> {
        match self.screen.format {
            Format::Table if self.count > 0 => self.screen.line(&self.screen.table(&self.table)),
            Format::Table | Format::Json => Ok(()),
        }
    }
}
