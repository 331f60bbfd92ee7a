//! How long and how often an entry is tried: as a request gives it, and as it holds once a policy has filled the gaps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most retries a request may allow.
pub const RETRY_COUNT_MAX: u32 = 100;
/// The longest delay a request may ask for.
pub const DELAY_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The shortest time-to-live a request may ask for.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest time-to-live a request may ask for.
pub const TTL_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How the delay grows from one retry to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// 60, 120, 240, ...
    Exponential,
    /// 60, 120, 180, ...
    Linear,
    /// 60, 60, 60, ...
    Fixed,
}

/// Which ingress lane an entry prefers and which due entry goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before the others.
    High,
    /// As most entries are.
    Normal,
    /// After the others, but never starved.
    Low,
}

macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ }) => {
        impl $name {
            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<$name, UnknownWord> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownWord { allowed: concat!($($word, " "),+) }),
                }
            }
        }
    };
}

words!(Backoff { Exponential = "exponential", Linear = "linear", Fixed = "fixed" });
words!(Priority { High = "high", Normal = "normal", Low = "low" });

/// A word that is none of the allowed ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: {}", .allowed.trim_end().replace(' ', ", "))]
pub struct UnknownWord {
    allowed: &'static str,
}

/// A length of time in seconds with at most three decimals, as requests and documents spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(Duration);

/// Why a number is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be seconds, 0 or more, with at most three decimals")]
pub struct NotSeconds;

