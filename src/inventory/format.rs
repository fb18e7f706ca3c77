//! Stored formats: how the components of a weight encode it.

use std::fmt;
use std::sync::Arc;

/// How a weight's components encode it. `when.format` and the plan's `stored.format` use [`StoredFormat::name`].
///
/// Each variant says its components, its logical shape and the dtype that decoding gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StoredFormat {
    /// One tensor, its own values; shape and dtype are the stored ones.
    Plain,
    /// Grok-1's `QuantizedWeight8bit`: `P/weight` i8 `[*lead, K, N]`, `P/scales` `[*lead, G, N]`, G a divisor of K.
    /// Gives `P`, the weight's shape, the scales' dtype.
    Grok1,
    /// DeepSeek's fp8: `X` `f8_e4m3` `[*lead, M, N]`, `X_scale_inv` one multiplier per block, 128 x 128 unless the config
    /// says otherwise. Gives bf16 where the scales are f32 (DeepSeek's own default), else the scales' dtype.
    Fp8Block,
    /// fp8 with `X_scale` (or a scalar `X_scale_inv`): one multiplier per tensor, channel or block, as compressed-tensors,
    /// ModelOpt and Quark write it. Gives the scales' dtype (compressed-tensors: the scales have the source's dtype).
    Fp8Scaled,
    /// compressed-tensors MXFP8: `X` `f8_e4m3` `[.., K]`, `X_scale` e8m0 `[.., K/32]`. Gives bf16.
    Mxfp8,
    /// compressed-tensors int8, unpacked: `X` i8, `X_scale`, perhaps `X_zero_point`. Gives the scales' dtype.
    IntQuantized,
    /// compressed-tensors `pack-quantized`: `X_packed` i32 `[.., N, ceil(K * bits / 32)]`, `X_scale` `[.., N, G]`, perhaps
    /// `X_shape`, `X_zero_point`, `X_g_idx`. Gives `[.., N, K]` in the scales' dtype.
    PackQuantized {
        /// Bits per code, 1 to 8.
        bits: u8,
    },
    /// compressed-tensors NVFP4: `X_packed` u8 `[.., K/2]`, `X_scale` `f8_e4m3` `[.., K/16]`, `X_global_scale` f32, a
    /// divisor. Gives bf16.
    Nvfp4Packed,
    /// ModelOpt NVFP4: `X` u8 `[.., K/2]`, `X_scale` `f8_e4m3` `[.., K/16]`, `X_scale_2` f32, a multiplier. Gives bf16.
    Nvfp4ModelOpt,
    /// compressed-tensors MXFP4: `X_packed` u8 `[.., K/2]`, `X_scale` e8m0 `[.., K/32]`. Gives bf16.
    Mxfp4Packed,
    /// GPT-OSS MXFP4: `X_blocks` u8 `[.., K/32, 16]`, `X_scales` e8m0 `[.., K/32]`. Gives `[.., K]` in bf16.
    Mxfp4Blocks,
    /// bitsandbytes NF4: `X` u8 `[n/2, 1]` with `X.absmax`, `X.quant_map` and the `X.quant_state` blob, which holds the
    /// logical shape and dtype.
    BnbNf4,
    /// bitsandbytes FP4, kept like NF4.
    BnbFp4,
    /// bitsandbytes LLM.int8: `P.weight` i8 `[N, K]`, `P.SCB` f32 `[N]`. Gives f16, the only dtype it computes from.
    BnbInt8,
    /// GGML blocks: one tensor of a block dtype; decoding gives f32, as GGML's own routines do.
    Ggml,
    /// A layout that the policy declares; the name is `stored.NAME`, as the table is called.
    Declared(Arc<str>),
}

impl StoredFormat {
    /// The name in policies, plans and snapshots; a declared layout's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            StoredFormat::Plain => "plain",
            StoredFormat::Grok1 => "grok-1",
            StoredFormat::Fp8Block => "fp8-block",
            StoredFormat::Fp8Scaled => "fp8-scaled",
            StoredFormat::Mxfp8 => "mxfp8",
            StoredFormat::IntQuantized => "int-quantized",
            StoredFormat::PackQuantized { .. } => "pack-quantized",
            StoredFormat::Nvfp4Packed => "nvfp4-packed",
            StoredFormat::Nvfp4ModelOpt => "nvfp4-modelopt",
            StoredFormat::Mxfp4Packed => "mxfp4-packed",
            StoredFormat::Mxfp4Blocks => "mxfp4-blocks",
            StoredFormat::BnbNf4 => "bnb-nf4",
            StoredFormat::BnbFp4 => "bnb-fp4",
            StoredFormat::BnbInt8 => "bnb-int8",
            StoredFormat::Ggml => "ggml",
            StoredFormat::Declared(name) => name,
        }
    }

    /// The names of all formats that need no declaration, for checking what a policy writes.
    pub const NAMES: &'static [&'static str] = &[
        "plain",
        "grok-1",
        "fp8-block",
        "fp8-scaled",
        "mxfp8",
        "int-quantized",
        "pack-quantized",
        "nvfp4-packed",
        "nvfp4-modelopt",
        "mxfp4-packed",
        "mxfp4-blocks",
        "bnb-nf4",
        "bnb-fp4",
        "bnb-int8",
        "ggml",
    ];

    /// Whether the stored codes have to be decoded before they are values.
    #[must_use]
    pub fn is_encoded(&self) -> bool {
        *self != StoredFormat::Plain
    }
}

impl fmt::Display for StoredFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
