//! numpy arrays in pickles (protocols 3 to 5), and jax arrays, which are numpy arrays with a remark.

use super::{Global, Node, NodeId, Pickle};
use crate::Dtype;
use crate::finding::code;
use crate::inventory::trouble::{Trouble, quoted};

/// An array whose bytes are a place of the file.
#[derive(Debug)]
pub(in crate::inventory) struct Array {
    pub(in crate::inventory) dtype: Dtype,
    pub(in crate::inventory) shape: Vec<u64>,
    pub(in crate::inventory) offset: u64,
    pub(in crate::inventory) length: u64,
}

/// Reads an array in any of the three forms that it is written in: numpy's, numpy's of protocol 5, jax's.
pub(in crate::inventory) fn array(pickle: &Pickle, id: NodeId) -> Result<Array, Trouble> {
    match *pickle.get(id) {
        Node::Object { callee: Global::Reconstruct, arguments, state: Some(state), at } => {
            reconstructed(pickle, arguments, state, at)
        }
        Node::Object { callee: Global::FromBuffer, arguments, at, .. } => from_buffer(pickle, arguments, at),
        Node::Object { callee: Global::JaxArray, arguments, at, .. } => of_jax(pickle, arguments, at),
        _ => Err(Trouble::anywhere(&code::MALFORMED_PICKLE, "a numpy array was expected")),
    }
}

/// Reads `_reconstruct(ndarray, (0,), b"b")` with the state `(1, shape, dtype, False, bytes)`.
fn reconstructed(pickle: &Pickle, arguments: NodeId, state: NodeId, at: u64) -> Result<Array, Trouble> {
    let empty = match pickle.tuple(arguments) {
        Some(&[class, shape, kind]) => {
            *pickle.get(class) == Node::Global(Global::NdArray)
                && pickle.dimensions(shape).as_deref() == Some(&[0])
                && matches!(pickle.get(kind), Node::Bytes { length: 1, .. })
        }
        _ => false,
    };
    let Some(&[version, shape, dtype, fortran, data]) = pickle.tuple(state).filter(|_| empty) else {
        return Err(malformed(at, "this is not how numpy keeps an array"));
    };
    if pickle.int(version) != Some(1) {
        return Err(malformed(at, "the array is of another version"));
    }
    let by_columns = match pickle.get(fortran) {
        Node::Bool(by_columns) => *by_columns,
        _ => return Err(malformed(at, "the array does not say its order")),
    };
    whole(pickle, [data, dtype, shape], by_columns, at)
}

/// Reads `_frombuffer(bytes, dtype, shape, "C")`.
fn from_buffer(pickle: &Pickle, arguments: NodeId, at: u64) -> Result<Array, Trouble> {
    let Some(&[data, dtype, shape, order]) = pickle.tuple(arguments) else {
        return Err(malformed(at, "this is not how numpy keeps an array"));
    };
    let by_columns = match pickle.text(order) {
        Some("C") => false,
        Some("F") => true,
        _ => return Err(malformed(at, "the array does not say its order")),
    };
    whole(pickle, [data, dtype, shape], by_columns, at)
}

/// Reads `_reconstruct_array(_reconstruct, arguments, state, {"weak_type": bool})`. Whether its type is weak is no matter of bytes.
fn of_jax(pickle: &Pickle, arguments: NodeId, at: u64) -> Result<Array, Trouble> {
    match pickle.tuple(arguments) {
        Some(&[function, arguments, state, kind])
            if *pickle.get(function) == Node::Global(Global::Reconstruct)
                && matches!(pickle.get(kind), Node::Dict(_)) =>
        {
            reconstructed(pickle, arguments, state, at)
        }
        _ => Err(malformed(at, "this is not how jax keeps an array")),
    }
}

/// Puts an array together from its bytes, dtype and shape.
fn whole(pickle: &Pickle, [data, dtype, shape]: [NodeId; 3], by_columns: bool, at: u64) -> Result<Array, Trouble> {
    let shape = pickle.dimensions(shape).filter(|shape| shape.len() <= crate::inventory::name::MAX_RANK);
    let shape = shape.ok_or_else(|| malformed(at, "the array has no such shape"))?;
    let dtype = dtype_of(pickle, dtype).ok_or_else(|| {
        let message = format!("{} is none of weights, or not as numpy writes it", spelled(pickle, dtype));
        Trouble::new(&code::UNKNOWN_DTYPE, at, message)
    })?;
    if by_columns && shape.len() >= 2 {
        return Err(Trouble::new(&code::STRIDED_TENSOR, at, "the array is stored column by column")
            .help("save it with `numpy.ascontiguousarray`"));
    }
    let Node::Bytes { offset, length } = *pickle.get(data) else {
        return Err(malformed(at, "the array has no bytes"));
    };
    let takes = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).and_then(|n| dtype.bytes_for(n));
    if takes != Some(length) {
        let takes = takes.map_or_else(|| "more than 2^64".to_owned(), |takes| takes.to_string());
        let message = format!("the array takes {takes} bytes by dtype and shape, and has {length}");
        return Err(Trouble::new(&code::TENSOR_SIZE, offset, message));
    }
    Ok(Array { dtype, shape, offset, length })
}

fn malformed(at: u64, message: &str) -> Trouble {
    Trouble::new(&code::MALFORMED_PICKLE, at, message)
}

/// Reads `dtype(name, False, True)` with the state `(3, "<", None, None, None, -1, -1, 0)`, or, for a type of `ml_dtypes`,
/// `(3, "<", None, None, None, size, size, flags)`.
fn dtype_of(pickle: &Pickle, id: NodeId) -> Option<Dtype> {
    let Node::Object { callee: Global::NumpyDtype, arguments, state: Some(state), .. } = *pickle.get(id) else {
        return None;
    };
    let &[kind, align, copy] = pickle.tuple(arguments)? else { return None };
    let (dtype, own) = match pickle.get(kind) {
        Node::Text(name) => (named(name)?, true),
        Node::Global(Global::Dtype(dtype)) => (*dtype, false),
        _ => return None,
    };
    let &[version, order, subdtype, names, fields, size, alignment, flags] = pickle.tuple(state)? else { return None };
    let plain = *pickle.get(align) == Node::Bool(false)
        && *pickle.get(copy) == Node::Bool(true)
        && pickle.int(version) == Some(3)
        && [subdtype, names, fields].iter().all(|&part| *pickle.get(part) == Node::None);
    let bytes = i64::try_from(dtype.bytes_for(1)?).ok()?;
    let layout = (pickle.int(size)?, pickle.int(alignment)?);
    let flags = pickle.int(flags)?;
    // The lower four flags are of elements that hold Python objects.
    let laid_out = if own { (layout, flags) == ((-1, -1), 0) } else { layout == (bytes, bytes) && flags & !0x70 == 0 };
    let little = match pickle.text(order)? {
        "<" => true,
        "|" | "=" => bytes == 1,
        _ => false,
    };
    (plain && laid_out && little).then_some(dtype)
}

/// What a dtype is called, for the finding.
fn spelled(pickle: &Pickle, id: NodeId) -> String {
    let spelled = || {
        let &Node::Object { callee: Global::NumpyDtype, arguments, state, .. } = pickle.get(id) else { return None };
        let name = pickle.text(*pickle.tuple(arguments)?.first()?)?;
        let order = state.and_then(|state| pickle.text(*pickle.tuple(state)?.get(1)?)).unwrap_or_default();
        Some(quoted(&[order, name].concat()))
    };
    spelled().map_or_else(|| "the array's dtype".to_owned(), |name| format!("the array's dtype {name}"))
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
