//! How many findings there are: the closing line of every report.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Finding, Severity};

/// Findings by severity; displayed as people say it, naming only what there is.
///
/// ```
/// use flow_fabric::finding::Counts;
/// assert_eq!(Counts { errors: 1, warnings: 3, infos: 0 }.to_string(), "1 error, 3 warnings");
/// assert_eq!(Counts::default().to_string(), "no findings");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Findings of severity error.
    pub errors: usize,
    /// Findings of severity warning.
    pub warnings: usize,
    /// Findings of severity info.
    pub infos: usize,
}

impl Counts {
    /// Counts findings.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        findings.iter().fold(Self::default(), |mut counts, finding| {
            match finding.severity {
                Severity::Error => counts.errors += 1,
                Severity::Warning => counts.warnings += 1,
                Severity::Info => counts.infos += 1,
            }
            counts
        })
    }

    /// All of them.
    #[must_use]
    pub const fn total(self) -> usize {
        self.errors + self.warnings + self.infos
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("no findings");
        }
        let mut comma = "";
        for (count, one, many) in
            [(self.errors, "error", "errors"), (self.warnings, "warning", "warnings"), (self.infos, "info", "infos")]
        {
            if count > 0 {
                write!(f, "{comma}{count} {}", if count == 1 { one } else { many })?;
                comma = ", ";
            }
        }
        Ok(())
    }
}
