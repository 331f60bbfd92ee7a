//! The page of `wal status`: who answers, how far the groups are, what waits, what went wrong last. Pure.

use std::collections::BTreeMap;

use wal_runtime::logs::{Noted, Severity};
use wal_runtime::overview::{Attempt, Group, Overview, Unanswered};

use super::{Answer, Round, Said};
use crate::paint::{Paint, Tone};
use crate::screen::Table;

/// How many lines of the log are shown, of all services together: what is left of a screen.
const ERRORS: usize = 10;
const NOTHING: &str = "-";

/// The page, without an end to its last line. Plain columns on a terminal, too: rules between rows would fill the screen.
pub fn text(round: &Round, paint: Paint) -> String {
    let answering: Vec<&Overview> = round.services.iter().filter_map(Answer::overview).collect();
    let mut parts = vec![services(&round.services).render(paint, None)];
    if answering.iter().any(|overview| !overview.groups.is_empty()) {
        parts.push(groups(&answering).render(paint, None));
    }
    let waiting: Vec<String> = unanswered(&answering, paint).into_iter().chain(retries(&answering)).collect();
    if !waiting.is_empty() {
        parts.push(waiting.join("\n"));
    }
    parts.push(errors(&answering, paint));
    parts.join("\n\n")
}

impl Answer {
    fn overview(&self) -> Option<&Overview> {
        match &self.said {
            Said::Status(overview) => Some(overview),
            Said::NoAnswer(_) => None,
        }
    }
}

fn services(answers: &[Answer]) -> Table {
    let mut table = Table::new(&["service", "instance", "at", "version", "up", "store", "state"]);
    for answer in answers {
        let at = (Tone::Plain, answer.at.clone());
        table.row(match &answer.said {
            Said::Status(overview) => {
                let version = (Tone::Faint, overview.version.clone());
                let up = (Tone::Plain, span(overview.uptime_seconds));
                let name = (Tone::Name, overview.service.clone());
                let instance = (Tone::Plain, short(&overview.instance));
                vec![name, instance, at, version, up, store(overview), state(overview)]
            }
            Said::NoAnswer(why) => {
                let nothing = || (Tone::Faint, NOTHING.to_owned());
                let state = (Tone::Bad, format!("does not answer: {why}"));
                vec![nothing(), nothing(), at, nothing(), nothing(), nothing(), state]
            }
        });
    }
    table
}

fn store(overview: &Overview) -> (Tone, String) {
    match &overview.store {
        None => (Tone::Faint, NOTHING.to_owned()),
        Some(store) if store.is_answering => (Tone::Good, "answers".to_owned()),
        Some(_) => (Tone::Bad, "silent".to_owned()),
    }
}

fn state(overview: &Overview) -> (Tone, String) {
    let lacking = overview.checks.iter().filter(|check| !check.is_ok);
    let why: Vec<String> = lacking.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    match (overview.is_live, overview.is_ready) {
        (true, true) => (Tone::Good, "ready".to_owned()),
        (true, false) => (Tone::Bad, format!("not ready: {}", why.join("; "))),
        (false, _) => (Tone::Bad, format!("not alive: {}", why.join("; "))),
    }
}

/// A name that was made up is long, and its beginning tells it from its siblings.
fn short(instance: &str) -> String {
    const SHOWN: usize = 12;
    if instance.chars().nth(SHOWN).is_none() {
        return instance.to_owned();
    }
    let beginning: String = instance.chars().take(SHOWN - 1).collect();
    format!("{beginning}…")
}

