//! The one regex dialect of policies: what Python `re` and Rust `regex` share, with one meaning.
//!
//! A pattern passes two checks. The first walks the characters ([`super::scan`]), the second the tree that
//! `regex-syntax` makes of them; each place where the two engines disagree is an error with its range and a remedy.
//! What the rest means is said in [`super`].

use std::ops::Range;

use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::PatternError;
use super::expr::Expr;
use super::scan::scan;
use crate::finding::{Code, code};

/// The longest pattern text, in bytes. Longer ones are tables, and read better as several rules or a list of paths.
pub const MAX_TEXT: usize = 8192;

/// The most nodes that a pattern may have once counted repeats are written out (`(?:ab){3}` has about 10).
pub const MAX_WEIGHT: u64 = 8192;

/// The deepest nesting of groups and repeats.
pub const MAX_NESTING: u32 = 64;

/// A pattern inside the dialect.
pub(crate) struct Regex {
    /// The whole of it.
    pub(crate) expr: Expr,
    /// Its top-level alternatives with their places; one if there is no `|` outside groups.
    pub(crate) branches: Vec<(Range<usize>, Expr)>,
}

/// Reads a pattern, or says everything that is outside the dialect.
pub(crate) fn parse(text: &str) -> Result<Regex, Vec<PatternError>> {
    if text.len() > MAX_TEXT {
        let message = format!("the pattern has {} bytes, more than {MAX_TEXT}", text.len());
        let help = "split it into several rules, or list the paths under `path`";
        return Err(vec![error(&code::PATTERN_TOO_LARGE, 0..text.len(), message, help)]);
    }
    let mut errors = Vec::new();
    scan(text, &mut errors);
    let parser = ast::parse::ParserBuilder::new().nest_limit(MAX_NESTING).build().parse(text);
    let tree = match parser {
        Ok(tree) => tree,
        Err(refused) => {
            // After a scan error the tree parser mostly repeats it in other words.
            if errors.is_empty() {
                errors.push(syntax_error(text, &refused));
            }
            return Err(errors);
        }
    };
    let mut reader = Reader { errors };
    let branches: Vec<_> = match &tree {
        Ast::Alternation(several) => {
            several.asts.iter().map(|ast| (range(ast.span()), reader.expr(ast, EDGES))).collect()
        }
        one => vec![(0..text.len(), reader.expr(one, EDGES))],
    };
    let mut errors = reader.errors;
    let expr = match branches.as_slice() {
        [(_, only)] => only.clone(),
        several => Expr::Alternate(several.iter().map(|(_, expr)| expr.clone()).collect()),
    };
    if errors.is_empty() && expr.weight() > MAX_WEIGHT {
        let message =
            format!("with its repeats written out the pattern has {} parts, more than {MAX_WEIGHT}", expr.weight());
        errors.push(error(&code::PATTERN_TOO_LARGE, 0..text.len(), message, "use `*` or `+` instead of large counts"));
    }
    if errors.is_empty() {
        return Ok(Regex { expr, branches });
    }
    errors.sort_by_key(|error| (error.range.start, error.range.end));
    Err(errors)
}

/// Whether a node touches the ends of the text, where an anchor says nothing new.
#[derive(Clone, Copy)]
struct Edges {
    left: bool,
    right: bool,
}

const EDGES: Edges = Edges { left: true, right: true };
const INSIDE: Edges = Edges { left: false, right: false };

struct Reader {
    errors: Vec<PatternError>,
}

impl Reader {
    fn expr(&mut self, ast: &Ast, edges: Edges) -> Expr {
        match ast {
            Ast::Empty(_) => Expr::Empty,
            Ast::Literal(literal) => self.literal(literal),
            Ast::Dot(_) => Expr::Any,
            Ast::Assertion(assertion) => self.assertion(assertion, edges),
            Ast::ClassPerl(class) => Expr::class(perl(class)),
            Ast::ClassBracketed(class) => Expr::class(self.bracketed(class)),
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Group(group) => {
                match &group.kind {
                    ast::GroupKind::NonCapturing(flags) if !flags.items.is_empty() => self.refuse(&group.span),
                    ast::GroupKind::CaptureName { starts_with_p: false, .. } => self.refuse(&group.span),
                    _ => {}
                }
                self.expr(&group.ast, edges)
            }
            Ast::Alternation(several) => {
                Expr::Alternate(several.asts.iter().map(|branch| self.expr(branch, edges)).collect())
            }
            Ast::Concat(several) => self.concat(&several.asts, edges),
            Ast::Flags(_) | Ast::ClassUnicode(_) => {
                self.refuse(ast.span());
                Expr::Empty
            }
        }
    }

