//! Named places where tests make a run die or fail. In release builds there is nothing here.
//!
//! The binary arms one from its environment (the library reads none): `FLOW_FABRIC_FAILPOINT=NAME[:COUNT]=ACTION`, where the
//! action is `kill` (SIGKILL, at the COUNT-th time the place is reached), `panic`, or the name of an error (`ENOSPC`, `EACCES`,
//! `EROFS`, `EIO`).

#[cfg(all(debug_assertions, unix))]
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

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Arms a place; what cannot be read arms nothing. The first call holds.
    #[cfg(feature = "cli")]
    pub(crate) fn arm(text: &str) {
        let mut parts = text.rsplitn(2, '=');
        let (Some(action), Some(place)) = (parts.next(), parts.next()) else { return };
        let (name, count) = place.split_once(':').unwrap_or((place, "1"));
        let Ok(count) = count.parse() else { return };
        let armed = Armed { name: name.to_owned(), count, action: action.to_owned(), reached: AtomicU64::new(0) };
        let _ = ARMED.set(armed);
    }

    /// Marks a place.
    #[inline]
    pub(crate) fn hit(name: &str) -> io::Result<()> {
        match ARMED.get() {
            Some(armed) if armed.name == name => armed.hit(),
            _ => Ok(()),
        }
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
                "panic" => panic!("failpoint {}", self.name),
                "ENOSPC" => rustix::io::Errno::NOSPC,
                "EACCES" => rustix::io::Errno::ACCESS,
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

#[cfg(all(debug_assertions, unix))]
#[cfg(feature = "cli")]
pub(crate) use armed::arm;
#[cfg(all(debug_assertions, unix))]
pub(crate) use armed::hit;

/// Marks a place.
#[cfg(not(all(debug_assertions, unix)))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "as in debug builds")]
pub(crate) fn hit(_: &str) -> std::io::Result<()> {
    Ok(())
}
