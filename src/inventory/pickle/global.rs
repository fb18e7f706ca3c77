//! The closed list of globals. None of them is ever called.

use crate::Dtype;

/// What a pickle of weights may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inventory) enum Global {
    /// `collections.OrderedDict`: a dictionary.
    OrderedDict,
    /// `torch._utils._rebuild_tensor(storage, offset, size, stride)`.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    RebuildTensorV2,
    /// `torch._utils._rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`.
    RebuildTensorV3,
    /// `torch._utils._rebuild_parameter(tensor, requires_grad, hooks)`.
    RebuildParameter,
    /// `torch.Size(dimensions)`.
    Size,
    /// A storage class of one dtype.
    Storage(Dtype),
    /// `torch.storage.UntypedStorage`.
    UntypedStorage,
    /// A dtype: torch's, or one of `ml_dtypes`.
    Dtype(Dtype),
    /// `numpy.core.multiarray._reconstruct(ndarray, (0,), b"b")`.
    Reconstruct,
    /// `numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`, as protocol 5 has it.
    FromBuffer,
    /// `jax._src.array._reconstruct_array(_reconstruct, arguments, state, {"weak_type": bool})`: a numpy array, taken apart.
    JaxArray,
    /// `numpy.ndarray`.
    NdArray,
    /// `numpy.dtype(name, False, True)`.
    NumpyDtype,
    /// Grok-1's `QuantizedWeight8bit`.
    QuantizedWeight,
}

impl Global {
    /// The global of a module and name, if it is on the list.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
            ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "Size") => Global::Size,
            ("torch.storage" | "torch", "UntypedStorage") => Global::UntypedStorage,
            ("torch", _) if name.ends_with("Storage") => Global::Storage(storage(name)?),
            ("torch", _) => Global::Dtype(torch_dtype(name)?),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
            ("jax._src.array", "_reconstruct_array") => Global::JaxArray,
            ("numpy", "ndarray") => Global::NdArray,
            ("numpy", "dtype") => Global::NumpyDtype,
            ("ml_dtypes", _) => Global::Dtype(ml_dtype(name)?),
            // Pickled by a run of Grok-1's own script, or of a module that was split off it.
            ("__main__" | "model", "QuantizedWeight8bit") => Global::QuantizedWeight,
            _ => return None,
        })
    }

    /// What Python calls it, without the module.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Global::OrderedDict => "OrderedDict",
            Global::RebuildTensor => "_rebuild_tensor",
            Global::RebuildTensorV2 => "_rebuild_tensor_v2",
            Global::RebuildTensorV3 => "_rebuild_tensor_v3",
            Global::RebuildParameter => "_rebuild_parameter",
            Global::Size => "Size",
            Global::Storage(_) | Global::UntypedStorage => "Storage",
            Global::Dtype(_) | Global::NumpyDtype => "dtype",
            Global::Reconstruct => "_reconstruct",
            Global::FromBuffer => "_frombuffer",
            Global::JaxArray => "_reconstruct_array",
            Global::NdArray => "ndarray",
            Global::QuantizedWeight => "QuantizedWeight8bit",
        }
    }

    /// With how many arguments it may be "called" by REDUCE.
    pub(super) const fn takes(self, arguments: usize) -> bool {
        match self {
            Global::OrderedDict => arguments == 0,
            Global::RebuildTensor | Global::FromBuffer | Global::JaxArray => arguments == 4,
            Global::RebuildTensorV2 => matches!(arguments, 6 | 7),
            Global::RebuildTensorV3 => matches!(arguments, 7 | 8),
            Global::RebuildParameter | Global::Reconstruct | Global::NumpyDtype => arguments == 3,
            Global::Size => arguments == 1,
            Global::Storage(_)
            | Global::UntypedStorage
            | Global::Dtype(_)
            | Global::NdArray
            | Global::QuantizedWeight => false,
        }
    }

    /// Whether BUILD may give it a state.
    pub(super) const fn takes_state(self) -> bool {
        matches!(self, Global::Reconstruct | Global::NumpyDtype | Global::QuantizedWeight)
    }
}

fn storage(name: &str) -> Option<Dtype> {
    Some(match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}

fn torch_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float8_e4m3fn" => Dtype::F8E4m3,
        "float8_e5m2" => Dtype::F8E5m2,
        "float8_e4m3fnuz" => Dtype::F8E4m3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5m2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8m0,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        "complex64" => Dtype::C64,
        _ => return None,
    })
}

fn ml_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "bfloat16" => Dtype::Bf16,
        "float8_e4m3fn" => Dtype::F8E4m3,
        "float8_e5m2" => Dtype::F8E5m2,
        "float8_e4m3fnuz" => Dtype::F8E4m3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5m2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8m0,
        _ => return None,
    })
}
