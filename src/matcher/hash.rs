//! Hashes for the tables of a matcher: fixed seed, so that runs are equal.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

const STATE: FixedState = FixedState::with_seed(0x666c_6f77);

/// Hashes bytes and a number that belongs to them.
pub(super) fn text(bytes: &[u8], with: u64) -> u64 {
    let mut hasher = STATE.build_hasher();
    hasher.write(bytes);
    hasher.write_u64(with);
    hasher.finish()
}

/// Hashes a list.
pub(super) fn words<T: Hash>(words: &[T]) -> u64 {
    STATE.hash_one(words)
}

/// Hashes two numbers.
pub(super) fn pair(first: u32, second: u32) -> u64 {
    STATE.hash_one(u64::from(first) << 32 | u64::from(second))
}
