//! Threads for work that waits for disks.
//!
//! Blocking reads would starve a pool that is made for computing.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a function over all items with some threads, each taking the next item; results in the order of the items. After an
/// error no further item is begun, and the error of the first item in order is given, whichever thread met it first.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    run: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            match run(item) {
                Ok(result) => done.push((at, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err((at, error));
                }
            }
        }
    };
    let mut done = Vec::with_capacity(items.len());
    let mut first: Option<(usize, E)> = None;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.clamp(1, items.len().max(1))).map(|_| scope.spawn(worker)).collect();
        for handle in handles {
            match handle.join() {
                Ok(Ok(results)) => done.extend(results),
                Ok(Err(error)) => {
                    if first.as_ref().is_none_or(|(at, _)| error.0 < *at) {
                        first = Some(error);
                    }
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    if let Some((_, error)) = first {
        return Err(error);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_the_items_and_the_first_error_wins() {
        let items: Vec<u32> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            assert_eq!(in_parallel::<_, _, ()>(threads, &items, |&item| Ok(item * 2)).unwrap()[99], 198);
            let failed = in_parallel(threads, &items, |&item| if item >= 40 { Err(item) } else { Ok(()) });
            assert_eq!(failed, Err(40));
        }
        assert_eq!(in_parallel::<u32, (), ()>(4, &[], |_| Err(())), Ok(vec![]));
    }
}
