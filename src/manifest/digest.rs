//! The two digests.

use std::fmt;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::Hasher as Xxh3;

/// Which digest verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// XXH3, 64 bits: finds accidents.
    Xxh3,
    /// BLAKE3, 256 bits: nobody can make other bytes that have it.
    Blake3,
}

impl Algorithm {
    /// `xxh3` or `blake3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xxh3 => "xxh3",
            Self::Blake3 => "blake3",
        }
    }
}

/// Both digests of the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Digests {
    /// XXH3, 64 bits, seed 0.
    pub xxh3: u64,
    /// BLAKE3, 256 bits, no key.
    pub blake3: [u8; 32],
}

impl Digests {
    /// Digests some bytes.
    ///
    /// ```
    /// use flow_fabric::manifest::{Algorithm, Digests};
    /// let digests = Digests::of(b"abc");
    /// assert!(digests.hold(b"abc", Algorithm::Xxh3) && digests.hold(b"abc", Algorithm::Blake3));
    /// assert!(!digests.hold(b"abd", Algorithm::Xxh3) && !digests.hold(b"abd", Algorithm::Blake3));
    /// ```
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { xxh3: XxHash3_64::oneshot(bytes), blake3: *blake3::hash(bytes).as_bytes() }
    }

    /// Whether some bytes have the digest.
    #[must_use]
    pub fn hold(&self, bytes: &[u8], algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Xxh3 => XxHash3_64::oneshot(bytes) == self.xxh3,
            Algorithm::Blake3 => *blake3::hash(bytes).as_bytes() == self.blake3,
        }
    }
}

/// Digests bytes that come piece by piece.
#[derive(Default)]
pub(crate) struct Digester {
    xxh3: Xxh3,
    blake3: blake3::Hasher,
}

impl Digester {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.xxh3.write(bytes);
        self.blake3.update(bytes);
    }

    pub(crate) fn finish(&self) -> Digests {
        Digests { xxh3: self.xxh3.finish(), blake3: *self.blake3.finalize().as_bytes() }
    }
}

/// As it is written: lower-case hexadecimal digits, most significant first.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Digests")]
struct Written {
    /// XXH3, 64 bits: 16 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    xxh3: String,
    /// BLAKE3, 256 bits: 64 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    blake3: String,
}

impl From<Digests> for Written {
    fn from(digests: Digests) -> Self {
        Self { xxh3: hex_of_u64(digests.xxh3), blake3: hex_of(&digests.blake3) }
    }
}

impl TryFrom<Written> for Digests {
    type Error = NotHex;

    fn try_from(written: Written) -> Result<Self, NotHex> {
        Ok(Self { xxh3: u64_of_hex(&written.xxh3)?, blake3: bytes_of_hex(&written.blake3)? })
    }
}

impl schemars::JsonSchema for Digests {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Written::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

/// A text that is no digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHex(String);

impl fmt::Display for NotHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no digest in lower-case hexadecimal digits", self.0.escape_debug())
    }
}

pub(super) fn hex_of_u64(value: u64) -> String {
    format!("{value:016x}")
}

pub(super) fn hex_of(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

pub(super) fn u64_of_hex(text: &str) -> Result<u64, NotHex> {
    let value = is_hex(text, 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    value.ok_or_else(|| NotHex(text.to_owned()))
}

pub(super) fn bytes_of_hex(text: &str) -> Result<[u8; 32], NotHex> {
    let hash = is_hex(text, 64).then(|| blake3::Hash::from_hex(text).ok()).flatten();
    hash.map(|hash| *hash.as_bytes()).ok_or_else(|| NotHex(text.to_owned()))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_everybody_computes() {
        let digests = Digests::of(b"");
        assert_eq!(hex_of_u64(digests.xxh3), "2d06800538d394c2");
        assert_eq!(hex_of(&digests.blake3), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        let mut digester = Digester::default();
        digester.update(b"ab");
        digester.update(b"c");
        assert_eq!(digester.finish(), Digests::of(b"abc"));
    }

    #[test]
    fn digests_are_written_in_digits_and_read_strictly() {
        let digests = Digests::of(b"abc");
        let text = serde_json::to_string(&digests).unwrap();
        assert_eq!(serde_json::from_str::<Digests>(&text).unwrap(), digests);
        for wrong in ["", "2D06800538D394C2", "+d06800538d394c2", "2d06800538d394c"] {
            assert_eq!(u64_of_hex(wrong), Err(NotHex(wrong.to_owned())));
        }
        assert!(bytes_of_hex(&"A".repeat(64)).is_err());
    }
}
