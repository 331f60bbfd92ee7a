//! Randomness that can be replayed.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

/// The environment variable that replays a run.
pub const VARIABLE: &str = "WAL_TEST_SEED";

/// A random source for one scenario. Prints the seed, which the test runner shows when the scenario fails.
///
/// Scenarios run side by side, so each draws from a source of its own, made of the run's seed and `scenario`: the same
/// seed gives a scenario the same numbers, whatever else runs.
pub fn random(scenario: &str) -> fastrand::Rng {
    static SEED: LazyLock<u64> = LazyLock::new(|| match env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is not a number")),
        Err(_) => fastrand::u64(..),
    });
    println!("{scenario}: replay with {VARIABLE}={}", *SEED);
    random_from(*SEED, scenario)
}

/// Random sources for many runs of one scenario, each with a seed of its own; a seed that is to be replayed is the only one.
///
/// A scenario that fails says which run it was: [`VARIABLE`] with that run's seed plays that run alone.
pub fn runs(scenario: &str, count: u64) -> impl Iterator<Item = (u64, fastrand::Rng)> {
    let (first, count) = match env::var(VARIABLE) {
        Ok(text) => (text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is not a number")), 1),
        Err(_) => (fastrand::u64(..u64::MAX - count), count),
    };
    (first..first + count).map(move |seed| (seed, random_from(seed, scenario)))
}

fn random_from(seed: u64, scenario: &str) -> fastrand::Rng {
    // Its keys are fixed, so the same seed means the same numbers in the next process too.
    let mut hasher = DefaultHasher::new();
    (seed, scenario).hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::random_from;

    #[test]
    fn the_same_seed_gives_a_scenario_the_same_numbers() {
        let draw = |seed, scenario| random_from(seed, scenario).u64(..);
        assert_eq!(draw(7, "crashes"), draw(7, "crashes"));
        assert_ne!(draw(7, "crashes"), draw(8, "crashes"));
        assert_ne!(draw(7, "crashes"), draw(7, "delays"));
    }
}
