//! The form before torch 1.6: a magic number, a version, a dictionary about the machine, the object and the list of
//! storage keys, each a pickle of its own; then the storages, each behind its number of elements.

use std::io::{Read, Seek};

use super::{LIMITS, Place, Storages, Tensor, tree};
use crate::finding::code;
use crate::inventory::bytes::Bytes;
use crate::inventory::pickle::{self, Limits, Node, Pickle};
use crate::inventory::trouble::{Report, Trouble, quoted};

/// `0x1950a86a20f9469cfc6c`, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;
/// Bounds of the pickles around the object.
const SMALL: Limits = Limits { bytes: 4096, persistent: false };
/// Bounds of the list of keys.
const KEYS: Limits = Limits { bytes: 64 << 20, persistent: false };

pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    report: &mut Report,
) -> Result<(Vec<Tensor>, Storages), Trouble> {
    let mut bytes = Bytes::new(reader, 0, length, &code::MALFORMED_PICKLE)?;
    let magic = pickle::read(&mut bytes, SMALL)?;
    if !matches!(magic.get(magic.root()), Node::Long(long) if **long == MAGIC) {
        return Err(bytes.malformed(0, "the file does not start with torch's magic number"));
    }
    let version = pickle::read(&mut bytes, SMALL)?;
    if version.int(version.root()) != Some(VERSION) {
        return Err(bytes.malformed(magic.end, format!("the file is not of version {VERSION}")));
    }
    let machine = pickle::read(&mut bytes, SMALL)?;
    if !is_little_endian(&machine) {
        return Err(bytes.malformed(version.end, "the file does not say that it is little-endian"));
    }
    let object = pickle::read(&mut bytes, LIMITS)?;
    let (tensors, claims) = tree::collect(&object, report)?;
    let keys = pickle::read(&mut bytes, KEYS)?;
    let Node::List(items) = keys.get(keys.root()) else {
        return Err(bytes.malformed(object.end, "a list of storage keys was expected"));
    };
    let mut storages = Storages::new();
    for &item in items {
        let at = bytes.at();
        let elements = bytes.u64()?;
        let Some((key, claim)) = keys.text(item).and_then(|key| Some((key, claims.get(key)?))) else {
            let message = "a storage that no tensor has cannot be passed over: its size is not known";
            return Err(bytes.malformed(at, message));
        };
        let offset = bytes.at();
        if claim.elements != elements {
            let message =
                format!("storage {} has {elements} elements here, {} in the object", quoted(key), claim.elements);
            return Err(Trouble::new(&code::TENSOR_SIZE, at, message));
        }
        bytes.skip(claim.bytes)?;
        if storages.insert(key.to_owned(), Place { offset, length: claim.bytes }).is_some() {
            return Err(bytes.malformed(at, format!("storage {} stands twice in the file", quoted(key))));
        }
    }
    if bytes.remaining() > 0 {
        let message = format!("{} bytes follow the last storage", bytes.remaining());
        return Err(Trouble::new(&code::FILE_LENGTH, bytes.at(), message).help("bytes that no tensor owns are refused"));
    }
    Ok((tensors, storages))
}

fn is_little_endian(machine: &Pickle) -> bool {
    let Node::Dict(items) = machine.get(machine.root()) else { return false };
    items
        .iter()
        .any(|&(key, value)| machine.text(key) == Some("little_endian") && *machine.get(value) == Node::Bool(true))
}
