//! Requests at an even pace, as long as wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use wal_tests::{Producer, clients::Sent};

use crate::stage::Stage;

/// How often it looks what is due. Far below what a receipt takes.
const LOOK: Duration = Duration::from_millis(2);
/// Requests that the broker has not acknowledged yet: more are kept nowhere, and are late.
const UNACKNOWLEDGED: usize = 50_000;

/// A load that runs.
pub struct Load {
    sent: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Begins: request n is due n/rate after `started`.
    pub fn start(stage: &Stage, rate: f64, started: Instant) -> Load {
        let (sent, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        // As clients do that nobody has set up otherwise.
        let producer = Producer::with(&stage.bootstrap, &[("linger.ms", "5")]);
        let mut messages = stage.messages(usize::MAX);
        let (count, told) = (Arc::clone(&sent), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let (mut number, mut unacknowledged): (u64, VecDeque<Sent>) = (0, VecDeque::new());
            while !told.load(Ordering::SeqCst) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                let due = (started.elapsed().as_secs_f64() * rate) as u64 + 1;
                while number < due {
                    unacknowledged.push_back(producer.send(&messages.next().expect("there is no end")));
                    if unacknowledged.len() > UNACKNOWLEDGED {
                        unacknowledged.pop_front().expect("there are many").acknowledged();
                    }
                    number += 1;
                    count.store(number, Ordering::SeqCst);
                }
                std::thread::sleep(LOOK);
            }
            for sent in unacknowledged {
                sent.acknowledged();
            }
        });
        Load { sent, is_over, thread }
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Ends it; a few more may be on their way.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Ends it; tells how many the broker has.
    pub fn stop(self) -> Result<u64> {
        self.end();
        self.thread.join().map_err(|_| anyhow!("a request was not acknowledged"))?;
        Ok(self.sent.load(Ordering::SeqCst))
    }
}
