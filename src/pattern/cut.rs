//! Cuts a whole-path regex at separators into token sequences, where that is exact.
//!
//! A regex is cut when every place in it where a separator can match is a single character (`\.`, `[./]`) or any text
//! (`.*`), outside unbounded repeats. Each alternative then is a list of pieces; the text between two separators becomes
//! one token predicate, and `.*` becomes text within a token or a gap, as its neighbours allow.

use super::expr::{Expr, contains, without};
use super::{Separators, Sequence, Step, TokenPredicate};

/// The most sequences that one regex is cut into; beyond, it stays whole. More would cost the matcher more than one
/// whole-path automaton does.
pub const MAX_CUT: usize = 32;

/// The largest count of a repeat over separators that is written out.
const MAX_WRITTEN_OUT: u32 = 8;

/// The sequences that cover exactly the paths that `expr` matches, or `None`.
pub(super) fn cut(expr: &Expr, separators: &Separators) -> Option<Vec<Sequence>> {
    let mut sequences: Vec<Sequence> = Vec::new();
    for pieces in pieces(expr, separators)? {
        for sequence in assemble(&pieces) {
            if !sequences.contains(&sequence) {
                sequences.push(sequence);
            }
            if sequences.len() > MAX_CUT {
                return None;
            }
        }
    }
    Some(sequences)
}

#[derive(Debug, Clone)]
enum Piece {
    /// Text of one token: separators that the expression would take are not there to be taken.
    Text(Expr),
    /// This separator, or any.
    Separator(Option<char>),
    /// Any text, separators included.
    Span,
}

type Alternatives = Vec<Vec<Piece>>;

fn pieces(expr: &Expr, separators: &Separators) -> Option<Alternatives> {
    // Where a separator is a word character, `\b` beside it does not mean what it means at the end of a token.
    let words = separators.chars().iter().any(|&c| c == '_' || c.is_ascii_alphanumeric());
    Some(match expr {
        Expr::Empty => vec![Vec::new()],
        Expr::WordEdge if words => return None,
        Expr::Char(c) if separators.contains(*c) => vec![vec![Piece::Separator(Some(*c))]],
        Expr::Any => vec![vec![Piece::Text(Expr::Any)], vec![Piece::Separator(None)]],
        Expr::Class(set) if expr.touches(separators) => {
            let inside = separators.chars().iter().filter(|&&c| contains(set, c));
            let rest = without(set, separators);
            let mut all: Alternatives = Vec::new();
            if !rest.ranges().is_empty() {
                all.push(vec![Piece::Text(Expr::class(rest))]);
            }
            if inside.clone().count() == separators.chars().len() {
                all.push(vec![Piece::Separator(None)]);
            } else {
                all.extend(inside.map(|&c| vec![Piece::Separator(Some(c))]));
            }
            all
        }
        Expr::Concat(parts) => {
            let mut all: Alternatives = vec![Vec::new()];
            for part in parts {
                all = followed_by(&all, &pieces(part, separators)?)?;
            }
            all
        }
        Expr::Alternate(branches) if expr.touches(separators) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(pieces(branch, separators)?);
                if all.len() > MAX_CUT {
                    return None;
                }
            }
            all
        }
        Expr::Repeat { inner, min, max } if expr.touches(separators) => {
            let once = pieces(inner, separators)?;
            let mut all: Alternatives = Vec::new();
            let mut counted: Alternatives = vec![Vec::new()];
            let last = match max {
                Some(max) => *max,
                None if **inner == Expr::Any => *min,
                None => return None,
            };
            if last > MAX_WRITTEN_OUT {
                return None;
            }
            for count in 0..=last {
                if count >= *min {
                    all.extend(counted.iter().cloned());
                }
                if count < last {
                    counted = followed_by(&counted, &once)?;
                }
            }
            if max.is_none() {
                all.iter_mut().for_each(|pieces| pieces.push(Piece::Span));
            }
            if all.len() > MAX_CUT {
                return None;
            }
            all
        }
        Expr::WordEdge | Expr::Char(_) | Expr::Class(_) | Expr::Alternate(_) | Expr::Repeat { .. } => {
            if words && has_word_edge(expr) {
                return None;
            }
            vec![vec![Piece::Text(expr.clone())]]
        }
    })
}

fn followed_by(heads: &Alternatives, tails: &Alternatives) -> Option<Alternatives> {
    (heads.len() * tails.len() <= MAX_CUT)
        .then(|| heads.iter().flat_map(|head| tails.iter().map(|tail| [head.as_slice(), tail].concat())).collect())
}

fn has_word_edge(expr: &Expr) -> bool {
    match expr {
        Expr::WordEdge => true,
        Expr::Concat(parts) | Expr::Alternate(parts) => parts.iter().any(has_word_edge),
        Expr::Repeat { inner, .. } => has_word_edge(inner),
        _ => false,
    }
}

