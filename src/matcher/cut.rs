//! Cutting paths at separators.

use super::hash;
use super::predicates::Place;
use crate::pattern::Separators;

/// Finds separators in paths.
#[derive(Debug)]
pub(super) struct Cutter {
    /// Per byte: 0 = inside a token, [`WIDE`] = may begin a separator that is not ASCII, else a separator's place.
    bytes: [u8; 256],
    wide: Vec<(char, Place)>,
    /// Whether any predicate asks for places; otherwise all are 0, so that a token is the same wherever it stands.
    by_place: bool,
}

/// Where one token ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) end: usize,
    pub(super) next: usize,
    pub(super) place: Place,
}

const WIDE: u8 = u8::MAX;

impl Cutter {
    pub(super) fn new(separators: &Separators, by_place: bool) -> Self {
        let mut cutter = Self { bytes: [0; 256], wide: Vec::new(), by_place };
        // Backwards, so that of two equal separators the first counts.
        for (place, separator) in (1..).zip(separators.chars()).collect::<Vec<(Place, _)>>().into_iter().rev() {
            let lead = usize::from(separator.encode_utf8(&mut [0; 4]).as_bytes()[0]);
            match u8::try_from(place) {
                Ok(place) if separator.is_ascii() && place != WIDE => cutter.bytes[lead] = place,
                _ => {
                    cutter.bytes[lead] = WIDE;
                    cutter.wide.insert(0, (*separator, place));
                }
            }
        }
        cutter
    }

    /// Whether a separator may end in this byte.
    pub(super) fn may_cut(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)] != 0
    }

    /// The first cut at or after `from`, which must lie on a character boundary.
    pub(super) fn cut(&self, path: &str, from: usize) -> Option<Cut> {
        for (offset, byte) in path.as_bytes()[from..].iter().enumerate() {
            let place = self.bytes[usize::from(*byte)];
            if place == 0 {
                continue;
            }
            let end = from + offset;
            if place != WIDE {
                return Some(Cut { end, next: end + 1, place: self.place(place.into()) });
            }
            if let Some((separator, place)) = self.wide.iter().find(|(c, _)| path[end..].starts_with(*c)) {
                return Some(Cut { end, next: end + separator.len_utf8(), place: self.place(*place) });
            }
        }
        None
    }

    fn place(&self, place: Place) -> Place {
        if self.by_place { place } else { 0 }
    }
}

/// Number of bytes that two texts begin with in common.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let (mut rest_a, mut rest_b, mut common) = (a, b, 0);
    while let (Some((word_a, tail_a)), Some((word_b, tail_b))) =
        (rest_a.split_first_chunk(), rest_b.split_first_chunk())
    {
        match first_difference(*word_a, *word_b) {
            8 => (rest_a, rest_b, common) = (tail_a, tail_b, common + 8),
            at => return common + at,
        }
    }
    match (a.last_chunk(), b.last_chunk()) {
        // The last eight bytes, those once more that are known to be equal.
        (Some(word_a), Some(word_b)) => length - 8 + first_difference(*word_a, *word_b),
        _ => a.iter().zip(b).take_while(|(a, b)| a == b).count(),
    }
}

/// Whether a text begins with another, which is short as a rule: a call to compare them would take longer than to do it.
#[inline]
pub(super) fn starts_with(text: &[u8], start: &[u8]) -> bool {
    let Some(text) = text.get(..start.len()) else { return false };
    let ((chunks, _), (other_chunks, _)) = (text.as_chunks::<16>(), start.as_chunks::<16>());
    if chunks.iter().zip(other_chunks).any(|(chunk, other)| chunk != other) {
        return false;
    }
    match (text.last_chunk::<16>(), start.last_chunk::<16>()) {
        // The last bytes, some of them for the second time.
        (Some(chunk), Some(other)) => chunk == other,
        _ => hash::words(text) == hash::words(start),
    }
}

/// The first byte in which two words differ; 8 if they are equal.
fn first_difference(a: [u8; 8], b: [u8; 8]) -> usize {
    (u64::from_le_bytes(a) ^ u64::from_le_bytes(b)).trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_like_the_separators_split() {
        for separators in [vec!['/', '.'], vec!['/'], vec!['·', '/', '→']] {
            let separators = Separators::new(separators);
            let cutter = Cutter::new(&separators, true);
            for path in ["", "/", "a", "a/b.c", "//a..", "a·b→c/é.µ→", "·"] {
                let mut tokens = Vec::new();
                let mut at = 0;
                while let Some(cut) = cutter.cut(path, at) {
                    tokens.push(&path[at..cut.end]);
                    let separator: Vec<char> = path[cut.end..cut.next].chars().collect();
                    assert_eq!(separators.chars()[cut.place as usize - 1], separator[0]);
                    at = cut.next;
                }
                tokens.push(&path[at..]);
                assert_eq!(tokens, separators.split(path).collect::<Vec<_>>(), "{path}");
            }
        }
    }

    #[test]
    fn a_text_starts_with_what_it_starts_with() {
        let text: Vec<u8> = (0..70).collect();
        for length in 0..=text.len() {
            let start = &text[..length];
            assert!(starts_with(&text, start) && starts_with(start, start));
            assert!(length == text.len() || !starts_with(start, &text));
            for at in 0..length {
                let mut other = start.to_vec();
                other[at] ^= 1;
                assert!(!starts_with(&text, &other), "byte {at} of {length}");
            }
        }
    }

    #[test]
    fn the_common_prefix_is_counted_in_bytes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 0),
            ("abc", "abd", 2),
            ("0123456789", "0123456789", 10),
            ("01234567x9abcdef0", "01234567x9abcdee0", 15),
            ("01234567", "0123456701234567", 8),
            ("x1234567", "y1234567", 0),
        ] {
            assert_eq!(common_prefix(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
