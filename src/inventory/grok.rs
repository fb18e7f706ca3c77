//! Grok-1's own checkpoints: `ckpt-0/tensor00000_000` and on, one pickled array or quantized pair per file.
//!
//! The files have no names in them. The number of a file is its place in the flattened parameter tree, in which layers
//! are sorted as text (0, 1, 10, 11, ..., 2, 20), and `_000` is the host. Files that fit Grok-1's tree get its names.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use super::bytes::Bytes;
use super::header::{Header, HeaderTensor};
use super::pickle::{self, Global, Limits, Node, NodeId, Pickle, numpy};
use super::shards::Shards;
use super::trouble::{Report, Trouble};
use super::{Checkpoint, Container, OpenError};
use crate::finding::{Finding, code};

/// Bytes of a file besides its arrays; the released files have at most 323.
const LIMITS: Limits = Limits { bytes: 4096, persistent: false };

/// The leaves in front of the layers, with their ranks.
const HEAD: [(&str, usize); 2] = [("language_model/in_out_embed/embeddings", 2), ("language_model/rms_norm/scale", 1)];
/// The leaves of a layer, with their ranks, in the order of the tree.
const LAYER: [(&str, usize); 12] = [
    ("moe/linear/w", 3),
    ("moe/linear_1/w", 3),
    ("moe/linear_v/w", 3),
    ("multi_head_attention/key/w", 2),
    ("multi_head_attention/linear/w", 2),
    ("multi_head_attention/query/w", 2),
    ("multi_head_attention/value/w", 2),
    ("rms_norm/scale", 1),
    ("rms_norm_1/scale", 1),
    ("rms_norm_2/scale", 1),
    ("rms_norm_3/scale", 1),
    ("router/w", 2),
];

/// Number and host of a file name.
pub(crate) fn number(name: &str) -> Option<(u32, u32)> {
    let (number, host) = name.strip_prefix("tensor")?.split_once('_')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(number, 5) || !digits(host, 3) {
        return None;
    }
    Some((number.parse().ok()?, host.parse().ok()?))
}

/// Opens the files of a directory, `names` being all that are named like this.
pub(super) fn open(directory: &Path, names: &[String]) -> Result<(Checkpoint, Vec<Finding>), OpenError> {
    let path = directory.display().to_string();
    let mut numbers: Vec<(u32, u32)> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    if numbers.iter().any(|&(_, host)| host != 0) {
        let reason = "its arrays are spread over several hosts; only checkpoints of one host are read".to_owned();
        return Err(OpenError::NotACheckpoint { path, reason });
    }
    let mut shards = Shards::new(path, Container::Pickle, read::<File>);
    for (number, _) in &numbers {
        shards.add(&directory.join(format!("tensor{number:05}_000")));
    }
    let complete = shards.checkpoint.files.len() == numbers.len();
    let counted = (0..).zip(&numbers).all(|(expected, &(number, _))| expected == number);
    if let Some(leaves) = leaves(numbers.len()).filter(|leaves| complete && counted && fits(leaves, &shards.checkpoint))
    {
        for tensor in &mut shards.checkpoint.tensors {
            let file = tensor.bytes.file.and_then(|file| leaves.get(file.0 as usize));
            if let Some((leaf, _)) = file {
                // `tensor00002/weight` keeps its part.
                let part = tensor.name.split_once('/').map(|(_, part)| ["/", part].concat());
                tensor.name = [leaf.as_str(), part.as_deref().unwrap_or("")].concat();
            }
        }
    } else {
        let name = shards.checkpoint.name.clone();
        let message = format!("the {} files do not fit Grok-1's tree", numbers.len());
        let trouble = Trouble::anywhere(&code::UNNAMED_ARRAYS, message);
        shards.report_one(&name, trouble.help("the weights are called by their files; `rename` can give them names"));
    }
    Ok(shards.finish())
}

