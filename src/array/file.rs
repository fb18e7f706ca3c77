//! Arrays from and to `.npy` and `.safetensors` files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::{Array, npy};
use crate::Dtype;
use crate::finding::Finding;
use crate::inventory::{Checkpoint, Container, OpenError};
use crate::storage::{OpenTrouble, open_regular};

/// Largest array that is read whole.
pub const MAX_BYTES: u64 = 1 << 33;

/// Why an array could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// The file cannot be read.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Not a well-formed `.npy` file.
    #[error("`{path}` at byte {offset}: {what}")]
    Npy {
        /// The file.
        path: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        what: String,
    },
    /// Not a well-formed safetensors file; the findings say why.
    #[error("`{path}` is not a safetensors file that can be read")]
    Safetensors {
        /// The file.
        path: String,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
    /// An archive of arrays, such as NumPy's `.npz` or torch's `.pt`.
    #[error("`{path}` is a zip archive; save the one array, as `.npy` or `.safetensors`")]
    Archive {
        /// The file.
        path: String,
    },
    /// The file could not be opened as a checkpoint.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file holds no tensor of that name, or several and none was named.
    #[error("`{path}` holds {}, {wanted}", list(.names))]
    Name {
        /// The file.
        path: String,
        /// Its tensors.
        names: Vec<String>,
        /// What was asked for.
        wanted: String,
    },
    /// The array is larger than what is read whole.
    #[error("`{path}` holds an array of {bytes} bytes, more than the limit of {MAX_BYTES}")]
    Size {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
    },
}

/// The first names; a checkpoint in place of an array would list thousands.
fn list(names: &[String]) -> String {
    const LISTED: usize = 6;
    let mut shown: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => return "no tensors".to_owned(),
        many if many > LISTED => shown.push(format!("and {} more", many - LISTED)),
        _ => {}
    }
    shown.join(", ")
}

/// Reads an array from a `.npy` or a `.safetensors` file, told apart by their first bytes.
///
/// `name` says which tensor of a safetensors file; a file with one tensor needs none.
///
/// # Errors
///
/// A file that cannot be read, is malformed, or does not hold the tensor.
pub fn read(path: &Path, name: Option<&str>) -> Result<Array, ArrayError> {
    ArrayFile::open(path, name)?.read()
}

/// An array in a file, of which the header was read.
#[derive(Debug)]
pub struct ArrayFile {
    file: File,
    path: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte of the elements.
    data: u64,
    bytes: u64,
}

impl ArrayFile {
    /// Opens an array as [`read()`] finds it.
    ///
    /// # Errors
    ///
    /// As [`read()`].
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self, ArrayError> {
        let shown = path.display().to_string();
        let at = |source| ArrayError::Io { path: shown.clone(), source };
        let (mut file, length) = match open_regular(path) {
            Ok((file, stamp)) => (file, stamp.size),
            Err(OpenTrouble::Io(source)) => return Err(at(source)),
            Err(OpenTrouble::NotRegular(what)) => {
                return Err(at(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}"))));
            }
        };
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(npy::HEAD as u64).read_to_end(&mut head).map_err(at)?;
        let named = |ending: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending));
        match head.as_slice() {
            [b'P', b'K', ..] => Err(ArrayError::Archive { path: shown }),
            head if head.starts_with(b"\x93NUMPY") || named("npy") => {
                let header = npy::read(head, length).map_err(|trouble| ArrayError::Npy {
                    path: shown.clone(),
                    offset: trouble.offset,
                    what: trouble.what,
                })?;
                let npy::Header { dtype, shape, data, .. } = header;
                let data = data as u64;
                Ok(Self { file, path: shown, dtype, shape, data, bytes: length.saturating_sub(data) })
            }
            _ => Self::in_safetensors(file, length, name, shown),
        }
    }

    fn in_safetensors(mut file: File, length: u64, name: Option<&str>, shown: String) -> Result<Self, ArrayError> {
        let (checkpoint, findings) = Checkpoint::from_reader(&mut file, length, &shown, Container::Safetensors);
        if checkpoint.tensors.is_empty() && !findings.is_empty() {
            return Err(ArrayError::Safetensors { path: shown, findings });
        }
        let tensor = match name {
            Some(name) => checkpoint.tensors.iter().find(|tensor| tensor.name == name),
            None => match checkpoint.tensors.as_slice() {
                [tensor] => Some(tensor),
                _ => None,
            },
        };
        let Some(tensor) = tensor else {
            let names = checkpoint.tensors.iter().map(|tensor| tensor.name.clone()).collect();
            let wanted = name.map_or_else(|| "name the one to read".to_owned(), |name| format!("not `{name}`"));
            return Err(ArrayError::Name { path: shown, names, wanted });
        };
        let shape = tensor.shape.iter().map(|&size| size as usize).collect();
        let (data, bytes) = (tensor.bytes.offset.unwrap_or(0), tensor.bytes.length);
        Ok(Self { file, path: shown, dtype: tensor.dtype, shape, data, bytes })
    }

    /// Element type.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Dimensions, slowest first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the array is larger than [`MAX_BYTES`].
    pub fn read(mut self) -> Result<Array, ArrayError> {
        let mut contents = self.room(self.bytes)?;
        self.fill(0, &mut contents)?;
        let size = ArrayError::Size { path: self.path, bytes: self.bytes };
        Array::new(self.dtype, self.shape, contents).ok_or(size)
    }

    /// Reads some rows, one after the other into an array `[rows, width]`; a row is all of the last dimension, whatever the
    /// dimensions before it. Nothing else of the file is read.
    ///
    /// # Errors
    ///
    /// The file cannot be read, the rows take more than [`MAX_BYTES`], or there are no such rows of whole bytes.
    ///
    /// ```
    /// use flow_fabric::Dtype;
    /// use flow_fabric::array::{Array, ArrayFile, write_npy};
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("a.npy");
    /// let array = Array::from_f64(Dtype::F32, vec![3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    /// write_npy(std::fs::File::create(&path)?, &array)?;
    /// let rows = ArrayFile::open(&path, None)?.read_rows(&[2..3, 0..1])?;
    /// assert_eq!((rows.shape(), rows.to_f64().unwrap()), (&[2, 2][..], vec![4.0, 5.0, 0.0, 1.0]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_rows(&mut self, rows: &[Range<usize>]) -> Result<Array, ArrayError> {
        let width = self.shape.last().copied().unwrap_or(1);
        let outside = || ArrayError::Io {
            path: self.path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, format!("there are no rows {rows:?}")),
        };
        let row = self.dtype.bytes_for(width as u64).ok_or_else(outside)?;
        let place = |range: &Range<usize>| {
            let (start, end) = ((range.start as u64).checked_mul(row)?, (range.end as u64).checked_mul(row)?);
            (start <= end && end <= self.bytes).then_some(start..end)
        };
        let places: Vec<Range<u64>> = rows.iter().map(place).collect::<Option<_>>().ok_or_else(outside)?;
        let total = places.iter().fold(0_u64, |sum, place| sum.saturating_add(place.end - place.start));
        let mut contents = self.room(total)?;
        let mut rest = contents.as_mut_slice();
        for place in places {
            let (part, after) = rest.split_at_mut((place.end - place.start) as usize);
            self.fill(place.start, part)?;
            rest = after;
        }
        let shape = vec![rows.iter().map(ExactSizeIterator::len).sum(), width];
        let size = ArrayError::Size { path: self.path.clone(), bytes: total };
        Array::new(self.dtype, shape, contents).ok_or(size)
    }

    /// Memory for so many bytes of the array.
    fn room(&self, bytes: u64) -> Result<Vec<u8>, ArrayError> {
        if bytes > MAX_BYTES {
            return Err(ArrayError::Size { path: self.path.clone(), bytes });
        }
        Ok(vec![0; bytes as usize])
    }

    /// Reads elements from a byte of them on.
    fn fill(&mut self, from: u64, part: &mut [u8]) -> Result<(), ArrayError> {
        let read = self.file.seek(SeekFrom::Start(self.data.saturating_add(from)));
        let read = read.and_then(|_| self.file.read_exact(part));
        read.map_err(|source| ArrayError::Io { path: self.path.clone(), source })
    }
}

