//! Which lane gives how much to a batch: earlier lanes first, later lanes never nothing. Pure.

/// How much of a batch each lane may fill while the others have something to give: `shares` are percents, the last lane has
/// what is left. Every lane gets at least one.
pub(crate) fn quotas(shares: &[u8], limit: usize) -> Vec<usize> {
    let mut left = limit;
    let last = shares.len().saturating_sub(1);
    let quota = |(lane, share): (usize, &u8)| {
        let wanted = if lane == last { left } else { limit * usize::from(*share) / 100 };
        let quota = wanted.clamp(1, left.max(1));
        left = left.saturating_sub(quota);
        quota
    };
    shares.iter().enumerate().map(quota).collect()
}

/// Takes up to `limit` items from the lanes: each up to its quota, then, while there is room, the earlier lanes first.
///
/// `take(lane, at_most)` takes from a lane and says how many it took; fewer than asked for means the lane is empty for now.
pub(crate) fn fill(shares: &[u8], limit: usize, mut take: impl FnMut(usize, usize) -> usize) -> usize {
    let mut taken = 0;
    let mut is_empty = vec![false; shares.len()];
    for (lane, quota) in quotas(shares, limit).into_iter().enumerate() {
        let wanted = quota.min(limit - taken);
        let got = take(lane, wanted);
        is_empty[lane] = got < wanted;
        taken += got;
    }
    for lane in (0..shares.len()).filter(|lane| !is_empty[*lane]) {
        if taken < limit {
            taken += take(lane, limit - taken);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: [u8; 3] = [70, 25, 5];

    fn filled(mut waiting: [usize; 3], limit: usize) -> [usize; 3] {
        let mut got = [0; 3];
        fill(&SHARES, limit, |lane, wanted| {
            let taken = wanted.min(waiting[lane]);
            waiting[lane] -= taken;
            got[lane] += taken;
            taken
        });
        got
    }

    #[test]
    fn high_goes_first_and_low_still_moves() {
        assert_eq!(filled([1000, 1000, 1000], 100), [70, 25, 5]);
    }

    #[test]
    fn what_one_lane_leaves_the_others_use() {
        assert_eq!(filled([0, 0, 1000], 100), [0, 0, 100]);
        assert_eq!(filled([10, 1000, 1000], 100), [10, 85, 5]);
        assert_eq!(filled([1000, 0, 1], 100), [99, 0, 1]);
        assert_eq!(filled([0, 3, 2], 100), [0, 3, 2]);
    }

    #[test]
    fn small_batches_never_overflow_and_lanes_of_one_work() {
        for limit in 1..20 {
            assert_eq!(filled([50, 50, 50], limit).iter().sum::<usize>(), limit);
        }
        assert_eq!(quotas(&[100], 7), [7]);
    }
}
