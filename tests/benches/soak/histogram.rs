//! Latencies in buckets that grow by a fiftieth: an hour of them takes no more memory than a second.

/// The shortest that is told apart, in milliseconds.
const LEAST: f64 = 0.1;
const GROWTH: f64 = 1.02;
/// Up to about half an hour.
const BUCKETS: usize = 850;

/// How many took how long.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// One took so many milliseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bucket")]
    pub fn add(&mut self, millis: f64) {
        let bucket = (millis.max(LEAST) / LEAST).ln() / GROWTH.ln();
        self.counts[(bucket as usize).min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// All of another too.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// What this share of all do not exceed, in milliseconds; not a number if there are none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    pub fn at(&self, share: f64) -> f64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += u64::from(*count);
            if sum >= rank {
                return LEAST * GROWTH.powf(bucket as f64 + 0.5);
            }
        }
        f64::NAN
    }
}
