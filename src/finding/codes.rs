//! The registry: one documented item per finding. `rule CODE`, the reference page and SARIF are made from it.
//!
//! Codes are `FFcdd`, never reused: FF0 syntax and shape, FF1 names, FF2 patterns, FF3 order and reachability, FF4 fit
//! to a checkpoint, FF5 memory and load, FF6 hygiene, FF7 hostile input, FF9 import and export.

use super::Severity;

/// A kind of finding and its page.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// `FF` and three digits.
    pub id: &'static str,
    /// The kebab-case name, as `[lints]` spells it.
    pub name: &'static str,
    /// Severity unless `[lints]` or the command line say otherwise.
    pub severity: Severity,
    /// What was found.
    pub what: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// A smallest input that has it.
    pub bad: &'static str,
    /// The same, put right.
    pub good: &'static str,
}

/// Finds a code by `FFcdd` (any case) or by name.
#[must_use]
pub fn by_id_or_name(text: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.id.eq_ignore_ascii_case(text) || code.name == text)
}

macro_rules! codes {
    ($( $konst:ident $id:literal $name:literal $severity:ident
        what $what:literal
        why $why:literal
        bad $bad:literal
        good $good:literal )*) => {
        /// One constant per kind of finding.
        pub mod code {
            use super::{Code, Severity};
            $(
                #[doc = concat!("`", $id, "` ", $name, ": ", $what)]
                pub static $konst: Code = Code {
                    id: $id, name: $name, severity: Severity::$severity,
                    what: $what, why: $why, bad: $bad, good: $good,
                };
            )*
        }

        /// Every code, in order of id.
        pub static ALL: &[&Code] = &[$(&code::$konst),*];
    };
}

