//! Revisions as the server spells them: a rising number in its own sixty-four digits.

const DIGITS: &[u8; 64] = b"-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A number whose spelling has as many digits as a real server's.
pub(super) const FIRST: u64 = 1 << 60;

pub(crate) fn encode(mut revision: u64) -> String {
    let mut digits = Vec::new();
    while revision > 0 {
        let digit = usize::try_from(revision % 64).expect("below 64");
        digits.push(DIGITS[digit]);
        revision /= 64;
    }
    digits.iter().rev().map(|digit| char::from(*digit)).collect()
}

pub(crate) fn decode(text: &str) -> Option<u64> {
    let digit = |byte| DIGITS.iter().position(|digit| *digit == byte).and_then(|at| u64::try_from(at).ok());
    text.bytes().try_fold(0_u64, |revision, byte| revision.checked_mul(64)?.checked_add(digit(byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_read_back() {
        assert_eq!(decode(&encode(FIRST + 12_345)), Some(FIRST + 12_345));
        assert_eq!(encode(FIRST).len(), 11);
        assert_eq!(decode("non-matching revision"), None);
    }
}
