//! How long to wait before trying again what others were in the way of.

use std::time::Duration;

/// The first wait is at most this long: a write of somebody else takes about as long.
const FIRST: Duration = Duration::from_millis(10);
/// No wait is longer.
const LONGEST: Duration = Duration::from_millis(300);

/// Waits a random time, the longer the more tries there were: who collided once should not collide again.
pub(super) async fn after(tries: u32) {
    tokio::time::sleep(longest(tries).mul_f64(fastrand::f64())).await;
}

fn longest(tries: u32) -> Duration {
    FIRST.saturating_mul(1 << tries.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        assert_eq!([0, 1, 4, 5, u32::MAX].map(|tries| longest(tries).as_millis()), [10, 20, 160, 300, 300]);
    }
}
