//! Reading binary headers: little-endian numbers, with the offset of everything and never beyond the file.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::trouble::Trouble;
use crate::finding::{Code, code};

/// A file of known length, read forward.
pub(super) struct Bytes<'a, R> {
    reader: BufReader<&'a mut R>,
    at: u64,
    length: u64,
    /// The kind of finding when the file ends too early.
    malformed: &'static Code,
}

impl<'a, R: Read + Seek> Bytes<'a, R> {
    /// Starts at `at` of a file of `length` bytes.
    pub(super) fn new(reader: &'a mut R, at: u64, length: u64, malformed: &'static Code) -> Result<Self, Trouble> {
        reader.seek(SeekFrom::Start(at)).map_err(|error| unreadable(at, &error))?;
        Ok(Self { reader: BufReader::new(reader), at, length, malformed })
    }

    /// Offset of the next byte.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Bytes until the end of the file.
    pub(super) const fn remaining(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }

    /// Trouble of this file's kind at an offset.
    pub(super) fn malformed(&self, at: u64, message: impl Into<String>) -> Trouble {
        Trouble::new(self.malformed, at, message)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Trouble> {
        self.within(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| unreadable(self.at, &error))?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Trouble> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Trouble> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Trouble> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Trouble> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads `count` bytes; memory grows with what arrives, not with `count`.
    pub(super) fn vec(&mut self, count: u64) -> Result<Vec<u8>, Trouble> {
        self.within(count)?;
        let mut bytes = Vec::new();
        (&mut self.reader).take(count).read_to_end(&mut bytes).map_err(|error| unreadable(self.at, &error))?;
        if bytes.len() as u64 != count {
            return Err(Trouble::new(
                &code::FILE_CHANGED,
                self.at,
                "the file became shorter while its header was read",
            ));
        }
        self.at += count;
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Trouble> {
        self.within(count)?;
        let mut left = count;
        while left > 0 {
            let step = i64::try_from(left).unwrap_or(i64::MAX);
            self.reader.seek_relative(step).map_err(|error| unreadable(self.at, &error))?;
            left -= step.unsigned_abs();
        }
        self.at += count;
        Ok(())
    }

    fn within(&self, count: u64) -> Result<(), Trouble> {
        if count <= self.remaining() {
            return Ok(());
        }
        Err(self
            .malformed(self.at, format!("{count} bytes were expected here; the file has {} more", self.remaining())))
    }
}

fn unreadable(at: u64, error: &std::io::Error) -> Trouble {
    Trouble::new(&code::UNREADABLE_FILE, at, format!("cannot read: {error}"))
}
