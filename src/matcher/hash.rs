//! Hashes for the tables of a matcher: fixed seeds, so that runs are equal.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

const STATE: FixedState = FixedState::with_seed(0x666c_6f77);

/// Hashes bytes and a number that belongs to them.
pub(super) fn text(bytes: &[u8], with: u32) -> u64 {
    let mut hash = u64::from(with) << 32 | bytes.len() as u64;
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<16>()
        && !tail.is_empty()
    {
        hash = triple(words(chunk), hash);
        rest = tail;
    }
    // The last 16 bytes, some of them for the second time.
    triple(words(bytes.last_chunk::<16>().map_or(bytes, |chunk| chunk)), hash)
}

/// The bytes of a text of up to 16 as numbers; texts of the same length that differ give numbers that differ.
pub(super) fn words(bytes: &[u8]) -> [u64; 2] {
    match bytes.len() {
        0 => [0, 0],
        // First, middle and last byte: all there are.
        length @ 1..4 => {
            let byte = |at: usize| u64::from(bytes[at]);
            [byte(0) << 16 | byte(length / 2) << 8 | byte(length - 1), 0]
        }
        4..8 => [
            bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word).into()),
            bytes.last_chunk().map_or(0, |word| u32::from_le_bytes(*word).into()),
        ],
        _ => [
            bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)),
            bytes.last_chunk().map_or(0, |word| u64::from_le_bytes(*word)),
        ],
    }
}

/// Hashes a list.
pub(super) fn list<T: Hash>(list: &[T]) -> u64 {
    STATE.hash_one(list)
}

/// Hashes two numbers.
pub(super) fn pair(first: u32, second: u32) -> u64 {
    fold((u64::from(first) << 32 | u64::from(second)) ^ SEEDS[0], SEEDS[1])
}

/// Adds a number to a hash.
pub(super) fn more(hash: u64, word: u64) -> u64 {
    fold(hash ^ SEEDS[0], word ^ SEEDS[1])
}

/// Hashes three numbers.
pub(super) fn triple(words: [u64; 2], with: u64) -> u64 {
    fold(words[0] ^ SEEDS[0], words[1] ^ with.wrapping_mul(SEEDS[2]) ^ SEEDS[1])
}

/// Digits of pi, which have no structure.
const SEEDS: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d1];

/// Both halves of the product, so that each bit of either factor reaches high and low bits of the hash.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    let low = product as u64;
    low ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_differ_in_their_words() {
        let text = "abcabcdabcdefabcdefghabcdefghijklmnop";
        let texts =
            || (0..text.len()).flat_map(|start| (start..=text.len().min(start + 16)).map(move |end| &text[start..end]));
        for one in texts() {
            for other in texts().filter(|other| other.len() == one.len()) {
                assert_eq!(words(one.as_bytes()) == words(other.as_bytes()), one == other, "{one} {other}");
            }
        }
    }

    #[test]
    fn every_byte_counts() {
        for length in 0..70 {
            let bytes = vec![7; length];
            let hash = text(&bytes, 0);
            assert_ne!(hash, text(&bytes, 1));
            assert_ne!(hash, text(&vec![7; length + 1], 0));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] = 8;
                assert_ne!(hash, text(&other, 0), "byte {at} of {length}");
            }
        }
    }
}
