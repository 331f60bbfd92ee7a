//! Time as the log knows it: milliseconds since the Unix epoch, and the one place that reads the machine's clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last millisecond of year 9999: later times have no fixed-width spelling. Stored, keep stable.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// The length of a [`Timestamp::compact`] spelling in bytes. Stored, keep stable.
pub(crate) const COMPACT_LEN: usize = 19;

/// A point in time: milliseconds since the Unix epoch, from 1970 to the end of 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The last point in time that can be spelled.
    pub const MAX: Timestamp = Timestamp(MAX_MILLIS);

    /// From milliseconds since the Unix epoch; `None` outside 1970..=9999.
    pub fn from_millis(millis: i64) -> Option<Timestamp> {
        (0..=MAX_MILLIS).contains(&millis).then_some(Timestamp(millis))
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// This time plus `duration`, at most [`Timestamp::MAX`]: a sum can never wrap into the past.
    pub fn saturating_add(self, duration: Duration) -> Timestamp {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(millis).min(MAX_MILLIS))
    }

    /// How long after `earlier` this time is; zero if it is not later.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// The fixed-width spelling used in log ids: `20241201T100000000Z`.
    pub fn compact(self) -> String {
        // By way of the other spelling: a general format takes several times as long, and every record holds it twice. Stored, keep
        // stable.
        self.to_string().replace(['-', ':', '.'], "")
    }

    /// Reads what [`Timestamp::compact`] wrote, and nothing else.
    pub fn parse_compact(text: &str) -> Option<Timestamp> {
        let is_shaped = text.len() == COMPACT_LEN
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                18 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        if !is_shaped {
            return None;
        }
        let mut spelled = *b"0000-00-00T00:00:00.000Z";
        for (to, from) in [
            (0..4, 0..4),
            (5..7, 4..6),
            (8..10, 6..8),
            (11..13, 9..11),
            (14..16, 11..13),
            (17..19, 13..15),
            (20..23, 15..18),
        ] {
            spelled[to].copy_from_slice(&text.as_bytes()[from]);
        }
        let parsed: Timestamp = std::str::from_utf8(&spelled).ok()?.parse().ok()?;
        // Leap seconds and other second spellings of one instant are refused: one time, one text.
        (parsed.compact() == text).then_some(parsed)
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).expect("the range was checked when this was made")
    }
}

/// RFC 3339 in UTC with milliseconds: `2024-12-01T10:00:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// A text that is no RFC 3339 time between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no RFC 3339 time between 1970 and 9999")]
pub struct NotATime(String);

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Timestamp, NotATime> {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .and_then(|time| {
                // What is finer than a millisecond is rounded up, so that nothing is due too early.
                let is_finer = time.timestamp_subsec_nanos() % 1_000_000 != 0;
                Timestamp::from_millis(time.timestamp_millis() + i64::from(is_finer))
            })
            .ok_or_else(|| NotATime(text.chars().take(64).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where `now` comes from. Read once per decision and passed down.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(Utc::now().timestamp_millis()).unwrap_or(Timestamp::EPOCH)
    }
}

/// A clock that stands still until it is moved.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

#[cfg(any(test, feature = "testing"))]
impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock(std::sync::atomic::AtomicI64::new(now.as_millis()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let later = self.now().saturating_add(by);
        self.0.store(later.as_millis(), std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn compact_and_rfc3339_round_trip(millis in 0..=MAX_MILLIS) {
            let time = Timestamp::from_millis(millis).unwrap();
            prop_assert_eq!(time.compact().len(), COMPACT_LEN);
            prop_assert_eq!(Timestamp::parse_compact(&time.compact()), Some(time));
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }

        #[test]
        fn compact_spellings_sort_as_the_times_do(a in 0..=MAX_MILLIS, b in 0..=MAX_MILLIS) {
            let (a, b) = (Timestamp(a), Timestamp(b));
            prop_assert_eq!(a.cmp(&b), a.compact().cmp(&b.compact()));
        }
    }

    #[test]
    fn sums_never_wrap() {
        assert_eq!(Timestamp::EPOCH.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.saturating_since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn a_time_finer_than_a_millisecond_is_never_early() {
        let time: Timestamp = "1970-01-01T01:00:00.0000001+01:00".parse().unwrap();
        assert_eq!(time.as_millis(), 1);
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["20241201T100060000Z", "20241301T100000000Z", "2024120 T100000000Z", "20241201t100000000Z", ""] {
            assert_eq!(Timestamp::parse_compact(text), None, "{text}");
        }
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("9999-12-31T23:59:59.9991Z".parse::<Timestamp>().is_err());
        assert!("tomorrow".parse::<Timestamp>().is_err());
    }
}
