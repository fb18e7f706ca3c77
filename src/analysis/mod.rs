//! Static analysis of rule tables: which rules can never decide, without a checkpoint.
//!
//! In a table the first rule that matches decides, so a rule is dead when it matches no path at all, or when earlier
//! rules take every path that it matches. Both are decided exactly, for the union of the earlier rules, and with a
//! witness path:
//!
//! 1. Every pattern becomes a minimal automaton over whole paths (less those of its `except`).
//! 2. Of the paths that a rule matches, take a shortest. If no earlier rule takes it, the rule is reachable.
//! 3. Otherwise subtract everything that the taker matches and go on with a shortest path of the rest, until a path is
//!    left to the rule or no path is left at all.
//!
//! So only the earlier rules that matter are looked at, and the subtracted ones are the shadow. Rules with conditions
//! (`when`) never shadow, as they may not hold. The work is bounded by [`Options`] in states, not in time, so that the
//! answer is the same on every machine; beyond the bound it is [`Verdict::Undecided`].

mod alphabet;
mod automaton;
mod language;
mod minimize;
mod remark;
mod universe;

use crate::pattern::Pattern;
use alphabet::Alphabet;
use automaton::{Automaton, Keep};

pub use remark::{Remark, remark};
pub use universe::{Template, Universe};

/// A rule, as far as reachability goes.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// What it matches.
    pub pattern: &'a Pattern,
    /// What it does not match all the same.
    pub except: &'a [Pattern],
    /// Whether it has conditions on the weight (`when`), so that it may let a path pass that it matches.
    pub conditional: bool,
}

impl Rule<'_> {
    /// Whether the rule matches the path, by the reference matcher.
    #[must_use]
    pub fn is_match(&self, path: &str) -> bool {
        self.pattern.is_match(path) && !self.except.iter().any(|except| except.is_match(path))
    }
}

/// What bounds the analysis, and over which paths it runs.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The paths that are taken to exist; `None` is every text.
    ///
    /// With a universe more rules are found dead (those for shapes that no known checkpoint has), and coverage says
    /// something. Without one the answer holds for every checkpoint there can ever be.
    ///
    /// An empty universe says nothing and counts as `None`. The default is `None`. A universe costs one automaton for all its shapes, and one product per rule.
    pub universe: Option<&'a Universe>,
    /// How many states may be made for one rule, over all its steps.
    ///
    /// Raise it if rules are reported as undecided, lower it to bound the time for hostile policies. A rule of an
    /// ordinary table takes some hundred.
    ///
    /// The default is 200,000, which is at most some hundred milliseconds and some tens of MiB for a rule that uses it up.
    pub states: usize,
    /// How many bytes the automaton of one pattern may take while it is made.
    ///
    /// Counted repeats before wildcards (`[a-z]{50}.*x.{20}`) are what needs more.
    ///
    /// The default is 4 MiB.
    pub pattern_bytes: usize,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { universe: None, states: 200_000, pattern_bytes: 4 << 20 }
    }
}

/// What is known of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The rule decides for this path, in a table of these rules alone.
    Reachable {
        /// A path that the rule matches and no earlier rule takes.
        witness: String,
    },
    /// The rule matches no path.
    Never(Never),
    /// Earlier rules take every path that the rule matches.
    Shadowed {
        /// The rules that do, in file order, each with a path that it takes.
        by: Vec<Taken>,
    },
    /// Not settled.
    Undecided(Undecided),
}

/// A path that the rule matches and an earlier rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Index of the earlier rule.
    pub rule: usize,
    /// The path.
    pub witness: String,
}

/// Why a rule matches no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {
    /// The pattern itself matches none.
    Pattern,
    /// The rule's `except` takes every path that the pattern matches.
    Except,
    /// No path of the universe has a shape that the rule matches.
    Universe,
}

/// Why a rule was not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecided {
    /// The budget of states was used up.
    States,
    /// The automaton of this rule, or of an earlier one that matters, would take too much memory.
    Pattern {
        /// Index of the rule.
        rule: usize,
    },
    /// The automaton of the universe would take too much memory.
    Universe,
    /// The patterns tell more than 128 ranges of non-ASCII characters apart.
    Characters,
    /// A witness did not stand up to the reference matcher: an error in the analysis.
    Witness,
}

