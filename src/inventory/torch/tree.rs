//! The object of a torch file: nested dictionaries and lists with tensors at their leaves.

use std::collections::BTreeMap;

use super::Tensor;
use crate::Dtype;
use crate::finding::code;
use crate::inventory::name::MAX_RANK;
use crate::inventory::pickle::{Global, Node, NodeId, Pickle};
use crate::inventory::trouble::{Report, Trouble, quoted};

/// Deepest nesting of dictionaries and lists.
const MAX_DEPTH: usize = 16;
/// Steps of the walk beyond two per node; a tree that shares its branches can have more paths than nodes.
const SPARE_STEPS: usize = 1024;

/// What the object says about its storages, by key.
pub(super) type Claims = BTreeMap<String, Claim>;

/// A storage as a persistent id describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// `None` for bytes without a type.
    dtype: Option<Dtype>,
    pub(super) elements: u64,
    pub(super) bytes: u64,
}

/// Collects the tensors of a tree, named by the keys on the way to them, and what is said about all storages.
pub(super) fn collect(pickle: &Pickle, report: &mut Report) -> Result<(Vec<Tensor>, Claims), Trouble> {
    let mut claims = Claims::new();
    for id in pickle.persistent() {
        let (key, claim) = storage(pickle, id)
            .ok_or_else(|| Trouble::anywhere(&code::MALFORMED_PICKLE, "a persistent id is none of a storage"))?;
        // One key, one storage.
        if *claims.entry(key.to_owned()).or_insert(claim) != claim {
            let message = format!("storage {} is described in two ways", quoted(key));
            return Err(Trouble::anywhere(&code::MALFORMED_PICKLE, message));
        }
    }
    let steps = pickle.len().saturating_mul(2).saturating_add(SPARE_STEPS);
    let mut walk = Walk { pickle, tensors: Vec::new(), steps, report };
    walk.visit(pickle.root(), &mut String::new(), 0)?;
    Ok((walk.tensors, claims))
}

/// Reads `("storage", class, key, location, elements)`; the older form ends with what it is a view of, here of nothing.
fn storage(pickle: &Pickle, id: NodeId) -> Option<(&str, Claim)> {
    let (kind, class, key, elements) = match *pickle.tuple(id)? {
        [kind, class, key, _, elements] => (kind, class, key, elements),
        [kind, class, key, _, elements, view] if *pickle.get(view) == Node::None => (kind, class, key, elements),
        _ => return None,
    };
    if pickle.text(kind)? != "storage" {
        return None;
    }
    let elements = u64::try_from(pickle.int(elements)?).ok()?;
    let claim = match *pickle.get(class) {
        Node::Global(Global::Storage(dtype)) => {
            Claim { dtype: Some(dtype), elements, bytes: dtype.bytes_for(elements)? }
        }
        Node::Global(Global::UntypedStorage) => Claim { dtype: None, elements, bytes: elements },
        _ => return None,
    };
    Some((pickle.text(key)?, claim))
}

