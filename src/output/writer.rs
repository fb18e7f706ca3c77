//! The safetensors files of a checkpoint, written at any place, in any order, from any thread.

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io;
use std::path::PathBuf;

use twox_hash::xxhash3_64::Hasher as Xxh3;

use super::{Layout, OutputDirectory, OutputError, Placement, failpoint};

/// Bytes read at a time when a finished tensor is read back.
const PIECE: usize = 1 << 20;

/// Writes the tensors of a [`Layout`] into an [`OutputDirectory`].
///
/// The space is taken when the writer is made, so that a full disk is known before the work is done, where the file system
/// can say so.
///
/// ```
/// use flow_fabric::Dtype;
/// use flow_fabric::output::{Layout, OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec};
/// let folder = tempfile::tempdir()?;
/// let tensors = [TensorSpec { name: "w".to_owned(), dtype: Dtype::U8, shape: vec![4] }];
/// let layout = Layout::new(&tensors, &Default::default(), None)?;
/// let output = OutputDirectory::create(&folder.path().join("model"), &OutputOptions::default())?;
/// let writer = SafetensorsWriter::create(output, layout)?;
/// writer.write_at(0, 2, &[3, 4])?;
/// writer.write_at(0, 0, &[1, 2])?;
/// writer.finish(0)?;
/// writer.publish()?;
/// let bytes = std::fs::read(folder.path().join("model/model.safetensors"))?;
/// assert!(bytes.ends_with(&[1, 2, 3, 4]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SafetensorsWriter {
    output: OutputDirectory,
    layout: Layout,
    files: Vec<(PathBuf, File)>,
}