/// Judges every rule of a table, given in file order.
///
/// ```
/// use flow_fabric::analysis::{Options, Rule, Verdict, analyze};
/// use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
///
/// let pattern = |glob: &str| Pattern::new(PatternSpec::Glob(glob.into()), &Separators::default()).unwrap();
/// let patterns = [pattern("**/w"), pattern("moe/**"), pattern("moe/{linear,router}/w")];
/// let rules: Vec<_> = patterns.iter().map(|pattern| Rule { pattern, except: &[], conditional: false }).collect();
/// let verdicts = analyze(&rules, &Options::default());
/// assert!(matches!(verdicts[1], Verdict::Reachable { .. }));
/// assert!(matches!(&verdicts[2], Verdict::Shadowed { by } if by[0].rule == 0 && by[0].witness == "moe/linear/w"));
/// ```
#[must_use]
pub fn analyze(rules: &[Rule<'_>], options: &Options<'_>) -> Vec<Verdict> {
    match Table::new(rules, options) {
        Ok(table) => (0..rules.len()).map(|rule| table.verdict(rule).unwrap_or_else(Verdict::Undecided)).collect(),
        Err(reason) => rules.iter().map(|_| Verdict::Undecided(reason)).collect(),
    }
}

/// Finds a path of the universe that no unconditional rule matches; `Ok(None)` if there is none.
///
/// # Errors
///
/// Why it could not be settled.
pub fn uncovered(rules: &[Rule<'_>], options: &Options<'_>) -> Result<Option<String>, Undecided> {
    let table = Table::new(rules, options)?;
    let mut budget = options.states;
    match table.subtract(table.every_path()?, rules.len(), &mut budget)? {
        Rest::Left(witness) => Ok(Some(witness)),
        Rest::Nothing(_) => Ok(None),
    }
}

/// A table with its automata.
struct Table<'a> {
    rules: &'a [Rule<'a>],
    options: &'a Options<'a>,
    alphabet: Alphabet,
    /// Per rule, the paths that it matches; `None` if too large.
    languages: Vec<Option<Language>>,
    universe: Option<Automaton>,
    symbols: Symbols,
}

/// The paths that a rule matches, and those that its pattern alone does.
struct Language {
    automaton: Automaton,
    pattern_is_empty: bool,
}

/// What is left of a language once earlier rules have taken theirs.
enum Rest {
    /// This path, at least.
    Left(String),
    /// Nothing: these took it.
    Nothing(Vec<Taken>),
}

