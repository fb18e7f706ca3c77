//! Exponential and logarithm with the same bits on every platform.
//!
//! Both are branch-free arithmetic on `f64` (no table), so that the compiler vectorises the loops that call them. Every
//! operation is one that IEEE 754 rounds in one way only, the fused multiply-add included: it is written out where it is
//! meant, and nothing is fused behind our back. Machines without it (x86 before 2013) compute it in software, slowly and
//! to the same bits. Both functions are within 1 ulp on the ranges used here.

const LN2_HI: f64 = 6.931_471_803_691_238e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// Arguments below this give a weight of exactly 0; `exp(-708)` is the last normal number.
pub(crate) const SMALLEST_EXPONENT: f64 = -708.0;

/// `exp(x)` for `x <= 0`; exactly 0 below -708, for positive `x` and for NaN.
#[inline(always)]
pub(crate) fn exp_non_positive(x: f64) -> f64 {
    // Adding 1.5 * 2^52 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // exp(r) = 1 + r + r^2 q(r) on |r| <= ln(2)/2; q interpolates at Chebyshev nodes, relative error 1.7e-17.
    const Q: [f64; 10] = [
        0.500_000_000_000_000_1,
        0.166_666_666_666_666_69,
        0.041_666_666_666_624_13,
        0.008_333_333_333_330_062,
        0.001_388_888_891_721_371_7,
        0.000_198_412_698_630_536_18,
        2.480_152_129_595_437_6e-5,
        2.755_726_845_999_706_4e-6,
        2.762_008_844_540_974_6e-7,
        2.510_038_549_551_032e-8,
    ];
    let in_range = (SMALLEST_EXPONENT..=0.0).contains(&x);
    let x = if in_range { x } else { 0.0 };
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = k.mul_add(-LN2_LO, k.mul_add(-LN2_HI, x));
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = Q[3].mul_add(r, Q[2]).mul_add(r2, Q[1].mul_add(r, Q[0]));
    let high = Q[7].mul_add(r, Q[6]).mul_add(r2, Q[5].mul_add(r, Q[4]));
    let q = Q[9].mul_add(r, Q[8]).mul_add(r4, high).mul_add(r4, low);
    let mantissa = 1.0 + q.mul_add(r2, r);
    let power_of_two = f64::from_bits((shifted.to_bits() << 52).wrapping_add(0x3FF0_0000_0000_0000));
    if in_range { mantissa * power_of_two } else { 0.0 }
}

/// `ln(x)` for positive normal `x`; meaningless elsewhere.
///
/// The reduction and the polynomial are those of FreeBSD's `e_log.c` (error below 1 ulp).
#[inline(always)]
pub(crate) fn ln_normal(x: f64) -> f64 {
    const SQRT_HALF_BITS: u64 = 0x3FE6_A09E_0000_0000;
    const L: [f64; 7] = [
        6.666_666_666_666_735e-1,
        3.999_999_999_940_942e-1,
        2.857_142_874_366_239e-1,
        2.222_219_843_214_978_4e-1,
        1.818_357_216_161_805e-1,
        1.531_383_769_920_937_3e-1,
        1.479_819_860_511_658_6e-1,
    ];
    let bits = x.to_bits().wrapping_add(0x3FF0_0000_0000_0000 - SQRT_HALF_BITS);
    let k = f64::from((bits >> 52) as i32 - 0x3FF);
    let f = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF).wrapping_add(SQRT_HALF_BITS)) - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * w.mul_add(w.mul_add(L[5], L[3]), L[1]);
    let even = z * w.mul_add(w.mul_add(w.mul_add(L[6], L[4]), L[2]), L[0]);
    let low = s.mul_add(half_square + (odd + even), k * LN2_LO);
    k.mul_add(LN2_HI, f - (half_square - low))
}

/// `ln(x)` for any `x > 0`, subnormal numbers included; -inf at 0.
pub(crate) fn ln(x: f64) -> f64 {
    const TWO_54: f64 = 18_014_398_509_481_984.0;
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if x < f64::MIN_POSITIVE {
        ln_normal(x * TWO_54) - 54.0 * std::f64::consts::LN_2
    } else {
        ln_normal(x)
    }
}

/// Lanes of every blocked sum: element `i` goes to lane `i % LANES`.
pub(crate) const LANES: usize = 16;

/// Adds up the lanes of a blocked sum, halves onto halves.
#[inline(always)]
pub(crate) fn fold_lanes(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of `b`.
    fn ulps(a: f64, b: f64) -> u64 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn exp_is_within_one_ulp_of_libm() {
        for i in 0..400_000 {
            let x = -708.0 * f64::from(i) / 400_000.0;
            assert!(ulps(exp_non_positive(x), libm_exp(x)) <= 1, "{x}");
        }
        assert_eq!(exp_non_positive(0.0), 1.0);
        assert_eq!(exp_non_positive(-0.0), 1.0);
        for x in [-708.1, f64::NEG_INFINITY, f64::NAN, 1.0, f64::INFINITY] {
            assert_eq!(exp_non_positive(x), 0.0, "{x}");
        }
    }

    #[test]
    fn ln_is_within_one_ulp_of_libm() {
        for i in 1..400_000 {
            let x = f64::from(i) / 200_000.0;
            assert!(ulps(ln_normal(x), libm_ln(x)) <= 1, "{x}");
            let x = (f64::from(i) / 400.0 - 500.0).exp2();
            assert!(ulps(ln_normal(x), libm_ln(x)) <= 1, "{x}");
        }
        assert_eq!(ln_normal(1.0), 0.0);
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!((ln(5e-324) - libm_ln(5e-324)).abs() < 1e-12);
        assert!((ln(f64::MIN_POSITIVE / 3.0) - libm_ln(f64::MIN_POSITIVE / 3.0)).abs() < 1e-12);
    }

    // The platform's own functions are good to an ulp on every target that tests run on; only the tests use them.
    fn libm_exp(x: f64) -> f64 {
        x.exp()
    }

    fn libm_ln(x: f64) -> f64 {
        x.ln()
    }
}
