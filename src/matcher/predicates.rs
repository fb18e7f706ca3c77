//! The predicates of all steps, and which of them a token satisfies.

use std::collections::{BTreeSet, HashMap};

use regex_automata::Input;
use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::lists::number;
use crate::pattern::{Separators, TokenKind, TokenPredicate};

/// A distinct predicate: text and separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PredicateId(pub(super) u32);

/// Where a token stands: 0 = first, `n` = after the n-th separator of the set. Always 0 where no predicate asks.
pub(super) type Place = u32;

/// All predicates, ready to classify tokens.
#[derive(Debug)]
pub(super) struct Predicates {
    /// How many of the predicates are literals; they come first.
    literals: usize,
    /// Per id: the place the token must have, or `ANYWHERE`.
    places: Vec<Place>,
    by_place: bool,
    any: Vec<PredicateId>,
    words: HashMap<Box<str>, Vec<PredicateId>, foldhash::fast::FixedState>,
    regexes: Vec<TokenRegex>,
    prefixes: Affixes,
    suffixes: Affixes,
    /// Regexes with neither.
    others: Vec<u32>,
}

#[derive(Debug)]
struct TokenRegex {
    regex: meta::Regex,
    predicates: Vec<PredicateId>,
}

/// Regexes by a literal that each of their matches begins (or ends) with.
#[derive(Debug, Default)]
struct Affixes {
    lengths: BTreeSet<usize>,
    regexes: HashMap<Box<[u8]>, Vec<u32>, foldhash::fast::FixedState>,
}

const ANYWHERE: Place = Place::MAX;
/// The place of a predicate that wants a separator at which paths are not cut.
const NOWHERE: Place = Place::MAX - 1;

impl Predicates {
    /// How many predicates there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether any predicate asks for a place.
    pub(super) fn by_place(&self) -> bool {
        self.by_place
    }

    /// Whether a predicate wants one text; a token satisfies few of those.
    pub(super) fn is_literal(&self, id: PredicateId) -> bool {
        (id.0 as usize) < self.literals
    }

    /// Puts into `class` the predicates that `token` satisfies at `place`, sorted.
    pub(super) fn classify(&self, token: &str, place: Place, class: &mut Vec<PredicateId>) {
        class.clear();
        class.extend(&self.any);
        if let Some(predicates) = self.words.get(token) {
            class.extend(predicates);
        }
        let mut run = |index: &u32| {
            let regex = &self.regexes[*index as usize];
            if regex.regex.is_match(Input::new(token)) {
                class.extend(&regex.predicates);
            }
        };
        let bytes = token.as_bytes();
        for length in self.prefixes.lengths.range(..=bytes.len()) {
            self.prefixes.regexes.get(&bytes[..*length]).into_iter().flatten().for_each(&mut run);
        }
        for length in self.suffixes.lengths.range(..=bytes.len()) {
            self.suffixes.regexes.get(&bytes[bytes.len() - length..]).into_iter().flatten().for_each(&mut run);
        }
        self.others.iter().for_each(run);
        if self.by_place {
            class.retain(|id| {
                let wanted = self.places[id.0 as usize];
                wanted == ANYWHERE || wanted == place
            });
        }
        class.sort_unstable();
        // A regex is filed under each of its prefixes, and one can be the beginning of another.
        class.dedup();
    }
}

/// Collects predicates.
pub(super) struct PredicatesBuilder {
    separators: Vec<char>,
    expand_limit: usize,
    ids: HashMap<TokenPredicate, PredicateId, foldhash::fast::FixedState>,
    regex_of_text: HashMap<String, u32>,
    words_of_text: HashMap<String, Vec<Box<str>>>,
    predicates: Predicates,
}

impl PredicatesBuilder {
    pub(super) fn new(separators: &Separators, expand_limit: usize) -> Self {
        Self {
            separators: separators.chars().to_vec(),
            expand_limit,
            ids: HashMap::default(),
            regex_of_text: HashMap::new(),
            words_of_text: HashMap::new(),
            predicates: Predicates {
                literals: 0,
                places: Vec::new(),
                by_place: false,
                any: Vec::new(),
                words: HashMap::default(),
                regexes: Vec::new(),
                prefixes: Affixes::default(),
                suffixes: Affixes::default(),
                others: Vec::new(),
            },
        }
    }

