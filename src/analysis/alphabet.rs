//! The symbols of the automata: one byte per character that the patterns can tell apart.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicode, Hir, HirKind};

/// The first byte that stands for a segment of non-ASCII characters.
const FIRST_SEGMENT: u8 = 0x80;

/// Maps characters to bytes.
///
/// An ASCII character is its own byte. The others fall into segments between the characters at which some pattern
/// begins or stops to match; all characters of a segment are one byte, as no pattern tells them apart. So automata need
/// no UTF-8 in them and stay small.
#[derive(Debug)]
pub(super) struct Alphabet {
    /// The first character of each segment, in order; the first is U+0080.
    segments: Vec<char>,
}

impl Alphabet {
    /// Makes the alphabet for these expressions and texts; `None` if they tell more than 128 segments apart.
    pub(super) fn new<'a>(expressions: &[Hir], texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut cuts = BTreeSet::from(['\u{80}']);
        for hir in expressions {
            collect(hir, &mut cuts);
        }
        for c in texts.flat_map(str::chars) {
            cut_around(c, c, &mut cuts);
        }
        (cuts.len() <= 128).then(|| Self { segments: cuts.into_iter().collect() })
    }

    /// The byte of a character.
    pub(super) fn byte(&self, c: char) -> u8 {
        u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or_else(|| {
            let segment = self.segments.partition_point(|&first| first <= c).saturating_sub(1);
            FIRST_SEGMENT | u8::try_from(segment).unwrap_or(0)
        })
    }

    /// A character that this byte stands for.
    pub(super) fn char(&self, byte: u8) -> char {
        if byte.is_ascii() { char::from(byte) } else { self.segment(byte).unwrap_or(char::REPLACEMENT_CHARACTER) }
    }

    /// The bytes in use, in order.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).take_while(|&byte| byte.is_ascii() || self.segment(byte).is_some())
    }

    /// The bytes of a set of characters.
    pub(super) fn set(&self, set: &ClassUnicode) -> ClassBytes {
        ClassBytes::new(set.iter().map(|range| ClassBytesRange::new(self.byte(range.start()), self.byte(range.end()))))
    }

    /// Every byte in use.
    pub(super) fn any(&self) -> ClassBytes {
        ClassBytes::new([ClassBytesRange::new(0, self.byte(char::MAX))])
    }

    fn segment(&self, byte: u8) -> Option<char> {
        byte.checked_sub(FIRST_SEGMENT).and_then(|segment| self.segments.get(usize::from(segment)).copied())
    }
}

fn collect(hir: &Hir, cuts: &mut BTreeSet<char>) {
    match hir.kind() {
        HirKind::Literal(literal) => {
            for c in String::from_utf8_lossy(&literal.0).chars() {
                cut_around(c, c, cuts);
            }
        }
        HirKind::Class(Class::Unicode(set)) => {
            set.iter().for_each(|range| cut_around(range.start(), range.end(), cuts));
        }
        HirKind::Repetition(repetition) => collect(&repetition.sub, cuts),
        HirKind::Capture(capture) => collect(&capture.sub, cuts),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().for_each(|part| collect(part, cuts)),
        HirKind::Empty | HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => {}
    }
}

fn cut_around(start: char, end: char, cuts: &mut BTreeSet<char>) {
    let after = (u32::from(end) + 1..=u32::from(end) + 0x801).find_map(char::from_u32); // Steps over the surrogates.
    cuts.extend([Some(start), after].into_iter().flatten().filter(|c| !c.is_ascii()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_fall_into_the_segments_that_patterns_tell_apart() {
        let hir = regex_syntax::parse("[à-é]x|漢").unwrap();
        let alphabet = Alphabet::new(&[hir], ["\u{d7ff}"].into_iter()).unwrap();
        assert_eq!(alphabet.byte('a'), b'a');
        assert_eq!(alphabet.byte('á'), alphabet.byte('é'));
        assert_ne!(alphabet.byte('é'), alphabet.byte('ê'));
        assert_eq!(alphabet.byte('字'), alphabet.byte('木'));
        assert_ne!(alphabet.byte('漢'), alphabet.byte('字'));
        for byte in alphabet.bytes() {
            assert_eq!(alphabet.byte(alphabet.char(byte)), byte);
        }
    }
}