    /// Stops what the scan should have stopped, should it ever miss something.
    fn refuse(&mut self, span: &ast::Span) {
        let place = range(span);
        if !self.errors.iter().any(|error| error.range.start < place.end && place.start < error.range.end) {
            let help = "write it with the constructs that Python and Rust share";
            self.errors.push(error(&code::REGEX_SYNTAX, place, "this is outside the policy dialect", help));
        }
    }

    fn literal(&mut self, literal: &ast::Literal) -> Expr {
        if let ast::LiteralKind::Octal | ast::LiteralKind::HexBrace(_) = literal.kind {
            self.refuse(&literal.span);
        }
        Expr::Char(literal.c)
    }

    fn concat(&mut self, asts: &[Ast], edges: Edges) -> Expr {
        let is_anchor = |ast: &Ast| matches!(ast, Ast::Assertion(a) if a.kind != ast::AssertionKind::WordBoundary);
        let lead = asts.iter().take_while(|ast| is_anchor(ast)).count();
        let tail = asts.iter().rev().take_while(|ast| is_anchor(ast)).count();
        let parts: Vec<_> = asts
            .iter()
            .enumerate()
            .map(|(at, ast)| {
                let left = edges.left && at <= lead;
                let right = edges.right && at + tail + 1 >= asts.len();
                self.expr(ast, Edges { left, right })
            })
            .collect();
        Expr::concat(parts)
    }

    fn assertion(&mut self, assertion: &ast::Assertion, edges: Edges) -> Expr {
        use ast::AssertionKind::{EndLine, StartLine, StartText, WordBoundary};
        let misplaced = match assertion.kind {
            StartLine | StartText if edges.left => return Expr::Empty,
            EndLine if edges.right => return Expr::Empty,
            StartLine | StartText => "`^` is the start of the path, and something stands before it",
            EndLine => "`$` is the end of the path, and something stands behind it",
            WordBoundary => return Expr::WordEdge,
            _ => {
                self.refuse(&assertion.span);
                return Expr::Empty;
            }
        };
        let help = "patterns are always anchored at both ends; leave the anchor out";
        self.errors.push(error(&code::MISPLACED_ANCHOR, range(&assertion.span), misplaced, help));
        Expr::Empty
    }

    fn repetition(&mut self, repetition: &ast::Repetition) -> Expr {
        use ast::{RepetitionKind as Kind, RepetitionRange as Counts};
        if let Ast::Assertion(_) = *repetition.ast {
            let message = "an assertion cannot be repeated in Python";
            self.errors.push(error(&code::REGEX_REPEAT, range(&repetition.span), message, "leave the repeat out"));
            return Expr::Empty;
        }
        let inner = Box::new(self.expr(&repetition.ast, INSIDE));
        let (min, max) = match repetition.op.kind {
            Kind::ZeroOrOne => (0, Some(1)),
            Kind::ZeroOrMore => (0, None),
            Kind::OneOrMore => (1, None),
            Kind::Range(Counts::Exactly(count)) => (count, Some(count)),
            Kind::Range(Counts::AtLeast(min)) => (min, None),
            Kind::Range(Counts::Bounded(min, max)) => (min, Some(max)),
        };
        Expr::Repeat { inner, min, max }
    }

    fn bracketed(&mut self, class: &ast::ClassBracketed) -> ClassUnicode {
        let mut set = match &class.kind {
            ast::ClassSet::Item(item) => self.class_item(item),
            ast::ClassSet::BinaryOp(operation) => {
                self.refuse(&operation.span);
                ClassUnicode::empty()
            }
        };
        if class.negated {
            set.negate();
        }
        set
    }

