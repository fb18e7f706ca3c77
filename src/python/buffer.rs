//! Tensor bytes that numpy, JAX and PyTorch see where they lie, by Python's buffer protocol.

#![expect(unsafe_code, reason = "the buffer protocol hands out raw memory")]

use std::ffi::c_int;
use std::ptr::NonNull;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::storage::AlignedBuffer;

/// Bytes that Python owns: aligned for vector loads, writable, freed when the last array over them is.
#[pyclass(frozen, name = "Buffer", module = "flow_fabric", weakref)]
pub(super) struct PyBuffer {
    first: NonNull<u8>,
    length: usize,
    /// Keeps the memory; never read or written from here on.
    _memory: AlignedBuffer,
}

// SAFETY: The memory belongs to this object alone, and no Rust code touches it after `new`. What Python threads do with
// arrays over it is theirs to order, as with any writable buffer.
unsafe impl Send for PyBuffer {}
// SAFETY: As above; `&PyBuffer` only tells the address and the length.
unsafe impl Sync for PyBuffer {}

impl PyBuffer {
    pub(super) fn new(mut memory: AlignedBuffer) -> Self {
        let length = memory.len();
        // Moving the buffer does not move what it points to: it is a `Vec` that never grows.
        let first = NonNull::from(&mut *memory).cast();
        Self { first, length, _memory: memory }
    }
}

#[pymethods]
impl PyBuffer {
    /// Where the bytes lie.
    #[getter]
    fn address(&self) -> usize {
        self.first.as_ptr().addr()
    }

    fn __len__(&self) -> usize {
        self.length
    }

    /// Fills a view of all the bytes.
    ///
    /// # Safety
    /// `view` is what CPython gives: null or a `Py_buffer` to be filled.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let this = slf.get();
        let length = ffi::Py_ssize_t::try_from(this.length)?;
        // SAFETY: `view` is writable by this function's contract. The view takes a reference to this object, so the memory
        // stays as long as the view. `first` is aligned and not null, and `length` bytes behind it are initialised.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), this.first.as_ptr().cast(), length, 0, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    fn __repr__(&self) -> String {
        format!("<Buffer of {} bytes>", self.length)
    }
}