impl SafetensorsWriter {
    /// Makes the files, their headers written and their space taken; in a resumed directory, takes up those that are there.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn create(output: OutputDirectory, layout: Layout) -> Result<Self, OutputError> {
        let mut files = Vec::with_capacity(layout.files().len());
        for file in layout.files() {
            let path = output.path().join(&file.name);
            let open = || {
                failpoint::hit("writer/create")?;
                let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
                open.set_len(file.length)?;
                allocate(&open, file.length)?;
                write_all_at(&open, &file.head, 0)?;
                Ok(open)
            };
            let open = open().map_err(OutputError::io("write", &path))?;
            files.push((path, open));
        }
        Ok(Self { output, layout, files })
    }

    /// The layout.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The directory, for the files that go along.
    #[must_use]
    pub const fn output(&self) -> &OutputDirectory {
        &self.output
    }

    /// The same, to say what becomes of it.
    #[must_use]
    pub const fn output_mut(&mut self) -> &mut OutputDirectory {
        &mut self.output
    }

    /// Writes a piece of a tensor, `offset` bytes from its start. Pieces of several threads must not overlap.
    ///
    /// # Errors
    /// [`OutputError::Io`]; also when the piece would leave the tensor.
    pub fn write_at(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let (path, file, at) = self.place(tensor, offset, bytes.len())?;
        let written = failpoint::hit("writer/write").and_then(|()| write_all_at(file, bytes, at));
        written.map_err(OutputError::io("write", path))
    }

    /// Reads back a piece of a tensor.
    ///
    /// # Errors
    /// [`OutputError::Io`]; also when the piece would leave the tensor.
    pub fn read_at(&self, tensor: usize, offset: u64, bytes: &mut [u8]) -> Result<(), OutputError> {
        let (path, file, at) = self.place(tensor, offset, bytes.len())?;
        read_exact_at(file, bytes, at).map_err(OutputError::io("read back", path))
    }

    /// Writes all tensors to disk and forgets them in memory, where the system can, so that what is read back is what the disk
    /// holds.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn settle(&self) -> Result<(), OutputError> {
        for (path, file) in &self.files {
            let written = failpoint::hit("writer/settle").and_then(|()| file.sync_all());
            written.map_err(OutputError::io("write", path))?;
            #[cfg(target_os = "linux")]
            {
                // Advice: what is not taken costs nothing.
                let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
        Ok(())
    }

    /// Reads a tensor back and digests it (XXH3, 64 bits).
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn digest(&self, tensor: usize) -> Result<u64, OutputError> {
        let (place, _) = self.key(tensor)?;
        self.digest_at(tensor, place)
    }

    /// Notes that all of a tensor is written, with a digest of its bytes as they are read back, and returns that digest
    /// (XXH3, 64 bits). In a run that cannot be resumed it may be left out.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn finish(&self, tensor: usize) -> Result<u64, OutputError> {
        let (place, key) = self.key(tensor)?;
        let digest = self.digest_at(tensor, place)?;
        self.output.finish(&key, &format!("{digest:016x}"))?;
        Ok(digest)
    }

    /// Whether an earlier run had finished a tensor: it says so, and the bytes still have the digest that it noted.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn is_finished(&self, tensor: usize) -> Result<bool, OutputError> {
        if self.output.finished().is_empty() {
            return Ok(false);
        }
        let (place, key) = self.key(tensor)?;
        match self.output.finished().get(&key) {
            Some(noted) => Ok(*noted == format!("{:016x}", self.digest_at(tensor, place)?)),
            None => Ok(false),
        }
    }

    /// Writes the index, everything to disk, and gives the directory its place.
    ///
    /// # Errors
    /// As [`OutputDirectory::publish`].
    pub fn publish(self) -> Result<(), OutputError> {
        if let Some(index) = self.layout.index() {
            let path = self.output.path().join(Layout::INDEX);
            let written = failpoint::hit("writer/index").and_then(|()| std::fs::write(&path, index));
            written.map_err(OutputError::io("write", &path))?;
        }
        drop(self.files);
        self.output.publish()
    }

    /// The file of a piece and its offset there.
    fn place(&self, tensor: usize, offset: u64, length: usize) -> Result<(&PathBuf, &File, u64), OutputError> {
        let place = self.layout.placement(tensor);
        let fits = place.filter(|place| offset.checked_add(length as u64).is_some_and(|end| end <= place.length));
        match fits.and_then(|place| Some((self.files.get(place.file)?, place))) {
            Some(((path, file), place)) => Ok((path, file, place.offset.saturating_add(offset))),
            None => Err(OutputError::io("write beyond a tensor of", self.output.target())(
                io::ErrorKind::InvalidInput.into(),
            )),
        }
    }

    /// What a tensor is called in the journal: its place, so that a layout that changed finds nothing finished.
    fn key(&self, tensor: usize) -> Result<(Placement, String), OutputError> {
        let (_, _, _) = self.place(tensor, 0, 0)?;
        let place = self.layout.placement(tensor).unwrap_or(Placement { file: 0, offset: 0, length: 0 });
        let file = self.layout.files().get(place.file).map_or("", |file| &*file.name);
        Ok((place, format!("{file}:{}+{}", place.offset, place.length)))
    }

    fn digest_at(&self, tensor: usize, place: Placement) -> Result<u64, OutputError> {
        let mut hasher = Xxh3::new();
        let mut piece = vec![0; usize::try_from(place.length).unwrap_or(PIECE).min(PIECE)];
        let mut at = 0;
        while at < place.length {
            let length = usize::try_from(place.length - at).unwrap_or(PIECE).min(PIECE);
            let piece = piece.get_mut(..length).unwrap_or_default();
            self.read_at(tensor, at, piece)?;
            hasher.write(piece);
            at += length as u64;
        }
        Ok(hasher.finish())
    }
}

