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
