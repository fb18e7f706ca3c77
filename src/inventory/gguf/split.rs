//! Models split over several GGUF files: `NAME-00001-of-00003.gguf`.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::finding::{Finding, code};
use crate::inventory::shards::{Shards, is_absent};
use crate::inventory::trouble::{Trouble, quoted};
use crate::inventory::{Checkpoint, Container, Metadata, MetadataValue};

/// Opens a GGUF file, and the other parts beside it when it is one of several.
pub(in crate::inventory) fn open(path: &Path) -> (Checkpoint, Vec<Finding>) {
    let shown: Arc<str> = path.display().to_string().into();
    let mut shards = Shards::new(shown.clone(), Container::Gguf, super::read);
    let Some(part) = path.file_name().and_then(OsStr::to_str).and_then(Part::of_name) else {
        shards.add_part(path, None);
        return shards.finish();
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let (mut absent, mut complete) = (Vec::new(), true);
    for (number, name) in (1..).zip(part.names()) {
        let path = directory.join(&name);
        if is_absent(&path) {
            absent.push(quoted(&name));
        } else {
            complete &= shards.add_part(&path, Some(&Part { number, ..part.clone() }));
        }
    }
    if !absent.is_empty() {
        let message = format!("{} of {} parts are absent", absent.len(), part.of);
        let more = if absent.len() > 5 { format!(" and {} more", absent.len() - 5) } else { String::new() };
        absent.truncate(5);
        let help = format!("the inventory holds the present parts only; absent: {}{more}", absent.join(", "));
        shards.report_one(&shown, Trouble::anywhere(&code::MISSING_SHARD, message).help(help));
    } else if complete {
        let first = shards.checkpoint.files.first();
        let claimed = first.and_then(|file| file.metadata.get("split.tensors.count")?.as_unsigned());
        let held = shards.checkpoint.tensors.len();
        if claimed.is_some_and(|claimed| claimed != held as u64) {
            let message = format!("the parts hold {held} tensors, the first says {}", claimed.unwrap_or_default());
            shards.report_one(&shown, Trouble::anywhere(&code::GGUF_SPLIT, message));
        }
    }
    shards.finish()
}

impl Shards {
    /// Adds a file; whether it was taken and is the part that it should be.
    fn add_part(&mut self, path: &Path, part: Option<&Part>) -> bool {
        if !self.add(path) {
            return false;
        }
        let Some(file) = self.checkpoint.files.last() else { return false };
        let Err(trouble) = check(&file.metadata, part) else { return true };
        let path = file.path.clone();
        self.report_one(&path, trouble);
        false
    }
}

/// Which part of how many a file's name says it is; parts count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::inventory) struct Part {
    /// What comes before the number.
    pub(in crate::inventory) stem: String,
    pub(in crate::inventory) number: u32,
    pub(in crate::inventory) of: u32,
}

impl Part {
    /// Reads a file name; `None` when it is not of the form.
    pub(in crate::inventory) fn of_name(name: &str) -> Option<Self> {
        let (head, of) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = head.rsplit_once('-')?;
        let digits = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
        let (number, of) = (digits(number)?, digits(of)?);
        (!stem.is_empty() && (1..=of).contains(&number)).then(|| Self { stem: stem.to_owned(), number, of })
    }

    /// The file name of each part, in order.
    pub(in crate::inventory) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.of).map(|number| format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.of))
    }
}

/// Compares what a file's metadata says about its part with what its name says.
fn check(metadata: &Metadata, part: Option<&Part>) -> Result<(), Trouble> {
    let said = |key| metadata.get(key).and_then(MetadataValue::as_unsigned);
    let (count, number) = (said("split.count").unwrap_or(1).max(1), said("split.no").unwrap_or(0));
    let (named_of, named_number) = part.map_or((1, 0), |part| (u64::from(part.of), u64::from(part.number) - 1));
    if (count, number) == (named_of, named_number) {
        return Ok(());
    }
    let message = format!(
        "the header says part {} of {count}, the file name part {} of {named_of}",
        number.saturating_add(1),
        named_number.saturating_add(1)
    );
    Err(Trouble::anywhere(&code::GGUF_SPLIT, message).help("parts are named `NAME-00001-of-00003.gguf`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let part = Part::of_name("m-Q4_K-00002-of-00003.gguf").unwrap();
        assert_eq!((part.stem.as_str(), part.number, part.of), ("m-Q4_K", 2, 3));
        assert_eq!(part.names().last().as_deref(), Some("m-Q4_K-00003-of-00003.gguf"));
        for name in
            ["m.gguf", "m-00004-of-00003.gguf", "m-00000-of-00003.gguf", "m-1-of-3.gguf", "-00001-of-00001.gguf"]
        {
            assert_eq!(Part::of_name(name), None, "{name}");
        }
    }
}
