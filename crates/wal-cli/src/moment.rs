//! Time arguments, the same everywhere: `now`, `-2h`, `2026-11-23`, `2026-11-23T10:00:00Z`.

use std::str::FromStr;
use std::time::Duration;

use wal_model::Timestamp;

/// A time as the command line gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// `now`.
    Now,
    /// `-2h`: so long ago.
    Ago(Duration),
    /// A point in time.
    At(Timestamp),
}

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "use now, a time ago such as -2h or -1h30m, a day such as 2026-11-23, or RFC 3339 such as 2026-11-23T10:00:00Z"
)]
pub struct NotAMoment;

impl Moment {
    /// The point in time that is meant now.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::Now => now,
            Moment::Ago(ago) => {
                let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_millis(now.as_millis().saturating_sub(millis)).unwrap_or(Timestamp::EPOCH)
            }
            Moment::At(at) => at,
        }
    }

    /// The end that is meant, where a range ends before it: "to now" is meant to hold what was written just now.
    pub fn resolve_end(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::Now => now.saturating_add(Duration::from_secs(1)),
            Moment::Ago(_) | Moment::At(_) => self.resolve(now),
        }
    }
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Moment, NotAMoment> {
        if text == "now" {
            return Ok(Moment::Now);
        }
        if let Some(ago) = text.strip_prefix('-') {
            return humantime::parse_duration(ago).map(Moment::Ago).map_err(|_| NotAMoment);
        }
        let midnight = format!("{text}T00:00:00Z");
        let at = text.parse().or_else(|_| midnight.parse::<Timestamp>());
        at.map(Moment::At).map_err(|_| NotAMoment)
    }
}

/// How long ago, for a person: `just now`, `3 s`, `5 min`, `2 h`, `4 d`.
pub fn age(since: Duration) -> String {
    let seconds = since.as_secs();
    match seconds {
        0 => "just now".into(),
        1..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = at("2026-11-24T12:00:00Z");
        let table = [
            ("now", "2026-11-24T12:00:00Z"),
            ("-2h", "2026-11-24T10:00:00Z"),
            ("-1h30m", "2026-11-24T10:30:00Z"),
            ("-90s", "2026-11-24T11:58:30Z"),
            ("2026-11-23", "2026-11-23T00:00:00Z"),
            ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
            ("2026-11-23T10:00:00.250+02:00", "2026-11-23T08:00:00.250Z"),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Moment>().map(|moment| moment.resolve(now)), Ok(at(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "-", "yesterday", "2h", "-2x", "2026-13-01", "10:00"] {
            assert_eq!(text.parse::<Moment>(), Err(NotAMoment), "{text}");
        }
    }

    #[test]
    fn before_the_epoch_is_the_epoch() {
        let moment: Moment = "-100years".parse().unwrap();
        assert_eq!(moment.resolve(at("2026-11-24T12:00:00Z")), Timestamp::EPOCH);
    }

    #[test]
    fn ages_are_short() {
        let ages = [0, 3, 300, 7300, 500_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["just now", "3 s ago", "5 min ago", "2 h ago", "5 d ago"]);
    }
}
