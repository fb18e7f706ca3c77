//! Element types: one lower-case spelling, others accepted on input.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! dtypes {
    ($( $variant:ident $name:literal $doc:literal, block $elements:literal in $bytes:literal, safetensors $st:expr, $float:expr; )*) => {
        /// The element type of a stored or logical tensor.
        ///
        /// The names are those of policies, plans and snapshots. safetensors', GGML's and common long spellings parse too:
        ///
        /// ```
        /// use flow_fabric::Dtype;
        /// assert_eq!("BF16".parse(), Ok(Dtype::Bf16));
        /// assert_eq!("F8_E4M3".parse(), Ok(Dtype::F8E4m3));
        /// assert_eq!("float32".parse(), Ok(Dtype::F32));
        /// assert_eq!(Dtype::F8E4m3.to_string(), "f8_e4m3");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Dtype {
            $( #[doc = $doc] $variant, )*
        }

        impl Dtype {
            /// Every dtype, in declaration order.
            pub const ALL: &'static [Dtype] = &[$(Dtype::$variant),*];

            /// The spelling used in policies, plans and snapshots.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Dtype::$variant => $name, )* }
            }

            /// The smallest unit that fills whole bytes: how many elements, in how many bytes.
            ///
            /// `(1, 4)` for f32, `(2, 1)` for f4, `(32, 20)` for GGML's `q4_1` (scale and minimum included).
            #[must_use]
            pub const fn block(self) -> (u64, u64) {
                match self { $( Dtype::$variant => ($elements, $bytes), )* }
            }

            /// The spelling in a safetensors header, if that format has the type.
            #[must_use]
            pub const fn safetensors(self) -> Option<&'static str> {
                match self { $( Dtype::$variant => $st, )* }
            }

            /// Whether the type is a binary floating-point number (an integer, a boolean, a complex number is not).
            #[must_use]
            pub const fn is_float(self) -> bool {
                match self { $( Dtype::$variant => $float, )* }
            }
        }
    };
}