/// The tree of a checkpoint of so many files.
fn leaves(files: usize) -> Option<Vec<(String, usize)>> {
    let layers = files.checked_sub(HEAD.len()).filter(|rest| rest % LAYER.len() == 0)? / LAYER.len();
    let mut order: Vec<String> = (0..layers).map(|layer| layer.to_string()).collect();
    order.sort_unstable();
    let mut leaves: Vec<(String, usize)> = HEAD.iter().map(|&(leaf, rank)| (leaf.to_owned(), rank)).collect();
    for layer in order {
        leaves.extend(LAYER.iter().map(|(leaf, rank)| (format!("transformer/decoder_layer_{layer}/{leaf}"), *rank)));
    }
    Some(leaves)
}

/// Whether each file's arrays have the rank of its leaf.
fn fits(leaves: &[(String, usize)], checkpoint: &Checkpoint) -> bool {
    checkpoint.tensors.iter().all(|tensor| {
        let leaf = tensor.bytes.file.and_then(|file| leaves.get(file.0 as usize));
        leaf.is_some_and(|&(_, rank)| rank == tensor.shape.len())
    })
}

/// Reads one file of `length` bytes; `None` when it is refused. The array is called by the file's name.
pub(super) fn read<R: Read + Seek>(
    reader: &mut R,
    length: u64,
    path: &Arc<str>,
    findings: &mut Vec<Finding>,
) -> Option<Header> {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = file.split_once('_').map_or(file, |(stem, _)| stem);
    Report::of(path, findings, |_| read_file(reader, length, stem).map(Some))
}

fn read_file(reader: &mut (impl Read + Seek), length: u64, stem: &str) -> Result<Header, Trouble> {
    let mut bytes = Bytes::new(reader, 0, length, &code::MALFORMED_PICKLE)?;
    let pickle = pickle::read(&mut bytes, LIMITS)?;
    if bytes.remaining() > 0 {
        let message = format!("{} bytes follow the end of the pickle", bytes.remaining());
        return Err(bytes.malformed(bytes.at(), message));
    }
    let tensor = |part: &str, id: NodeId| -> Result<HeaderTensor, Trouble> {
        let array = numpy::array(&pickle, id)?;
        let name = [stem, part].concat();
        let offset = Some(array.offset);
        Ok(HeaderTensor { name, dtype: array.dtype, shape: array.shape, offset, length: array.length, indirect: None })
    };
    let tensors = match pair(&pickle) {
        Some((weight, scales)) => vec![tensor("/weight", weight)?, tensor("/scales", scales)?],
        None => vec![tensor("", pickle.root())?],
    };
    Ok(Header { tensors, ..Header::default() })
}

/// The two arrays of a `QuantizedWeight8bit`.
fn pair(pickle: &Pickle) -> Option<(NodeId, NodeId)> {
    let &Node::Object { callee: Global::QuantizedWeight, state: Some(state), .. } = pickle.get(pickle.root()) else {
        return None;
    };
    let Node::Dict(items) = pickle.get(state) else { return None };
    match items.as_slice() {
        &[(first, weight), (second, scales)]
            if pickle.text(first) == Some("weight") && pickle.text(second) == Some("scales") =>
        {
            Some((weight, scales))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_sorted_as_text() {
        let leaves = leaves(770).unwrap();
        assert_eq!(leaves.len(), 770);
        assert_eq!(leaves[26].0, "transformer/decoder_layer_10/moe/linear/w");
        assert_eq!(leaves[769].0, "transformer/decoder_layer_9/router/w");
        assert!(super::leaves(771).is_none() && super::leaves(1).is_none());
    }

    #[test]
    fn file_names() {
        assert_eq!(number("tensor00042_000"), Some((42, 0)));
        assert_eq!(number("tensor00042_013"), Some((42, 13)));
        for name in ["tensor0042_000", "tensor00042_00", "tensor00042", "tensor+0042_000", "xtensor00042_000"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
