//! The smaller sections that every service may need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use wal_model::entry::Answers;
use wal_model::lifecycle::{OutOfRange, Requested, Seconds};
use wal_model::seal::{Keyring, Unusable};
use wal_model::{Backoff, Lifecycle, Priority, Topic};

use super::{Error, Kafka, Settings};
use crate::secret::Secret;

const MAKE_A_KEY: &str = "make a key with `head -c 32 /dev/urandom | base64`, give it as `seal.keys.k1` \
     (or WAL__SEAL__KEYS__K1, or the name of its file as WAL__SEAL__KEYS__K1_FILE) and set `seal.signing_key` to k1";

/// Fails where a length of time is none.
pub(super) fn not_zero(settings: &Settings, key: &str, duration: Duration) -> Result<(), Error> {
    if duration.is_zero() { Err(settings.invalid(key, "must be longer than nothing")) } else { Ok(()) }
}

/// What holds for requests as far as they do not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The target of a request that names none; `None` refuses such a request. Never one of the log's own topics.
    pub target: Option<Topic>,
    /// How long and how often an entry is tried.
    pub lifecycle: Lifecycle,
    /// How long the first delivery of a request waits that names no time for it.
    pub first_delay: Seconds,
    /// Whether consumers answer.
    pub answers: Answers,
    /// Fields of a JSON payload of which the first that is a string serves as correlation id.
    pub correlation_fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    target: String,
    retry_count: u32,
    delay: Seconds,
    backoff: Backoff,
    ttl: Seconds,
    priority: Priority,
    first_delay: Seconds,
    answers: Answers,
    correlation_fields: Vec<String>,
}

impl Policy {
    /// Reads and checks the section `policy`.
    pub fn read(settings: &Settings) -> Result<Policy, Error> {
        let raw: RawPolicy = settings.section("policy")?;
        let RawPolicy { retry_count, delay, backoff, ttl, priority, .. } = raw;
        let lifecycle = Lifecycle { retry_count, delay, backoff, ttl, priority };
        check_lifecycle(settings, lifecycle)?;
        if raw.correlation_fields.iter().any(String::is_empty) {
            return Err(settings.invalid("policy.correlation_fields", "a field without a name"));
        }
        let first_delay = raw.first_delay;
        if first_delay >= ttl {
            let reason = "the deadline would pass before the first delivery";
            return Err(settings.contradiction("policy.ttl", "policy.first_delay", reason));
        }
        let target = target(settings, &raw.target)?;
        let (answers, correlation_fields) = (raw.answers, raw.correlation_fields);
        Ok(Policy { target, lifecycle, first_delay, answers, correlation_fields })
    }
}

fn check_lifecycle(settings: &Settings, lifecycle: Lifecycle) -> Result<(), Error> {
    let Lifecycle { retry_count, delay, backoff, ttl, priority } = lifecycle;
    let requested = Requested {
        retry_count: Some(retry_count),
        delay: Some(delay),
        backoff: Some(backoff),
        ttl: Some(ttl),
        priority: Some(priority),
    };
    requested.check().map_err(|out_of_range| {
        let key = match out_of_range {
            OutOfRange::RetryCount(_) => "policy.retry_count",
            OutOfRange::Delay(_) => "policy.delay",
            OutOfRange::Ttl(_) => "policy.ttl",
        };
        settings.invalid(key, out_of_range)
    })?;
    if retry_count > 0 && delay >= ttl {
        let reason = "the deadline would pass before the first retry";
        return Err(settings.contradiction("policy.ttl", "policy.delay", reason));
    }
    Ok(())
}

fn target(settings: &Settings, text: &str) -> Result<Option<Topic>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let target = Topic::parse(text).map_err(|invalid| settings.invalid("policy.target", invalid))?;
    if Kafka::read(settings)?.topics.is_reserved(&target) {
        let reason = format!("`{target}` would be one of the log's own topics");
        return Err(settings.contradiction("policy.target", "kafka.topic_prefix", reason));
    }
    Ok(Some(target))
}

/// What proves that an answer answers what was delivered.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The keys: one signs, all verify.
    pub keyring: Keyring,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeal {
    signing_key: String,
    keys: BTreeMap<String, Secret>,
}