dtypes! {
    F64 "f64" "IEEE binary64.", block 1 in 8, safetensors Some("F64"), true;
    F32 "f32" "IEEE binary32.", block 1 in 4, safetensors Some("F32"), true;
    F16 "f16" "IEEE binary16.", block 1 in 2, safetensors Some("F16"), true;
    Bf16 "bf16" "bfloat16.", block 1 in 2, safetensors Some("BF16"), true;
    F8E4m3 "f8_e4m3" "OCP FP8 E4M3 (finite only, maximum 448).", block 1 in 1, safetensors Some("F8_E4M3"), true;
    F8E5m2 "f8_e5m2" "OCP FP8 E5M2 (maximum 57344).", block 1 in 1, safetensors Some("F8_E5M2"), true;
    F8E4m3Fnuz "f8_e4m3fnuz" "FP8 E4M3 with bias 8 and no negative zero (AMD MI300).", block 1 in 1, safetensors Some("F8_E4M3FNUZ"), true;
    F8E5m2Fnuz "f8_e5m2fnuz" "FP8 E5M2 with bias 16 and no negative zero (AMD MI300).", block 1 in 1, safetensors Some("F8_E5M2FNUZ"), true;
    F8E8m0 "f8_e8m0" "OCP MX scale: a power of two, 0xFF is NaN.", block 1 in 1, safetensors Some("F8_E8M0"), true;
    F6E2m3 "f6_e2m3" "OCP MX FP6 E2M3.", block 4 in 3, safetensors Some("F6_E2M3"), true;
    F6E3m2 "f6_e3m2" "OCP MX FP6 E3M2.", block 4 in 3, safetensors Some("F6_E3M2"), true;
    F4 "f4" "OCP MX FP4 E2M1.", block 2 in 1, safetensors Some("F4"), true;
    I64 "i64" "Signed 64-bit integer.", block 1 in 8, safetensors Some("I64"), false;
    I32 "i32" "Signed 32-bit integer.", block 1 in 4, safetensors Some("I32"), false;
    I16 "i16" "Signed 16-bit integer.", block 1 in 2, safetensors Some("I16"), false;
    I8 "i8" "Signed 8-bit integer.", block 1 in 1, safetensors Some("I8"), false;
    U64 "u64" "Unsigned 64-bit integer.", block 1 in 8, safetensors Some("U64"), false;
    U32 "u32" "Unsigned 32-bit integer.", block 1 in 4, safetensors Some("U32"), false;
    U16 "u16" "Unsigned 16-bit integer.", block 1 in 2, safetensors Some("U16"), false;
    U8 "u8" "Unsigned 8-bit integer.", block 1 in 1, safetensors Some("U8"), false;
    Bool "bool" "One byte, 0 or 1.", block 1 in 1, safetensors Some("BOOL"), false;
    Q10 "q1_0" "GGML block of 128 weights in 18 bytes.", block 128 in 18, safetensors None, true;
    Q40 "q4_0" "GGML block of 32 weights in 18 bytes.", block 32 in 18, safetensors None, true;
    Q41 "q4_1" "GGML block of 32 weights in 20 bytes.", block 32 in 20, safetensors None, true;
    Q50 "q5_0" "GGML block of 32 weights in 22 bytes.", block 32 in 22, safetensors None, true;
    Q51 "q5_1" "GGML block of 32 weights in 24 bytes.", block 32 in 24, safetensors None, true;
    Q80 "q8_0" "GGML block of 32 weights in 34 bytes.", block 32 in 34, safetensors None, true;
    Q81 "q8_1" "GGML block of 32 weights in 36 bytes.", block 32 in 36, safetensors None, true;
    Q2K "q2_k" "GGML block of 256 weights in 84 bytes.", block 256 in 84, safetensors None, true;
    Q3K "q3_k" "GGML block of 256 weights in 110 bytes.", block 256 in 110, safetensors None, true;
    Q4K "q4_k" "GGML block of 256 weights in 144 bytes.", block 256 in 144, safetensors None, true;
    Q5K "q5_k" "GGML block of 256 weights in 176 bytes.", block 256 in 176, safetensors None, true;
    Q6K "q6_k" "GGML block of 256 weights in 210 bytes.", block 256 in 210, safetensors None, true;
    Q8K "q8_k" "GGML block of 256 weights in 292 bytes.", block 256 in 292, safetensors None, true;
    Iq2Xxs "iq2_xxs" "GGML block of 256 weights in 66 bytes.", block 256 in 66, safetensors None, true;
    Iq2Xs "iq2_xs" "GGML block of 256 weights in 74 bytes.", block 256 in 74, safetensors None, true;
    Iq2S "iq2_s" "GGML block of 256 weights in 82 bytes.", block 256 in 82, safetensors None, true;
    Iq3Xxs "iq3_xxs" "GGML block of 256 weights in 98 bytes.", block 256 in 98, safetensors None, true;
    Iq3S "iq3_s" "GGML block of 256 weights in 110 bytes.", block 256 in 110, safetensors None, true;
    Iq1S "iq1_s" "GGML block of 256 weights in 50 bytes.", block 256 in 50, safetensors None, true;
    Iq1M "iq1_m" "GGML block of 256 weights in 56 bytes.", block 256 in 56, safetensors None, true;
    Iq4Nl "iq4_nl" "GGML block of 32 weights in 18 bytes.", block 32 in 18, safetensors None, true;
    Iq4Xs "iq4_xs" "GGML block of 256 weights in 136 bytes.", block 256 in 136, safetensors None, true;
    Tq10 "tq1_0" "GGML block of 256 weights in 54 bytes.", block 256 in 54, safetensors None, true;
    Tq20 "tq2_0" "GGML block of 256 weights in 66 bytes.", block 256 in 66, safetensors None, true;
    Mxfp4Block "mxfp4" "GGML block of 32 weights in 17 bytes.", block 32 in 17, safetensors None, true;
    Nvfp4Block "nvfp4" "GGML block of 64 weights in 36 bytes.", block 64 in 36, safetensors None, true;
    C64 "c64" "Complex number of two f32.", block 1 in 8, safetensors Some("C64"), false;
}

