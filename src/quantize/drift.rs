//! Drift: what quantization did to the values, from the originals and from what decoding the stored bytes gives.
//!
//! Sums are f64, in a fixed order within a part; parts are added in the order of the weight when the figures are taken.
//! So the figures do not depend on the number of threads, on the order in which parts were finished, or on the vectors
//! of the processor.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::Limits;
use crate::simd::{self, Kernel};

/// Accumulates the drift of one weight, or of many.
///
/// ```
/// use flow_fabric::quantize::Drift;
///
/// let mut drift = Drift::new(2);
/// drift.add(0, &[1.0, -2.0, 3.0, 0.5], &[1.0, -2.0, 3.25, 0.5], None);
/// let figures = drift.figures();
/// assert_eq!(figures.max_abs_error, 0.25);
/// assert_eq!(figures.worst_group.map(|worst| worst.first), Some(2));
/// ```
#[derive(Debug, Clone)]
pub struct Drift {
    /// Values of a group, for the worst of them.
    group: usize,
    /// Sums of every part, by its first value.
    parts: BTreeMap<u64, Sums>,
    extremes: Extremes,
    counts: Counts,
    /// Absolute errors by magnitude, [`BINS_PER_OCTAVE`] to an octave; allocated with the first error.
    errors: Vec<u64>,
    /// The greatest relative error of values of each octave-eighth.
    relative: Vec<f32>,
}