fn groups(answering: &[&Overview]) -> Table {
    let header = ["group", "partitions", "behind", "oldest", "records", "given up", "fenced"];
    let mut table = Table::new(&header).numbers(&[1, 2, 3, 4, 5, 6]);
    let mut by_name: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
    for group in answering.iter().flat_map(|overview| &overview.groups) {
        by_name.entry(&group.group).or_default().push(group);
    }
    for (name, members) in by_name {
        let sum = |count: fn(&Group) -> u64| members.iter().map(|group| count(group)).sum::<u64>();
        let (given_up, fences) = (sum(|group| group.rewinds), sum(|group| group.fences));
        let bad_if_any = |count: u64| (if count == 0 { Tone::Faint } else { Tone::Odd }, count.to_string());
        table.row(vec![
            (Tone::Name, name.to_owned()),
            (Tone::Plain, members.iter().map(|group| group.partitions).sum::<usize>().to_string()),
            (Tone::Strong, behind(&members)),
            (Tone::Strong, oldest(&members)),
            (Tone::Plain, sum(|group| group.records_committed).to_string()),
            bad_if_any(given_up),
            bad_if_any(fences),
        ]);
    }
    table
}

/// Records that are not committed yet; with a plus where not all of it is known.
fn behind(members: &[&Group]) -> String {
    let known: Vec<i64> = members.iter().filter_map(|group| group.lag_records).collect();
    let is_whole = members.iter().all(|group| group.partitions_measured == group.partitions);
    match known.iter().sum::<i64>() {
        _ if known.is_empty() => "?".to_owned(),
        sum if is_whole => sum.to_string(),
        sum => format!("{sum}+"),
    }
}

/// For how long the oldest of them has been there.
fn oldest(members: &[&Group]) -> String {
    let oldest = members.iter().filter_map(|group| group.lag_seconds).max_by(f64::total_cmp);
    match oldest {
        None => "?".to_owned(),
        Some(0.0) => NOTHING.to_owned(),
        Some(seconds) if seconds < 60.0 => format!("{seconds:.1} s"),
        Some(seconds) => span(std::time::Duration::from_secs_f64(seconds).as_secs()),
    }
}

/// A line of what has been unanswered for longest. Several services may be asked, of one store.
fn unanswered(answering: &[&Overview], paint: Paint) -> Option<String> {
    let told: Vec<&Unanswered> = answering.iter().filter_map(|overview| overview.unanswered.as_ref()).collect();
    let oldest = told.iter().filter_map(|told| match told {
        Unanswered::Oldest(attempt) => Some(attempt),
        Unanswered::Nothing | Unanswered::Unknown(_) => None,
    });
    let unknown = told.iter().find_map(|told| match told {
        Unanswered::Unknown(why) => Some(why),
        Unanswered::Nothing | Unanswered::Oldest(_) => None,
    });
    let text = match (oldest.min_by_key(|attempt| attempt.due), unknown) {
        (Some(attempt), _) => oldest_unanswered(attempt, paint),
        (None, Some(why)) => paint.tone(Tone::Bad, &format!("unknown: {why}")),
        (None, None) if told.is_empty() => return None,
        (None, None) => "nothing".to_owned(),
    };
    Some(format!(" oldest unanswered: {text}"))
}

fn oldest_unanswered(attempt: &Attempt, paint: Paint) -> String {
    let Attempt { log_id, target, attempt, due, unanswered_seconds, .. } = attempt;
    let age = paint.tone(Tone::Strong, &span(*unanswered_seconds));
    let log_id = paint.tone(Tone::Name, &log_id.to_string());
    format!("{log_id}, attempt {attempt} on {target}, due {due}, for {age}")
}

fn retries(answering: &[&Overview]) -> Option<String> {
    let told: Vec<_> = answering.iter().filter_map(|overview| overview.retries.as_ref()).collect();
    let due: i64 = told.iter().map(|retries| retries.due).sum();
    let oldest = told.iter().map(|retries| retries.oldest_due_seconds).max_by(f64::total_cmp)?;
    Some(match due {
        0 => " retries due and not released: none".to_owned(),
        _ => format!(" retries due and not released: {due}, the first for {oldest:.1} s"),
    })
}