impl Dtype {
    /// Bytes that `elements` values take, or `None` on overflow or when they do not fill whole bytes.
    ///
    /// ```
    /// use flow_fabric::Dtype;
    /// assert_eq!(Dtype::Bf16.bytes_for(3), Some(6));
    /// assert_eq!(Dtype::F4.bytes_for(3), None);
    /// assert_eq!(Dtype::F64.bytes_for(u64::MAX), None);
    /// ```
    #[must_use]
    pub fn bytes_for(self, elements: u64) -> Option<u64> {
        let (block_elements, block_bytes) = self.block();
        if elements.is_multiple_of(block_elements) {
            (elements / block_elements).checked_mul(block_bytes)
        } else {
            None
        }
    }

    /// Bits per element, scales inside the block included: 16 for bf16, 5 for `q4_1`.
    #[must_use]
    pub fn bits_per_element(self) -> f64 {
        let (elements, bytes) = self.block();
        #[expect(clippy::cast_precision_loss, reason = "both are below 2^53")]
        let bits = bytes as f64 * 8.0 / elements as f64;
        bits
    }

    /// Whether one element cannot be addressed by itself: packed sub-byte types and GGML blocks.
    #[must_use]
    pub const fn is_block(self) -> bool {
        self.block().0 > 1
    }

    /// The dtype that a safetensors header spells exactly so (its spelling is case-sensitive).
    #[must_use]
    pub fn from_safetensors(spelling: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.safetensors() == Some(spelling))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A spelling that names no dtype.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{0}`")]
pub struct UnknownDtype(
    /// The spelling, as it was written.
    pub String,
);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(text: &str) -> Result<Self, UnknownDtype> {
        let lower = text.to_ascii_lowercase();
        let canonical = match lower.as_str() {
            "float64" | "double" => "f64",
            "float32" | "float" => "f32",
            "float16" | "half" => "f16",
            "bfloat16" => "bf16",
            "float8_e4m3fn" | "float8_e4m3" | "f8_e4m3fn" | "fp8_e4m3" => "f8_e4m3",
            "float8_e5m2" | "fp8_e5m2" => "f8_e5m2",
            "float8_e4m3fnuz" => "f8_e4m3fnuz",
            "float8_e5m2fnuz" => "f8_e5m2fnuz",
            "float8_e8m0fnu" => "f8_e8m0",
            "int64" => "i64",
            "int32" => "i32",
            "int16" => "i16",
            "int8" => "i8",
            "uint64" => "u64",
            "uint32" => "u32",
            "uint16" => "u16",
            "uint8" => "u8",
            "complex64" => "c64",
            other => other,
        };
        Self::ALL.iter().copied().find(|dtype| dtype.name() == canonical).ok_or_else(|| UnknownDtype(text.to_owned()))
    }
}

impl Serialize for Dtype {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Dtype {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dtype".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Self::ALL.iter().map(|dtype| dtype.name()).collect();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_safetensors_spelling_round_trips() {
        for &dtype in Dtype::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
            if let Some(spelling) = dtype.safetensors() {
                assert_eq!(Dtype::from_safetensors(spelling), Some(dtype));
                assert_eq!(spelling.parse(), Ok(dtype));
            }
        }
    }

    #[test]
    fn sub_byte_types_must_fill_bytes() {
        assert_eq!(Dtype::F4.bytes_for(2), Some(1));
        assert_eq!(Dtype::F6E2m3.bytes_for(4), Some(3));
        assert_eq!(Dtype::F6E2m3.bytes_for(3), None);
        assert_eq!(Dtype::Q41.bytes_for(64), Some(40));
        assert_eq!(Dtype::Q41.bytes_for(33), None);
    }
}
