//! What the scheduler has done since it started, counted when it is committed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! whats {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum What {
            $($(#[$doc])* $name,)+
        }

        impl What {
            /// Everything that is counted.
            pub const ALL: &[What] = &[$(What::$name),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(What::$name => $word),+ }
            }
        }
    };
}

whats! {
    /// A failure after which the next attempt waits for its time.
    Scheduled = "scheduled";
    /// A failure after which the next attempt followed at once.
    AtOnce = "at_once";
    /// A failure after which no retry was left.
    Exhausted = "exhausted";
    /// A failure after which the consumer wanted no retry.
    Rejected = "rejected";
    /// An attempt whose deadline passed, or would have before it.
    Expired = "expired";
    /// An attempt whose target does not exist.
    Undeliverable = "undeliverable";
    /// An attempt or a failure of a cancelled round, dropped.
    Cancelled = "cancelled";
    /// A failure that was decided before.
    Repeated = "repeated";
    /// An answer that changes nothing: to a replayed copy, or where nobody asked for answers.
    Ignored = "ignored";
    /// A record that is no failure, or none that may be decided.
    Refused = "refused";
    /// A failure moved to the partition that its log id names.
    Moved = "moved";
    /// A failure whose wish could not be understood, so that the lifecycle decided.
    WishUnreadable = "wish_unreadable";
    /// Headers that an answer brought beyond what an entry may have, left out.
    HeadersCut = "headers_cut";
    /// An attempt published when it was due.
    Released = "released";
    /// A parked attempt whose hop was over and that was parked again.
    Hopped = "hopped";
    /// An attempt that was due and could not be published to its target yet.
    Postponed = "postponed";
    /// A record of a delay topic that the log did not park there.
    Forged = "forged";
}

/// The upper bounds of the histogram of lateness, in milliseconds; one more bucket has no bound.
pub const LATENESS_BOUNDS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20_000];

/// The counts of a scheduler. Read at any time, from any thread.
#[derive(Debug, Default)]
pub struct Counts {
    of: [AtomicU64; What::ALL.len()],
    lateness: [AtomicU64; LATENESS_BOUNDS.len() + 1],
    lateness_sum: AtomicU64,
    lateness_max: AtomicU64,
}

/// How late releases were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// How many were as late as each of [`LATENESS_BOUNDS`] and no later than the next smaller one; the last: later than all.
    pub buckets: [u64; LATENESS_BOUNDS.len() + 1],
    /// All of it, in milliseconds.
    pub sum: u64,
    /// The most, in milliseconds.
    pub max: u64,
}

impl Counts {
    /// How often something happened.
    pub fn get(&self, what: What) -> u64 {
        self.of[what as usize].load(Ordering::Relaxed)
    }

    /// How late releases were committed.
    pub fn lateness(&self) -> Lateness {
        Lateness {
            buckets: std::array::from_fn(|at| self.lateness[at].load(Ordering::Relaxed)),
            sum: self.lateness_sum.load(Ordering::Relaxed),
            max: self.lateness_max.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn add(&self, tally: &Tally) {
        for (count, more) in self.of.iter().zip(tally.0) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn late(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let bucket = LATENESS_BOUNDS.partition_point(|bound| *bound < millis);
        self.lateness[bucket].fetch_add(1, Ordering::Relaxed);
        self.lateness_sum.fetch_add(millis, Ordering::Relaxed);
        self.lateness_max.fetch_max(millis, Ordering::Relaxed);
    }
}

/// What one batch would add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally([u64; What::ALL.len()]);

impl Tally {
    pub(crate) fn one(&mut self, what: What) {
        self.0[what as usize] += 1;
    }

    pub(crate) fn get(&self, what: What) -> u64 {
        self.0[what as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_once_it_is_added() {
        let counts = Counts::default();
        let mut tally = Tally::default();
        tally.one(What::Released);
        tally.one(What::Released);
        tally.one(What::Forged);
        assert_eq!(counts.get(What::Released), 0);
        counts.add(&tally);
        assert_eq!((counts.get(What::Released), counts.get(What::Forged), counts.get(What::Moved)), (2, 1, 0));
    }

    #[test]
    fn lateness_falls_into_the_bucket_of_its_bound() {
        let counts = Counts::default();
        for millis in [0, 1, 2, 3, 20_001] {
            counts.late(Duration::from_millis(millis));
        }
        let lateness = counts.lateness();
        assert_eq!(lateness.buckets[..3], [2, 1, 1]);
        assert_eq!(lateness.buckets.last(), Some(&1));
        assert_eq!((lateness.sum, lateness.max), (20_007, 20_001));
    }
}