/// The last lines of all logs, the newest first.
fn errors(answering: &[&Overview], paint: Paint) -> String {
    let of = |overview: &&Overview| {
        let who = format!("{} {}", overview.service, short(&overview.instance));
        overview.last_errors.clone().into_iter().map(move |noted| (who.clone(), noted))
    };
    let mut all: Vec<(String, Noted)> = answering.iter().flat_map(of).collect();
    if all.is_empty() {
        return " no warnings and no errors".to_owned();
    }
    all.sort_by_key(|(_, noted)| std::cmp::Reverse(noted.at));
    let lines = all.iter().take(ERRORS).map(|(who, noted)| error(who, noted, paint));
    let title = format!(" {}", paint.tone(Tone::Strong, "last warnings and errors"));
    std::iter::once(title).chain(lines).collect::<Vec<_>>().join("\n")
}

fn error(who: &str, noted: &Noted, paint: Paint) -> String {
    let Noted { at, level, message, fields, times, .. } = noted;
    let tone = match level {
        Severity::Error => Tone::Bad,
        Severity::Warn => Tone::Odd,
    };
    let level = paint.tone(tone, &format!("{:<5}", level.as_str()));
    let often = if *times == 1 { String::new() } else { format!(" ({times} times)") };
    let fields = if fields.is_empty() { String::new() } else { format!(" {}", paint.tone(Tone::Faint, fields)) };
    format!(" {at}  {level}  {who}: {message}{often}{fields}")
}