/// Bins of the histogram of errors that an octave has.
const BINS_PER_OCTAVE: u32 = 32;
/// Shift from an f32's bits to its bin.
const BIN_SHIFT: u32 = 23 - BINS_PER_OCTAVE.ilog2();
/// The same for the bins of values.
const VALUE_SHIFT: u32 = 23 - 3;

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    elements: u64,
    /// Of squares of the originals, of the decoded values and of the errors, and of the errors.
    x2: f64,
    y2: f64,
    e2: f64,
    e: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.elements += other.elements;
        self.x2 += other.x2;
        self.y2 += other.y2;
        self.e2 += other.e2;
        self.e += other.e;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Extremes {
    absmax: f32,
    error: f32,
    /// The greatest error in units of its step, where steps are known.
    steps: Option<f32>,
    /// First value of the group with the greatest share of noise, and that share.
    worst: Option<(u64, f64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    nonfinite: u64,
    spoilt: u64,
    zeros: u64,
    /// Codes at the ends of their range, of those whose steps are known.
    saturated: u64,
    clipped: u64,
    stepped: u64,
}

impl Drift {
    /// Starts without values. `group` is the number of consecutive values that [`Figures::worst_group`] looks for.
    #[must_use]
    pub fn new(group: usize) -> Self {
        Self {
            group: group.max(1),
            parts: BTreeMap::new(),
            extremes: Extremes::default(),
            counts: Counts::default(),
            errors: Vec::new(),
            relative: Vec::new(),
        }
    }

    /// Adds the part that starts at value `start`: originals, what decoding gave, and the step between codes at each
    /// value as [`Decoder::steps`](super::Decoder::steps) gives it.
    ///
    /// Values that are not finite before or after are counted and left out of all sums.
    pub fn add(&mut self, start: u64, before: &[f32], after: &[f32], steps: Option<&[f32]>) {
        if self.errors.is_empty() {
            self.errors.resize(256 << BINS_PER_OCTAVE.ilog2(), 0);
            self.relative.resize(256 << 3, 0.0);
        }
        let mut sums = Sums::default();
        simd::dispatch(Add { drift: self, sums: &mut sums, start, before, after, steps });
        self.parts.entry(start).or_default().add(&sums);
    }

    /// Takes what another part of the same weight gave.
    pub fn merge(&mut self, other: &Drift) {
        self.take(other);
        for (start, sums) in &other.parts {
            self.parts.entry(*start).or_default().add(sums);
        }
        if let Some((first, noise)) = other.extremes.worst {
            self.extremes.worst = worse(self.extremes.worst, first, noise);
        }
    }

    /// Takes another weight into totals, whose worst group is not looked for.
    pub fn absorb(&mut self, other: &Drift) {
        self.take(other);
        let total = other.total();
        self.parts.entry(0).or_default().add(&total);
        self.extremes.worst = None;
    }

    fn take(&mut self, other: &Drift) {
        let (mine, theirs) = (&mut self.extremes, &other.extremes);
        mine.absmax = mine.absmax.max(theirs.absmax);
        mine.error = mine.error.max(theirs.error);
        mine.steps = match (mine.steps, theirs.steps) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let (mine, theirs) = (&mut self.counts, &other.counts);
        mine.nonfinite += theirs.nonfinite;
        mine.spoilt += theirs.spoilt;
        mine.zeros += theirs.zeros;
        mine.saturated += theirs.saturated;
        mine.clipped += theirs.clipped;
        mine.stepped += theirs.stepped;
        if self.errors.is_empty() {
            self.errors.clone_from(&other.errors);
            self.relative.clone_from(&other.relative);
            return;
        }
        for (mine, theirs) in self.errors.iter_mut().zip(&other.errors) {
            *mine += theirs;
        }
        for (mine, theirs) in self.relative.iter_mut().zip(&other.relative) {
            *mine = mine.max(*theirs);
        }
    }

    fn total(&self) -> Sums {
        let mut total = Sums::default();
        for sums in self.parts.values() {
            total.add(sums);
        }
        total
    }

    /// The figures of everything added.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53, and shares for people")]
    pub fn figures(&self) -> Figures {
        let Sums { elements, x2, y2, e2, e } = self.total();
        let Counts { nonfinite, spoilt, zeros, saturated, clipped, stepped } = self.counts;
        let count = elements.max(1) as f64;
        let rms = (x2 / count).sqrt();
        // From the three sums of squares, since the error is the difference.
        let product = (x2 + y2 - e2) / 2.0;
        let norms = (x2 * y2).sqrt();
        Figures {
            elements: elements + nonfinite + spoilt,
            nonfinite,
            spoilt,
            absmax: f64::from(self.extremes.absmax),
            rms,
            max_abs_error: f64::from(self.extremes.error),
            max_error_steps: self.extremes.steps.map(f64::from),
            mean_error: e / count,
            mse: e2 / count,
            rmse: (e2 / count).sqrt(),
            frobenius_error: e2.sqrt(),
            relative_error: (x2 > 0.0).then(|| (e2 / x2).sqrt()),
            max_relative_error: self.max_relative(rms),
            sqnr_db: (e2 > 0.0 && x2 > 0.0).then(|| 10.0 * (x2 / e2).log10()),
            cosine: (norms > 0.0).then(|| (product / norms).clamp(-1.0, 1.0)),
            p95_abs_error: self.quantile(0.95),
            p999_abs_error: self.quantile(0.999),
            worst_group: self
                .extremes
                .worst
                .map(|(first, noise)| WorstGroup { first, sqnr_db: (noise > 0.0).then(|| -10.0 * noise.log10()) }),
            zero_share: zeros as f64 / count,
            saturated_share: (stepped > 0).then(|| saturated as f64 / stepped as f64),
            clipped: (stepped > 0).then_some(clipped),
        }
    }

    /// The upper edge of the bin that the quantile falls into, at most 2.2 % above it, and no more than the maximum.
    fn quantile(&self, share: f64) -> f64 {
        let total: u64 = self.errors.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = (total as f64 * share).ceil() as u64;
        let mut below = 0;
        for (bin, count) in self.errors.iter().enumerate() {
            below += count;
            if below >= rank && *count > 0 {
                if bin == 0 {
                    return 0.0;
                }
                let edge = u32::try_from(bin + 1).unwrap_or(u32::MAX) << BIN_SHIFT;
                return f64::from(f32::from_bits(edge).min(self.extremes.error));
            }
        }
        0.0
    }

    /// The greatest relative error of values above a hundredth of the rms, by octave-eighths above it.
    fn max_relative(&self, rms: f64) -> f64 {
        let floor = (rms / 100.0) as f32;
        let first = usize::try_from(floor.to_bits() >> VALUE_SHIFT).unwrap_or(usize::MAX).saturating_add(1);
        f64::from(self.relative.iter().skip(first).fold(0.0_f32, |most, error| most.max(*error)))
    }
}

/// What the drift of a weight, a rule or a run comes to. Errors are decoded value less original.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    /// Number of values.
    pub elements: u64,
    /// Originals that are NaN or infinite; left out of all other figures.
    pub nonfinite: u64,
    /// Finite originals that came back NaN or infinite; left out of all other figures.
    pub spoilt: u64,
    /// Greatest magnitude of the originals.
    pub absmax: f64,
    /// Root mean square of the originals.
    pub rms: f64,
    /// Greatest absolute error.
    pub max_abs_error: f64,
    /// Greatest error in units of the step between codes where it occurred: at most 0.5 unless values were clipped or a
    /// format trades single values for the block.
    pub max_error_steps: Option<f64>,
    /// Mean error (bias).
    pub mean_error: f64,
    /// Mean squared error.
    pub mse: f64,
    /// Root mean squared error.
    pub rmse: f64,
    /// Frobenius norm of the error.
    pub frobenius_error: f64,
    /// Frobenius norm of the error over that of the originals; absent where all originals are zero.
    pub relative_error: Option<f64>,
    /// Greatest error relative to its value, of values above a hundredth of the rms (to an eighth of an octave).
    pub max_relative_error: f64,
    /// Signal-to-quantization-noise ratio, 20 log10 of the norm of the originals over that of the error; absent where
    /// there is no error or no signal.
    pub sqnr_db: Option<f64>,
    /// Cosine similarity; absent where either side is zero.
    pub cosine: Option<f64>,
    /// 95th percentile of the absolute error, at most 2.2 % high.
    pub p95_abs_error: f64,
    /// 99.9th percentile of the absolute error, at most 2.2 % high.
    pub p999_abs_error: f64,
    /// The group with the lowest signal-to-noise ratio; absent in totals.
    pub worst_group: Option<WorstGroup>,
    /// Share of values that came back zero.
    pub zero_share: f64,
    /// Share of codes at either end of their range, where codes are known.
    pub saturated_share: Option<f64>,
    /// Values beyond the end of their range by more than half a step, where codes are known.
    pub clipped: Option<u64>,
}

