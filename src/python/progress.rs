//! Progress of long calls, for a Python callable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::call;
use crate::progress::Progress;

/// Counts of work that runs on another thread.
#[derive(Debug, Default)]
struct Watch {
    step: Mutex<Step>,
    done: AtomicU64,
    cancelled: AtomicBool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Step {
    name: String,
    bytes: Option<u64>,
}

impl Progress for Watch {
    fn begin(&self, step: &str, bytes: Option<u64>) {
        let mut current = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Step { name: step.to_owned(), bytes };
        self.done.store(0, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Tells a running work to stop when it is dropped, however the call ends.
struct Cancel(Arc<Watch>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Runs cancellable work with the GIL released. `callback(step, done, total)` is called on the calling thread some times a
/// second and once at the end, with bytes; `total` may be `None`.
///
/// # Errors
/// The interrupt, what `callback` raises, or an `InternalError` when `work` panics. The work is told to stop.
pub(super) fn run<T: Send + 'static>(
    py: Python<'_>,
    callback: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&dyn Progress) -> T + Send + 'static,
) -> PyResult<T> {
    if let Some(callback) = callback.filter(|callback| !callback.is_callable()) {
        let message = format!("`progress` is called as `progress(step, done, total)`; `{callback}` cannot be called");
        return Err(PyTypeError::new_err(message));
    }
    let watch = Arc::new(Watch::default());
    let _cancel = Cancel(Arc::clone(&watch));
    let seen = Arc::clone(&watch);
    let tell = |_: Python<'_>| -> PyResult<()> {
        let Some(callback) = callback else { return Ok(()) };
        let Step { name, bytes } = watch.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !name.is_empty() {
            callback.call1((name, watch.done.load(Ordering::Relaxed), bytes))?;
        }
        Ok(())
    };
    let value = call::run_with(py, tell, move || work(&*seen))?;
    tell(py)?;
    Ok(value)
}
