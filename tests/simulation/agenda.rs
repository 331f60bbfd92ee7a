//! What will happen when: the next event is the earliest, and of two at the same time the one that was entered first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The poll thread of a loop has its turn.
    Poll { process: usize, life: u32, at: usize },
    /// The work thread of a loop has its turn.
    Step { process: usize, life: u32, at: usize },
    /// A scheduler reads on in the topic of cancels.
    Follow { process: usize, life: u32 },
    /// A process begins a new life.
    Start { process: usize },
    /// A process is told to stop.
    Stop { process: usize },
    /// The clock of a process, or of the brokers, is set so far ahead.
    Adjust { process: Option<usize>, skew: i64 },
    /// A member was silent for the whole session.
    SessionOver { group: &'static str, member: u64 },
    /// Partitions of a group are dealt anew.
    Shuffle { group: &'static str },
    /// A transaction leaves a mark.
    Mark { transaction: usize },
    /// Transactions that have been open for too long are aborted.
    TimeOut,
    /// A client sends a request.
    Send { request: usize },
    /// An answer is sent.
    Answer { answer: usize },
    /// An operator cancels what a request wrote.
    Cancel { request: usize },
    /// Brokers fall silent, or answer again.
    Silence { is_silent: bool },
    /// A target vanishes, or is there again.
    Missing { target: usize, is_missing: bool },
}

/// What will happen.
#[derive(Default)]
pub struct Agenda {
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    entered: u64,
}

impl Agenda {
    pub fn enter(&mut self, at: i64, event: Event) {
        self.entered += 1;
        self.events.push(Reverse((at, self.entered, event)));
    }

    pub fn next(&mut self) -> Option<(i64, Event)> {
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<i64> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }
}