/// The group of consecutive values that suffered most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct WorstGroup {
    /// Its first value, in row-major order.
    pub first: u64,
    /// Its signal-to-quantization-noise ratio; absent where no group has an error.
    pub sqnr_db: Option<f64>,
}

/// A gate that a weight did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Breach {
    /// The limit, as policies name it.
    pub limit: &'static str,
    /// What it says.
    pub allowed: f64,
    /// What was found. A ratio that cannot be taken, of an error without a signal, is infinite or zero.
    pub found: f64,
}

impl Figures {
    /// The limits that these figures break, in the order of [`Limits`]. A value that came back NaN or infinite breaks
    /// each of them.
    #[must_use]
    pub fn breaches(&self, limits: &Limits) -> Vec<Breach> {
        let exact = self.frobenius_error == 0.0 && self.spoilt == 0;
        let or = |figure: Option<f64>, good: f64, bad: f64| figure.unwrap_or(if exact { good } else { bad });
        let spoilt = self.spoilt > 0;
        let above = |limit, allowed: Option<f64>, found: f64| {
            let found = if spoilt { f64::INFINITY } else { found };
            allowed.filter(|allowed| found > *allowed).map(|allowed| Breach { limit, allowed, found })
        };
        let below = |limit, allowed: Option<f64>, found: f64| {
            let found = if spoilt { f64::NEG_INFINITY } else { found };
            allowed.filter(|allowed| found < *allowed).map(|allowed| Breach { limit, allowed, found })
        };
        [
            above("max_abs_error", limits.max_abs_error, self.max_abs_error),
            above("max_relative_error", limits.max_relative_error, or(self.relative_error, 0.0, f64::INFINITY)),
            below("min_sqnr_db", limits.min_sqnr_db, or(self.sqnr_db, f64::INFINITY, f64::NEG_INFINITY)),
            below("min_cosine", limits.min_cosine, or(self.cosine, 1.0, 0.0)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The later of two groups only where it is worse, so that the order of parts does not matter.
fn worse(have: Option<(u64, f64)>, first: u64, noise: f64) -> Option<(u64, f64)> {
    match have {
        Some((at, least)) if noise < least || (noise == least && first >= at) => Some((at, least)),
        _ => Some((first, noise)),
    }
}

struct Add<'a> {
    drift: &'a mut Drift,
    sums: &'a mut Sums,
    start: u64,
    before: &'a [f32],
    after: &'a [f32],
    steps: Option<&'a [f32]>,
}

/// Sums that run side by side.
const LANES: usize = 8;

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { drift, sums, start, before, after, steps } = self;
        let group = drift.group;
        for (index, (x, y)) in before.chunks(group).zip(after.chunks(group)).enumerate() {
            let first = start + (index * group) as u64;
            let one = drift.group_sums(x, y);
            if one.x2 > 0.0 {
                drift.extremes.worst = worse(drift.extremes.worst, first, one.e2 / one.x2);
            }
            sums.add(&one);
        }
        drift.histograms(before, after);
        if let Some(steps) = steps {
            drift.steps(before, after, steps);
        }
    }
}

impl Drift {
    #[inline(always)]
    fn group_sums(&mut self, x: &[f32], y: &[f32]) -> Sums {
        let (mut x2, mut y2, mut e2, mut e1) = ([0.0_f64; LANES], [0.0_f64; LANES], [0.0_f64; LANES], [0.0_f64; LANES]);
        let (mut absmax, mut error) = ([0_i32; LANES], [0_i32; LANES]);
        let (mut infinite, mut spoilt, mut zeros) = ([0_u32; LANES], [0_u32; LANES], [0_u32; LANES]);
        let mut step = |x: &[f32], y: &[f32]| {
            for (lane, (x, y)) in x.iter().zip(y).enumerate() {
                let (finite, whole) = (x.is_finite(), y.is_finite());
                let (x, y) = if finite && whole { (*x, *y) } else { (0.0, 0.0) };
                infinite[lane] += u32::from(!finite);
                spoilt[lane] += u32::from(finite && !whole);
                zeros[lane] += u32::from(y == 0.0);
                let (wide_x, wide_y) = (f64::from(x), f64::from(y));
                let wide_e = wide_y - wide_x;
                x2[lane] += wide_x * wide_x;
                y2[lane] += wide_y * wide_y;
                e2[lane] += wide_e * wide_e;
                e1[lane] += wide_e;
                absmax[lane] = absmax[lane].max((x.to_bits() & 0x7FFF_FFFF).cast_signed());
                error[lane] = error[lane].max(((y - x).to_bits() & 0x7FFF_FFFF).cast_signed());
            }
        };
        let (x_lanes, x_rest) = x.as_chunks::<LANES>();
        let (y_lanes, y_rest) = y.as_chunks::<LANES>();
        for (x, y) in x_lanes.iter().zip(y_lanes) {
            step(x, y);
        }
        step(x_rest, y_rest);

        let left_out: u64 = infinite.iter().chain(&spoilt).map(|count| u64::from(*count)).sum();
        self.counts.nonfinite += infinite.iter().map(|count| u64::from(*count)).sum::<u64>();
        self.counts.spoilt += spoilt.iter().map(|count| u64::from(*count)).sum::<u64>();
        self.counts.zeros += zeros.iter().map(|count| u64::from(*count)).sum::<u64>() - left_out;
        let greatest = |lanes: [i32; LANES]| f32::from_bits(lanes.into_iter().fold(0, i32::max).cast_unsigned());
        self.extremes.absmax = self.extremes.absmax.max(greatest(absmax));
        self.extremes.error = self.extremes.error.max(greatest(error));
        let sum = |lanes: [f64; LANES]| lanes.into_iter().sum::<f64>();
        Sums { elements: x.len() as u64 - left_out, x2: sum(x2), y2: sum(y2), e2: sum(e2), e: sum(e1) }
    }

