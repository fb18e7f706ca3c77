//! Threads for work that waits for disks.
//!
//! Blocking reads would starve a pool that is made for computing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

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
    for part in on_threads(threads.min(items.len()), worker) {
        match part {
            Ok(results) => done.extend(results),
            Err(error) if first.as_ref().is_none_or(|(at, _)| error.0 < *at) => first = Some(error),
            Err(_) => {}
        }
    }
    if let Some((_, error)) = first {
        return Err(error);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Runs a function on that many threads at once, the caller's among them, and gives what came of each. Where the system has no
/// more threads to give, fewer run it.
pub(crate) fn on_threads<R: Send>(threads: usize, run: impl Fn() -> R + Sync) -> Vec<R> {
    on_threads_by(Builder::new, threads, run)
}

fn on_threads_by<R: Send>(builder: fn() -> Builder, threads: usize, run: impl Fn() -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map_while(|_| builder().spawn_scoped(scope, &run).ok()).collect();
        let mut done = vec![run()];
        for other in others {
            done.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_threads_do_the_work_where_the_system_has_no_more() {
        let (next, count) = (AtomicUsize::new(0), 100);
        let run = || (0..).take_while(|_| next.fetch_add(1, Ordering::Relaxed) < count).count();
        // No address space holds such a stack.
        let done = on_threads_by(|| Builder::new().stack_size(1 << 60), 8, run);
        assert_eq!(done, [count]);
        next.store(0, Ordering::Relaxed);
        let done = on_threads(8, run);
        assert_eq!((done.len(), done.iter().sum::<usize>()), (8, count));
    }

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
