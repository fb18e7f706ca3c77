//! Tensors that are packed by DEFLATE.

use std::io::{self, Read};

use flate2::read::DeflateDecoder;

use super::ConvertError;
use super::job::PIECE;
use crate::storage::ReadAt;

/// A packed tensor and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    pub(super) offset: u64,
    pub(super) stored: u64,
    /// Unpacked bytes in front of it.
    pub(super) skip: u64,
    pub(super) length: u64,
}

/// Unpacks a tensor piece by piece; exactly as many bytes must come out as it has.
pub(super) fn copy(
    file: &dyn ReadAt,
    packed: &Packed,
    name: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let failed = |reason: String| ConvertError::Packed { tensor: name.to_owned(), reason };
    let stored = Range { file, at: packed.offset, end: packed.offset.saturating_add(packed.stored) };
    let mut unpacked = DeflateDecoder::new(io::BufReader::with_capacity(1 << 16, stored));
    let skipped = io::copy(&mut unpacked.by_ref().take(packed.skip), &mut io::sink());
    if skipped.map_err(|error| failed(error.to_string()))? != packed.skip {
        return Err(failed("it ends in its header".to_owned()));
    }
    let mut buffer = vec![0; usize::try_from(packed.length).unwrap_or(PIECE).min(PIECE)];
    let mut left = packed.length;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        unpacked.read_exact(piece).map_err(|error| failed(error.to_string()))?;
        take(piece)?;
        left -= length as u64;
    }
    match unpacked.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(failed("more bytes come out than its shape takes".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A range of a file, as a stream.
struct Range<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..length).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    fn unpacked(file: &[u8], packed: Packed) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        copy(&file, &packed, "w", &mut take).map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn exactly_the_tensor_comes_out() {
        let content: Vec<u8> = (0..9_000_000_u32).map(|at| (at / 7).to_le_bytes()[0]).collect();
        let mut encoder = DeflateEncoder::new(vec![1, 2, 3], Compression::fast());
        encoder.write_all(&content).unwrap();
        let file = encoder.finish().unwrap();
        let packed = Packed { offset: 3, stored: file.len() as u64 - 3, skip: 10, length: content.len() as u64 - 10 };
        assert!(unpacked(&file, packed).unwrap() == content[10..]);
        let refused = |packed| unpacked(&file, packed).unwrap_err();
        assert_eq!(
            refused(Packed { length: 5, ..packed }),
            "tensor `w` cannot be unpacked: more bytes come out than its shape takes"
        );
        assert!(refused(Packed { length: packed.length + 1, ..packed }).starts_with("tensor `w` cannot be unpacked"));
        assert!(refused(Packed { stored: packed.stored / 2, ..packed }).starts_with("tensor `w` cannot be unpacked"));
        assert!(refused(Packed { skip: u64::MAX, ..packed }).starts_with("tensor `w` cannot be unpacked"));
    }
}
