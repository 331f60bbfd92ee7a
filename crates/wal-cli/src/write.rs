//! `wal write`: requests to the ingress topics, and their receipts as they come.

mod lines;
mod outcome;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use wal_model::Priority;
use wal_model::lifecycle::Requested;
use wal_runtime::config::{Kafka, Settings};
use wal_sdk::{Answer, Producer, ProducerOptions, Queued, RawRequest, SendError, Why, WriteRequest};

use crate::args;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::Screen;
use crate::settings;
use lines::Lines;
use outcome::{Outcome, Tally};

/// Requests that wait for their receipts at a time: enough to fill the writer's batches, and bounded.
const WINDOW: usize = 4000;
/// How long closing the producer may take; everything has its answer by then.
const CLOSE: Duration = Duration::from_secs(2);
/// Kafka's client wants some time to have a request sent at all.
const SHORTEST_SEND: Duration = Duration::from_secs(1);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs `wal write`.
pub async fn run(screen: &Screen, settings: &Settings, write: args::Write) -> Result<Exit, Problem> {
    let kafka = Kafka::read(settings).map_err(|error| settings::invalid(&error))?;
    let requests = Requests::open(&write, &kafka).await?;
    settings::reach(&kafka).await?;
    let mut options = ProducerOptions::new(settings::connection(&kafka), kafka.topics.clone());
    options.send_timeout = write.timeout.max(SHORTEST_SEND);
    let producer = Producer::connect(options).await.map_err(|error| settings::no_connection(&error))?;
    let started = Instant::now();
    let mut writing = Writing {
        screen,
        timeout: write.timeout,
        under_way: JoinSet::new(),
        tally: Tally::default(),
        told: started,
        is_file: write.file.is_some(),
    };
    let exit = tokio::select! {
        all = writing.all(&producer, requests) => { all?; writing.tally.exit() }
        _ = tokio::signal::ctrl_c() => Exit::Interrupted,
    };
    writing.summary(started.elapsed());
    producer.close(CLOSE).await;
    Ok(exit)
}

/// Where requests come from.
enum Requests {
    One(Box<WriteRequest>),
    Lines(Lines, wal_model::Topic),
}

impl Requests {
    async fn open(write: &args::Write, kafka: &Kafka) -> Result<Requests, Problem> {
        match (&write.file, &write.namespace) {
            (Some(file), _) => {
                let topic = kafka.topics.ingress(write.priority.unwrap_or(Priority::Normal));
                Ok(Requests::Lines(Lines::open(file).await?, topic))
            }
            (None, Some(namespace)) => {
                let payload = json_argument("--payload", &write.payload).await?;
                let mut request = WriteRequest::new(namespace.clone(), payload);
                request.target = write.target.clone();
                request.lifecycle = Requested {
                    retry_count: write.retry_count,
                    delay: write.delay,
                    backoff: write.backoff,
                    ttl: write.ttl,
                    priority: write.priority,
                };
                request.tenant = write.tenant.clone();
                request.user = write.user.clone();
                request.correlation_id = write.correlation_id.clone();
                request.idempotency_key = write.idempotency_key.clone();
                request.request_id = write.request_id.clone();
                request.ordering_key = write.key.clone().map(Bytes::from);
                Ok(Requests::One(Box::new(request)))
            }
            (None, None) => Err(Problem::usage("write without a namespace or --file")),
        }
    }
}

/// What an option gives as JSON, as `@file`, or on standard input.
pub async fn json_argument(option: &str, given: &str) -> Result<Box<RawValue>, Problem> {
    let text = match given.strip_prefix('@') {
        _ if given == "-" => lines::read_all(Path::new("-")).await?,
        Some(file) => lines::read_all(Path::new(file)).await?,
        None => given.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        let forms = format!(
            r#"{option} '{{"operation":"create_order"}}', {option} @order.json, or {option} - for standard input"#
        );
        Problem::usage(format!("read what {option} gives as JSON")).because(&error).hint(forms)
    })
}

struct Writing<'a> {
    screen: &'a Screen,
    timeout: Duration,
    under_way: JoinSet<Outcome>,
    tally: Tally,
    told: Instant,
    is_file: bool,
}

impl Writing<'_> {
    async fn all(&mut self, producer: &Producer, requests: Requests) -> Result<(), Problem> {
        match requests {
            Requests::One(request) => {
                let sent = Instant::now();
                let queued = producer.enqueue(&request).await;
                self.follow(queued, None, sent);
            }
            Requests::Lines(mut lines, topic) => {
                while let Some((line, value)) = lines.next().await? {
                    while self.under_way.len() >= WINDOW {
                        self.show_next().await?;
                    }
                    let sent = Instant::now();
                    let request =
                        RawRequest { topic: topic.clone(), key: None, value: Some(value), headers: Vec::new() };
                    let queued = producer.enqueue_raw(request).await;
                    self.follow(queued, Some(line), sent);
                    self.show_ready()?;
                }
            }
        }
        while !self.under_way.is_empty() {
            self.show_next().await?;
        }
        Ok(())
    }

    /// Waits for the answer to a request beside the others.
    fn follow(&mut self, queued: Result<Queued, SendError>, line: Option<u64>, sent: Instant) {
        let timeout = self.timeout;
        self.under_way.spawn(async move {
            let queued = match queued {
                Ok(queued) => queued,
                Err(error) => return Outcome::not_sent(line, None, &error),
            };
            let request_id = queued.request_id().cloned();
            match queued.acknowledged().await {
                Err(error) => Outcome::not_sent(line, request_id, &error),
                Ok(mut pending) => {
                    let acked = pending.acked().acked_at;
                    let left = timeout.saturating_sub(sent.elapsed());
                    let answer = match pending.await_receipt(left).await {
                        Answer::Unknown(Why::Timeout(_)) => Answer::Unknown(Why::Timeout(timeout)),
                        answer => answer,
                    };
                    Outcome::answered(line, request_id, answer, sent, acked)
                }
            }
        });
    }

    fn show_ready(&mut self) -> Result<(), Problem> {
        while let Some(ended) = self.under_way.try_join_next() {
            self.show(ended)?;
        }
        Ok(())
    }

    async fn show_next(&mut self) -> Result<(), Problem> {
        match self.under_way.join_next().await {
            Some(ended) => self.show(ended),
            None => Ok(()),
        }
    }

    fn show(&mut self, ended: Result<Outcome, tokio::task::JoinError>) -> Result<(), Problem> {
        let outcome = ended.map_err(|error| Problem::of(Exit::Failed, "WAL_FAILED", &error))?;
        self.tally.add(&outcome);
        outcome.show(self.screen)?;
        if self.is_file && self.screen.shows_progress() && self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            self.screen.note(&self.screen.err.tone(Tone::Faint, &format!("… {}", self.tally)));
        }
        Ok(())
    }

    /// One request says everything on its own line, unless it needs a hint.
    fn summary(&self, took: Duration) {
        let waiting = self.under_way.len();
        if self.is_file || waiting > 0 {
            let waiting = if waiting > 0 { format!(", {waiting} given up waiting for") } else { String::new() };
            let text = format!("{}{waiting} in {:.1} s", self.tally, took.as_secs_f64());
            self.screen.note(&self.screen.err.tone(Tone::Strong, &text));
        }
        if let Some(hint) = self.tally.hint() {
            self.screen.note(&format!("  {} {hint}", self.screen.err.tone(Tone::Strong, "try:")));
        }
    }
}
