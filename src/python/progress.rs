//! Progress of long calls, for a Python callable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

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
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&dyn Progress) -> T + Send + 'static,
) -> PyResult<T> {
    let bar = Bar::open(py, progress)?;
    let callback = bar.callback.as_ref();
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

/// The callable that `progress` asks for; `True` is a bar of tqdm's, closed when this is dropped.
struct Bar<'py> {
    callback: Option<Bound<'py, PyAny>>,
    drawn: Option<Bound<'py, PyAny>>,
}

impl<'py> Bar<'py> {
    fn open(py: Python<'py>, progress: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let Some(progress) = progress.filter(|progress| !progress.is_none()) else {
            return Ok(Self { callback: None, drawn: None });
        };
        if progress.is_callable() {
            return Ok(Self { callback: Some(progress.clone()), drawn: None });
        }
        let Ok(wanted) = progress.cast::<PyBool>() else {
            let message =
                format!("`progress` is called as `progress(step, done, total)`; `{progress}` cannot be called");
            return Err(PyTypeError::new_err(message));
        };
        let drawn = PyModule::import(py, "flow_fabric._load")?.call_method1("bar", (wanted,))?;
        let callback = drawn.call_method0("__enter__")?;
        Ok(Self { callback: (!callback.is_none()).then_some(callback), drawn: Some(drawn) })
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(drawn) = &self.drawn {
            // Closing a bar has nothing to say that the call has not said.
            let _ = drawn.call_method1("__exit__", (drawn.py().None(), drawn.py().None(), drawn.py().None()));
        }
    }
}
