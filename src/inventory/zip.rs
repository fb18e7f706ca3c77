//! Zip directories, as far as torch and numpy write them.
//!
//! Reads the central directory and holds every local header against it: two readers that believe different headers see
//! different members. No member is unpacked here; encrypted, split, overlapping and repeated members are refused.

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::bytes::Bytes;
use super::name::MAX_TENSORS;
use super::trouble::{Trouble, quoted};
use crate::finding::code;

/// A member whose local header agrees with the directory.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// First byte of its data in the file.
    pub(super) offset: u64,
    /// Bytes in the file.
    pub(super) stored: u64,
    /// Bytes when unpacked.
    pub(super) size: u64,
    pub(super) compression: Compression,
}

/// How a member is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Stored,
    Deflated,
}

const LOCAL: u32 = 0x0403_4b50;
const ENTRY: u32 = 0x0201_4b50;
const END: [u8; 4] = [0x50, 0x4b, 0x05, 0x06];
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// Bytes of an end record, its comment not counted.
const END_BYTES: u64 = 22;
const END_64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
const LOCAL_BYTES: u64 = 30;
const ENTRY_BYTES: u64 = 46;
/// Longest comment, and so the farthest from the end that the end record can stand.
const MAX_COMMENT: u64 = 65_535;
/// Value of a 32-bit field whose true value is in the zip64 extra field.
const IN_EXTRA: u32 = u32::MAX;

/// Reads the members of a zip file of `length` bytes, in the order of the directory.
pub(super) fn members(reader: &mut (impl Read + Seek), length: u64) -> Result<Vec<Member>, Trouble> {
    let end = find_end(reader, length)?;
    let mut entries = Vec::new();
    let mut bytes = Bytes::new(reader, end.directory, end.at, &code::MALFORMED_ZIP)?;
    let mut names = HashSet::new();
    for _ in 0..end.entries {
        let at = bytes.at();
        let entry = read_entry(&mut bytes)?;
        if !names.insert(entry.name.clone()) {
            return Err(bytes.malformed(at, format!("member {} stands twice in the archive", quoted(&entry.name))));
        }
        entries.push(entry);
    }
    if bytes.remaining() > 0 {
        return Err(bytes.malformed(bytes.at(), "bytes stand between the directory and its end record"));
    }
    drop(names);
    let members =
        entries.into_iter().map(|entry| read_local(reader, entry, end.directory)).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by_key(|member| (member.offset, member.stored));
    for pair in order.windows(2) {
        if let [first, second] = pair
            && first.offset.saturating_add(first.stored) > second.offset
        {
            let message = format!("members {} and {} share bytes", quoted(&first.name), quoted(&second.name));
            return Err(Trouble::new(&code::MALFORMED_ZIP, second.offset, message));
        }
    }
    Ok(members)
}

/// What an end record says, and where it stands.
#[derive(Clone, Copy)]
struct End {
    entries: u64,
    /// Bytes of the directory.
    size: u64,
    directory: u64,
    at: u64,
}