impl Seconds {
    /// From a length of time; what is finer than a millisecond is cut off.
    pub fn new(duration: Duration) -> Seconds {
        Seconds(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The length of time.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// From a number as JSON has it.
    pub fn from_number(number: f64) -> Result<Seconds, NotSeconds> {
        // Up to 1e12 s a double tells whole milliseconds apart, and no limit comes near it. A number of at most three
        // decimals is the double nearest to its milliseconds; one of more decimals is another double.
        let is_possible = number.is_finite() && (0.0..=1e12).contains(&number);
        let millis = (number * 1000.0).round();
        if !is_possible || millis / 1000.0 != number {
            return Err(NotSeconds);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
        Ok(Seconds(Duration::from_millis(millis as u64)))
    }
}

/// `60`, or `0.25` where there is a fraction.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, millis) = (self.0.as_secs(), self.0.subsec_millis());
        if millis == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{millis:03}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl FromStr for Seconds {
    type Err = NotSeconds;

    fn from_str(text: &str) -> Result<Seconds, NotSeconds> {
        let is_decimal =
            !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_decimal {
            return Err(NotSeconds);
        }
        Seconds::from_number(text.parse().map_err(|_| NotSeconds)?)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_millis() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            // Not `as_secs_f64`: its sum of two roundings may miss the double that `from_number` takes.
            #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
            serializer.serialize_f64(self.0.as_millis() as f64 / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Seconds::from_number(number).map_err(serde::de::Error::custom)
    }
}

/// A lifecycle as a request gives it: what it does not say, the policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// Retries allowed.
    pub retry_count: Option<u32>,
    /// Delay before the first retry.
    pub delay: Option<Seconds>,
    /// How the delay grows.
    pub backoff: Option<Backoff>,
    /// Time-to-live.
    pub ttl: Option<Seconds>,
    /// Priority.
    pub priority: Option<Priority>,
}

/// A value of a lifecycle that lies outside its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfRange {
    /// `retry_count` beyond [`RETRY_COUNT_MAX`].
    #[error("retry_count is {0}, {RETRY_COUNT_MAX} at most are allowed")]
    RetryCount(u32),
    /// `delay` beyond [`DELAY_MAX`].
    #[error("delay is {0} s, {max} s at most are allowed", max = DELAY_MAX.as_secs())]
    Delay(Seconds),
    /// `ttl` outside [`TTL_MIN`] to [`TTL_MAX`].
    #[error("ttl is {0} s, {min} to {max} s are allowed", min = TTL_MIN.as_secs(), max = TTL_MAX.as_secs())]
    Ttl(Seconds),
}

impl Requested {
    /// Checks every given value against its limits.
    pub fn check(&self) -> Result<(), OutOfRange> {
        if let Some(count) = self.retry_count.filter(|count| *count > RETRY_COUNT_MAX) {
            return Err(OutOfRange::RetryCount(count));
        }
        if let Some(delay) = self.delay.filter(|delay| delay.duration() > DELAY_MAX) {
            return Err(OutOfRange::Delay(delay));
        }
        match self.ttl {
            Some(ttl) if !(TTL_MIN..=TTL_MAX).contains(&ttl.duration()) => Err(OutOfRange::Ttl(ttl)),
            _ => Ok(()),
        }
    }

    /// This lifecycle with its gaps filled from `defaults`.
    pub fn or(&self, defaults: &Lifecycle) -> Lifecycle {
        Lifecycle {
            retry_count: self.retry_count.unwrap_or(defaults.retry_count),
            delay: self.delay.unwrap_or(defaults.delay),
            backoff: self.backoff.unwrap_or(defaults.backoff),
            ttl: self.ttl.unwrap_or(defaults.ttl),
            priority: self.priority.unwrap_or(defaults.priority),
        }
    }
}

/// How long and how often an entry is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// Retries allowed within a round.
    pub retry_count: u32,
    /// Delay before the first retry.
    pub delay: Seconds,
    /// How the delay grows.
    pub backoff: Backoff,
    /// From the start of a round to its deadline.
    pub ttl: Seconds,
    /// Priority.
    pub priority: Priority,
}

impl Default for Lifecycle {
    /// The specification's defaults: 3 retries, 60 s, exponential, 7 days, normal.
    fn default() -> Lifecycle {
        Lifecycle {
            retry_count: 3,
            delay: Seconds(Duration::from_secs(60)),
            backoff: Backoff::Exponential,
            ttl: Seconds(Duration::from_secs(7 * 86_400)),
            priority: Priority::Normal,
        }
    }
}

impl Lifecycle {
    /// The delay before the `retry`-th retry of a round (the first is 1). Saturates: it can grow, never wrap into "now".
    pub fn delay_before(&self, retry: u32) -> Duration {
        let steps = retry.saturating_sub(1);
        let factor = match self.backoff {
            Backoff::Fixed => 1,
            Backoff::Linear => steps.saturating_add(1),
            Backoff::Exponential => 2u32.saturating_pow(steps),
        };
        self.delay.duration().saturating_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delays(backoff: Backoff) -> Vec<u64> {
        let lifecycle = Lifecycle { backoff, ..Lifecycle::default() };
        (1..=5).map(|retry| lifecycle.delay_before(retry).as_secs()).collect()
    }

    #[test]
    fn delays_are_those_of_the_specification() {
        assert_eq!(delays(Backoff::Exponential), [60, 120, 240, 480, 960]);
        assert_eq!(delays(Backoff::Linear), [60, 120, 180, 240, 300]);
        assert_eq!(delays(Backoff::Fixed), [60, 60, 60, 60, 60]);
    }

    proptest! {
        #[test]
        fn delays_never_shrink(millis in 0u64..=2_592_000_000, retry in 1u32..u32::MAX) {
            for backoff in [Backoff::Exponential, Backoff::Linear, Backoff::Fixed] {
                let delay = Seconds::new(Duration::from_millis(millis));
                let lifecycle = Lifecycle { delay, backoff, ..Lifecycle::default() };
                prop_assert!(lifecycle.delay_before(retry) >= delay.duration());
                prop_assert!(lifecycle.delay_before(retry + 1) >= lifecycle.delay_before(retry));
            }
        }

        #[test]
        fn seconds_round_trip(millis in 0u64..=31_536_000_000) {
            let seconds = Seconds::new(Duration::from_millis(millis));
            prop_assert_eq!(seconds.to_string().parse::<Seconds>().unwrap(), seconds);
            let json = serde_json::to_string(&seconds).unwrap();
            prop_assert_eq!(serde_json::from_str::<Seconds>(&json).unwrap(), seconds);
        }
    }

    #[test]
    fn seconds_refuse_what_is_no_time() {
        for text in ["-1", "1e3", "NaN", "inf", "", "1.2345", "0x1", "99999999999999999999", "1.2.3", "1.0000001"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Seconds>("-1").is_err());
        assert!(serde_json::from_str::<Seconds>("1e300").is_err());
        assert!(serde_json::from_str::<Seconds>("\"60\"").is_err());
    }

    #[test]
    fn values_outside_their_limits_are_named() {
        let requested = Requested { retry_count: Some(101), ..Requested::default() };
        assert_eq!(requested.check(), Err(OutOfRange::RetryCount(101)));
        let requested = Requested { ttl: Some("0.5".parse().unwrap()), ..Requested::default() };
        assert!(requested.check().unwrap_err().to_string().contains("ttl is 0.5 s"));
        let requested = Requested { delay: Some("2592000.001".parse().unwrap()), ..Requested::default() };
        assert!(requested.check().is_err());
    }
}
