//! Which chunks of which targets have digests, and holding bytes against them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::jobs::{Checked, Job};
use super::{LoadError, LoadOptions, ReadPlan, Target};
use crate::manifest::{Algorithm, Manifest, TensorDigests};
use crate::policy::Verify;

/// Digests of the targets of a plan that are to be verified, by target.
#[derive(Debug, Default)]
pub(super) struct Digested<'a> {
    targets: Vec<Option<Known<'a>>>,
    chunk_bytes: u64,
}

/// The digests of one target.
#[derive(Debug)]
struct Known<'a> {
    digests: &'a TensorDigests,
    algorithm: Algorithm,
    file: Arc<str>,
}

impl<'a> Digested<'a> {
    /// Looks the targets up that rules want verified.
    pub(super) fn new(plan: &ReadPlan, manifest: Option<&'a Manifest>) -> Result<Self, LoadError> {
        let known = |target: &Target| {
            let Some(algorithm) = algorithm(target.load.verify) else { return Ok::<_, LoadError>(None) };
            let unverified = |known| LoadError::Unverified { tensor: target.name.clone(), known };
            let manifest = manifest.ok_or_else(|| unverified(false))?;
            let file = target.place.and_then(|place| plan.files.get(place.file)).ok_or_else(|| unverified(true))?;
            let name = file.path.rsplit(['/', '\\']).next().unwrap_or(&file.path);
            let digests = manifest
                .tensor(name, &target.name)
                .filter(|digests| {
                    target.place.is_some_and(|place| place.offset == digests.offset) && digests.bytes == target.length
                })
                .ok_or_else(|| unverified(true))?;
            Ok(Some(Known { digests, algorithm, file: file.path.clone() }))
        };
        let targets = plan.targets.iter().map(known).collect::<Result<_, _>>()?;
        Ok(Self { targets, chunk_bytes: manifest.map_or(0, |manifest| manifest.chunk_bytes) })
    }

    /// Refuses chunks that the budget does not hold.
    pub(super) fn within(self, plan: &ReadPlan, options: &LoadOptions) -> Result<Self, LoadError> {
        let budget = options.budget.max(options.chunk());
        match self.largest_chunk() {
            Some((chunk, target)) if chunk > budget => {
                let tensor = plan.targets.get(target).map(|target| target.name.clone()).unwrap_or_default();
                Err(LoadError::OverBudget { tensor, chunk, budget })
            }
            _ => Ok(self),
        }
    }

    /// Bytes of the chunks of a target that is verified.
    pub(super) fn chunk_bytes(&self, target: usize) -> Option<u64> {
        self.targets.get(target)?.as_ref().map(|_| self.chunk_bytes)
    }

    /// The largest chunk that is held to be verified, in bytes, and the number of its target.
    pub(super) fn largest_chunk(&self) -> Option<(u64, usize)> {
        let chunk = |(target, known): (usize, &Option<Known<'_>>)| {
            Some((known.as_ref()?.digests.bytes.min(self.chunk_bytes), target))
        };
        self.targets.iter().enumerate().filter_map(chunk).max()
    }

    /// Holds the chunks of a request against their digests; `bytes` begin at `offset` of the file. Adds the time to `spent`.
    pub(super) fn check(
        &self,
        job: &Job,
        checks: &[Checked],
        targets: &[Target],
        offset: u64,
        bytes: &[u8],
        spent: &mut Duration,
    ) -> Result<(), LoadError> {
        if checks.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        for checked in checks {
            let Some(part) = job.parts.get(checked.part) else { continue };
            let (Some(check), Some(target)) = (&part.check, targets.get(part.target)) else { continue };
            let Some(Some(known)) = self.targets.get(part.target) else { continue };
            let start = usize::try_from(checked.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
            let length = usize::try_from(checked.length).unwrap_or(usize::MAX);
            // Bytes that are not there are a mismatch.
            let chunk = bytes.get(start..start.saturating_add(length)).unwrap_or_default();
            known.digests.check_chunk(
                check.chunk,
                chunk,
                self.chunk_bytes,
                known.algorithm,
                &target.name,
                &known.file,
            )?;
        }
        *spent += began.elapsed();
        Ok(())
    }
}

impl ReadPlan {
    /// Holds a manifest against what rules want verified; nothing is opened or read.
    ///
    /// # Errors
    /// As for [`Loader::verified_by`](super::Loader::verified_by).
    pub fn check_manifest(&self, manifest: Option<&Manifest>, options: &LoadOptions) -> Result<(), LoadError> {
        Digested::new(self, manifest)?.within(self, options).map(drop)
    }
}

const fn algorithm(verify: Verify) -> Option<Algorithm> {
    match verify {
        Verify::None => None,
        Verify::Xxh3 => Some(Algorithm::Xxh3),
        Verify::Blake3 => Some(Algorithm::Blake3),
    }
}
