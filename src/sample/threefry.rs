//! Threefry-2x32-20 and JAX's use of it.
//!
//! A counter-based generator: the random word of element `i` is a hash of the key and `i`, so any element can be had
//! without the others. The hash is that of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11); key
//! derivation, splitting and the two layouts of random bits are those of `jax.random`, bit for bit.

/// A generator key: two words, the high one first, as `jax.random.key_data` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u32, pub u32);

/// How the elements of a random array are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `jax_threefry_partitionable = True`, JAX's default since 0.5.0: element `i` is a hash of `i`, whatever the shape.
    Partitionable,
    /// JAX's default before 0.5.0, in use by Grok-1's pinned version: the counters are cut in halves that are hashed
    /// together, so element `i` depends on the array's size too.
    Legacy,
}

impl Key {
    /// The key of a seed: its high and low words. JAX without `jax_enable_x64` knows only the low one.
    ///
    /// ```
    /// use flow_fabric::sample::threefry::Key;
    /// assert_eq!(Key::from_seed(42), Key(0, 42));
    /// assert_eq!(Key::from_seed((7 << 32) | 42), Key(7, 42));
    /// ```
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self((seed >> 32) as u32, seed as u32)
    }

    /// The hash of a counter under this key.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self, counter: (u32, u32)) -> (u32, u32) {
        let keys = [self.0, self.1, self.0 ^ self.1 ^ 0x1BD1_1BDA];
        let (mut a, mut b) = (counter.0.wrapping_add(keys[0]), counter.1.wrapping_add(keys[1]));
        // Written out: the loops that call this vectorise only when no index is left to compute.
        macro_rules! rounds {
            ($($rotation:literal)* + $first:literal $second:literal $add:literal) => {
                $(
                    a = a.wrapping_add(b);
                    b = b.rotate_left($rotation) ^ a;
                )*
                a = a.wrapping_add(keys[$first]);
                b = b.wrapping_add(keys[$second]).wrapping_add($add);
            };
        }
        rounds!(13 15 26 6 + 1 2 1);
        rounds!(17 29 16 24 + 2 0 2);
        rounds!(13 15 26 6 + 0 1 3);
        rounds!(17 29 16 24 + 1 2 4);
        rounds!(13 15 26 6 + 2 0 5);
        (a, b)
    }

    /// A key of its own for each value of `data`. Up to 32 bits this is `jax.random.fold_in`.
    #[must_use]
    pub const fn fold_in(self, data: u64) -> Self {
        let (a, b) = self.hash(((data >> 32) as u32, data as u32));
        Self(a, b)
    }

    /// Key `index` of `jax.random.split(key, count)`.
    #[must_use]
    pub fn split(self, layout: Layout, index: u32, count: u32) -> Self {
        match layout {
            Layout::Partitionable => self.fold_in(u64::from(index)),
            Layout::Legacy => {
                let word = |i: u64| self.bits32(Layout::Legacy, i, 2 * u64::from(count));
                Self(word(2 * u64::from(index)), word(2 * u64::from(index) + 1))
            }
        }
    }

    /// Element `index` of `jax.random.bits(key, (size,), "uint32")`.
    #[inline(always)]
    #[must_use]
    pub const fn bits32(self, layout: Layout, index: u64, size: u64) -> u32 {
        match layout {
            Layout::Partitionable => {
                let (a, b) = self.hash(((index >> 32) as u32, index as u32));
                a ^ b
            }
            Layout::Legacy => {
                let half = size.div_ceil(2);
                // An odd size is padded with one more counter, 0.
                let partner = if index + half < size { (index + half) as u32 } else { 0 };
                if index < half {
                    self.hash((index as u32, partner)).0
                } else {
                    self.hash(((index - half) as u32, index as u32)).1
                }
            }
        }
    }

    /// Element `index` of `jax.random.bits(key, (size,), "uint64")`.
    #[inline(always)]
    #[must_use]
    pub const fn bits64(self, layout: Layout, index: u64, size: u64) -> u64 {
        let (a, b) = match layout {
            Layout::Partitionable => self.hash(((index >> 32) as u32, index as u32)),
            Layout::Legacy => self.hash((index as u32, (index + size) as u32)),
        };
        (a as u64) << 32 | b as u64
    }
}

/// Uniform on `[0, 1)` from the upper 23 of 32 random bits, as `jax.random.uniform` makes f32.
#[inline(always)]
#[must_use]
pub fn uniform_f32(bits: u32) -> f32 {
    f32::from_bits(bits >> 9 | 0x3F80_0000) - 1.0
}

/// Uniform on `[0, 1)` from the upper 52 of 64 random bits, as `jax.random.uniform` makes f64.
#[inline(always)]
#[must_use]
pub fn uniform_f64(bits: u64) -> f64 {
    f64::from_bits(bits >> 12 | 0x3FF0_0000_0000_0000) - 1.0
}
