//! Long calls: on a thread of their own, so that the calling thread can answer Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::error;

/// How long Ctrl-C may wait to be noticed.
const TICK: Duration = Duration::from_millis(50);

/// Runs `work` with the GIL released. On Ctrl-C the interrupt is raised at once; the work ends in the background, and
/// its result is dropped.
///
/// # Errors
/// The interrupt, or an `InternalError` when `work` panics.
pub(super) fn run<T: Send + 'static>(py: Python<'_>, work: impl FnOnce() -> T + Send + 'static) -> PyResult<T> {
    run_with(py, |_| Ok(()), work)
}

/// The same; `tick` is called with the GIL every 50 ms, after the signals were looked at. Its error is raised in place of
/// the work's result.
///
/// # Errors
/// The interrupt, what `tick` says, or an `InternalError` when `work` panics.
pub(super) fn run_with<T: Send + 'static>(
    py: Python<'_>,
    mut tick: impl FnMut(Python<'_>) -> PyResult<()>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, mut waiting) = channel();
    let spawned = std::thread::Builder::new().name("flow-fabric".to_owned()).spawn(move || {
        // The result does not outlive a panic, so nothing half-done is seen. Nobody listens after an interrupt.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    if let Err(error) = spawned {
        return Err(PyRuntimeError::new_err(format!("cannot start a thread: {error}")));
    }
    loop {
        // A receiver is not shared between threads: it moves into the closure and out again.
        let (receiver, received) = py.detach(move || {
            let received = waiting.recv_timeout(TICK);
            (waiting, received)
        });
        waiting = receiver;
        match received {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(error::internal(py)),
            Err(RecvTimeoutError::Timeout) => py.check_signals().and_then(|()| tick(py))?,
        }
    }
}
