//! Named places where tests make a run die or fail. In release builds, and without the command line, there is nothing here.
//!
//! The binary arms them from its environment (the library reads none): `FLOW_FABRIC_FAILPOINT=NAME[:COUNT]=ACTION,...`, where
//! the action is `kill` (SIGKILL, at the COUNT-th time the place is reached), `interrupt` (SIGINT), `panic`, or the name of an error (`ENOSPC`,
//! `EACCES`, `EPERM`, `EROFS`, `ENOTSUP`, `EIO`).

#[cfg(all(debug_assertions, unix, feature = "cli"))]
mod armed {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        count: u64,
        action: String,
        reached: AtomicU64,
    }

    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

    /// Arms places; what cannot be read arms nothing. The first call holds.
    pub(crate) fn arm(text: &str) {
        let place = |text: &str| {
            let (place, action) = text.rsplit_once('=')?;
            let (name, count) = place.split_once(':').unwrap_or((place, "1"));
            let (name, action) = (name.to_owned(), action.to_owned());
            Some(Armed { name, count: count.parse().ok()?, action, reached: AtomicU64::new(0) })
        };
        let _ = ARMED.set(text.split(',').filter_map(place).collect());
    }

    /// Marks a place.
    #[inline]
    pub(crate) fn hit(name: &str) -> io::Result<()> {
        let armed = ARMED.get().into_iter().flatten();
        armed.filter(|armed| armed.name == name).try_for_each(Armed::hit)
    }

    impl Armed {
        #[expect(clippy::panic, reason = "a test asked for it")]
        fn hit(&self) -> io::Result<()> {
            if self.reached.fetch_add(1, Ordering::Relaxed) + 1 != self.count {
                return Ok(());
            }
            let error = match &*self.action {
                "kill" => {
                    kill();
                    return Ok(());
                }
                "interrupt" => {
                    // To this thread, so that the handler has run when this returns.
                    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
                    return Ok(());
                }
                "panic" => panic!("failpoint {}", self.name),
                "ENOTSUP" => return Err(io::ErrorKind::Unsupported.into()),
                "ENOSPC" => rustix::io::Errno::NOSPC,
                "EACCES" => rustix::io::Errno::ACCESS,
                "EPERM" => rustix::io::Errno::PERM,
                "EROFS" => rustix::io::Errno::ROFS,
                _ => rustix::io::Errno::IO,
            };
            Err(error.into())
        }
    }

    /// As `kill -9` does it: no destructor and no handler runs.
    fn kill() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(all(debug_assertions, unix, feature = "cli"))]
pub(crate) use armed::{arm, hit};

/// Marks a place.
#[cfg(not(all(debug_assertions, unix, feature = "cli")))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "as in debug builds")]
pub(crate) fn hit(_: &str) -> std::io::Result<()> {
    Ok(())
}
