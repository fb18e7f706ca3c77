//! The one order of candidates: score descending, then token id ascending.

/// A score as an integer that sorts like it.
///
/// `-0.0` is `0.0`. NaN sorts above +inf or below -inf.
#[inline(always)]
pub(crate) fn key(score: f32) -> i32 {
    // Adding +0.0 turns -0.0 into +0.0 and changes nothing else.
    let bits = (score + 0.0).to_bits() as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

/// The score behind a key.
#[inline(always)]
pub(crate) fn score(key: i32) -> f32 {
    f32::from_bits((key ^ (((key >> 31) as u32) >> 1) as i32) as u32)
}

/// Key of the smallest finite score: what any token that is not masked has at least.
pub(crate) const LOWEST: i32 = !0x7F7F_FFFF;
/// Key of the largest finite score.
pub(crate) const HIGHEST: i32 = 0x7F7F_FFFF;
/// Key of -inf, the mark of a masked token.
pub(crate) const MASKED: i32 = !0x7F80_0000;

/// A candidate packed so that ascending integers are the order of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

impl Entry {
    #[inline(always)]
    pub(crate) fn new(key: i32, token: u32) -> Self {
        let descending = !(key as u32 ^ 0x8000_0000);
        Self(u64::from(descending) << 32 | u64::from(token))
    }

    #[inline(always)]
    pub(crate) fn token(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub(crate) fn key(self) -> i32 {
        (!((self.0 >> 32) as u32) ^ 0x8000_0000) as i32
    }

    #[inline(always)]
    pub(crate) fn score(self) -> f32 {
        score(self.key())
    }

    /// The part that radix passes sort by: smaller is a larger score.
    #[inline(always)]
    pub(crate) fn descending_key(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_scores() {
        let ascending = [f32::NEG_INFINITY, f32::MIN, -1.0, -1e-45, 0.0, 1e-45, 1.0, 3.5, f32::MAX, f32::INFINITY];
        for pair in ascending.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
        for value in ascending {
            assert_eq!(score(key(value)), value);
        }
        assert_eq!(key(-0.0), key(0.0));
        assert_eq!(key(f32::MIN), LOWEST);
        assert_eq!(key(f32::MAX), HIGHEST);
        assert_eq!(key(f32::NEG_INFINITY), MASKED);
        // The sum that takes the sign off zero may change a NaN's: it lies outside either way.
        for nan in [f32::NAN, -f32::NAN] {
            assert!(!(MASKED..=key(f32::INFINITY)).contains(&key(nan)));
        }
    }

    #[test]
    fn entries_sort_by_score_then_token() {
        let mut entries = [(0.5, 9), (0.5, 3), (-2.0, 1), (7.0, 4)].map(|(score, token)| Entry::new(key(score), token));
        entries.sort_unstable();
        assert_eq!(entries.map(|entry| (entry.score(), entry.token())), [(7.0, 4), (0.5, 3), (0.5, 9), (-2.0, 1)]);
    }
}