/// A length of time in its two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wal_model::Timestamp;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What a service says, but for what a test wants otherwise.
    fn overview(service: &str, instance: &str, other: serde_json::Value) -> Overview {
        let mut said = json!({
            "service": service, "instance": instance, "version": "0.1.0",
            "at": "2026-11-26T00:40:00.000Z", "up_since": "2026-11-26T00:00:00.000Z", "uptime_seconds": 2400,
            "ready": true, "live": true, "checks": [{"name": "assigned", "ok": true, "detail": "met"}],
            "store": {"answers": true, "detail": "met"}, "groups": [], "retries": null, "unanswered": null,
            "last_errors": [],
        });
        for (name, value) in other.as_object().unwrap() {
            said[name] = value.clone();
        }
        serde_json::from_value(said).unwrap()
    }

    fn group(name: &str, partitions: usize, measured: usize, lag: Option<(i64, f64)>) -> serde_json::Value {
        json!({
            "group": name, "topics": ["wal.ingress"], "partitions": partitions, "partitions_measured": measured,
            "lag_records": lag.map(|(records, _)| records), "lag_seconds": lag.map(|(_, seconds)| seconds),
            "batches_committed": 3, "records_committed": 60_000, "records_published": 180_000, "rewinds": 1, "fences": 0,
        })
    }

    fn answer(at: &str, overview: Overview) -> Answer {
        Answer { at: at.to_owned(), said: Said::Status(Box::new(overview)) }
    }

    fn noted(at: &str, level: &str, message: &str, fields: &str, times: u64) -> serde_json::Value {
        json!({"at": at, "level": level, "target": "wal_store", "message": message, "fields": fields, "times": times})
    }

    fn a_bad_day() -> Round {
        let writer = |instance, other| overview("wal-writer", instance, other);
        let checks = json!([
            {"name": "assigned", "ok": true, "detail": "met"},
            {"name": "store", "ok": false, "detail": "the store does not answer"},
        ]);
        let first = json!({
            "groups": [group("wal.writer", 18, 18, Some((12, 4.06)))],
            "last_errors": [noted("2026-11-26T00:39:50.788Z", "ERROR", "the store does not answer", "code=503", 31)],
            "ready": false, "checks": checks, "store": {"answers": false, "detail": "the store does not answer"},
        });
        let second = json!({
            "groups": [group("wal.writer", 18, 17, Some((3, 75.0)))], "uptime_seconds": 90,
            "last_errors": [noted("2026-11-26T00:39:51.000Z", "WARN", "the brokers do not answer yet", "", 1)],
        });
        let scheduler = json!({
            "groups": [group("wal.delays", 4, 0, None), group("wal.retry-scheduler", 12, 12, Some((0, 0.0)))],
            "retries": {"due": 2, "oldest_due_seconds": 1.25}, "store": null, "uptime_seconds": 266_400,
        });
        let oldest = json!({"oldest": {
            "log_id": "wal_orders_20261126T003650317Z_a18bf489-b783-5dd9-937d-bb0d7869d81b", "namespace": "orders",
            "target": "order_events", "attempt": 2, "due": "2026-11-26T00:37:00.000Z", "unanswered_seconds": 180,
        }});
        let services = vec![
            answer("10.0.0.1:9464", writer("0", first)),
            answer("10.0.0.2:9464", writer("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", second)),
            answer("10.0.0.3:9464", overview("wal-retry-scheduler", "0", scheduler)),
            answer(
                "10.0.0.4:9464",
                overview("wal-gateway", "0", json!({"unanswered": oldest, "uptime_seconds": 7300})),
            ),
            Answer { at: "10.0.0.5:9464".to_owned(), said: Said::NoAnswer("no answer within 4s".to_owned()) },
        ];
        Round::of(at("2026-11-26T00:40:00.000Z"), services)
    }

    #[test]
    fn a_bad_day_on_one_screen() {
        let round = a_bad_day();
        let expected = include_str!("../../tests/golden/status.txt");
        assert_eq!(format!("{}\n", text(&round, Paint::plain())), expected);
        assert!(!round.is_well);
    }

    #[test]
    fn a_good_day_is_short() {
        let quiet = json!({"groups": [group("wal.writer", 36, 36, Some((0, 0.0)))], "unanswered": "nothing"});
        let round = Round::of(at("2026-11-26T00:40:00.000Z"), vec![answer("l:1", overview("wal-writer", "0", quiet))]);
        let text = text(&round, Paint::plain());
        assert!(round.is_well && text.ends_with(" oldest unanswered: nothing\n\n no warnings and no errors"), "{text}");
    }

    #[test]
    fn who_is_not_alive_or_cannot_ask_its_store_says_so() {
        let checks = json!([{"name": "poll", "ok": false, "detail": "last beat 31.0s ago, 30s allowed"}]);
        let other =
            json!({"live": false, "checks": checks, "unanswered": {"unknown": "the store is not available: gone"}});
        let round = Round::of(at("2026-11-26T00:40:00.000Z"), vec![answer("l:1", overview("wal-writer", "0", other))]);
        let text = text(&round, Paint::plain());
        assert!(!round.is_well && text.contains("not alive: poll: last beat 31.0s ago, 30s allowed"), "{text}");
        assert!(text.contains(" oldest unanswered: unknown: the store is not available: gone"), "{text}");
    }

    #[test]
    fn the_screen_has_room_for_the_newest_errors_only() {
        let many = |minute: usize| -> Vec<serde_json::Value> {
            let one = |second: usize| {
                noted(
                    &format!("2026-11-26T00:{minute:02}:{second:02}.000Z"),
                    "WARN",
                    &format!("m{minute}s{second}"),
                    "",
                    1,
                )
            };
            (0..10).map(one).collect()
        };
        let services = [10, 20].map(|minute| answer("l:1", overview("w", "0", json!({"last_errors": many(minute)}))));
        let round = Round::of(at("2026-11-26T00:40:00.000Z"), services.into());
        let text = text(&round, Paint::plain());
        assert_eq!(text.matches("  WARN ").count(), ERRORS);
        assert!(text.contains("m20s9") && text.find("m20s9") < text.find("m20s0") && !text.contains("m10s"), "{text}");
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        let table = [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (266_400, "3 d 2 h")];
        for (seconds, text) in table {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_round_as_json_keeps_its_names() {
        let json = serde_json::to_value(a_bad_day()).unwrap();
        assert_eq!((&json["ok"], &json["at"]), (&json!(false), &json!("2026-11-26T00:40:00.000Z")));
        assert_eq!(json["services"][4], json!({"at": "10.0.0.5:9464", "no_answer": "no answer within 4s"}));
        let writer = &json["services"][0];
        assert_eq!((&writer["at"], &writer["status"]["ready"]), (&json!("10.0.0.1:9464"), &json!(false)));
        assert_eq!(writer["status"]["groups"][0]["lag_records"], json!(12));
    }
}