/// The sequences of one alternative.
fn assemble(pieces: &[Piece]) -> Vec<Sequence> {
    let mut partial: Vec<Vec<Step>> = vec![Vec::new()];
    let mut before = None; // The separator before the segment at hand.
    let segments: Vec<&[Piece]> = pieces.split(|piece| matches!(piece, Piece::Separator(_))).collect();
    let mut cuts = pieces.iter().filter_map(|piece| if let Piece::Separator(c) = piece { Some(*c) } else { None });
    for (at, segment) in segments.iter().enumerate() {
        let options = segment_options(segment, before, at == 0, at + 1 == segments.len());
        partial = partial
            .iter()
            .flat_map(|head| options.iter().map(|tail| [head.as_slice(), tail].concat()))
            .take(MAX_CUT + 1)
            .collect();
        before = cuts.next().flatten();
    }
    partial.into_iter().map(|steps| Sequence { steps: merge_gaps(steps) }).collect()
}

/// The ways in which the text between two separators, `.*` included, can lie over tokens.
fn segment_options(segment: &[Piece], separator: Option<char>, first: bool, last: bool) -> Vec<Vec<Step>> {
    // The texts between the spans: one more than there are spans.
    let mut texts = vec![Vec::new()];
    let mut after_span = false;
    for piece in segment {
        match piece {
            Piece::Text(expr) => {
                after_span = false;
                if let Some(text) = texts.last_mut() {
                    text.push(expr.clone());
                }
            }
            // Any text twice is any text.
            Piece::Span if after_span => {}
            Piece::Span => {
                after_span = true;
                texts.push(Vec::new());
            }
            Piece::Separator(_) => {}
        }
    }
    let token = |separator, parts: &[Expr]| {
        let kind = Expr::concat(parts.iter().cloned()).token_kind();
        Step::Token(TokenPredicate { separator, kind })
    };
    let spans = texts.len() - 1;
    let mut done: Vec<(Vec<Step>, Option<char>, Vec<Expr>)> =
        vec![(Vec::new(), separator, texts.first().cloned().unwrap_or_default())];
    for (at, text) in texts.iter().enumerate().skip(1) {
        // Any text at the start of the path is any tokens, then any text within the next; the same at the end.
        let opens = first && at == 1 && texts.first().is_some_and(Vec::is_empty);
        let closes = last && at == spans && text.is_empty();
        let mut next = Vec::new();
        for (steps, separator, open) in done {
            let within = [open.as_slice(), &[Expr::any_text()], text].concat();
            if opens {
                next.push((
                    [steps.as_slice(), &[Step::Gap]].concat(),
                    None,
                    [&[Expr::any_text()], text.as_slice()].concat(),
                ));
                continue;
            }
            let ended = token(separator, &[open.as_slice(), &[Expr::any_text()]].concat());
            if !closes {
                next.push((steps.clone(), separator, within));
            }
            let crossed = [steps.as_slice(), &[ended, Step::Gap]].concat();
            next.push((crossed, None, [&[Expr::any_text()], text.as_slice()].concat()));
        }
        done = next;
    }
    done.into_iter()
        .map(|(mut steps, separator, open)| {
            let closes =
                last && spans > 0 && texts.last().is_some_and(Vec::is_empty) && steps.last() == Some(&Step::Gap);
            // After a closing gap, any further token is one of the gap's.
            if !closes {
                steps.push(token(separator, &open));
            }
            steps
        })
        .collect()
}

fn merge_gaps(steps: Vec<Step>) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::new();
    for step in steps {
        if step != Step::Gap || merged.last() != Some(&Step::Gap) {
            merged.push(step);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::super::{TokenKind, dialect};
    use super::*;

    /// Writes sequences as text: `_` for any separator, `*` for any token, `**` for a gap.
    fn shown(regex: &str) -> String {
        let expr = dialect::parse(regex).unwrap().expr;
        let Some(sequences) = cut(&expr, &Separators::default()) else { return "whole".to_owned() };
        let step = |step: &Step| match step {
            Step::Gap => " **".to_owned(),
            Step::Token(token) => {
                let kind = match &token.kind {
                    TokenKind::Any => "*".to_owned(),
                    TokenKind::Literal(text) => format!("`{text}`"),
                    TokenKind::Regex(text) => text.clone(),
                };
                format!(" {}{kind}", token.separator.map_or(String::new(), String::from))
            }
        };
        let all: Vec<String> =
            sequences.iter().map(|one| one.steps.iter().map(step).collect::<String>().trim().to_owned()).collect();
        all.join("; ")
    }

    #[test]
    fn regexes_are_cut_where_that_is_exact() {
        let cases = [
            ("a", "`a`"),
            (r"model\.layers\.(\d+)\.w", "`model` .`layers` .[0-9]+ .`w`"),
            (r"a[./]b", "`a` `b`"),
            (r"a\.(b|c/d)", "`a` .`b`; `a` .`c` /`d`"),
            (".*", "**"),
            (r".*\.weight", "** * .`weight`"),
            (r".*q_proj\.weight", "** (?s:.*)q_proj .`weight`"),
            (r"model\..*", "`model` .* **"),
            (r"model.*", "model(?s:.*) **"),
            (r"a.*b", "a(?s:.*)b; a(?s:.*) ** (?s:.*)b"),
            (r"(model\.)?lm_head", "`lm_head`; `model` .`lm_head`"),
            (r"(a\.)*b", "whole"),
            (r"[^.]+\.w", "whole"),
            (r".*experts.*", "** (?s:.*)experts(?s:.*) **"),
            ("a.b", "a(?s:.)b; `a` `b`"),
        ];
        for (regex, expected) in cases {
            assert_eq!(shown(regex), expected, "{regex}");
        }
    }
}