/// Writes an array as `.npy`. bf16 becomes two opaque bytes per element, as `ml_dtypes` writes it.
///
/// # Errors
///
/// What the writer says, and `InvalidInput` for a dtype that NumPy has no name for.
pub fn write_npy(mut out: impl Write, array: &Array) -> io::Result<()> {
    let header = npy::header(array.dtype, &array.shape)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("npy has no dtype `{}`", array.dtype)))?;
    out.write_all(&header)?;
    out.write_all(&array.bytes)
}

/// Writes arrays as one safetensors file, in the order given.
///
/// # Errors
///
/// What the writer says, and `InvalidInput` for a name that stands twice or a dtype that safetensors has no name for.
pub fn write_safetensors(mut out: impl Write, arrays: &[(String, &Array)]) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, array) in arrays {
        let dtype = array.dtype.safetensors().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("safetensors has no dtype `{}`", array.dtype))
        })?;
        let start = end;
        end += array.bytes.len();
        let entry = serde_json::json!({ "dtype": dtype, "shape": array.shape, "data_offsets": [start, end] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("two arrays are called `{name}`")));
        }
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    arrays.iter().try_for_each(|(_, array)| out.write_all(&array.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    #[test]
    fn arrays_round_trip_through_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let one = Array::from_f64(Dtype::Bf16, vec![2, 3], &[1.0, 2.0, 3.0, -4.0, 0.5, 0.0]).unwrap();
        let two = Array::from_f64(Dtype::U32, vec![2], &[7.0, 9.0]).unwrap();
        let npy = folder.path().join("a.npy");
        write_npy(File::create(&npy).unwrap(), &one).unwrap();
        assert_eq!(read(&npy, None).unwrap(), one);
        let safetensors = folder.path().join("a.safetensors");
        let both = [("one".to_owned(), &one), ("two".to_owned(), &two)];
        write_safetensors(File::create(&safetensors).unwrap(), &both).unwrap();
        assert_eq!(read(&safetensors, Some("one")).unwrap(), one);
        assert_eq!(read(&safetensors, Some("two")).unwrap(), two);
        let bytes = std::fs::read(&safetensors).unwrap();
        assert_eq!(::safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 2);
        let error = read(&safetensors, None).unwrap_err().to_string();
        assert!(error.ends_with("holds `one`, `two`, name the one to read"), "{error}");
        assert!(matches!(read(&safetensors, Some("three")), Err(ArrayError::Name { .. })));
        std::fs::write(&safetensors, &bytes[..40]).unwrap();
        assert!(matches!(read(&safetensors, None), Err(ArrayError::Safetensors { .. })));
    }
}
