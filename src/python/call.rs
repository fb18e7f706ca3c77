//! Long calls: on a thread of their own, so that the calling thread can answer Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How long Ctrl-C may wait to be noticed.
const TICK: Duration = Duration::from_millis(50);

/// Runs `work` with the GIL released. On Ctrl-C `stop` is called once and the interrupt is raised; work that does not
/// heed `stop` ends in the background, and its result is dropped.
///
/// # Errors
/// The interrupt, or an `InternalError` when `work` panics.
pub(super) fn run<T: Send + 'static>(
    py: Python<'_>,
    stop: impl FnOnce(),
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = channel();
    let spawned = std::thread::Builder::new().name("flow-fabric".to_owned()).spawn(move || {
        // The result does not outlive a panic, so nothing half-done is seen. Nobody listens after an interrupt.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    if let Err(error) = spawned {
        return Err(PyRuntimeError::new_err(format!("cannot start a thread: {error}")));
    }
    let mut waiting = receiver;
    loop {
        // A receiver is not shared between threads: it moves into the closure and out again.
        let (receiver, received) = py.detach(move || {
            let received = waiting.recv_timeout(TICK);
            (waiting, received)
        });
        waiting = receiver;
        match received {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(super::error::internal(py)),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(interrupt) = py.check_signals() {
                    stop();
                    return Err(interrupt);
                }
            }
        }
    }
}