codes! {
    SYNTAX "FF001" "syntax" Error
        what "The text is not TOML."
        why "Nothing after the error can be trusted, so the file is refused; every syntax error of the file is listed."
        bad "policy = \"grok-1"
        good "policy = \"grok-1\""

    UNKNOWN_KEY "FF002" "unknown-key" Error
        what "A key that the language does not have."
        why "A misspelt key that is ignored is a decision that is not made; nothing is ignored."
        bad "[mesh]\naxis = [\"data\", \"model\"]"
        good "[mesh]\naxes = [\"data\", \"model\"]"

    WRONG_TYPE "FF003" "wrong-type" Error
        what "A value of the wrong type."
        why "The key has a meaning only for the type the reference gives."
        bad "[mesh]\naxes = \"data\""
        good "[mesh]\naxes = [\"data\"]"

    MISSING_KEY "FF004" "missing-key" Error
        what "A required key is absent."
        why "There is no default that would be right for everyone."
        bad "[[FLOW_FABRIC_PARTITION_RULES]]\nglob = \"**\"\nspec = []"
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = []"

    BAD_VALUE "FF005" "bad-value" Error
        what "A value outside the set or range that the key accepts."
        why "Ranges are checked where the value is written, not where it would fail."
        bad "[partition]\nindivisible = \"truncate\""
        good "[partition]\nindivisible = \"pad\""

    REGEX_SYNTAX "FF201" "regex-syntax" Error
        what "A regex that is not well formed."
        why "No engine reads it, so the rule has no meaning."
        bad "tokens = [\"(query|key\", \"w\"]"
        good "tokens = [\"query|key\", \"w\"]"

    LOOK_AROUND "FF202" "look-around" Error
        what "A look-ahead or look-behind in a regex."
        why "Only backtracking engines read it, and their time grows without bound; exceptions have a key of their own."
        bad "regex = '(?!lm_head).*weight'"
        good "regex = '.*weight'\nexcept = [\"lm_head.**\"]"

    BACK_REFERENCE "FF203" "back-reference" Error
        what "A regex that refers to what one of its groups matched."
        why "Only backtracking engines read it; a path never needs it, as the alternatives are few."
        bad "regex = '(up|down)_proj\\.\\1'"
        good "regex = 'up_proj\\.up|down_proj\\.down'"

    POSSESSIVE "FF204" "possessive-repeat" Error
        what "A possessive repeat (`a++`) or an atomic group (`(?>...)`)."
        why "Python 3.11 reads the first as possessive, Rust as a repeat of a repeat: they match different names."
        bad "tokens = [\"layer_[0-9]++\"]"
        good "tokens = [\"layer_[0-9]+\"]"

    REGEX_REPEAT "FF205" "regex-repeat" Error
        what "A repeat that Python and Rust do not both read: `a**`, `x{,3}`, a bare `{`, a repeated anchor."
        why "One engine refuses it or takes it as text, so the rule would mean another thing after an export."
        bad "tokens = [\"expert_[0-9]{,2}\"]"
        good "tokens = [\"expert_[0-9]{0,2}\"]"

    INLINE_FLAGS "FF206" "inline-flags" Error
        what "Flags inside a regex, such as `(?i)` or `(?s:...)`."
        why "Python and Rust scope them differently, and letter case folds differently beyond ASCII."
        bad "tokens = [\"(?i)weight\"]"
        good "tokens = [\"[Ww]eight\"]"

    REGEX_CLASS "FF207" "regex-class" Error
        what "A character class with a set operation, a nested class, a POSIX class or a backspace."
        why "`[a&&b]`, `[[:alpha:]]` and `[a[b]` compile in Python and in Rust, with different meanings."
        bad "tokens = [\"[[:alpha:]]+\"]"
        good "tokens = [\"[A-Za-z]+\"]"

    REGEX_ESCAPE "FF208" "regex-escape" Error
        what "An escape that Python and Rust do not share: `\\z`, `\\<`, `\\p{..}`, `\\b{..}`, octal and braced code points, `\\B`."
        why "One engine refuses it or reads something else."
        bad "tokens = ['\\p{L}+']"
        good "tokens = ['[A-Za-z]+']"

    REGEX_GROUP "FF209" "regex-group" Error
        what "A kind of group that Python and Rust do not share: `(?<name>`, comments, conditionals."
        why "One engine refuses it or reads something else."
        bad "regex = 'layer_(?<n>\\d+)'"
        good "regex = 'layer_(?P<n>\\d+)'"

    MISPLACED_ANCHOR "FF210" "misplaced-anchor" Error
        what "`^`, `\\A` or `$` away from the ends of a regex."
        why "Patterns are always anchored at both ends, so an anchor elsewhere can never hold."
        bad "regex = 'model$\\.weight'"
        good "regex = 'model\\.weight'"

    SEPARATOR_IN_TOKEN "FF211" "separator-in-token" Error
        what "A token regex that matches only text with a separator in it."
        why "Paths are cut at separators, so no token ever matches."
        bad "tokens = [\"moe/linear\", \"w\"]"
        good "tokens = [\"moe\", \"linear\", \"w\"]"

    GLOB_SYNTAX "FF212" "glob-syntax" Error
        what "A glob that is not well formed, or whose parts do not fit its tokens."
        why "`**` is a whole token, classes stay within one, brackets and braces close: anything else is read differently by every tool."
        bad "glob = \"model**.weight\""
        good "glob = \"model.**.weight\""

    EMPTY_PATTERN "FF213" "empty-pattern" Error
        what "A pattern without text."
        why "It would match the empty path only, which no weight has."
        bad "glob = \"\""
        good "glob = \"**\""

    PATTERN_TOO_LARGE "FF214" "pattern-too-large" Error
        what "A pattern that is too long, too deep or stands for too much."
        why "Patterns are compiled to automata; the limits keep those small whatever the policy holds."
        bad "tokens = [\"[a-z]{9999}\"]"
        good "tokens = [\"[a-z]+\"]"

    UNKNOWN_LINT "FF601" "unknown-lint" Error
        what "A level is set for a finding that does not exist."
        why "The level has no effect, so what it was meant to deny passes, or what it was meant to allow is reported."
        bad "[lints]\nunused-rules = \"deny\""
        good "[lints]\nunused-rule = \"deny\""

    NOT_A_LINT "FF602" "not-a-lint" Error
        what "A level lowers a finding that is always an error."
        why "Only warnings and infos can be allowed: a policy that is wrong does not become right by being quiet."
        bad "[lints]\nunknown-key = \"warn\""
        good "[lints]\nallow-silences-nothing = \"deny\""

    ALLOW_WITHOUT_REASON "FF603" "allow-without-reason" Warning
        what "An allow does not say why."
        why "The next reader cannot tell a decision from an oversight, and nobody knows when the allow may go."
        bad "[lints]\nallow-silences-nothing = \"allow\""
        good "[lints]\nallow-silences-nothing = { level = \"allow\", reason = \"shared by three policies\" }"

    ALLOW_SILENCES_NOTHING "FF604" "allow-silences-nothing" Warning
        what "An allow silences nothing: what it allows was looked for and not found."
        why "A stale allow hides the next finding of its kind, which nobody decided to accept."
        bad "[lints]\nallow-without-reason = { level = \"allow\", reason = \"no allow here lacks one\" }"
        good "[lints]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_well_formed_and_in_order() {
        for pair in ALL.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].id, pair[1].id);
        }
        for code in ALL {
            assert!(
                code.id.len() == 5 && code.id.starts_with("FF") && code.id[2..].bytes().all(|b| b.is_ascii_digit())
            );
            assert!(
                code.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                code.name
            );
            assert_eq!(ALL.iter().filter(|other| other.name == code.name).count(), 1, "{}", code.name);
            for text in [code.what, code.why, code.bad, code.good] {
                assert!(!text.trim().is_empty(), "{} has an empty section", code.id);
            }
        }
    }
}