    /// Numbers a predicate; `Err` has the text that does not compile and why.
    pub(super) fn intern(&mut self, predicate: &TokenPredicate) -> Result<PredicateId, (String, String)> {
        if let Some(id) = self.ids.get(predicate) {
            return Ok(*id);
        }
        let all = &mut self.predicates;
        // Nodes are counted before predicates are, so that the number fits.
        let id = PredicateId(u32::try_from(all.places.len()).unwrap_or(u32::MAX));
        match &predicate.kind {
            TokenKind::Any => all.any.push(id),
            TokenKind::Literal(text) => all.words.entry(text.as_str().into()).or_default().push(id),
            TokenKind::Regex(text) => {
                self.regex(text, id).map_err(|reason| (text.clone(), reason))?;
            }
        }
        let place = match predicate.separator {
            None => ANYWHERE,
            Some(separator) => {
                self.predicates.by_place = true;
                self.separators
                    .iter()
                    .position(|c| *c == separator)
                    .and_then(|at| u32::try_from(at + 1).ok())
                    .unwrap_or(NOWHERE)
            }
        };
        self.predicates.places.push(place);
        self.ids.insert(predicate.clone(), id);
        Ok(id)
    }

    /// Numbers the predicates anew, literals first. Returns the new number of each, by its old one, too.
    pub(super) fn finish(mut self) -> (Predicates, Vec<PredicateId>) {
        let mut is_literal = vec![false; self.predicates.places.len()];
        for (predicate, id) in &self.ids {
            is_literal[id.0 as usize] = matches!(predicate.kind, TokenKind::Literal(_));
        }
        let mut order: Vec<usize> = (0..is_literal.len()).collect();
        order.sort_by_key(|old| !is_literal[*old]);
        let mut new_id = vec![PredicateId(0); order.len()];
        for (new, old) in order.iter().enumerate() {
            new_id[*old] = PredicateId(number(new));
        }
        let all = &mut self.predicates;
        let lists = all.words.values_mut().chain(all.regexes.iter_mut().map(|regex| &mut regex.predicates));
        for id in lists.flatten().chain(&mut all.any) {
            *id = new_id[id.0 as usize];
        }
        all.places = order.iter().map(|old| all.places[*old]).collect();
        all.literals = is_literal.iter().filter(|is| **is).count();
        (self.predicates, new_id)
    }

    fn regex(&mut self, text: &str, id: PredicateId) -> Result<(), String> {
        let all = &mut self.predicates;
        if let Some(index) = self.regex_of_text.get(text) {
            all.regexes[*index as usize].predicates.push(id);
            return Ok(());
        }
        if !self.words_of_text.contains_key(text) {
            let hir = syntax::parse(text).map_err(|error| error.to_string())?;
            match words(&hir, self.expand_limit) {
                Some(words) => {
                    let words = words.into_iter().map(String::into_boxed_str).collect();
                    self.words_of_text.insert(text.to_owned(), words);
                }
                None => {
                    let index = u32::try_from(all.regexes.len()).unwrap_or(u32::MAX);
                    all.regexes.push(TokenRegex { regex: compile(text)?, predicates: vec![id] });
                    all.file(&hir, index);
                    self.regex_of_text.insert(text.to_owned(), index);
                    return Ok(());
                }
            }
        }
        for word in &self.words_of_text[text] {
            all.words.entry(word.clone()).or_default().push(id);
        }
        Ok(())
    }
}

impl Predicates {
    /// Files a regex under its prefixes, failing that under its suffixes.
    fn file(&mut self, hir: &Hir, index: u32) {
        for (kind, affixes) in [(ExtractKind::Prefix, &mut self.prefixes), (ExtractKind::Suffix, &mut self.suffixes)] {
            let literals = Extractor::new().kind(kind).extract(hir);
            if let Some(literals) = literals.literals()
                && literals.iter().all(|literal| !literal.is_empty())
            {
                for literal in literals {
                    affixes.lengths.insert(literal.len());
                    let regexes = affixes.regexes.entry(literal.as_bytes().into()).or_default();
                    if regexes.last() != Some(&index) {
                        regexes.push(index);
                    }
                }
                return;
            }
        }
        self.others.push(index);
    }
}

/// Compiles a token regex so that it matches whole tokens only. Its engines are those that need little memory: there
/// may be thousands, and each runs once per distinct token at most.
fn compile(text: &str) -> Result<meta::Regex, String> {
    meta::Regex::builder()
        .configure(meta::Regex::config().hybrid(false).dfa(false))
        .build(&format!(r"\A(?:{text})\z"))
        .map_err(|error| error.to_string())
}