    #[inline(always)]
    fn histograms(&mut self, before: &[f32], after: &[f32]) {
        for (x, y) in before.iter().zip(after) {
            let error = (y - x).abs();
            if !error.is_finite() {
                continue;
            }
            if let Some(bin) = self.errors.get_mut((error.to_bits() >> BIN_SHIFT) as usize) {
                *bin += 1;
            }
            if let Some(bin) = self.relative.get_mut(((x.to_bits() & 0x7FFF_FFFF) >> VALUE_SHIFT) as usize) {
                *bin = bin.max(error / x.abs().max(f32::MIN_POSITIVE));
            }
        }
    }

    /// A negative step marks a code at the end of its range; zero one whose step is not known.
    #[inline(always)]
    fn steps(&mut self, before: &[f32], after: &[f32], steps: &[f32]) {
        let (mut most, mut saturated, mut clipped, mut stepped) = (0.0_f32, 0_u64, 0_u64, 0_u64);
        for ((x, y), step) in before.iter().zip(after).zip(steps) {
            let known = *step != 0.0 && step.is_finite() && x.is_finite() && y.is_finite();
            let off = if known { (y - x).abs() / step.abs() } else { 0.0 };
            most = if off > most { off } else { most };
            stepped += u64::from(known);
            saturated += u64::from(known && *step < 0.0);
            // A little more than half, for the rounding of the quotient.
            clipped += u64::from(known && *step < 0.0 && off > 0.501);
        }
        if stepped > 0 {
            self.extremes.steps = Some(self.extremes.steps.unwrap_or(0.0).max(most));
        }
        self.counts.saturated += saturated;
        self.counts.clipped += clipped;
        self.counts.stepped += stepped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of values, some of them equal, some not finite.
    fn pairs(count: usize) -> (Vec<f32>, Vec<f32>) {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let before: Vec<f32> = (0..count).map(|_| next()).collect();
        let mut after: Vec<f32> = before.iter().map(|x| (x * 16.0).round() / 16.0).collect();
        after[3] = before[3];
        (before, after)
    }

    fn drift_of(before: &[f32], after: &[f32], part: usize, backwards: bool) -> Drift {
        let mut starts: Vec<usize> = (0..before.len()).step_by(part).collect();
        if backwards {
            starts.reverse();
        }
        let mut drift = Drift::new(32);
        for start in starts {
            let mut one = Drift::new(32);
            let end = (start + part).min(before.len());
            one.add(start as u64, &before[start..end], &after[start..end], None);
            drift.merge(&one);
        }
        drift
    }

    #[test]
    fn figures_are_those_of_the_definitions() {
        let (before, after) = pairs(10_000);
        let figures = drift_of(&before, &after, 10_000, false).figures();
        let errors: Vec<f64> = before.iter().zip(&after).map(|(x, y)| f64::from(*y) - f64::from(*x)).collect();
        let x2: f64 = before.iter().map(|x| f64::from(*x).powi(2)).sum();
        let y2: f64 = after.iter().map(|y| f64::from(*y).powi(2)).sum();
        let xy: f64 = before.iter().zip(&after).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let e2: f64 = errors.iter().map(|e| e * e).sum();
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-3), "{a} {b}");
        close(figures.rms, (x2 / 1e4).sqrt());
        close(figures.rmse, (e2 / 1e4).sqrt());
        close(figures.mean_error, errors.iter().sum::<f64>() / 1e4);
        close(figures.frobenius_error, e2.sqrt());
        close(figures.relative_error.unwrap(), (e2 / x2).sqrt());
        close(figures.sqnr_db.unwrap(), 20.0 * (x2.sqrt() / e2.sqrt()).log10());
        close(figures.cosine.unwrap(), xy / (x2 * y2).sqrt());
        let mut sorted: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(figures.max_abs_error, sorted[9999]);
        for (found, exact) in [(figures.p95_abs_error, sorted[9499]), (figures.p999_abs_error, sorted[9989])] {
            assert!(found >= exact && found <= exact * 1.023, "{found} {exact}");
        }
        let relative = before.iter().zip(&after).filter(|(x, _)| f64::from(x.abs()) > figures.rms * 0.0115);
        let relative = relative.map(|(x, y)| f64::from((y - x).abs() / x.abs())).fold(0.0, f64::max);
        assert!(figures.max_relative_error >= relative && figures.max_relative_error < 200.0);
        let noise = |i: usize| -> f64 {
            let e2: f64 = errors[32 * i..(32 * i + 32).min(10_000)].iter().map(|e| e * e).sum();
            let x2: f64 = before[32 * i..(32 * i + 32).min(10_000)].iter().map(|x| f64::from(*x).powi(2)).sum();
            e2 / x2
        };
        let worst = (0..313).max_by(|a, b| noise(*a).total_cmp(&noise(*b))).unwrap();
        let found = figures.worst_group.unwrap();
        assert_eq!(found.first, 32 * worst as u64);
        close(found.sqnr_db.unwrap(), -10.0 * noise(worst).log10());
    }

