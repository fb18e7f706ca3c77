//! `--watch`: runs a verb again whenever one of its files changes.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Outcome, Stop, Ui};

/// How often files are looked at. Editors save in one go, so that one look after a change sees all of it.
const INTERVAL: Duration = Duration::from_millis(250);

/// What tells one state of a file from another; `None` while it is absent, as editors that save by renaming leave it.
type Stamp = Option<(SystemTime, u64)>;

/// Runs `once` now and after every change of the files that it opens; ends only by interruption or a closed pipe.
pub(super) fn watch(ui: &mut Ui, once: impl Fn(&mut Ui) -> Result<Outcome, Stop>) -> Result<Outcome, Stop> {
    loop {
        match once(ui) {
            Ok(_) => {}
            Err(Stop::ClosedPipe) => return Err(Stop::ClosedPipe),
            Err(stop) => stop.say(ui),
        }
        ui.flush()?;
        let files = ui.take_opened();
        let seen: Vec<Stamp> = files.iter().map(|file| stamp(file)).collect();
        ui.narrate("watching for changes; interrupt to stop\n");
        while files.iter().map(|file| stamp(file)).eq(seen.iter().copied()) {
            std::thread::sleep(INTERVAL);
        }
        ui.narrate("\n");
    }
}

fn stamp(file: &Path) -> Stamp {
    let data = std::fs::metadata(file).ok()?;
    Some((data.modified().ok()?, data.len()))
}