fn find_end(reader: &mut (impl Read + Seek), length: u64) -> Result<End, Trouble> {
    let malformed = |at, message: &str| Trouble::new(&code::MALFORMED_ZIP, at, message);
    let tail_start = length.saturating_sub(END_BYTES + MAX_COMMENT);
    let tail = Bytes::new(reader, tail_start, length, &code::MALFORMED_ZIP)?.vec(length - tail_start)?;
    // The last one whose comment ends with the file, so that nothing hides behind it.
    let found = (0..tail.len().saturating_sub(21)).rev().find(|&at| {
        let record = tail.get(at..).unwrap_or_default();
        let comment = record.get(20..22).map(|bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8);
        record.starts_with(&END) && comment.is_some_and(|comment| record.len() == 22 + comment)
    });
    let Some(found) = found else {
        return Err(malformed(length, "the file does not end with a zip directory").help("the file may be cut short"));
    };
    let at = tail_start + found as u64;
    let mut bytes = Bytes::new(reader, at + 4, length, &code::MALFORMED_ZIP)?;
    let (disk, directory_disk) = (bytes.u16()?, bytes.u16()?);
    let (here, entries) = (bytes.u16()?, bytes.u16()?);
    let (size, directory) = (bytes.u32()?, bytes.u32()?);
    if (disk, directory_disk) != (0, 0) || here != entries {
        return Err(malformed(at, "the archive is split over several files"));
    }
    let narrow = End { entries: entries.into(), size: size.into(), directory: directory.into(), at };
    let elsewhere = [entries == u16::MAX, size == IN_EXTRA, directory == IN_EXTRA];
    // torch writes the wide record always, other writers where a field needs it.
    let end = match find_end_64(reader, at)? {
        Some(wide) => {
            let fields = |end: &End| [end.entries, end.size, end.directory];
            let pairs = fields(&wide).into_iter().zip(fields(&narrow)).zip(elsewhere);
            if pairs.into_iter().any(|((wide, narrow), elsewhere)| !elsewhere && wide != narrow) {
                return Err(malformed(wide.at, "the two end records differ"));
            }
            wide
        }
        None if elsewhere.contains(&true) => return Err(malformed(at, "the zip64 end record is absent")),
        None => narrow,
    };
    if end.directory.checked_add(end.size) != Some(end.at) {
        return Err(malformed(end.at, "the directory does not end where its end record begins"));
    }
    if end.entries > MAX_TENSORS as u64 || end.entries > end.size / ENTRY_BYTES {
        let message = format!("{} members are claimed in a directory of {} bytes", end.entries, end.size);
        return Err(Trouble::new(&code::TOO_LARGE, end.at, message));
    }
    Ok(end)
}

/// The wide end record in front of the narrow one at `at`, if there is one.
fn find_end_64(reader: &mut (impl Read + Seek), at: u64) -> Result<Option<End>, Trouble> {
    let malformed = |at, message: &str| Trouble::new(&code::MALFORMED_ZIP, at, message);
    let Some(locator) = at.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let mut bytes = Bytes::new(reader, locator, at, &code::MALFORMED_ZIP)?;
    if bytes.u32()? != LOCATOR_64 {
        return Ok(None);
    }
    bytes.skip(4)?;
    let wide_at = bytes.u64()?;
    // The record, 56 bytes, ends where its locator begins; nothing stands between them.
    if wide_at.checked_add(END_64_BYTES) != Some(locator) {
        return Err(malformed(locator, "the zip64 end record is not where its locator says"));
    }
    let mut bytes = Bytes::new(reader, wide_at, locator, &code::MALFORMED_ZIP)?;
    if bytes.u32()? != END_64 {
        return Err(malformed(wide_at, "the zip64 end record is absent"));
    }
    bytes.skip(8 + 2 + 2)?;
    let disks = (bytes.u32()?, bytes.u32()?);
    let here = bytes.u64()?;
    let (entries, size, directory) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
    if disks != (0, 0) || here != entries {
        return Err(malformed(wide_at, "the archive is split over several files"));
    }
    Ok(Some(End { entries, size, directory, at: wide_at }))
}

/// A directory entry.
struct Entry {
    name: String,
    at: u64,
    flags: u16,
    compression: Compression,
    checksum: u32,
    stored: u64,
    size: u64,
    local: u64,
}

