//! Sorting candidates.

use super::order::Entry;

/// Below this many entries the standard sort is as fast.
const RADIX_FROM: usize = 1500;
const DIGIT_BITS: u32 = 11;
const BUCKETS: usize = 1 << DIGIT_BITS;

/// Sorts entries that stand in ascending order of token.
///
/// The order is total, so how it is reached does not matter. Radix passes over the key alone are stable and leave
/// equal scores in order of token; only the digits in which the keys differ are visited.
pub(crate) fn sort_by_score(entries: &mut Vec<Entry>, spare: &mut Vec<Entry>) {
    if entries.len() < RADIX_FROM {
        entries.sort_unstable();
        return;
    }
    let (mut any, mut all) = (0, u32::MAX);
    for entry in entries.iter() {
        any |= entry.descending_key();
        all &= entry.descending_key();
    }
    let varying = any & !all;
    spare.clear();
    spare.extend_from_slice(entries);
    let mut shift = 0;
    while shift < u32::BITS && varying >> shift != 0 {
        if !((varying >> shift) as usize).is_multiple_of(BUCKETS) {
            scatter(entries, spare, shift);
            std::mem::swap(entries, spare);
        }
        shift += DIGIT_BITS;
    }
}

/// Moves `from` to `to`, ordered by one digit and stably otherwise.
fn scatter(from: &[Entry], to: &mut [Entry], shift: u32) {
    let digit = |entry: &Entry| (entry.descending_key() >> shift) as usize % BUCKETS;
    let mut ends = [0_u32; BUCKETS];
    for entry in from {
        ends[digit(entry)] += 1;
    }
    let mut total = 0;
    for slot in &mut ends {
        total += std::mem::replace(slot, total);
    }
    for entry in from {
        let slot = &mut ends[digit(entry)];
        if let Some(place) = to.get_mut(*slot as usize) {
            *place = *entry;
        }
        *slot += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::key;
    use super::super::threefry::Key;
    use super::*;

    #[test]
    fn radix_passes_give_the_standard_order() {
        for (case, spread) in [1e-30_f32, 0.01, 1.0, 30.0, 1e30].into_iter().enumerate() {
            for ties in [1.0_f32, 1e-2] {
                let mut entries: Vec<_> = (0..5000_u32)
                    .map(|token| {
                        let bits = Key(case as u32, 1).hash((0, token)).0;
                        let value = (f64::from(bits) / 4294967296.0 - 0.5) as f32;
                        let value = if ties < 1.0 { (value / ties).round() * ties } else { value };
                        Entry::new(key(value * spread), token * 3)
                    })
                    .collect();
                let mut expected = entries.clone();
                expected.sort();
                sort_by_score(&mut entries, &mut Vec::new());
                assert_eq!(entries, expected);
            }
        }
    }
}