impl Seal {
    /// Reads and checks the section `seal`. There is no default key: one that everybody knows would prove nothing.
    pub fn read(settings: &Settings) -> Result<Seal, Error> {
        let raw: RawSeal = settings.section("seal")?;
        if raw.keys.is_empty() {
            return Err(settings.invalid("seal.keys", format_args!("there is no key; {MAKE_A_KEY}")));
        }
        let mut secrets = BTreeMap::new();
        for (id, text) in &raw.keys {
            let secret = decode(text).ok_or_else(|| settings.invalid(&format!("seal.keys.{id}"), "is no base64"))?;
            secrets.insert(id.clone(), secret);
        }
        let keyring = Keyring::new(&raw.signing_key, &secrets).map_err(|unusable| match &unusable {
            Unusable::NoSigningKey(_) => {
                let ids = raw.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let reason = format!("the signing key must be one of the keys: {ids}");
                settings.contradiction("seal.signing_key", "seal.keys", reason)
            }
            Unusable::KeyId(id) => settings.invalid(&format!("seal.keys.{id}"), &unusable),
            Unusable::ShortSecret(id) => {
                settings.invalid(&format!("seal.keys.{id}"), format_args!("{unusable}; {MAKE_A_KEY}"))
            }
        })?;
        Ok(Seal { keyring })
    }
}

/// Either alphabet, with or without padding, with the line breaks that the `base64` command makes.
fn decode(text: &Secret) -> Option<Vec<u8>> {
    let text: String = text.reveal().chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engines = [GeneralPurpose::new(&STANDARD, config), GeneralPurpose::new(&URL_SAFE, config)];
    engines.iter().find_map(|engine| engine.decode(&text).ok())
}

/// Where probes are answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The address; `None` turns them off.
    #[serde(deserialize_with = "super::listen")]
    pub listen: Option<SocketAddr>,
    /// Where `wal status` asks, host and port; if empty, where `listen` says.
    pub endpoints: Vec<String>,
}

impl Health {
    /// Reads and checks the section `health`.
    pub fn read(settings: &Settings) -> Result<Health, Error> {
        settings.section("health")
    }
}

/// What is told to a collector of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Where the collector takes OTLP over HTTP; `None` tells nobody.
    pub otlp_endpoint: Option<String>,
    /// The share of entries that are sampled where the caller has not decided it, from 0 to 1.
    pub sample_ratio: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTraces {
    otlp_endpoint: String,
    sample_ratio: f64,
}

impl Traces {
    /// Reads and checks the section `traces`.
    pub fn read(settings: &Settings) -> Result<Traces, Error> {
        let RawTraces { otlp_endpoint, sample_ratio } = settings.section("traces")?;
        if !(0.0..=1.0).contains(&sample_ratio) {
            return Err(settings.invalid("traces.sample_ratio", "must be a share, from 0 to 1"));
        }
        if otlp_endpoint.is_empty() {
            return Ok(Traces { otlp_endpoint: None, sample_ratio });
        }
        let is_http = ["http://", "https://"].iter().any(|scheme| otlp_endpoint.starts_with(scheme));
        if !is_http {
            let reason = "must begin with http:// or https://, such as http://localhost:4318";
            return Err(settings.invalid("traces.otlp_endpoint", reason));
        }
        Ok(Traces { otlp_endpoint: Some(otlp_endpoint), sample_ratio })
    }
}

/// What is logged, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// What is logged; [`Log::read`] has checked that it can be used.
    pub level: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line, for machines.
    Json,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Log {
    /// Reads and checks the section `log`.
    pub fn read(settings: &Settings) -> Result<Log, Error> {
        let log: Log = settings.section("log")?;
        if let Some(word) = unknown_level(&log.level) {
            let levels = LEVELS.join(", ");
            let reason = format!("`{word}` is none of {levels}; for one module write `{word}=debug`");
            return Err(settings.invalid("log.level", reason));
        }
        EnvFilter::builder().parse(&log.level).map_err(|error| settings.invalid("log.level", error))?;
        Ok(log)
    }
}

/// A bare word that is no level. The filter would take it for a module of that name, and `inof` would log nothing at all.
fn unknown_level(filter: &str) -> Option<&str> {
    // A filter on spans may hold commas and words of its own.
    if filter.contains('[') {
        return None;
    }
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    filter.split(',').map(str::trim).find(|part| !part.contains('=') && !is_level(part))
}
