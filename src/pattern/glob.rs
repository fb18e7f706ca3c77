//! Globs over whole paths.
//!
//! Cutting at separators, `**` and braces that span tokens are done here; the glob of each single token is compiled by
//! `globset`. Within a token: `*` any text, `?` any character, `[a-z]` and `[!a-z]` classes, `{a,b}` alternatives, `\`
//! takes the next character as it is.

use std::collections::BTreeSet;
use std::ops::Range;

use globset::GlobBuilder;

use super::dialect::{self, MAX_TEXT};
use super::{PatternError, Separators, Sequence, Step, TokenKind, TokenPredicate};
use crate::finding::{Code, code};

/// The most plain globs that the braces of one glob may stand for.
pub const MAX_BRACES: u64 = 4096;

/// The most token sequences that one pattern may become: braces that span tokens, alternatives cut at separators.
pub const MAX_SEQUENCES: usize = 256;

/// The deepest nesting of braces.
const MAX_DEPTH: usize = 16;

/// Lowers a glob, or says everything that is wrong with it.
pub(super) fn lower(text: &str, separators: &Separators) -> Result<Vec<Sequence>, Vec<PatternError>> {
    if text.len() > MAX_TEXT {
        let message = format!("the glob has {} bytes, more than {MAX_TEXT}", text.len());
        let help = "split it into several rules, or list the paths under `path`";
        return Err(vec![error(&code::PATTERN_TOO_LARGE, 0..text.len(), message, help)]);
    }
    if text.is_empty() {
        return Err(vec![error(&code::EMPTY_PATTERN, 0..0, "an empty glob", "write `**` for every path")]);
    }
    let mut parser = Parser { text, separators, at: 0, depth: 0, errors: Vec::new() };
    let nodes = parser.sequence();
    let mut errors = parser.errors;
    let meant = plain_globs(&nodes);
    if meant > MAX_BRACES {
        let message = format!("the braces stand for {meant} globs, more than {MAX_BRACES}");
        errors.push(error(&code::PATTERN_TOO_LARGE, 0..text.len(), message, "split the glob into several rules"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let Some(expanded) = expand(&nodes) else {
        let message = format!("the braces that span tokens stand for more than {MAX_SEQUENCES} globs");
        let help = "keep separators outside the braces, or split the glob into several rules";
        return Err(vec![error(&code::PATTERN_TOO_LARGE, 0..text.len(), message, help)]);
    };
    let mut sequences = Vec::new();
    for flat in &expanded {
        let sequence = Sequence { steps: steps(text, flat, &mut errors) };
        if !sequences.contains(&sequence) {
            sequences.push(sequence);
        }
    }
    // Alternatives share their text, so that one mistake is met once per alternative.
    let mut seen = BTreeSet::new();
    errors.retain(|error| seen.insert((error.range.start, error.range.end, error.message.clone())));
    if errors.is_empty() { Ok(sequences) } else { Err(errors) }
}

/// A piece of a glob and where it stands.
#[derive(Debug, Clone)]
struct Node {
    range: Range<usize>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Char(char),
    Separator,
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    Gap,
    Class,
    Braces(Vec<Vec<Node>>),
}

impl Node {
    /// Whether a star stands at one end, in some alternative; stars that meet without braces are one node.
    fn is_star(&self, end: fn(&[Node]) -> Option<&Node>) -> bool {
        match &self.kind {
            Kind::Star | Kind::Gap => true,
            Kind::Braces(several) => several.iter().filter_map(|one| end(one)).any(|node| node.is_star(end)),
            _ => false,
        }
    }

    fn first(nodes: &[Node]) -> Option<&Node> {
        nodes.first()
    }

    fn last(nodes: &[Node]) -> Option<&Node> {
        nodes.last()
    }
}

struct Parser<'a> {
    text: &'a str,
    separators: &'a Separators,
    at: usize,
    depth: usize,
    errors: Vec<PatternError>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..).and_then(|rest| rest.chars().next())
    }

    fn error(&mut self, range: Range<usize>, message: impl Into<String>, help: &str) {
        self.errors.push(error(&code::GLOB_SYNTAX, range, message, help));
    }

    /// Up to the end, or inside braces up to the next `,` or `}`.
    fn sequence(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            let start = self.at;
            if self.depth > 0 && (c == ',' || c == '}') {
                break;
            }
            self.at += c.len_utf8();
            let kind = match c {
                '\\' => self.escape(start),
                '?' => Kind::One,
                '*' => self.stars(start),
                '[' => self.class(start),
                '{' => self.braces(start),
                '}' => {
                    self.error(start..self.at, "`}` closes nothing", r"write `\}` for the character");
                    Kind::Char(c)
                }
                c if self.separators.contains(c) => Kind::Separator,
                c => Kind::Char(c),
            };
            let node = Node { range: start..self.at, kind };
            if nodes.last().is_some_and(|last: &Node| last.is_star(Node::last) && node.is_star(Node::first)) {
                let help = "write one `*`; for any tokens, set `**` apart with separators";
                self.error(node.range.clone(), "two stars meet through braces", help);
            }
            nodes.push(node);
        }
        nodes
    }

    fn escape(&mut self, start: usize) -> Kind {
        let Some(escaped) = self.peek() else {
            self.error(start..self.at, "the glob ends in a backslash", r"write `\\` for the character");
            return Kind::Char('\\');
        };
        self.at += escaped.len_utf8();
        if self.separators.contains(escaped) {
            let message = format!("`{escaped}` is a separator, so no token holds one");
            self.error(start..self.at, message, &format!("write `{escaped}` without the backslash"));
        }
        Kind::Char(escaped)
    }

    fn stars(&mut self, start: usize) -> Kind {
        while self.peek() == Some('*') {
            self.at += 1;
        }
        match self.at - start {
            1 => Kind::Star,
            2 => Kind::Gap,
            _ => {
                self.error(start..self.at, "more than two stars", "write `*` within a token, `**` for any tokens");
                Kind::Gap
            }
        }
    }

    /// After `[`. The syntax is that of `globset`: `]` or `-` first is itself, and there are no escapes.
    fn class(&mut self, start: usize) -> Kind {
        match self.peek() {
            Some('!') => self.at += 1,
            Some('^') => {
                let help = "write `[!` to negate; for the character itself, put `^` later";
                self.error(self.at..self.at + 1, "`[^` negates in some globs and is text in others", help);
                self.at += 1;
            }
            _ => {}
        }
        let first = self.at;
        let before = self.errors.len();
        let mut low: Option<(usize, char)> = None; // What a `-` after it would start from.
        let mut pending = false;
        while let Some(c) = self.peek() {
            let here = self.at;
            self.at += c.len_utf8();
            let place = here..self.at;
            match c {
                ']' if here > first => return Kind::Class,
                '-' if here > first && low.is_some() && !pending => {
                    pending = true;
                    continue;
                }
                '-' if here > first && low.is_none() && self.peek() != Some(']') => {
                    self.error(place.clone(), "`-` after a range", "put `-` first to mean itself");
                }
                '\\' => self.error(place.clone(), "a class has no escapes", "put `]` or `-` first to mean itself"),
                '[' if self.peek() == Some(':') => {
                    let help = "write the characters, for example `[a-z]`";
                    self.error(place.clone(), "a POSIX class is not read in globs", help);
                }
                c if self.separators.contains(c) => {
                    let message = format!("`{c}` is a separator, and a class stays within a token");
                    self.error(place.clone(), message, "leave it out; any separator in a glob matches any separator");
                }
                _ => {}
            }
            if let Some((from, _)) = low.filter(|&(_, smaller)| pending && smaller > c) {
                self.error(from..self.at, "the range runs backwards", "write the smaller character first");
            }
            low = if pending { None } else { Some((here, c)) };
            pending = false;
        }
        // What stands in a class that goes on to the end was not meant to be in it.
        self.errors.truncate(before);
        self.error(start..start + 1, "`[` is not closed", r"close it with `]`, or write `\[` for the character");
        Kind::Class
    }

    fn braces(&mut self, start: usize) -> Kind {
        if self.depth == MAX_DEPTH {
            let message = format!("braces are nested deeper than {MAX_DEPTH}");
            let place = start..self.text.len();
            self.errors.push(error(&code::PATTERN_TOO_LARGE, place, message, "write the alternatives on one level"));
            self.at = self.text.len();
            return Kind::Braces(Vec::new());
        }
        self.depth += 1;
        let mut alternatives = Vec::new();
        loop {
            let from = self.at;
            let nodes = self.sequence();
            if nodes.is_empty() && self.peek().is_some() {
                // The comma or brace after it is what can be seen.
                let help = "leave the comma out; for an optional part write two globs";
                self.error(from.saturating_sub(1)..from + 1, "an empty alternative", help);
            }
            alternatives.push(nodes);
            match self.peek() {
                Some(',') => self.at += 1,
                Some(_) => {
                    self.at += 1;
                    break;
                }
                None => {
                    self.error(
                        start..start + 1,
                        "`{` is not closed",
                        r"close it with `}`, or write `\{` for the character",
                    );
                    break;
                }
            }
        }
        self.depth -= 1;
        Kind::Braces(alternatives)
    }
}

