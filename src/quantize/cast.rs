//! Conversions between f32 and the narrower floats, without branches, so that loops over them vectorize.
//!
//! All round to nearest, ties to even. `to_*` return the narrow bits, `from_*` the f32 value, which is always exact.
//! OCP FP8 (E4M3, E5M2): OCP 8-bit Floating Point Specification 1.0; E2M1 and E8M0: OCP Microscaling Formats 1.0.

use crate::Dtype;

/// Widens bfloat16.
#[inline(always)]
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Narrows to bfloat16. Every NaN becomes 0x7FC0, as in torch.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let bits = if value.is_nan() { 0x7FC0 } else { rounded };
    bits as u16
}

/// Widens binary16.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    // The exponent is rebiased by a product, which also normalizes subnormals.
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7F80_0000;
    let unsigned = if bits & 0x7C00 == 0x7C00 { special } else { scaled };
    f32::from_bits(unsigned | (u32::from(bits & 0x8000) << 16))
}

/// Narrows to binary16; what is too large becomes infinity.
#[inline(always)]
pub(crate) fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let normal = magnitude.wrapping_add(0xC800_0FFF + ((magnitude >> 13) & 1)) >> 13;
    // Below 2^-14 the sum with 0.5 leaves exactly the subnormal's bits, rounded by the addition.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3F00_0000);
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let rounded = if magnitude >= 0x4780_0000 { 0x7C00 } else { finite };
    let unsigned = if magnitude > 0x7F80_0000 { 0x7E00 } else { rounded };
    (unsigned | ((bits >> 16) & 0x8000)) as u16
}

/// Widens E4M3.
#[inline(always)]
pub(crate) fn from_e4m3(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F) << 20;
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7B80_0000)).to_bits();
    let unsigned = if code & 0x7F == 0x7F { 0x7FC0_0000 } else { scaled };
    f32::from_bits(unsigned | (u32::from(code & 0x80) << 24))
}

/// Narrows to E4M3, saturating at 448; NaN keeps its sign.
#[inline(always)]
pub(crate) fn to_e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let normal = magnitude.wrapping_add(0xC407_FFFF + ((magnitude >> 20) & 1)) >> 20;
    // Below 2^-6 the sum with 2^14, whose unit in the last place is 2^-9, leaves the subnormal's bits.
    let subnormal = (f32::from_bits(magnitude) + 16384.0).to_bits().wrapping_sub(0x4680_0000);
    let finite = if magnitude < 0x3C80_0000 { subnormal } else { normal };
    let rounded = if magnitude >= 0x43E0_0000 { 0x7E } else { finite };
    let unsigned = if magnitude > 0x7F80_0000 { 0x7F } else { rounded };
    (unsigned | ((bits >> 24) & 0x80)) as u8
}

/// Widens E5M2.
#[inline(always)]
pub(crate) fn from_e5m2(code: u8) -> f32 {
    from_f16(u16::from(code) << 8)
}

/// Narrows to E5M2; what rounds beyond 57344 becomes infinity.
#[inline(always)]
pub(crate) fn to_e5m2(value: f32) -> u8 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let normal = magnitude.wrapping_add(0xC80F_FFFF + ((magnitude >> 21) & 1)) >> 21;
    // Below 2^-14 the sum with 128, whose unit in the last place is 2^-16, leaves the subnormal's bits.
    let subnormal = (f32::from_bits(magnitude) + 128.0).to_bits().wrapping_sub(0x4300_0000);
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let rounded = if magnitude >= 0x4770_0000 { 0x7C } else { finite };
    let unsigned = if magnitude > 0x7F80_0000 { 0x7F } else { rounded };
    (unsigned | ((bits >> 24) & 0x80)) as u8
}

/// Widens E4M3FNUZ (bias 8, 0x80 is NaN).
#[inline(always)]
pub(crate) fn from_e4m3fnuz(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F) << 20;
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7B00_0000);
    if code == 0x80 { f32::NAN } else { f32::from_bits(scaled.to_bits() | (u32::from(code & 0x80) << 24)) }
}

/// Widens E5M2FNUZ (bias 16, 0x80 is NaN).
#[inline(always)]
pub(crate) fn from_e5m2fnuz(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F) << 21;
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7700_0000);
    if code == 0x80 { f32::NAN } else { f32::from_bits(scaled.to_bits() | (u32::from(code & 0x80) << 24)) }
}

/// Widens an E8M0 scale: `2^(code - 127)`, 0xFF is NaN.
#[inline(always)]
pub(crate) fn from_e8m0(code: u8) -> f32 {
    let power = u32::from(code) << 23;
    let bits = if code == 0 { 0x0040_0000 } else { power };
    f32::from_bits(if code == 0xFF { 0x7FC0_0000 } else { bits })
}

