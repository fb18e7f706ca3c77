//! Zip archives in the making, honest unless told otherwise.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Members and what is wrong with the archive.
#[derive(Clone, Default)]
pub(crate) struct Archive {
    pub(crate) members: Vec<Member>,
    /// Sizes and checksum behind the data, zeros in the local header, as torch has it.
    pub(crate) described: bool,
    /// A zip64 end record, as torch has it.
    pub(crate) wide: bool,
    pub(crate) comment: Vec<u8>,
    /// Bytes between the directory and its end record.
    pub(crate) gap: usize,
    pub(crate) claimed_entries: Option<u16>,
    pub(crate) claimed_wide_entries: Option<u64>,
    pub(crate) disk: u16,
}

/// A member and what is wrong with it.
#[derive(Clone, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) local_name: Option<String>,
    pub(crate) content: Vec<u8>,
    /// Bytes when unpacked, where packed.
    pub(crate) unpacked: Option<u32>,
    pub(crate) method: u16,
    pub(crate) local_method: Option<u16>,
    pub(crate) flags: u16,
    pub(crate) claimed: Option<u32>,
    pub(crate) same_place_as: Option<usize>,
    pub(crate) shifted: u32,
}

/// A stored member.
pub(crate) fn member(name: &str, content: &[u8]) -> Member {
    Member { name: name.to_owned(), content: content.to_vec(), ..Member::default() }
}

impl Member {
    /// Packs the content.
    pub(crate) fn deflate(&mut self) {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&self.content).unwrap();
        self.unpacked = Some(u32::try_from(self.content.len()).unwrap());
        self.content = encoder.finish().unwrap();
        self.method = 8;
    }

    fn stored(&self) -> u32 {
        self.claimed.unwrap_or(u32::try_from(self.content.len()).unwrap())
    }

    fn sizes(&self) -> Vec<u8> {
        let size = self.unpacked.unwrap_or(self.stored());
        [[0; 4], self.stored().to_le_bytes(), size.to_le_bytes()].concat()
    }
}

impl Archive {
    /// An archive as torch writes it.
    pub(crate) fn new(members: Vec<Member>) -> Self {
        Self { members, described: true, wide: true, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut places = Vec::new();
        for member in &self.members {
            places.push(u32::try_from(out.len()).unwrap());
            let flags = member.flags | if self.described { 0x0808 } else { 0 };
            let name = member.local_name.as_ref().unwrap_or(&member.name);
            out.extend(b"PK\x03\x04\0\0");
            out.extend(flags.to_le_bytes());
            out.extend(member.local_method.unwrap_or(member.method).to_le_bytes());
            out.extend([0; 4]);
            out.extend(if self.described { vec![0; 12] } else { member.sizes() });
            out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            out.extend([0; 2]);
            out.extend(name.as_bytes());
            out.extend(&member.content);
            if self.described {
                out.extend(b"PK\x07\x08");
                out.extend(member.sizes());
            }
        }
        let directory = out.len();
        for (at, member) in self.members.iter().enumerate() {
            let place = places[member.same_place_as.unwrap_or(at)] + member.shifted;
            let flags = member.flags | if self.described { 0x0808 } else { 0 };
            out.extend(b"PK\x01\x02\0\0\0\0");
            out.extend(flags.to_le_bytes());
            out.extend(member.method.to_le_bytes());
            out.extend([0; 4]);
            out.extend(member.sizes());
            out.extend(u16::try_from(member.name.len()).unwrap().to_le_bytes());
            out.extend([0; 12]);
            out.extend(place.to_le_bytes());
            out.extend(member.name.as_bytes());
        }
        self.end(out, directory)
    }

    fn end(&self, mut out: Vec<u8>, directory: usize) -> Vec<u8> {
        let size = out.len() - directory;
        out.resize(out.len() + self.gap, 0);
        let entries = self.claimed_entries.unwrap_or(u16::try_from(self.members.len()).unwrap());
        if self.wide {
            let at = out.len() as u64;
            let entries = self.claimed_wide_entries.unwrap_or(entries.into());
            out.extend(b"PK\x06\x06");
            out.extend(44_u64.to_le_bytes());
            out.extend([0; 12]);
            for value in [entries, entries, size as u64, directory as u64] {
                out.extend(value.to_le_bytes());
            }
            out.extend(b"PK\x06\x07\0\0\0\0");
            out.extend(at.to_le_bytes());
            out.extend(1_u32.to_le_bytes());
        }
        out.extend(b"PK\x05\x06");
        out.extend([self.disk, self.disk, entries, entries].iter().flat_map(|value| value.to_le_bytes()));
        out.extend(u32::try_from(size).unwrap().to_le_bytes());
        out.extend(u32::try_from(directory).unwrap().to_le_bytes());
        out.extend(u16::try_from(self.comment.len()).unwrap().to_le_bytes());
        out.extend(&self.comment);
        out
    }
}
