//! Which partition a key belongs to: murmur2 as Java clients and librdkafka's `murmur2_random` have it. Sent, keep stable.

/// The partition of a key among `count`; `None` where there are none.
pub fn of_key(key: &[u8], count: i32) -> Option<i32> {
    let positive = murmur2(key) & 0x7fff_ffff;
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    i32::try_from(positive % count).ok()
}

const SEED: u32 = 0x9747_b28c;
const MIX: u32 = 0x5bd1_e995;

fn murmur2(data: &[u8]) -> u32 {
    // Java's int: a longer key than 4 GiB does not exist.
    let mut hash = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks are 4 bytes"));
        k = k.wrapping_mul(MIX);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MIX) ^ k.wrapping_mul(MIX);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test of `Utils.murmur2`.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        #[expect(clippy::cast_possible_wrap, reason = "Java's int")]
        let java = |text: &str| murmur2(text.as_bytes()) as i32;
        assert_eq!(java("21"), -973_932_308);
        assert_eq!(java("foobar"), -790_332_482);
        assert_eq!(java("a-little-bit-long-string"), -985_981_536);
        assert_eq!(java("a-little-bit-longer-string"), -1_486_304_829);
        assert_eq!(java("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58_897_971);
        assert_eq!(java("abc"), 479_470_107);
    }

    #[test]
    fn no_partitions_no_answer() {
        assert_eq!(of_key(b"k", 0), None);
        assert_eq!(of_key(b"k", 1), Some(0));
    }
}