/// The eight magnitudes of E2M1, by code.
#[cfg(test)]
pub(crate) const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// Narrows a magnitude of at most 6 to E2M1; sign in bit 3.
#[inline(always)]
pub(crate) fn to_e2m1(value: f32) -> u8 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let normal = magnitude.wrapping_add(0xC11F_FFFF + ((magnitude >> 22) & 1)) >> 22;
    // Below 1 the sum with 2^22, whose unit in the last place is 0.5, leaves the subnormal's bits.
    let subnormal = (f32::from_bits(magnitude) + 4_194_304.0).to_bits().wrapping_sub(0x4A80_0000);
    let unsigned = if magnitude < 0x3F80_0000 { subnormal } else { normal };
    (unsigned as u8 & 7) | ((bits >> 28) & 8) as u8
}

/// Rounds to what `dtype` can hold, keeping f32. Only f32, f16, bf16 and the two fp8 types round.
#[inline(always)]
pub(crate) fn round_to(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::Bf16 => from_bf16(to_bf16(value)),
        Dtype::F16 => from_f16(to_f16(value)),
        Dtype::F8E4m3 => from_e4m3(to_e4m3(value)),
        Dtype::F8E5m2 => from_e5m2(to_e5m2(value)),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearest of all codes by value, ties to the even code: slow and obvious.
    fn nearest(value: f32, largest: u8, widen: fn(u8) -> f32) -> u8 {
        let magnitude = f64::from(value.abs());
        let mut best = 0;
        for code in 0..=largest {
            let (new, old) = ((f64::from(widen(code)) - magnitude).abs(), (f64::from(widen(best)) - magnitude).abs());
            if new < old || (new == old && code % 2 == 0) {
                best = code;
            }
        }
        best
    }

    /// Values at, beside and between all codes, and far outside.
    fn probes(largest: u8, widen: fn(u8) -> f32) -> Vec<f32> {
        let mut probes = vec![0.0, 1e-40, 1e-20, f32::MIN_POSITIVE];
        for code in 0..=largest {
            let value = widen(code);
            let middle = if code < largest { (value + widen(code + 1)) / 2.0 } else { value };
            for base in [value, middle, value * 1.1] {
                probes.extend([base, base.next_up(), base.next_down()]);
            }
        }
        probes.extend(probes.clone().iter().map(|value| -value));
        probes
    }

    #[test]
    fn narrow_casts_find_the_nearest_code() {
        for value in probes(0x7E, from_e4m3) {
            let sign = u8::from(value.is_sign_negative()) << 7;
            assert_eq!(to_e4m3(value), nearest(value, 0x7E, from_e4m3) | sign, "{value:e}");
        }
        for value in probes(0x7B, from_e5m2).into_iter().filter(|value| value.abs() < 61440.0) {
            let sign = u8::from(value.is_sign_negative()) << 7;
            assert_eq!(to_e5m2(value), nearest(value, 0x7B, from_e5m2) | sign, "{value:e}");
        }
        for value in probes(7, |code| E2M1[usize::from(code)]).into_iter().filter(|value| value.abs() <= 6.0) {
            let sign = u8::from(value.is_sign_negative()) << 3;
            assert_eq!(to_e2m1(value), nearest(value, 7, |code| E2M1[usize::from(code)]) | sign, "{value:e}");
        }
    }

    #[test]
    fn what_does_not_fit_saturates_or_overflows_as_each_type_has_it() {
        assert_eq!([to_e4m3(464.0), to_e4m3(1e9), to_e4m3(f32::INFINITY), to_e4m3(f32::NAN)], [0x7E, 0x7E, 0x7E, 0x7F]);
        assert_eq!([to_e5m2(61439.0), to_e5m2(61440.0), to_e5m2(f32::NEG_INFINITY)], [0x7B, 0x7C, 0xFC]);
        assert!(from_e4m3(0x7F).is_nan() && from_e4m3(0xFF).is_nan() && from_e5m2(0x7E).is_nan());
        assert!(from_e4m3fnuz(0x80).is_nan() && from_e5m2fnuz(0x80).is_nan() && from_e8m0(0xFF).is_nan());
        assert_eq!([from_e4m3fnuz(0x7F), from_e5m2fnuz(0x7F), from_e5m2(0x7B)], [240.0, 57344.0, 57344.0]);
        assert_eq!([from_e8m0(0), from_e8m0(127), from_e8m0(254)], [2_f32.powi(-127), 1.0, 2_f32.powi(127)]);
    }

    #[test]
    fn half_precision_agrees_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (from_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
            if theirs.is_nan() {
                continue;
            }
            // The value, its neighbours, and both midpoints to the next half.
            let next = half::f16::from_bits(bits.wrapping_add(1)).to_f32();
            let middle = if next.is_finite() && theirs.is_finite() { (theirs + next) / 2.0 } else { 65520.0 };
            for base in [theirs, middle] {
                for value in [base, base.next_up(), base.next_down()] {
                    assert_eq!(to_f16(value), half::f16::from_f32(value).to_bits(), "{value:e}");
                    assert_eq!(to_bf16(value), half::bf16::from_f32(value).to_bits(), "{value:e}");
                }
            }
        }
        assert_eq!(to_bf16(f32::MAX), 0x7F80);
        assert_eq!(to_bf16(f32::NAN), 0x7FC0);
    }
}
