//! Noise streams: which random number belongs to a token of a step.

use super::math::ln_normal;
use super::threefry::{Key, Layout, uniform_f32, uniform_f64};

/// Where a row stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The request's seed.
    pub(crate) seed: u64,
    /// Which of several streams of one seed: a slot, a beam, a sample of the same prompt.
    pub(crate) slot: u64,
    /// The step: the number of tokens drawn before.
    pub(crate) step: u64,
}

/// The stream of Gumbel noise of one step: one number for each token id.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Noise {
    /// f64 from 64 bits.
    Double(Key),
    /// f32 from 23 bits, as JAX draws without x64, for a row of `size` tokens.
    Single { key: Key, layout: Layout, size: u64 },
}

/// Tokens whose noise is computed together.
pub(crate) const CHUNK: usize = 64;

impl Noise {
    /// No noise exceeds this: `-ln(-ln(1 - 2^-52))` is 36.05, `-ln(-ln(1 - 2^-23))` is 15.95.
    #[inline(always)]
    pub(crate) fn ceiling(self) -> f64 {
        match self {
            Noise::Double(_) => 36.1,
            Noise::Single { .. } => 16.0,
        }
    }

    /// Noise of the given tokens, no more than [`CHUNK`].
    ///
    /// Hashes first, logarithms second: one loop of both takes the compiler minutes and runs slower.
    #[inline(always)]
    pub(crate) fn fill(self, tokens: &[u32], noise: &mut [f64]) {
        match self {
            Noise::Double(key) => {
                let (mut high, mut low) = ([0; CHUNK], [0; CHUNK]);
                for ((high, low), &token) in high.iter_mut().zip(&mut low).zip(tokens) {
                    (*high, *low) = key.hash((0, token));
                }
                for ((noise, &high), &low) in noise.iter_mut().zip(&high).zip(&low) {
                    *noise = gumbel_f64(uniform_f64(u64::from(high) << 32 | u64::from(low)));
                }
            }
            Noise::Single { key, layout, size } => {
                let mut words = [0; CHUNK];
                for (word, &token) in words.iter_mut().zip(tokens) {
                    *word = key.bits32(layout, u64::from(token), size);
                }
                for (noise, &word) in noise.iter_mut().zip(&words) {
                    *noise = f64::from(gumbel_f32(uniform_f32(word)));
                }
            }
        }
    }
}

/// `-ln(-ln(u))`; 0 stands for the smallest normal number.
#[inline(always)]
pub(crate) fn gumbel_f64(uniform: f64) -> f64 {
    let uniform = if uniform > 0.0 { uniform } else { f64::MIN_POSITIVE };
    -ln_normal(-ln_normal(uniform))
}

/// [`gumbel_f64`] with each logarithm rounded to f32.
#[inline(always)]
pub(crate) fn gumbel_f32(uniform: f32) -> f32 {
    let uniform = if uniform > 0.0 { uniform } else { f32::MIN_POSITIVE };
    let inner = -(ln_normal(f64::from(uniform)) as f32);
    -(ln_normal(f64::from(inner)) as f32)
}

/// The default stream: seed, slot and step folded into a key, token ids as counters.
///
/// For values below 2^32 this is `jax.random.gumbel(fold_in(fold_in(key(seed), slot), step), (vocab,), "float64")` of
/// JAX with x64.
pub(crate) fn step_key(position: Position) -> Key {
    Key::from_seed(position.seed).fold_in(position.slot).fold_in(position.step)
}

/// A uniform number of a step that is no token's: `purpose` keeps several apart.
pub(crate) fn coin(position: Position, purpose: u32) -> f64 {
    // Token ids have a zero high word, so no counter is used twice.
    let (high, low) = step_key(position).hash((u32::MAX, purpose));
    uniform_f64(u64::from(high) << 32 | u64::from(low))
}

/// Grok-1's chain of keys: `PRNGKey(seed)`, and each step splits the carried key into the next one and its own.
///
/// Keeps the last carried key, so that steps in order cost two hashes each. The seed wraps to 32 bits, as there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    carried: Option<Carried>,
}

#[derive(Debug, Clone, Copy)]
struct Carried {
    seed: u64,
    layout: Layout,
    next_step: u64,
    key: Key,
}

impl Chain {
    /// The key that step `step` samples with.
    pub(crate) fn sample_key(&mut self, seed: u64, step: u64, layout: Layout) -> Key {
        let start = Carried { seed, layout, next_step: 0, key: Key(0, seed as u32) };
        let mut carried = match self.carried {
            Some(carried) if carried.seed == seed && carried.layout == layout && carried.next_step <= step => carried,
            _ => start,
        };
        while carried.next_step < step {
            carried.key = carried.key.split(layout, 0, 2);
            carried.next_step += 1;
        }
        self.carried = Some(carried);
        carried.key.split(layout, 1, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_gives_the_same_keys_in_any_order_of_steps() {
        let mut forward = Chain::default();
        let keys: Vec<_> = (0..20).map(|step| forward.sample_key(7, step, Layout::Legacy)).collect();
        for step in [13, 2, 19, 0] {
            assert_eq!(Chain::default().sample_key(7, step, Layout::Legacy), keys[step as usize]);
            assert_eq!(forward.sample_key(7, step, Layout::Legacy), keys[step as usize]);
        }
    }

    #[test]
    fn noise_never_exceeds_its_ceiling() {
        assert!(gumbel_f64(1.0 - f64::EPSILON) <= Noise::Double(Key(0, 0)).ceiling());
        let single = Noise::Single { key: Key(0, 0), layout: Layout::Legacy, size: 1 };
        assert!(f64::from(gumbel_f32(1.0 - f32::EPSILON)) <= single.ceiling());
        assert!(gumbel_f64(0.0).is_finite() && gumbel_f32(0.0).is_finite());
    }
}
