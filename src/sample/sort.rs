//! Sorting candidates.

use super::order::Entry;

/// Below this many entries the standard sort is as fast.
const RADIX_FROM: usize = 1000;

/// Sorts entries that stand in ascending order of token.
///
/// The order is total, so how it is reached does not matter. Radix passes over the key alone are stable and leave
/// equal scores in order of token. Keys count from the best one, so candidates near it take two passes, not three.
pub(crate) fn sort_by_score(entries: &mut Vec<Entry>, spare: &mut Vec<Entry>) {
    if entries.len() < RADIX_FROM {
        entries.sort_unstable();
        return;
    }
    let (mut first, mut last) = (u32::MAX, 0);
    for entry in entries.iter() {
        first = first.min(entry.descending_key());
        last = last.max(entry.descending_key());
    }
    spare.clear();
    spare.extend_from_slice(entries);
    let bits = u32::BITS - (last - first).leading_zeros();
    if bits > 24 {
        for shift in [0, 11, 22] {
            pass::<2048>(entries, spare, first, shift);
        }
    } else {
        for shift in [0, 12].into_iter().filter(|shift| *shift < bits) {
            pass::<4096>(entries, spare, first, shift);
        }
    }
}

/// Orders entries by one digit, and stably otherwise.
fn pass<const BUCKETS: usize>(entries: &mut Vec<Entry>, spare: &mut Vec<Entry>, first: u32, shift: u32) {
    let digit = |entry: &Entry| (entry.descending_key().wrapping_sub(first) >> shift) as usize % BUCKETS;
    let mut ends = [0_u32; BUCKETS];
    for entry in entries.iter() {
        ends[digit(entry)] += 1;
    }
    let mut total = 0;
    for slot in &mut ends {
        total += std::mem::replace(slot, total);
    }
    for entry in entries.iter() {
        let slot = &mut ends[digit(entry)];
        if let Some(place) = spare.get_mut(*slot as usize) {
            *place = *entry;
        }
        *slot += 1;
    }
    std::mem::swap(entries, spare);
}

#[cfg(test)]
mod tests {
    use super::super::order::key;
    use super::super::threefry::Key;
    use super::*;

    #[test]
    fn radix_passes_give_the_standard_order() {
        for (case, spread) in [0.0, 1e-30_f32, 0.01, 1.0, 30.0, 1e30].into_iter().enumerate() {
            for (size, ties) in [(5000, 1.0_f32), (5000, 1e-2), (RADIX_FROM as u32, 1e-4), (7, 0.3)] {
                let mut entries: Vec<_> = (0..size)
                    .map(|token| {
                        let bits = Key(case as u32, 1).hash((0, token)).0;
                        let value = (f64::from(bits) / 4_294_967_296.0 - 0.5) as f32;
                        let value = if ties < 1.0 { (value / ties).round() * ties } else { value };
                        // A shift keeps one case near one exponent, where two passes do.
                        let value = if case == 3 { 9.0 + value } else { value * spread };
                        Entry::new(key(value), token * 3)
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
