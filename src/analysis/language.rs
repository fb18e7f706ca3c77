//! Turns lowered patterns into expressions over whole paths, for the automata.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

use super::alphabet::Alphabet;
use crate::pattern::{Lowered, Pattern, Separators, Sequence, Step, TokenKind, TokenPredicate};

/// The regexes of a lowered pattern as parsed by `regex-syntax`, by their text.
pub(super) fn expressions(pattern: &Pattern) -> Vec<Hir> {
    let lowered = pattern.lowered();
    let tokens = lowered.sequences.iter().flat_map(|sequence| &sequence.steps).filter_map(|step| match step {
        Step::Token(TokenPredicate { kind: TokenKind::Regex(text), .. }) => parse(text),
        Step::Token(TokenPredicate { kind: TokenKind::Literal(text), .. }) => Some(Hir::literal(text.as_bytes())),
        _ => None,
    });
    tokens.chain(lowered.whole_path.as_deref().and_then(parse)).collect()
}

/// The paths that a pattern matches, as one expression over `alphabet`.
///
/// `None` if it cannot be said in these terms: `\b` beside a separator that is a word character.
pub(super) fn whole_path(pattern: &Pattern, alphabet: &Alphabet) -> Option<Hir> {
    let separators = pattern.separators();
    let Lowered { sequences, whole_path } = pattern.lowered();
    let paths = Paths::new(separators, alphabet);
    let mut all = Vec::new();
    for sequence in sequences {
        all.push(paths.sequence(sequence)?);
    }
    if let Some(text) = whole_path {
        all.push(translate(&parse(text)?, alphabet, None)?);
    }
    Some(Hir::alternation(all))
}

fn parse(text: &str) -> Option<Hir> {
    regex_syntax::parse(text).ok()
}

struct Paths<'a> {
    separators: &'a Separators,
    alphabet: &'a Alphabet,
    /// Any one separator.
    separator: Hir,
    /// Any text without separators.
    token: Hir,
}

impl<'a> Paths<'a> {
    fn new(separators: &'a Separators, alphabet: &'a Alphabet) -> Self {
        let all = separators.chars().iter().map(|&c| alphabet.byte(c));
        let set = ClassBytes::new(all.map(|byte| ClassBytesRange::new(byte, byte)));
        let mut rest = alphabet.any();
        rest.difference(&set);
        let separator = Hir::class(Class::Bytes(set));
        Self { separators, alphabet, separator, token: any_number(Hir::class(Class::Bytes(rest))) }
    }

    fn sequence(&self, sequence: &Sequence) -> Option<Hir> {
        let further = any_number(Hir::concat(vec![self.separator.clone(), self.token.clone()]));
        let mut parts = Vec::new();
        let mut steps = sequence.steps.iter();
        // The first token has no separator before it; a gap there takes its separators after its tokens.
        match (steps.next(), sequence.steps.get(1)) {
            (None, _) => return Some(Hir::fail()),
            (Some(Step::Token(first)), _) if first.separator.is_some() => return Some(Hir::fail()),
            (Some(Step::Token(first)), _) => parts.push(self.token(&first.kind)?),
            (Some(Step::Gap), Some(Step::Token(next))) if next.separator.is_none() => {
                parts.push(any_number(Hir::concat(vec![self.token.clone(), self.separator.clone()])));
                parts.push(self.token(&next.kind)?);
                steps.next();
            }
            (Some(Step::Gap), _) => parts.extend([self.token.clone(), further.clone()]),
        }
        for step in steps {
            match step {
                Step::Gap => parts.push(further.clone()),
                Step::Token(token) => {
                    let literal = |c: char| Hir::literal([self.alphabet.byte(c)]);
                    parts.push(token.separator.map_or_else(|| self.separator.clone(), literal));
                    parts.push(self.token(&token.kind)?);
                }
            }
        }
        Some(Hir::concat(parts))
    }

    fn token(&self, kind: &TokenKind) -> Option<Hir> {
        match kind {
            TokenKind::Any => Some(self.token.clone()),
            TokenKind::Literal(text) => translate(&Hir::literal(text.as_bytes()), self.alphabet, Some(self.separators)),
            TokenKind::Regex(text) => translate(&parse(text)?, self.alphabet, Some(self.separators)),
        }
    }
}

fn any_number(sub: Hir) -> Hir {
    Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub: Box::new(sub) })
}

/// Rewrites an expression over characters to one over the bytes of `alphabet`, without the characters of `without`:
/// taking them out of every class and literal is intersecting the language with the texts that have none.
fn translate(hir: &Hir, alphabet: &Alphabet, without: Option<&Separators>) -> Option<Hir> {
    let is_cut = |c: char| without.is_some_and(|separators| separators.contains(c));
    Some(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            if text.chars().any(is_cut) {
                Hir::fail()
            } else {
                Hir::literal(text.chars().map(|c| alphabet.byte(c)).collect::<Vec<_>>())
            }
        }
        HirKind::Class(class) => {
            let mut set = match class {
                Class::Unicode(set) => alphabet.set(set),
                Class::Bytes(set) => set.clone(),
            };
            for &c in without.iter().flat_map(|separators| separators.chars()) {
                set.difference(&ClassBytes::new([ClassBytesRange::new(alphabet.byte(c), alphabet.byte(c))]));
            }
            Hir::class(Class::Bytes(set))
        }
        // At the ends of a token there is a separator or nothing: both are no word characters, unless a separator is one.
        HirKind::Look(Look::WordAscii) => {
            let words =
                |separators: &Separators| separators.chars().iter().any(|&c| c == '_' || c.is_ascii_alphanumeric());
            if without.is_some_and(words) {
                return None;
            }
            Hir::look(Look::WordAscii)
        }
        HirKind::Look(_) => return None,
        HirKind::Repetition(repetition) => {
            let sub = Box::new(translate(&repetition.sub, alphabet, without)?);
            Hir::repetition(Repetition { sub, ..repetition.clone() })
        }
        HirKind::Capture(capture) => translate(&capture.sub, alphabet, without)?,
        HirKind::Concat(parts) => Hir::concat(all(parts, alphabet, without)?),
        HirKind::Alternation(parts) => Hir::alternation(all(parts, alphabet, without)?),
    })
}

fn all(parts: &[Hir], alphabet: &Alphabet, without: Option<&Separators>) -> Option<Vec<Hir>> {
    parts.iter().map(|part| translate(part, alphabet, without)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::automaton::Automaton;
    use super::*;

    #[test]
    fn a_separator_asked_for_after_a_gap_must_be_there() {
        let separators = Separators::default();
        let alphabet = Alphabet::new(&[], std::iter::empty()).unwrap();
        let token = |separator| Step::Token(TokenPredicate { separator, kind: TokenKind::Literal("w".to_owned()) });
        let matched = |steps| {
            let sequence = Sequence { steps };
            let paths = Paths::new(&separators, &alphabet);
            let automaton = Automaton::compile(&paths.sequence(&sequence).unwrap(), 1 << 20).unwrap();
            ["w", ".w", "a.w", "a/w", "a/b.w"]
                .into_iter()
                .filter(|path| automaton.accepts(path.bytes()))
                .collect::<Vec<_>>()
        };
        assert_eq!(matched(vec![Step::Gap, token(Some('.'))]), [".w", "a.w", "a/b.w"]);
        assert_eq!(matched(vec![Step::Gap, token(None)]), ["w", ".w", "a.w", "a/w", "a/b.w"]);
        assert_eq!(matched(vec![token(Some('.'))]), [""; 0]);
        assert_eq!(matched(vec![]), [""; 0]);
    }
}
