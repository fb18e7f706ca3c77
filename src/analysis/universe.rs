//! The universe: the shapes of paths that checkpoints have, with their numbers generalised.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, Repetition};

use super::alphabet::Alphabet;
use crate::pattern::Separators;

/// The shapes of the paths of one or more inventories.
///
/// Numbers are generalised where they count something: a token of digits, and the digits at the end of a token whose
/// siblings run from 0 without a hole (`decoder_layer_0`, `decoder_layer_1`, ...). Others are part of the name:
/// `linear`, `linear_1` and `linear_v` stay three shapes, and so do Mixtral's `w1`, `w2` and `w3`.
///
/// ```
/// use flow_fabric::analysis::Universe;
/// use flow_fabric::pattern::Separators;
///
/// let paths = ["layer_0/w1", "layer_0/w2", "layer_1/w1", "layer_1/w2", "experts/7/w"];
/// let universe = Universe::from_paths(paths, &Separators::default());
/// let shapes: Vec<String> = universe.templates().map(ToString::to_string).collect();
/// assert_eq!(shapes, ["experts/{N}/w", "layer_{N}/w1", "layer_{N}/w2"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Universe {
    templates: BTreeSet<Template>,
}

/// One shape of path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Any number.
    Number,
    /// This text.
    Text(String),
}

/// Written with `{N}` for each number.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Number => f.write_str("{N}"),
            Part::Text(text) => f.write_str(text),
        })
    }
}

impl Template {
    fn push(&mut self, text: &str) {
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else if !text.is_empty() {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }
}

impl Universe {
    /// Collects the shapes of these paths.
    #[must_use]
    pub fn from_paths<'a>(paths: impl IntoIterator<Item = &'a str>, separators: &Separators) -> Self {
        // Token by token over all paths at once; `group` tells which paths agree so far.
        let mut open: Vec<Open<'a>> =
            paths.into_iter().map(|path| Open { rest: Some(path), ..Open::default() }).collect();
        let mut templates = BTreeSet::new();
        while !open.is_empty() {
            for path in &mut open {
                path.next_token(separators);
            }
            let mut counted: BTreeMap<(usize, &str), BTreeSet<u64>> = BTreeMap::new();
            for path in &open {
                counted.entry((path.group, path.stem)).or_default().extend(path.digits.parse::<u64>());
            }
            let mut groups: BTreeMap<Group<'_>, usize> = BTreeMap::new();
            for path in &mut open {
                let siblings = counted.get(&(path.group, path.stem));
                let counts = siblings.is_some_and(|numbers| (0..).zip(numbers).all(|(at, number)| at == *number));
                let is_number = !path.digits.is_empty() && (path.stem.is_empty() || counts);
                path.template.push(path.stem);
                if is_number {
                    path.template.parts.push(Part::Number);
                } else {
                    path.template.push(path.digits);
                }
                if let Some(separator) = path.separator {
                    path.template.push(separator.encode_utf8(&mut [0; 4]));
                }
                let fresh = groups.len();
                let key = (path.group, path.stem, (!is_number).then_some(path.digits), path.separator);
                path.group = *groups.entry(key).or_insert(fresh);
            }
            open.retain_mut(|path| {
                let more = path.rest.is_some();
                if !more {
                    templates.insert(std::mem::take(&mut path.template));
                }
                more
            });
        }
        Self { templates }
    }

    /// Adds the shapes of another.
    pub fn extend(&mut self, other: &Self) {
        self.templates.extend(other.templates.iter().cloned());
    }

    /// The shapes, sorted.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// The texts in the shapes.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().flat_map(|template| &template.parts).filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Number => None,
        })
    }

    /// All paths of these shapes, as one expression over `alphabet`.
    pub(super) fn to_hir(&self, alphabet: &Alphabet) -> Hir {
        let digit = Hir::class(Class::Bytes(ClassBytes::new([ClassBytesRange::new(b'0', b'9')])));
        let number = Hir::repetition(Repetition { min: 1, max: None, greedy: true, sub: Box::new(digit) });
        let part = |part: &Part| match part {
            Part::Number => number.clone(),
            Part::Text(text) => Hir::literal(text.chars().map(|c| alphabet.byte(c)).collect::<Vec<_>>()),
        };
        Hir::alternation(self.templates.iter().map(|one| Hir::concat(one.parts.iter().map(part).collect())).collect())
    }
}

/// What two paths must share to have begun alike so far: the group that they were in, and the token as generalised
/// (stem; digits unless they are a number) with the separator after it.
type Group<'a> = (usize, &'a str, Option<&'a str>, Option<char>);

/// A path on its way to being a template.
#[derive(Default)]
struct Open<'a> {
    template: Template,
    group: usize,
    /// What is left, if there is a further token.
    rest: Option<&'a str>,
    /// The token at hand, its trailing digits apart, and the separator after it.
    stem: &'a str,
    digits: &'a str,
    separator: Option<char>,
}

impl Open<'_> {
    fn next_token(&mut self, separators: &Separators) {
        let Some(rest) = self.rest else { return };
        let end = rest.find(|c| separators.contains(c)).unwrap_or(rest.len());
        let (token, tail) = rest.split_at(end);
        self.separator = tail.chars().next();
        self.rest = self.separator.and_then(|separator| tail.get(separator.len_utf8()..));
        (self.stem, self.digits) = token.split_at(token.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    }
}
