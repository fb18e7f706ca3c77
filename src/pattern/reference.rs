//! The slow, obvious matcher: straight from the written form, sharing nothing with the lowering.

use super::dialect;
use super::{PatternSpec, Separators};

/// Whether a pattern that was accepted matches the path.
pub(super) fn is_match(spec: &PatternSpec, separators: &Separators, path: &str) -> bool {
    let regex = |text: &str, on: &str| dialect::parse(text).is_ok_and(|regex| regex.expr.is_match(on));
    match spec {
        PatternSpec::Path(several) => several.iter().any(|one| one == path),
        PatternSpec::Regex(text) => regex(text, path),
        PatternSpec::Tokens(wanted) => {
            let tokens: Vec<&str> = separators.split(path).collect();
            tokens
                .windows(wanted.len())
                .any(|window| window.iter().zip(wanted).all(|(token, wanted)| regex(wanted, token)))
        }
        PatternSpec::Glob(text) => {
            let tokens: Vec<&str> = separators.split(path).collect();
            let chars: Vec<char> = text.chars().collect();
            without_braces(&chars).iter().any(|glob| tokens_match(&glob_tokens(glob, separators), &tokens))
        }
    }
}

/// Every way to choose one alternative from each pair of braces.
fn without_braces(glob: &[char]) -> Vec<Vec<char>> {
    let Some(open) = find(glob, 0, |c| c == '{') else { return vec![glob.to_vec()] };
    let mut alternatives = Vec::new();
    let mut depth = 0;
    let mut from = open + 1;
    let mut at = open;
    while let Some(here) = find(glob, at, |c| matches!(c, '{' | '}' | ',')) {
        match glob[here] {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && glob[here] == ',') {
            alternatives.push(&glob[from..here]);
            from = here + 1;
        }
        if depth == 0 {
            break;
        }
        at = here + 1;
    }
    let tail = &glob[from..];
    let head = &glob[..open];
    alternatives.iter().flat_map(|middle| without_braces(&[head, middle, tail].concat())).collect()
}

/// Cuts at separators that are neither escaped nor in a class.
fn glob_tokens<'a>(glob: &'a [char], separators: &Separators) -> Vec<&'a [char]> {
    let mut tokens = Vec::new();
    let mut from = 0;
    while let Some(cut) = find(glob, from, |c| separators.contains(c)) {
        tokens.push(&glob[from..cut]);
        from = cut + 1;
    }
    tokens.push(&glob[from..]);
    tokens
}

/// The first such character from `at` on that is neither escaped nor in a class.
fn find(glob: &[char], mut at: usize, wanted: impl Fn(char) -> bool) -> Option<usize> {
    while at < glob.len() {
        match glob[at] {
            c if wanted(c) => return Some(at),
            '\\' => at += 2,
            '[' => at = class_end(glob, at),
            _ => at += 1,
        }
    }
    None
}

/// One past the `]` of the class that begins at `at`.
fn class_end(glob: &[char], at: usize) -> usize {
    let first = if glob.get(at + 1) == Some(&'!') { at + 2 } else { at + 1 };
    (first + 1..glob.len()).find(|&end| glob[end] == ']').map_or(glob.len(), |end| end + 1)
}

fn tokens_match(globs: &[&[char]], tokens: &[&str]) -> bool {
    match globs.split_first() {
        None => tokens.is_empty(),
        Some((['*', '*'], rest)) => (0..=tokens.len()).any(|skipped| tokens_match(rest, &tokens[skipped..])),
        Some((glob, rest)) => tokens.split_first().is_some_and(|(token, others)| {
            let token: Vec<char> = token.chars().collect();
            token_matches(glob, &token) && tokens_match(rest, others)
        }),
    }
}

fn token_matches(glob: &[char], token: &[char]) -> bool {
    let one = |rest: &[char], accepted: bool| accepted && token_matches(rest, &token[1..]);
    let next = token.first().copied();
    match glob {
        [] => token.is_empty(),
        ['*', rest @ ..] => (0..=token.len()).any(|skipped| token_matches(rest, &token[skipped..])),
        ['?', rest @ ..] => one(rest, next.is_some()),
        ['\\', escaped, rest @ ..] => one(rest, next == Some(*escaped)),
        ['[', ..] => {
            let end = class_end(glob, 0);
            one(&glob[end..], next.is_some_and(|c| in_class(&glob[1..end - 1], c)))
        }
        [literal, rest @ ..] => one(rest, next == Some(*literal)),
    }
}

fn in_class(class: &[char], c: char) -> bool {
    match class {
        ['!', members @ ..] => !is_member(members, c),
        members => is_member(members, c),
    }
}

fn is_member(members: &[char], c: char) -> bool {
    match members {
        [] => false,
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&c) || is_member(rest, c),
        [one, rest @ ..] => *one == c || is_member(rest, c),
    }
}