    #[test]
    fn parts_and_their_order_do_not_matter() {
        let (before, after) = pairs(10_000);
        let once = drift_of(&before, &after, 1024, false).figures();
        assert_eq!(drift_of(&before, &after, 1024, true).figures(), once);
        let plain = simd::with_level(simd::Level::Plain, || drift_of(&before, &after, 1024, false).figures());
        assert_eq!(plain, once);
    }

    #[test]
    fn what_is_not_finite_is_counted_and_left_out() {
        let before = [f32::NAN, 1.0, f32::INFINITY, 2.0, 0.0];
        let after = [0.0, f32::INFINITY, 1.0, 2.5, 0.0];
        let mut drift = Drift::new(8);
        drift.add(0, &before, &after, Some(&[1.0, 1.0, 1.0, -0.5, 0.0]));
        let figures = drift.figures();
        assert_eq!((figures.elements, figures.nonfinite, figures.spoilt), (5, 2, 1));
        assert_eq!((figures.max_abs_error, figures.mse), (0.5, 0.125));
        assert_eq!(
            (figures.max_error_steps, figures.saturated_share, figures.clipped),
            (Some(1.0), Some(1.0), Some(1))
        );
        assert_eq!(figures.zero_share, 0.5);
        let limits = Limits { max_abs_error: Some(1e9), min_cosine: Some(-1.0), ..Limits::default() };
        assert_eq!(figures.breaches(&limits).len(), 2, "a spoilt value passes no gate");
    }