struct Walk<'a> {
    pickle: &'a Pickle,
    tensors: Vec<Tensor>,
    /// Steps left.
    steps: usize,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn visit(&mut self, id: NodeId, path: &mut String, depth: usize) -> Result<(), Trouble> {
        let Some(steps) = self.steps.checked_sub(1).filter(|_| depth <= MAX_DEPTH) else {
            let message = format!("the object nests deeper than {MAX_DEPTH} or refers to its parts too often");
            return Err(Trouble::anywhere(&code::TOO_LARGE, message));
        };
        self.steps = steps;
        let pickle = self.pickle;
        match pickle.get(id) {
            Node::Dict(items) => {
                for &(key, value) in items {
                    let key = match pickle.get(key) {
                        Node::Text(text) => text.to_string(),
                        Node::Int(number) => number.to_string(),
                        _ => continue,
                    };
                    self.visit_child(value, path, &key, depth)?;
                }
                Ok(())
            }
            Node::List(items) => self.visit_all(items, path, depth),
            Node::Tuple(items) => self.visit_all(items, path, depth),
            &Node::Object { callee, arguments, at, .. } => self.object(callee, arguments, at, path, depth),
            // Numbers, texts and flags beside the weights (steps, hyper-parameters) are not tensors.
            _ => Ok(()),
        }
    }

    fn visit_all(&mut self, items: &[NodeId], path: &mut String, depth: usize) -> Result<(), Trouble> {
        items.iter().enumerate().try_for_each(|(at, &item)| self.visit_child(item, path, &at.to_string(), depth))
    }

    fn visit_child(&mut self, id: NodeId, path: &mut String, key: &str, depth: usize) -> Result<(), Trouble> {
        let length = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let visited = self.visit(id, path, depth + 1);
        path.truncate(length);
        visited
    }

    fn object(
        &mut self,
        callee: Global,
        arguments: NodeId,
        at: u64,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Trouble> {
        let arguments = self.pickle.tuple(arguments).unwrap_or_default();
        match callee {
            Global::RebuildParameter => match arguments.first() {
                Some(&tensor) => self.visit(tensor, path, depth + 1),
                None => Ok(()),
            },
            Global::RebuildTensor | Global::RebuildTensorV2 | Global::RebuildTensorV3 => {
                let tensor = self.tensor(arguments, at, path, callee == Global::RebuildTensorV3)?;
                self.tensors.push(tensor);
                Ok(())
            }
            Global::Reconstruct | Global::FromBuffer | Global::JaxArray | Global::QuantizedWeight => {
                // Not passed over in silence: it may be a weight.
                let message = format!("{} is an array of another library, not a tensor of torch", quoted(path));
                self.report.push(
                    Trouble::new(&code::MALFORMED_PICKLE, at, message)
                        .help("it is left out of the inventory; save it as a tensor, with `torch.from_numpy`"),
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One that is not contiguous is a finding: its bytes have no place in the file.
    fn tensor(&mut self, arguments: &[NodeId], at: u64, name: &str, typed: bool) -> Result<Tensor, Trouble> {
        let malformed = || {
            let message = format!("tensor {} is not made as torch makes them", quoted(name));
            Trouble::new(&code::MALFORMED_PICKLE, at, message)
        };
        let &[storage, offset, shape, strides, ..] = arguments else { return Err(malformed()) };
        let &Node::Persistent(storage_id) = self.pickle.get(storage) else { return Err(malformed()) };
        let (key, claim) = self::storage(self.pickle, storage_id).ok_or_else(malformed)?;
        let dtype = if typed {
            match arguments.get(6).map(|&id| self.pickle.get(id)) {
                Some(&Node::Global(Global::Dtype(dtype))) => dtype,
                _ => return Err(malformed()),
            }
        } else {
            claim.dtype.ok_or_else(malformed)?
        };
        let offset = self.pickle.int(offset).and_then(|offset| u64::try_from(offset).ok()).ok_or_else(malformed)?;
        let shape = self.pickle.dimensions(shape).ok_or_else(malformed)?;
        let strides = self.pickle.dimensions(strides).ok_or_else(malformed)?;
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            return Err(malformed());
        }
        let strides = (!contiguous(&shape, &strides)).then_some(strides);
        if let Some(strides) = &strides {
            let message = format!("tensor {} has the strides {strides:?} for the shape {shape:?}", quoted(name));
            self.report.push(
                Trouble::new(&code::STRIDED_TENSOR, at, message)
                    .help("`flow-fabric convert` writes it row by row, and so does `.contiguous()` before saving"),
            );
        }
        Ok(Tensor { name: name.to_owned(), dtype, shape, strides, offset, storage: key.to_owned(), at })
    }
}

/// Row-major without holes; the stride of a dimension of one element means nothing.
fn contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = Some(1_u64);
    let matches = shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
        let fits = dim <= 1 || expected == Some(stride);
        expected = expected.and_then(|expected| expected.checked_mul(dim));
        fits
    });
    matches || shape.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::contiguous;

    #[test]
    fn strides_of_contiguous_tensors() {
        assert!(
            contiguous(&[], &[]) && contiguous(&[2, 3], &[3, 1]) && contiguous(&[128, 1, 512, 1], &[512, 512, 1, 1])
        );
        assert!(contiguous(&[1, 3], &[77, 1]) && contiguous(&[0, 3], &[9, 9]));
        assert!(!contiguous(&[2, 3], &[1, 2]) && !contiguous(&[2, 3], &[4, 1]) && !contiguous(&[4], &[0]));
    }
}