/// Takes the space of a file, where the file system can; elsewhere a full disk is known when it is written.
pub(super) fn allocate(file: &File, length: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if length > 0 {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;

        // Where it is not supported it is not needed either.
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) =
            fallocate(file, FallocateFlags::empty(), 0, length)
        {
            return Err(error.into());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, length);
    Ok(())
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        offset = offset.saturating_add(written as u64);
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
        offset = offset.saturating_add(read as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::Dtype;
    use crate::inventory::Checkpoint;
    use crate::output::{Leftover, OutputOptions, TensorSpec};

    fn specs() -> Vec<TensorSpec> {
        let spec =
            |name: &str, dtype, shape: &[u64]| TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() };
        vec![
            spec("a", Dtype::U8, &[5]),
            spec("b", Dtype::F32, &[2, 2]),
            spec("c", Dtype::Bf16, &[0]),
            spec("d", Dtype::I64, &[]),
        ]
    }

    /// Bytes that differ from tensor to tensor.
    fn content(tensor: usize, length: u64) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((at * 7 + tensor as u64 * 50) % 251).unwrap()).collect()
    }

    fn writer(target: &Path, options: &OutputOptions, shard_bytes: Option<u64>) -> SafetensorsWriter {
        let layout = Layout::new(&specs(), &BTreeMap::new(), shard_bytes).unwrap();
        SafetensorsWriter::create(OutputDirectory::create(target, options).unwrap(), layout).unwrap()
    }

    fn check(target: &Path) {
        let (checkpoint, findings) = Checkpoint::open(target).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        for (at, spec) in specs().iter().enumerate() {
            let tensor = checkpoint.tensors.iter().find(|tensor| tensor.name == spec.name).unwrap();
            assert_eq!((tensor.dtype, &tensor.shape), (spec.dtype, &spec.shape));
            let file = std::fs::read(&*checkpoint.files[tensor.bytes.file.unwrap().0 as usize].path).unwrap();
            let start = usize::try_from(tensor.bytes.offset.unwrap()).unwrap();
            let bytes = &file[start..start + usize::try_from(tensor.bytes.length).unwrap()];
            assert_eq!(bytes, content(at, tensor.bytes.length));
        }
    }

    #[test]
    fn threads_write_bytes_in_any_order_and_the_strict_reader_takes_them() {
        for shard_bytes in [None, Some(8), Some(1 << 20)] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("model");
            let writer = writer(&target, &OutputOptions::default(), shard_bytes);
            std::thread::scope(|scope| {
                for tensor in 0..specs().len() {
                    let writer = &writer;
                    scope.spawn(move || {
                        let length = writer.layout().placement(tensor).unwrap().length;
                        for (at, byte) in content(tensor, length).into_iter().enumerate().rev() {
                            writer.write_at(tensor, at as u64, &[byte]).unwrap();
                        }
                    });
                }
            });
            writer.publish().unwrap();
            check(&target);
        }
    }

    #[test]
    fn a_piece_that_leaves_its_tensor_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder.path().join("model"), &OutputOptions::default(), None);
        for (tensor, offset, length) in [(0, 5, 1), (0, 0, 6), (2, 0, 1), (4, 0, 0), (0, u64::MAX, 1)] {
            assert!(writer.write_at(tensor, offset, &vec![0; length]).is_err(), "{tensor} {offset} {length}");
        }
    }

    #[test]
    fn a_second_run_continues_with_what_is_still_as_it_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        let options = OutputOptions { run: Some("one".to_owned()), resume: true, ..Default::default() };
        let first = writer(&target, &options, None);
        for tensor in [0, 1] {
            let length = first.layout().placement(tensor).unwrap().length;
            first.write_at(tensor, 0, &content(tensor, length)).unwrap();
            first.finish(tensor).unwrap();
        }
        // Written after it was noted: the digest tells.
        first.write_at(1, 3, &[0xff]).unwrap();
        drop(first);
        let second = writer(&target, &options, None);
        assert_eq!(second.output().leftover(), Leftover::Resumed);
        let finished: Vec<bool> = (0..4).map(|tensor| second.is_finished(tensor).unwrap()).collect();
        assert_eq!(finished, [true, false, false, false]);
        for tensor in 1..4 {
            let length = second.layout().placement(tensor).unwrap().length;
            second.write_at(tensor, 0, &content(tensor, length)).unwrap();
            second.finish(tensor).unwrap();
        }
        second.publish().unwrap();
        check(&target);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
