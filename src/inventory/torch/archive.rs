//! The zip form: `NAME/data.pkl`, `NAME/data/KEY` for each storage, `NAME/byteorder`.

use std::io::{Read, Seek};

use super::{LIMITS, Place, Storages, Tensor, tree};
use crate::finding::code;
use crate::inventory::bytes::Bytes;
use crate::inventory::pickle;
use crate::inventory::trouble::{Report, Trouble, quoted};
use crate::inventory::zip::{self, Compression, Member};

pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    report: &mut Report,
) -> Result<(Vec<Tensor>, Storages), Trouble> {
    let members = zip::members(reader, length)?;
    let mut pickles = members.iter().filter(|member| member.name.rsplit('/').next() == Some("data.pkl"));
    let (Some(main), None) = (pickles.next(), pickles.next()) else {
        return Err(Trouble::anywhere(&code::MALFORMED_ZIP, "the archive does not hold one `data.pkl`")
            .help("this is no file that `torch.save` wrote"));
    };
    let prefix = main.name.strip_suffix("data.pkl").unwrap_or_default();
    check_byte_order(reader, &members, prefix)?;
    stored(main)?;
    let end = main.offset.saturating_add(main.stored);
    let mut bytes = Bytes::new(reader, main.offset, end, &code::MALFORMED_PICKLE)?;
    let pickle = pickle::read(&mut bytes, LIMITS)?;
    if pickle.end != end {
        return Err(Trouble::new(&code::MALFORMED_PICKLE, pickle.end, "bytes follow the end of the pickle"));
    }
    let (tensors, claims) = tree::collect(&pickle, report)?;
    let mut storages = Storages::new();
    let data = [prefix, "data/"].concat();
    for member in &members {
        let Some(key) = member.name.strip_prefix(&data) else { continue };
        let Some(claimed) = claims.get(key).map(|claim| claim.bytes) else { continue };
        stored(member)?;
        // A storage that is smaller than the pickle says was CVE-2026-24747.
        if claimed != member.stored {
            let message = format!("storage {} takes {claimed} bytes, its member has {}", quoted(key), member.stored);
            return Err(Trouble::new(&code::TENSOR_SIZE, member.offset, message));
        }
        storages.insert(key.to_owned(), Place { offset: member.offset, length: member.stored });
    }
    Ok((tensors, storages))
}

fn stored(member: &Member) -> Result<(), Trouble> {
    if member.compression == Compression::Stored {
        return Ok(());
    }
    let message = format!("member {} is compressed; torch stores it as it is", quoted(&member.name));
    Err(Trouble::new(&code::COMPRESSED_MEMBER, member.offset, message))
}

/// Files of other byte orders say so; older files say nothing and are little-endian.
fn check_byte_order(reader: &mut (impl Read + Seek), members: &[Member], prefix: &str) -> Result<(), Trouble> {
    let name = [prefix, "byteorder"].concat();
    let Some(member) = members.iter().find(|member| member.name == name) else { return Ok(()) };
    stored(member)?;
    let end = member.offset.saturating_add(member.stored);
    let order = Bytes::new(reader, member.offset, end, &code::MALFORMED_ZIP)?.vec(member.stored.min(16))?;
    if order == b"little" {
        return Ok(());
    }
    Err(Trouble::new(&code::MALFORMED_ZIP, member.offset, "the file is not little-endian"))
}
