//! Telling how far something is that may take minutes.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::info;

/// How often it is told; what is done sooner is not worth a line.
const EVERY: Duration = Duration::from_secs(5);

/// How far something is.
pub(super) struct Progress<'a> {
    folder: &'a Path,
    what: &'static str,
    of: u64,
    told: Instant,
}

impl Progress<'_> {
    /// Nothing is done yet of `of`, whatever it counts.
    pub(super) fn begin<'a>(folder: &'a Path, what: &'static str, of: u64) -> Progress<'a> {
        Progress { folder, what, of, told: Instant::now() }
    }

    /// So much is done.
    pub(super) fn at(&mut self, done: u64) {
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            info!(folder = %self.folder.display(), "{}: {} %", self.what, percent(done, self.of));
        }
    }
}

/// Never more than all, though what is counted may grow meanwhile.
fn percent(done: u64, of: u64) -> u128 {
    let share = u128::from(done) * 100;
    share.checked_div(of.into()).map_or(100, |share| share.min(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_in_percent() {
        let shares = [(0, 7), (1, 3), (7, 7), (8, 7), (0, 0), (u64::MAX, u64::MAX)].map(|(done, of)| percent(done, of));
        assert_eq!(shares, [0, 33, 100, 100, 100, 100]);
    }
}