    fn class_item(&mut self, item: &ast::ClassSetItem) -> ClassUnicode {
        use ast::ClassSetItem as Item;
        let one = |start, end| ClassUnicode::new([ClassUnicodeRange::new(start, end)]);
        match item {
            Item::Literal(literal) => {
                self.literal(literal);
                one(literal.c, literal.c)
            }
            Item::Range(pair) => {
                self.literal(&pair.start);
                self.literal(&pair.end);
                one(pair.start.c, pair.end.c)
            }
            Item::Perl(class) => perl(class),
            Item::Union(union) => {
                let mut all = ClassUnicode::empty();
                for item in &union.items {
                    all.union(&self.class_item(item));
                }
                all
            }
            Item::Empty(_) | Item::Ascii(_) | Item::Unicode(_) | Item::Bracketed(_) => {
                self.refuse(item.span());
                ClassUnicode::empty()
            }
        }
    }
}

fn perl(class: &ast::ClassPerl) -> ClassUnicode {
    let ranges: &[(char, char)] = match class.kind {
        ast::ClassPerlKind::Digit => &[('0', '9')],
        ast::ClassPerlKind::Space => &[('\t', '\r'), (' ', ' ')],
        ast::ClassPerlKind::Word => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
    };
    let mut set = ClassUnicode::new(ranges.iter().map(|&(start, end)| ClassUnicodeRange::new(start, end)));
    if class.negated {
        set.negate();
    }
    set
}

fn range(span: &ast::Span) -> Range<usize> {
    span.start.offset..span.end.offset
}

fn error(code: &'static Code, range: Range<usize>, message: impl Into<String>, help: &str) -> PatternError {
    PatternError { code, part: 0, range, message: message.into(), help: Some(help.to_owned()) }
}

fn syntax_error(text: &str, refused: &ast::Error) -> PatternError {
    use ast::ErrorKind as Kind;
    let (code, help) = match refused.kind() {
        Kind::NestLimitExceeded(_) => (&code::PATTERN_TOO_LARGE, "write the alternatives on one level"),
        Kind::ClassUnclosed => (&code::REGEX_SYNTAX, r"close it with `]`, or write `\[` for the character"),
        Kind::GroupUnclosed => (&code::REGEX_SYNTAX, r"close it with `)`, or write `\(` for the character"),
        Kind::GroupUnopened => (&code::REGEX_SYNTAX, r"write `\)` for the character"),
        Kind::RepetitionMissing => {
            (&code::REGEX_SYNTAX, r"put what is repeated before it, or write `\` before the character")
        }
        Kind::RepetitionCountInvalid => (&code::REGEX_SYNTAX, "write the smaller count first"),
        Kind::ClassRangeInvalid => (&code::REGEX_SYNTAX, "write the smaller character first"),
        Kind::ClassRangeLiteral => {
            (&code::REGEX_SYNTAX, r"a range has single characters at its ends; a hyphen itself is `\-`")
        }
        Kind::EscapeUnexpectedEof => (&code::REGEX_SYNTAX, r"write `\\` for a backslash"),
        Kind::GroupNameDuplicate { .. } => (&code::REGEX_SYNTAX, "give each group its own name"),
        _ => (&code::REGEX_SYNTAX, "see the dialect in the reference"),
    };
    let message = match refused.kind() {
        Kind::NestLimitExceeded(limit) => format!("groups and repeats are nested deeper than {limit}"),
        kind => kind.to_string(),
    };
    let mut place = range(refused.span());
    if place.is_empty() {
        // Show what stands there; at the end, what stands before.
        let (before, after) = text.split_at_checked(place.start).unwrap_or((text, ""));
        match (after.chars().next(), before.chars().next_back()) {
            (Some(next), _) => place.end += next.len_utf8(),
            (None, Some(last)) => place.start -= last.len_utf8(),
            (None, None) => {}
        }
    }
    error(code, place, message, help)
}
