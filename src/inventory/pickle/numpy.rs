//! numpy arrays in pickles (protocols 3 and 4).

use super::{Global, Node, NodeId, Pickle};
use crate::Dtype;
use crate::finding::code;
use crate::inventory::trouble::Trouble;

/// An array whose bytes are a place of the file.
#[derive(Debug)]
pub(in crate::inventory) struct Array {
    pub(in crate::inventory) dtype: Dtype,
    pub(in crate::inventory) shape: Vec<u64>,
    pub(in crate::inventory) offset: u64,
    pub(in crate::inventory) length: u64,
}

/// Reads `_reconstruct(ndarray, (0,), b"b")` with the state `(1, shape, dtype, False, bytes)`.
pub(in crate::inventory) fn array(pickle: &Pickle, id: NodeId) -> Result<Array, Trouble> {
    let Node::Object { callee: Global::Reconstruct, arguments, state: Some(state), at } = *pickle.get(id) else {
        return Err(Trouble::anywhere(&code::MALFORMED_PICKLE, "a numpy array was expected"));
    };
    let malformed = |message: &str| Trouble::new(&code::MALFORMED_PICKLE, at, message);
    let empty = match pickle.tuple(arguments) {
        Some(&[class, shape, kind]) => {
            *pickle.get(class) == Node::Global(Global::NdArray)
                && pickle.dimensions(shape).as_deref() == Some(&[0])
                && matches!(pickle.get(kind), Node::Bytes { length: 1, .. })
        }
        _ => false,
    };
    let Some(&[version, shape, dtype, fortran, data]) = pickle.tuple(state).filter(|_| empty) else {
        return Err(malformed("this is not how numpy keeps an array"));
    };
    let shape = pickle.dimensions(shape).filter(|shape| shape.len() <= crate::inventory::name::MAX_RANK);
    let Some(shape) = shape.filter(|_| pickle.int(version) == Some(1)) else {
        return Err(malformed("the array has no such version or shape"));
    };
    let dtype = dtype_of(pickle, dtype)
        .ok_or_else(|| Trouble::new(&code::UNKNOWN_DTYPE, at, "the array has a dtype that weights do not have"))?;
    match pickle.get(fortran) {
        Node::Bool(false) => {}
        Node::Bool(true) if shape.len() < 2 => {}
        _ => {
            return Err(Trouble::new(&code::STRIDED_TENSOR, at, "the array is stored column by column")
                .help("save it with `numpy.ascontiguousarray`"));
        }
    }
    let Node::Bytes { offset, length } = *pickle.get(data) else {
        return Err(malformed("the array has no bytes"));
    };
    let takes = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).and_then(|n| dtype.bytes_for(n));
    if takes != Some(length) {
        let takes = takes.map_or_else(|| "more than 2^64".to_owned(), |takes| takes.to_string());
        let message = format!("the array takes {takes} bytes by dtype and shape, and has {length}");
        return Err(Trouble::new(&code::TENSOR_SIZE, offset, message));
    }
    Ok(Array { dtype, shape, offset, length })
}

/// Reads `dtype(name, False, True)` with the state `(3, "<", None, None, None, ...)`.
fn dtype_of(pickle: &Pickle, id: NodeId) -> Option<Dtype> {
    let Node::Object { callee: Global::NumpyDtype, arguments, state: Some(state), .. } = *pickle.get(id) else {
        return None;
    };
    let &[kind, align, copy] = pickle.tuple(arguments)? else { return None };
    let dtype = match pickle.get(kind) {
        Node::Text(name) => named(name)?,
        Node::Global(Global::Dtype(dtype)) => *dtype,
        _ => return None,
    };
    let &[version, order, subdtype, names, fields, ..] = pickle.tuple(state)? else { return None };
    let plain = *pickle.get(align) == Node::Bool(false)
        && *pickle.get(copy) == Node::Bool(true)
        && pickle.int(version) == Some(3)
        && [subdtype, names, fields].iter().all(|&part| *pickle.get(part) == Node::None);
    let little = match pickle.text(order)? {
        "<" => true,
        "|" | "=" => dtype.bytes_for(1) == Some(1),
        _ => false,
    };
    (plain && little).then_some(dtype)
}

/// numpy's short names; structured, text and object dtypes are not weights.
fn named(name: &str) -> Option<Dtype> {
    Some(match name {
        "f8" => Dtype::F64,
        "f4" => Dtype::F32,
        "f2" => Dtype::F16,
        "i8" => Dtype::I64,
        "i4" => Dtype::I32,
        "i2" => Dtype::I16,
        "i1" => Dtype::I8,
        "u8" => Dtype::U64,
        "u4" => Dtype::U32,
        "u2" => Dtype::U16,
        "u1" => Dtype::U8,
        "b1" => Dtype::Bool,
        "c8" => Dtype::C64,
        _ => return None,
    })
}