impl<'a> Table<'a> {
    fn new(rules: &'a [Rule<'a>], options: &'a Options<'a>) -> Result<Self, Undecided> {
        let patterns = rules.iter().flat_map(|rule| std::iter::once(rule.pattern).chain(rule.except));
        let expressions: Vec<_> = patterns.flat_map(language::expressions).collect();
        let texts = options.universe.into_iter().flat_map(Universe::texts);
        let alphabet = Alphabet::new(&expressions, texts).ok_or(Undecided::Characters)?;
        let universe = match options.universe.filter(|universe| !universe.is_empty()) {
            // A universe has many shapes, so it may take what sixteen patterns may.
            Some(universe) => Some(
                Automaton::compile(&universe.to_hir(&alphabet), options.pattern_bytes.saturating_mul(16))
                    .ok_or(Undecided::Universe)?,
            ),
            None => None,
        };
        let symbols = Symbols::new(&alphabet, rules);
        let mut table = Self { rules, options, alphabet, languages: Vec::new(), universe, symbols };
        table.languages = rules.iter().map(|rule| table.language(rule)).collect();
        Ok(table)
    }

    fn language(&self, rule: &Rule<'_>) -> Option<Language> {
        let mut budget = self.options.states;
        let mut automaton = self.compile(rule.pattern)?;
        let pattern_is_empty = automaton.is_empty();
        for except in rule.except {
            automaton = automaton.product(&self.compile(except)?, Keep::Difference, &mut budget)?;
        }
        Some(Language { automaton, pattern_is_empty })
    }

    fn compile(&self, pattern: &Pattern) -> Option<Automaton> {
        Automaton::compile(&language::whole_path(pattern, &self.alphabet)?, self.options.pattern_bytes)
    }

    fn every_path(&self) -> Result<Automaton, Undecided> {
        match &self.universe {
            Some(universe) => Ok(universe.clone()),
            None => Automaton::everything(&self.alphabet, self.options.pattern_bytes).ok_or(Undecided::States),
        }
    }

    fn verdict(&self, rule: usize) -> Result<Verdict, Undecided> {
        let language = self.languages.get(rule).and_then(Option::as_ref).ok_or(Undecided::Pattern { rule })?;
        if language.automaton.is_empty() {
            return Ok(Verdict::Never(if language.pattern_is_empty { Never::Pattern } else { Never::Except }));
        }
        let mut budget = self.options.states;
        let matched = match &self.universe {
            Some(universe) => language.automaton.product(universe, Keep::Both, &mut budget).ok_or(Undecided::States)?,
            None => language.automaton.clone(),
        };
        if matched.is_empty() {
            return Ok(Verdict::Never(Never::Universe));
        }
        let rest = self.subtract(matched, rule, &mut budget)?;
        let is_match = |witness: &str| self.rules.get(rule).is_some_and(|rule| rule.is_match(witness));
        match rest {
            Rest::Left(witness) if is_match(&witness) => Ok(Verdict::Reachable { witness }),
            Rest::Nothing(by) if by.iter().all(|taken| is_match(&taken.witness)) => Ok(Verdict::Shadowed { by }),
            _ => Err(Undecided::Witness),
        }
    }

    /// Takes from `paths` what the unconditional rules before `end` match, until a path is left or none.
    fn subtract(&self, mut paths: Automaton, end: usize, budget: &mut usize) -> Result<Rest, Undecided> {
        let mut by: Vec<Taken> = Vec::new();
        while let Some(path) = self.symbols.shortest(&paths) {
            let witness: String = path.iter().map(|&byte| self.alphabet.char(byte)).collect();
            let Some(taker) = self.taker(&path, &witness, end) else { return Ok(Rest::Left(witness)) };
            if !self.rules.get(taker).is_some_and(|rule| rule.is_match(&witness)) {
                return Err(Undecided::Witness);
            }
            let taken = self.languages.get(taker).and_then(Option::as_ref).ok_or(Undecided::Pattern { rule: taker })?;
            paths = paths.product(&taken.automaton, Keep::Difference, budget).ok_or(Undecided::States)?;
            by.push(Taken { rule: taker, witness });
        }
        by.sort_by_key(|taken| taken.rule);
        Ok(Rest::Nothing(by))
    }

    /// The first unconditional rule before `end` that matches the path.
    fn taker(&self, path: &[u8], witness: &str, end: usize) -> Option<usize> {
        let earlier = self.rules.iter().zip(&self.languages).enumerate().take(end);
        earlier
            .filter(|(_, (rule, _))| !rule.conditional)
            .find(|(_, (rule, language))| match language {
                Some(language) => language.automaton.accepts(path.iter().copied()),
                None => rule.is_match(witness),
            })
            .map(|(taker, _)| taker)
    }
}

/// The bytes that witnesses are made of, those that read best first.
struct Symbols {
    /// Every byte in use.
    all: Vec<u8>,
    /// Those of printable ASCII.
    printable: Vec<u8>,
    separators: Vec<u8>,
}

impl Symbols {
    fn new(alphabet: &Alphabet, rules: &[Rule<'_>]) -> Self {
        let separators = rules.first().map_or(&['/'][..], |rule| rule.pattern.separators().chars());
        let separators: Vec<u8> = separators.iter().map(|&c| alphabet.byte(c)).collect();
        let rank = |byte: u8| match byte {
            b'a'..=b'z' => 0,
            b'0'..=b'9' => 1,
            b'_' => 2,
            b'A'..=b'Z' => 3,
            byte if Some(&byte) == separators.first() => 4,
            byte if byte.is_ascii_graphic() => 5,
            byte if !byte.is_ascii() => 6,
            _ => 7,
        };
        let mut all: Vec<u8> = alphabet.bytes().collect();
        all.sort_by_key(|&byte| rank(byte));
        let printable = all.iter().copied().filter(u8::is_ascii_graphic).collect();
        Self { all, printable, separators }
    }

    /// A shortest path; one without empty tokens and of printable characters if there is such a one.
    fn shortest(&self, paths: &Automaton) -> Option<Vec<u8>> {
        paths.shortest(&self.printable, Some(&self.separators)).or_else(|| paths.shortest(&self.all, None))
    }
}