/// How many globs without braces the nodes stand for.
fn plain_globs(nodes: &[Node]) -> u64 {
    nodes.iter().fold(1, |product: u64, node| match &node.kind {
        Kind::Braces(several) => {
            product.saturating_mul(several.iter().fold(0, |sum: u64, one| sum.saturating_add(plain_globs(one))))
        }
        _ => product,
    })
}

/// Writes out the braces that hold a separator or `**`; the others stay, as part of their token.
fn expand(nodes: &[Node]) -> Option<Vec<Vec<&Node>>> {
    let mut all: Vec<Vec<&Node>> = vec![Vec::new()];
    for node in nodes {
        match &node.kind {
            Kind::Braces(several) if spans_tokens(node) => {
                let mut tails = Vec::new();
                for one in several {
                    tails.extend(expand(one)?);
                }
                if all.len().saturating_mul(tails.len()) > MAX_SEQUENCES {
                    return None;
                }
                all = all.iter().flat_map(|head| tails.iter().map(|tail| [head.as_slice(), tail].concat())).collect();
            }
            _ => all.iter_mut().for_each(|one| one.push(node)),
        }
    }
    Some(all)
}

fn spans_tokens(node: &Node) -> bool {
    match &node.kind {
        Kind::Separator | Kind::Gap => true,
        Kind::Braces(several) => several.iter().flatten().any(spans_tokens),
        _ => false,
    }
}