/// Lists the words a regex matches, if there are at most `limit`.
fn words(hir: &Hir, limit: usize) -> Option<Vec<String>> {
    let words = match hir.kind() {
        HirKind::Empty => vec![String::new()],
        HirKind::Literal(literal) => vec![std::str::from_utf8(&literal.0).ok()?.to_owned()],
        HirKind::Class(Class::Unicode(class)) => {
            let count: usize = class.iter().map(regex_syntax::hir::ClassUnicodeRange::len).sum();
            if count > limit {
                return None;
            }
            class.iter().flat_map(|range| (range.start()..=range.end()).map(String::from)).collect()
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => return None,
        HirKind::Capture(capture) => words(&capture.sub, limit)?,
        HirKind::Repetition(repetition) => {
            let max = repetition.max.and_then(|max| usize::try_from(max).ok()).filter(|max| *max <= limit)?;
            let once = words(&repetition.sub, limit)?;
            let mut exactly = vec![String::new()];
            let mut all = Vec::new();
            for count in 0..=max {
                if count >= repetition.min as usize {
                    all.extend_from_slice(&exactly);
                }
                if count < max {
                    exactly = joined(&exactly, &once, limit)?;
                }
            }
            all
        }
        HirKind::Concat(parts) => {
            parts.iter().try_fold(vec![String::new()], |heads, part| joined(&heads, &words(part, limit)?, limit))?
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.append(&mut words(part, limit.checked_sub(all.len())?)?);
            }
            all
        }
    };
    let distinct: BTreeSet<String> = words.into_iter().collect();
    (distinct.len() <= limit).then(|| distinct.into_iter().collect())
}

fn joined(heads: &[String], tails: &[String], limit: usize) -> Option<Vec<String>> {
    if heads.len().checked_mul(tails.len())? > limit {
        return None;
    }
    Some(heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Option<Vec<String>> {
        words(&syntax::parse(text).unwrap(), 12)
    }

    #[test]
    fn regexes_with_few_words_are_listed() {
        let cases = [
            ("query|key|value", "key query value"),
            ("(query|key)_(w|b)", "key_b key_w query_b query_w"),
            ("w[123]", "w1 w2 w3"),
            ("1[0-9]", "10 11 12 13 14 15 16 17 18 19"),
            ("layer(_1)?", "layer layer_1"),
            ("a{1,3}", "a aa aaa"),
            ("a|a|(?:a)", "a"),
        ];
        for (text, expected) in cases {
            assert_eq!(listed(text).unwrap().join(" "), expected, "{text}");
        }
        assert_eq!(listed("").unwrap(), [""]);
        assert_eq!(listed("(a|b)?").unwrap(), ["", "a", "b"]);
        for text in ["[0-9]+", "a*", ".", r"\d", "[a-m]", "^a", r"a\b", "(a|b|c|d){2}", "[0-9]|[a-c]"] {
            assert_eq!(listed(text), None, "{text}");
        }
    }

    #[test]
    fn a_regex_is_run_only_where_its_prefix_or_suffix_allows() {
        let mut builder = PredicatesBuilder::new(&Separators::default(), 0);
        for text in ["layer_[a-z]+", "(foo|bar)_.*", ".*_proj", ".*norm.*"] {
            let kind = TokenKind::Regex(text.to_owned());
            builder.intern(&TokenPredicate { separator: None, kind }).unwrap();
        }
        let (predicates, _) = builder.finish();
        let filed = |affixes: &Affixes| {
            let mut filed: Vec<_> = affixes
                .regexes
                .iter()
                .map(|(affix, regexes)| (String::from_utf8_lossy(affix).into_owned(), regexes.clone()))
                .collect();
            filed.sort();
            filed
        };
        let text = |affix: &str, index| (affix.to_owned(), vec![index]);
        assert_eq!(filed(&predicates.prefixes), [text("bar_", 1), text("foo_", 1), text("layer_", 0)]);
        assert_eq!(filed(&predicates.suffixes), [text("_proj", 2)]);
        assert_eq!(predicates.others, [3]);
        let class = |token: &str| {
            let mut class = Vec::new();
            predicates.classify(token, 0, &mut class);
            class.iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(class("layer_a"), [0]);
        assert_eq!(class("layer_norm"), [0, 3]);
        assert_eq!(class("foo_proj"), [1, 2]);
        assert_eq!(class("layer_1"), [0_u32; 0]);
    }
}
