//! One queue of jobs for all threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::RunError;
use crate::parallel::on_threads;

/// Runs `job` for every number below `count` on as many threads as there are workers, or as the system has; `end` runs once on
/// each worker.
///
/// Numbers are handed out in order. The first error, by number, is the answer; no job begins after it.
pub(super) fn each<W: Send>(
    workers: &mut [W],
    count: usize,
    job: impl Fn(&mut W, usize) -> Result<(), RunError> + Sync,
    end: impl Fn(&mut W) + Sync,
) -> Result<(), RunError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<(usize, RunError)>> = Mutex::new(None);
    let work = |worker: &mut W| {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            if let Err(error) = job(worker, number) {
                stop.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    *failed = Some((number, error));
                }
            }
        }
        end(worker);
    };
    let threads = workers.len();
    let idle = Mutex::new(workers.iter_mut());
    on_threads(threads, || {
        let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).next();
        taken.into_iter().for_each(&work);
    });
    // Those for which the system had no thread: nothing is left to do but their end.
    idle.into_inner().unwrap_or_else(PoisonError::into_inner).for_each(work);
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Cancelled;

    #[test]
    fn every_job_runs_once_and_every_worker_ends() {
        for threads in [1, 3] {
            let mut workers = vec![(0_usize, false); threads];
            let job = |worker: &mut (usize, bool), number| {
                worker.0 += number;
                Ok(())
            };
            each(&mut workers, 100, job, |worker| worker.1 = true).unwrap();
            assert_eq!(workers.iter().map(|worker| worker.0).sum::<usize>(), 4950);
            assert!(workers.iter().all(|worker| worker.1));
        }
    }

    #[test]
    fn an_error_stops_the_queue() {
        let mut workers = [0, 0];
        let job = |worker: &mut usize, number| {
            *worker += 1;
            if number == 3 { Err(RunError::Cancelled(Cancelled)) } else { Ok(()) }
        };
        assert!(matches!(each(&mut workers, 1_000_000, job, |_| ()), Err(RunError::Cancelled(_))));
        assert!(workers.iter().sum::<usize>() < 1_000_000);
    }
}