fn read_entry(bytes: &mut Bytes<'_, impl Read + Seek>) -> Result<Entry, Trouble> {
    let at = bytes.at();
    if bytes.u32()? != ENTRY {
        return Err(bytes.malformed(at, "a directory entry was expected"));
    }
    bytes.skip(4)?;
    let flags = bytes.u16()?;
    let method = bytes.u16()?;
    bytes.skip(4)?;
    let checksum = bytes.u32()?;
    let (stored, size) = (bytes.u32()?, bytes.u32()?);
    let (name_length, extra_length, comment_length) = (bytes.u16()?, bytes.u16()?, bytes.u16()?);
    let disk = bytes.u16()?;
    bytes.skip(6)?;
    let local = bytes.u32()?;
    let name = bytes.vec(name_length.into())?;
    let extra = bytes.vec(extra_length.into())?;
    bytes.skip(comment_length.into())?;
    let name = String::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
        .ok_or_else(|| bytes.malformed(at, "a member's name is empty, not UTF-8 or holds a control character"))?;
    // Bit 0: encrypted; bit 5: a patch; bit 13: names hidden.
    if flags & 0b0010_0000_0010_0001 != 0 || disk != 0 {
        return Err(bytes.malformed(at, format!("member {} is encrypted or elsewhere", quoted(&name))));
    }
    let compression = match method {
        0 => Compression::Stored,
        8 => Compression::Deflated,
        other => {
            let message = format!("member {} is packed by method {other}", quoted(&name));
            return Err(bytes.malformed(at, message));
        }
    };
    let [size, stored, local] = in_extra([size, stored, local], &extra)
        .ok_or_else(|| bytes.malformed(at, format!("the zip64 sizes of member {} are absent", quoted(&name))))?;
    if compression == Compression::Stored && stored != size {
        return Err(bytes.malformed(at, format!("member {} is stored, but its two sizes differ", quoted(&name))));
    }
    Ok(Entry { name, at, flags, compression, checksum, stored, size, local })
}

/// The fields of an entry, those that say so taken from the zip64 extra field, in its order.
fn in_extra(fields: [u32; 3], extra: &[u8]) -> Option<[u64; 3]> {
    let mut rest = extra;
    let mut wide: &[u8] = &[];
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (data, after) = tail.split_at_checked(length)?;
        if u16::from_le_bytes([head[0], head[1]]) == 1 {
            wide = data;
        }
        rest = after;
    }
    let mut values = [0; 3];
    for (value, field) in values.iter_mut().zip(fields) {
        *value = if field == IN_EXTRA {
            let (bytes, after) = wide.split_first_chunk::<8>()?;
            wide = after;
            u64::from_le_bytes(*bytes)
        } else {
            u64::from(field)
        };
    }
    Some(values)
}

/// Reads the local header of an entry and holds the two against each other.
fn read_local(reader: &mut (impl Read + Seek), entry: Entry, directory: u64) -> Result<Member, Trouble> {
    if entry.local.checked_add(LOCAL_BYTES).is_none_or(|end| end > directory) {
        let message = format!("member {} begins beyond the directory", quoted(&entry.name));
        return Err(Trouble::new(&code::MALFORMED_ZIP, entry.at, message));
    }
    let mut bytes = Bytes::new(reader, entry.local, directory, &code::MALFORMED_ZIP)?;
    let differs = |what: &str| {
        let message = format!("the {what} of member {} differs from the directory's", quoted(&entry.name));
        Trouble::new(&code::MALFORMED_ZIP, entry.local, message)
    };
    if bytes.u32()? != LOCAL {
        return Err(differs("header"));
    }
    bytes.skip(2)?;
    let flags = bytes.u16()?;
    let method = bytes.u16()?;
    bytes.skip(4)?;
    let checksum = bytes.u32()?;
    let (stored, size) = (bytes.u32()?, bytes.u32()?);
    let (name_length, extra_length) = (bytes.u16()?, bytes.u16()?);
    let name = bytes.vec(name_length.into())?;
    let extra = bytes.vec(extra_length.into())?;
    if name != entry.name.as_bytes() {
        return Err(differs("name"));
    }
    let packed = if entry.compression == Compression::Stored { 0 } else { 8 };
    if flags != entry.flags || method != packed {
        return Err(differs("method"));
    }
    // Bit 3: sizes and checksum follow the data, and are zero here.
    let described = flags & 0b1000 != 0 && (checksum, stored, size) == (0, 0, 0);
    if !described {
        let sizes = in_extra([size, stored, 0], &extra).ok_or_else(|| differs("size"))?;
        let later = flags & 0b1000 != 0 && sizes[..2] == [0, 0];
        if !later && (sizes[..2] != [entry.size, entry.stored] || checksum != entry.checksum) {
            return Err(differs("size"));
        }
    }
    let offset = bytes.at();
    if entry.stored > bytes.remaining() {
        return Err(bytes.malformed(entry.at, format!("member {} reaches into the directory", quoted(&entry.name))));
    }
    let Entry { name, stored, size, compression, .. } = entry;
    Ok(Member { name, offset, stored, size, compression })
}
