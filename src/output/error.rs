//! Why a result could not be written, and what to do about it.

use std::io;
use std::path::Path;

use crate::finding::{Code, Finding, code};

/// A result that could not be written. The old one, if there was one, is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The place is taken, and the caller did not ask to replace what is there.
    #[error("`{path}` exists already")]
    Exists {
        /// The place.
        path: String,
    },
    /// The place is that of what the output is made from, holds it or lies in it.
    #[error("`{path}` would replace what it is made from")]
    Source {
        /// The place.
        path: String,
    },
    /// Another run is writing to the same place.
    #[error("another run is writing `{path}`")]
    Busy {
        /// The place.
        path: String,
    },
    /// The system refused.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried: `write`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The tensors cannot stand in safetensors files.
    #[error("{reason}")]
    Unwritable {
        /// One sentence that names the tensor.
        reason: String,
    },
}

impl OutputError {
    /// For `map_err`: what was tried on a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }

    /// The same as a finding, with its remedy.
    ///
    /// ```
    /// use flow_fabric::output::OutputError;
    /// let error = OutputError::Exists { path: "out".to_owned() };
    /// assert_eq!(error.finding().code.name, "output-exists");
    /// ```
    #[must_use]
    pub fn finding(&self) -> Finding {
        let (code, help): (&'static Code, _) = match self {
            Self::Exists { .. } => (&code::OUTPUT_EXISTS, "name another place, or replace it with `--force`"),
            Self::Source { .. } => (&code::OUTPUT_EXISTS, "name a directory that is apart from the source"),
            Self::Busy { .. } => (&code::OUTPUT_BUSY, "wait for it, or write to another place"),
            Self::Unwritable { .. } => (&code::UNWRITABLE_TENSOR, "leave it out, or choose a format that has its type"),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    (&code::OUTPUT_FULL, "make room or write to another disk; what was written is removed or continued")
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    (&code::OUTPUT_REFUSED, "write where this user may write; the directory above is needed, too")
                }
                _ => (&code::OUTPUT_FAILED, "the old output, if there was one, is untouched"),
            },
        };
        Finding::new(code, self.to_string()).help(help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_finding() {
        let of = |kind: io::ErrorKind| {
            OutputError::io("write", Path::new("out/model.safetensors"))(kind.into()).finding().code.name
        };
        assert_eq!(of(io::ErrorKind::StorageFull), "output-full");
        assert_eq!(of(io::ErrorKind::QuotaExceeded), "output-full");
        assert_eq!(of(io::ErrorKind::PermissionDenied), "output-refused");
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), "output-refused");
        assert_eq!(of(io::ErrorKind::Other), "output-failed");
        let finding = OutputError::Busy { path: "out".to_owned() }.finding();
        assert_eq!(finding.message, "another run is writing `out`");
    }
}