/// Turns a glob without token-spanning braces into steps.
fn steps(text: &str, nodes: &[&Node], errors: &mut Vec<PatternError>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut end = 0;
    for token in nodes.split(|node| matches!(node.kind, Kind::Separator)) {
        let start = token.first().map_or(end, |node| node.range.start);
        end = token.last().map_or(end, |node| node.range.end);
        let step = match token {
            [] => {
                // Point at the separator that has nothing beside it.
                let place = nodes
                    .iter()
                    .filter(|node| matches!(node.kind, Kind::Separator))
                    .map(|node| node.range.clone())
                    .find(|place| place.start >= end)
                    .or_else(|| nodes.last().map(|node| node.range.clone()))
                    .unwrap_or(0..text.len());
                let help = "write `a/**` for everything below `a`, `**/a` for `a` at any depth";
                errors.push(error(&code::GLOB_SYNTAX, place, "nothing stands beside this separator", help));
                continue;
            }
            [node] if matches!(node.kind, Kind::Gap) => Step::Gap,
            [node] if matches!(node.kind, Kind::Star) => token_step(TokenKind::Any),
            token => match token.iter().find(|node| matches!(node.kind, Kind::Gap)) {
                Some(gap) => {
                    let help = "write `*` within a token, or set `**` apart with separators";
                    errors.push(error(&code::GLOB_SYNTAX, gap.range.clone(), "`**` must be a whole token", help));
                    continue;
                }
                None => match token_kind(text, token) {
                    Ok(kind) => token_step(kind),
                    Err((message, help)) => {
                        errors.push(error(&code::GLOB_SYNTAX, start..end, message, help));
                        continue;
                    }
                },
            },
        };
        if step != Step::Gap || steps.last() != Some(&Step::Gap) {
            steps.push(step);
        }
    }
    steps
}

fn token_step(kind: TokenKind) -> Step {
    Step::Token(TokenPredicate { separator: None, kind })
}

/// Compiles the glob of one token.
fn token_kind(text: &str, token: &[&Node]) -> Result<TokenKind, (String, &'static str)> {
    let literal: Option<String> =
        token.iter().map(|node| if let Kind::Char(c) = node.kind { Some(c) } else { None }).collect();
    if let Some(literal) = literal {
        return Ok(TokenKind::Literal(literal));
    }
    let glob: String = token.iter().filter_map(|node| text.get(node.range.clone())).collect();
    // globset matches bytes, and a class or `?` of bytes is not one of characters.
    if !glob.is_ascii() {
        return Err(("a token with wildcards must be ASCII".to_owned(), "write it as a `regex`"));
    }
    let compiled = GlobBuilder::new(&glob)
        .backslash_escape(true)
        .build()
        .map_err(|refused| (refused.kind().to_string(), "see the glob syntax in the reference"))?;
    // Plain text out of globset: `(?-u)^...$`. On ASCII it means the same in the dialect, which writes it without flags.
    let bare = compiled.regex().strip_prefix("(?-u)^").and_then(|rest| rest.strip_suffix('$'));
    bare.and_then(|bare| dialect::parse(bare).ok())
        .map(|regex| regex.expr.token_kind())
        .ok_or_else(|| ("this glob cannot be compiled".to_owned(), "write it as a `regex`"))
}

fn error(code: &'static Code, range: Range<usize>, message: impl Into<String>, help: &str) -> PatternError {
    PatternError { code, part: 0, range, message: message.into(), help: Some(help.to_owned()) }
}
