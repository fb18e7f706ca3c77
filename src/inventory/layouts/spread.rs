//! How scales spread over a weight.

use crate::Dtype;

/// Whether a dtype can hold scales that are plain numbers.
pub(super) const fn is_real(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::Bf16 | Dtype::F16)
}

/// Whether a dtype can hold power-of-two scales (older writers call them u8).
pub(super) const fn is_e8m0(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8E8m0 | Dtype::U8)
}

/// Whether `scales` values can stand for `dimension` values in runs of one length, the last of them perhaps shorter.
///
/// 56 scales stand for 7168 values in runs of 128, 5 for 17 in runs of 4; 16 cannot stand for 17.
pub(super) const fn divides_evenly(dimension: u64, scales: u64) -> bool {
    if scales == 0 || scales > dimension {
        return false;
    }
    dimension.div_ceil(dimension.div_ceil(scales)) == scales
}

/// Whether scales of this shape can stand for a weight of that shape: one value in all, one per leading index (per
/// expert, per row), or a run length per dimension.
pub(super) fn fits(weight: &[u64], scales: &[u64]) -> bool {
    if scales.iter().all(|&dimension| dimension == 1) {
        return true;
    }
    if scales.len() < weight.len() {
        return weight.starts_with(scales);
    }
    scales.len() == weight.len() && weight.iter().zip(scales).all(|(&of, &by)| divides_evenly(of, by))
}

/// Whether scales stand for runs of exactly `run` along the last dimension, and for single indices of all others.
pub(super) fn fits_runs(weight: &[u64], scales: &[u64], run: u64) -> bool {
    match (weight.split_last(), scales.split_last()) {
        (Some((&last, lead)), Some((&groups, scale_lead))) => lead == scale_lead && last.div_ceil(run) == groups,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_one_length() {
        assert!(divides_evenly(7168, 56) && divides_evenly(17, 5) && divides_evenly(1, 1) && divides_evenly(9, 9));
        assert!(!divides_evenly(17, 16) && !divides_evenly(4, 5) && !divides_evenly(4, 0));
        // Slow reference: try every run length.
        for dimension in 1..40 {
            for scales in 0..45 {
                let possible = (1..=dimension).any(|run: u64| dimension.div_ceil(run) == scales);
                assert_eq!(divides_evenly(dimension, scales), possible, "{dimension} {scales}");
            }
        }
    }

    #[test]
    fn scales_fit_by_tensor_channel_block_and_expert() {
        for scales in [&[][..], &[1], &[4096], &[4096, 1], &[32, 32], &[1, 4096], &[4096, 32]] {
            assert!(fits(&[4096, 4096], scales), "{scales:?}");
        }
        for scales in [&[7][..], &[4096, 4097], &[4096, 1, 1], &[0, 1]] {
            assert!(!fits(&[4096, 4096], scales), "{scales:?}");
        }
        assert!(fits(&[8, 64, 32], &[8]) && fits(&[8, 64, 32], &[8, 1, 1]));
    }
}