    #[test]
    fn gates_break_where_the_figure_is_on_the_wrong_side() {
        let mut drift = Drift::new(8);
        drift.add(0, &[3.0, 4.0], &[3.0, 4.5], None);
        let figures = drift.figures();
        let at = Limits {
            max_abs_error: Some(0.5),
            max_relative_error: Some(0.1),
            min_sqnr_db: Some(20.0),
            min_cosine: Some(0.9),
        };
        assert_eq!(figures.breaches(&at), []);
        let tight = Limits { max_abs_error: Some(0.4), min_sqnr_db: Some(20.1), ..Limits::default() };
        let limits: Vec<&str> = figures.breaches(&tight).iter().map(|breach| breach.limit).collect();
        assert_eq!(limits, ["max_abs_error", "min_sqnr_db"]);
        // Nothing lost passes any gate; an error where there was no signal passes none of the ratios.
        let mut exact = Drift::new(8);
        exact.add(0, &[0.0, 0.0], &[0.0, 0.0], None);
        assert_eq!(exact.figures().breaches(&at), []);
        let mut noise = Drift::new(8);
        noise.add(0, &[0.0, 0.0], &[0.1, 0.0], None);
        assert_eq!(noise.figures().breaches(&at).len(), 3);
    }

    #[test]
    fn totals_weigh_by_elements() {
        let (before, after) = pairs(4096);
        let whole = drift_of(&before, &after, 4096, false).figures();
        let mut total = Drift::new(32);
        total.absorb(&drift_of(&before[..1024], &after[..1024], 1024, false));
        total.absorb(&drift_of(&before[1024..], &after[1024..], 3072, false));
        let total = total.figures();
        assert!((total.mse / whole.mse - 1.0).abs() < 1e-12 && total.worst_group.is_none());
        assert_eq!((total.elements, total.max_abs_error), (4096, whole.max_abs_error));
    }
}
