//! What a run has finished, so that the next one need not do it again.
//!
//! A text file in the unfinished output: a line that names the run, then one line a finished piece. A line that a killed run
//! did not complete does not count.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// Name of the file in the directory that is written.
pub(super) const NAME: &str = ".flow-fabric-run.jsonl";

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    format_version: u32,
    run: String,
}

const FORMAT: &str = "flow-fabric-run";
const FORMAT_VERSION: u32 = 1;

#[derive(Debug)]
pub(super) struct Journal {
    file: Mutex<File>,
}

impl Journal {
    /// Begins a journal.
    pub(super) fn create(directory: &Path, run: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(directory.join(NAME))?;
        let head = Head { format: FORMAT.to_owned(), format_version: FORMAT_VERSION, run: run.to_owned() };
        file.write_all(line(&head)?.as_bytes())?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Takes up the journal of a killed run with its finished pieces; `None` when there is none or it is another run's.
    pub(super) fn resume(directory: &Path, run: &str) -> io::Result<Option<(Self, BTreeMap<String, String>)>> {
        let path = directory.join(NAME);
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let text = bytes.get(..whole).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("");
        let mut lines = text.lines();
        let head = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok());
        if head.is_none_or(|head| head.format != FORMAT || head.format_version != FORMAT_VERSION || head.run != run) {
            return Ok(None);
        }
        let finished = lines.filter_map(|line| serde_json::from_str::<(String, String)>(line).ok()).collect();
        // The torn line goes, so that the next one begins at a line's start.
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::Start(whole as u64))?;
        Ok(Some((Self { file: Mutex::new(file) }, finished)))
    }

    /// Notes that a piece is finished.
    pub(super) fn note(&self, key: &str, value: &str) -> io::Result<()> {
        let line = line(&(key, value))?;
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(line.as_bytes())
    }
}

fn line(record: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(record)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_pieces_are_found_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::create(folder.path(), "run").unwrap();
        journal.note("a\n", "1").unwrap();
        journal.note("b", "2").unwrap();
        let path = folder.path().join(NAME);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("[\"c\",\"3");
        std::fs::write(&path, text).unwrap();
        assert!(Journal::resume(folder.path(), "another").unwrap().is_none());
        let (journal, finished) = Journal::resume(folder.path(), "run").unwrap().unwrap();
        assert_eq!(finished, BTreeMap::from([("a\n".into(), "1".into()), ("b".into(), "2".into())]));
        journal.note("d", "4").unwrap();
        let (_, finished) = Journal::resume(folder.path(), "run").unwrap().unwrap();
        assert_eq!(finished.keys().collect::<Vec<_>>(), ["a\n", "b", "d"]);
    }

    #[test]
    fn what_is_no_journal_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Journal::resume(folder.path(), "run").unwrap().is_none());
        std::fs::write(folder.path().join(NAME), b"\xff\n").unwrap();
        assert!(Journal::resume(folder.path(), "run").unwrap().is_none());
    }
}
