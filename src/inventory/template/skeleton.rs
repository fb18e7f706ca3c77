//! A path without its numbers, cut into tokens.

use super::Segment;
use super::product::Product;

/// The characters that end a token, whatever a policy's separators are: templates are read, not matched.
pub(super) const SEPARATORS: [char; 2] = ['/', '.'];

/// Tokens of a path; each keeps the separator that stands after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Skeleton<'a> {
    tokens: Vec<Vec<Piece<'a>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Text(&'a str),
    Number,
}

impl<'a> Skeleton<'a> {
    /// From the texts around the numbers.
    pub(super) fn new(texts: &[&'a str]) -> Self {
        let mut tokens = vec![Vec::new()];
        for (count, text) in texts.iter().enumerate() {
            if count > 0 {
                push(&mut tokens, Piece::Number);
            }
            for (count, piece) in text.split_inclusive(SEPARATORS).enumerate() {
                if count > 0 {
                    tokens.push(Vec::new());
                }
                push(&mut tokens, Piece::Text(piece));
            }
            if text.ends_with(SEPARATORS) {
                tokens.push(Vec::new());
            }
        }
        Self { tokens }
    }

    /// How many tokens there are.
    pub(super) const fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token counted from the last, if it is a word: text without a number. Also the skeleton without it.
    pub(super) fn without_word(&self, from_last: usize) -> Option<(&'a str, Self)> {
        let at = self.tokens.len().checked_sub(from_last.checked_add(1)?)?;
        let [Piece::Text(text)] = *self.tokens.get(at)?.as_slice() else { return None };
        let word = text.strip_suffix(SEPARATORS).unwrap_or(text);
        let mut frame = self.clone();
        *frame.tokens.get_mut(at)? = vec![Piece::Text(text.get(word.len()..)?)];
        Some((word, frame))
    }

    /// The segments of a template: a set for each number, and words at the token they were taken from.
    pub(super) fn segments(&self, sets: Product, words: Option<(usize, Vec<String>)>) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut sets = sets.into_iter();
        let (hole, mut words) = match words {
            Some((from_last, words)) => (self.tokens.len().checked_sub(from_last + 1), Some(words)),
            None => (None, None),
        };
        for (at, token) in self.tokens.iter().enumerate() {
            if Some(at) == hole {
                segments.extend(words.take().map(Segment::Words));
            }
            for piece in token {
                match *piece {
                    Piece::Text(text) => push_text(&mut segments, text),
                    Piece::Number => match sets.next() {
                        Some(set) if set.len() == 1 => {
                            set.iter().for_each(|number| push_text(&mut segments, &number.to_string()));
                        }
                        Some(set) => segments.push(Segment::Numbers(set)),
                        None => {}
                    },
                }
            }
        }
        segments
    }
}

fn push<'a>(tokens: &mut [Vec<Piece<'a>>], piece: Piece<'a>) {
    if let Some(token) = tokens.last_mut() {
        token.push(piece);
    }
}

/// Texts that meet are one.
fn push_text(segments: &mut Vec<Segment>, text: &str) {
    match segments.last_mut() {
        Some(Segment::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => segments.push(Segment::Text(text.to_owned())),
    }
}
