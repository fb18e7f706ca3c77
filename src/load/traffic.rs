//! What reading comes to: bytes wanted, bytes read, requests.

use std::convert::Infallible;
use std::ops::AddAssign;

use super::jobs::{self, Cutting, Scratch};
use super::{LoadOptions, ReadPlan, Target};
use crate::manifest::{DEFAULT_CHUNK, Manifest};
use crate::policy::{Read, Stage, Verify};

/// Bytes and requests of some part of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes that the device wants.
    pub wanted: u64,
    /// Bytes that are read for it, those between pieces of one request included.
    pub read: u64,
    /// Reads.
    pub requests: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.wanted = self.wanted.saturating_add(other.wanted);
        self.read = self.read.saturating_add(other.read);
        self.requests = self.requests.saturating_add(other.requests);
    }
}

/// Foretells the traffic of each target, in the order of [`ReadPlan::targets`], for files that are not in the page cache. What is
/// staged in shared memory counts as it is read from there; see [`ReadPlan::staged_bytes`] for what is copied before. Direct reads
/// take the whole blocks around each request: that comes to it, since blocks are measured when a file is opened.
///
/// A request that serves several targets counts with the first; what lies between two pieces counts with the second. What rules
/// want verified is read in whole chunks of the manifest, or of [`DEFAULT_CHUNK`] where there is none yet.
#[must_use]
pub fn traffic(plan: &ReadPlan, options: &LoadOptions, manifest: Option<&Manifest>) -> Vec<Traffic> {
    let chunk_bytes = manifest.map_or(DEFAULT_CHUNK, |manifest| manifest.chunk_bytes);
    let digested = |target: usize| {
        let verify = plan.targets.get(target).map(|target| target.load.verify)?;
        (verify != Verify::None).then_some(chunk_bytes)
    };
    let mut traffic = vec![Traffic::default(); plan.targets.len()];
    for group in groups(plan) {
        let staged = group.first().is_some_and(|(_, target)| target.load.stage == Stage::Shm);
        let gap = if staged { options.cached_gap } else { options.gap };
        count(plan, group, Cutting { chunk: options.chunk(), gap }, digested, &mut traffic);
    }
    traffic
}

/// Adds up the requests of targets that are read together.
pub(super) fn count<'a>(
    plan: &'a ReadPlan,
    targets: impl IntoIterator<Item = (usize, &'a Target)>,
    cutting: Cutting,
    digested: impl Fn(usize) -> Option<u64>,
    traffic: &mut [Traffic],
) {
    let mut scratch = Scratch::default();
    for job in jobs::cut(targets, cutting, digested) {
        let Ok(()) = job.requests(&plan.targets, cutting.gap, &mut scratch, |request| {
            let mut end = request.offset;
            let mut last = None;
            for (number, piece) in request.pieces.iter().enumerate() {
                last = job.parts.get(piece.part).map(|part| part.target);
                if let Some(entry) = last.and_then(|target| traffic.get_mut(target)) {
                    entry.wanted += piece.length;
                    entry.read += piece.source + piece.length - end;
                    entry.requests += u64::from(number == 0);
                }
                end = piece.source + piece.length;
            }
            // The rest of a chunk that is read whole.
            if let Some(entry) = last.and_then(|target| traffic.get_mut(target)) {
                entry.read += request.offset + request.length - end;
            }
            Ok::<(), Infallible>(())
        });
    }
}

/// Targets that are read together: of one file, in its order. One without a place is a group of its own.
pub(super) fn groups(plan: &ReadPlan) -> Vec<Vec<(usize, &Target)>> {
    let mut groups: Vec<Vec<(usize, &Target)>> = Vec::new();
    for (index, target) in plan.targets.iter().enumerate() {
        let own = way(target);
        match groups.last_mut() {
            Some(group) if own.is_some() && group.last().is_some_and(|(_, last)| way(last) == own) => {
                group.push((index, target));
            }
            _ => groups.push(vec![(index, target)]),
        }
    }
    groups
}

/// From which file and how a target is read.
pub(super) fn way(target: &Target) -> Option<(usize, Read, Stage)> {
    target.place.map(|place| (place.file, target.load.read, target.load.stage))
}
