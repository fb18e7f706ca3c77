//! Cutting what is wanted of a file into jobs for threads, and each job into requests.

use std::ops::Range;

use super::Target;

/// Where reads are cut, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cutting {
    /// Most that one job reads.
    pub(super) chunk: u64,
    /// Unwanted bytes between two pieces that are read along, so that one request serves both.
    pub(super) gap: u64,
}

/// What one thread reads at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Ascending in the file.
    pub(super) parts: Vec<Part>,
}

/// A range of the wanted bytes of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Index of the target.
    pub(super) target: usize,
    /// Positions in its slice.
    pub(super) positions: Range<u64>,
}

/// Wanted bytes that lie together at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Index of the part in the job.
    pub(super) part: usize,
    /// Offset in the file.
    pub(super) source: u64,
    /// Offset in the target's copy.
    pub(super) target: u64,
    pub(super) length: u64,
}

/// A range of the file that is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// What it is read for.
    pub(super) pieces: &'a [Placed],
}

/// Long pieces are cut where pages and most direct-I/O blocks begin.
const PAGE: u64 = 4096;

/// Cuts the wanted bytes of targets, which are of one file and in its order.
pub(super) fn cut<'a>(targets: impl IntoIterator<Item = (usize, &'a Target)>, cutting: Cutting) -> Vec<Job> {
    let mut cutter = Cutter { cutting, jobs: Vec::new(), parts: Vec::new(), read: 0, end: 0 };
    for (index, target) in targets {
        let base = target.place.map_or(0, |place| place.offset);
        let mut position = 0;
        for piece in target.slice.pieces(0..target.slice.wanted()) {
            cutter.push(index, position, base.saturating_add(piece.source), piece.length);
            position += piece.length;
        }
    }
    cutter.flush();
    cutter.jobs
}

struct Cutter {
    cutting: Cutting,
    jobs: Vec<Job>,
    /// The job in the making.
    parts: Vec<Part>,
    /// Bytes that it reads.
    read: u64,
    /// Where its last request ends.
    end: u64,
}

impl Cutter {
    fn push(&mut self, target: usize, mut position: u64, mut offset: u64, mut length: u64) {
        let chunk = self.cutting.chunk.max(PAGE);
        while length > 0 {
            let between = if self.parts.is_empty() { None } else { between(self.end, offset, self.cutting.gap) };
            let room = chunk.saturating_sub(self.read.saturating_add(between.unwrap_or(0)));
            if length <= room {
                self.take(target, position, offset, length, between);
                return;
            }
            // Only what is longer than a chunk is cut, and not for a small rest of one.
            if !self.parts.is_empty() && (length <= chunk || room < chunk / 2) {
                self.flush();
                continue;
            }
            let end = (offset + room) / PAGE * PAGE;
            let taken = if end > offset { end - offset } else { room };
            self.take(target, position, offset, taken, between);
            self.flush();
            (position, offset, length) = (position + taken, offset + taken, length - taken);
        }
    }

    fn take(&mut self, target: usize, position: u64, offset: u64, length: u64, between: Option<u64>) {
        self.read += between.unwrap_or(0) + length;
        self.end = offset + length;
        match self.parts.last_mut() {
            Some(part) if part.target == target => part.positions.end = position + length,
            _ => self.parts.push(Part { target, positions: position..position + length }),
        }
    }

    fn flush(&mut self) {
        if !self.parts.is_empty() {
            self.jobs.push(Job { parts: std::mem::take(&mut self.parts) });
        }
        self.read = 0;
    }
}

/// The bytes between two pieces, when one request serves both.
fn between(end: u64, next: u64, gap: u64) -> Option<u64> {
    next.checked_sub(end).filter(|between| *between <= gap)
}

impl Job {
    /// Goes through the requests of the job, in the order of the file. `pieces` is scratch memory.
    pub(super) fn requests<E>(
        &self,
        targets: &[Target],
        gap: u64,
        pieces: &mut Vec<Placed>,
        mut each: impl FnMut(Request<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        pieces.clear();
        let (mut offset, mut end) = (0, 0);
        for (index, part) in self.parts.iter().enumerate() {
            let Some(target) = targets.get(part.target) else { continue };
            let base = target.place.map_or(0, |place| place.offset);
            for piece in target.slice.pieces(part.positions.clone()) {
                let source = base.saturating_add(piece.source);
                if !pieces.is_empty() && between(end, source, gap).is_none() {
                    each(Request { offset, length: end - offset, pieces: pieces.as_slice() })?;
                    pieces.clear();
                }
                if pieces.is_empty() {
                    offset = source;
                }
                pieces.push(Placed { part: index, source, target: piece.target, length: piece.length });
                end = source + piece.length;
            }
        }
        if !pieces.is_empty() {
            each(Request { offset, length: end - offset, pieces: pieces.as_slice() })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::Dtype;
    use crate::inventory::Role;
    use crate::load::{Extent, Place, Slice};
    use crate::plan::LoadPlan;
    use crate::policy::{Read, Stage, Verify};

    /// A target at an offset of file 0 with a slice over bytes.
    fn target(offset: u64, extents: &[Extent]) -> Target {
        Target {
            name: format!("t{offset}"),
            weight: String::new(),
            role: Role::Weight,
            dtype: Dtype::U8,
            stored_shape: Vec::new(),
            start: Vec::new(),
            shape: Vec::new(),
            place: Some(Place { file: 0, offset }),
            length: extents.iter().map(|extent| extent.size).product(),
            slice: Slice::new(Dtype::U8, extents).unwrap(),
            load: LoadPlan { read: Read::Auto, stage: Stage::None, verify: Verify::None },
            partition_rule: None,
            loader_rule: None,
            reshape: None,
        }
    }

    fn whole(size: u64) -> Extent {
        Extent { size, start: 0, count: size, stored: size }
    }

    fn columns(rows: u64, size: u64, start: u64, count: u64) -> [Extent; 2] {
        [whole(rows), Extent { size, start, count, stored: count }]
    }

    /// Offset and length of every request, job by job.
    fn requests(targets: &[Target], cutting: Cutting) -> Vec<Vec<(u64, u64)>> {
        let jobs = cut(targets.iter().enumerate(), cutting);
        let mut scratch = Vec::new();
        jobs.iter()
            .map(|job| {
                let mut out = Vec::new();
                job.requests(targets, cutting.gap, &mut scratch, |request| {
                    out.push((request.offset, request.length));
                    Ok::<(), Infallible>(())
                })
                .unwrap();
                out
            })
            .collect()
    }

    #[test]
    fn neighbours_within_the_gap_are_one_request() {
        let targets = [target(100, &[whole(50)]), target(150, &[whole(10)]), target(200, &[whole(10)])];
        let at = |gap| requests(&targets, Cutting { chunk: 1 << 20, gap });
        assert_eq!(at(40), [[(100, 110)]]);
        assert_eq!(at(39), [vec![(100, 60), (200, 10)]]);
        assert_eq!(at(0), [vec![(100, 60), (200, 10)]]);
    }

    #[test]
    fn long_pieces_are_cut_at_pages_and_short_ones_stay_whole() {
        let targets = [target(100, &[whole(10_000)]), target(10_100, &[whole(3000)])];
        let cut = requests(&targets, Cutting { chunk: 4096, gap: 0 });
        assert_eq!(cut, [[(100, 3996)], [(4096, 4096)], [(8192, 1908)], [(10_100, 3000)]]);
    }

    #[test]
    fn rows_are_read_one_by_one_or_together() {
        let targets = [target(0, &columns(4, 1000, 100, 50))];
        let apart = requests(&targets, Cutting { chunk: 1 << 20, gap: 100 });
        assert_eq!(apart, [[(100, 50), (1100, 50), (2100, 50), (3100, 50)]]);
        assert_eq!(requests(&targets, Cutting { chunk: 1 << 20, gap: 950 }), [[(100, 3050)]]);
    }

    #[test]
    fn every_cut_covers_every_wanted_byte_once() {
        let targets = [
            target(7, &columns(40, 700, 300, 111)),
            target(28_007, &[whole(9000)]),
            target(40_000, &columns(3, 9000, 8000, 1000)),
        ];
        for chunk in [4096, 5000, 1 << 16] {
            for gap in [0, 600, 10_000] {
                let jobs = cut(targets.iter().enumerate(), Cutting { chunk, gap });
                let mut covered = vec![0_u64; targets.len()];
                for part in jobs.iter().flat_map(|job| &job.parts) {
                    assert_eq!(covered[part.target], part.positions.start, "in order and without holes");
                    covered[part.target] = part.positions.end;
                }
                let wanted: Vec<u64> = targets.iter().map(|target| target.slice.wanted()).collect();
                assert_eq!(covered, wanted);
                let longest = requests(&targets, Cutting { chunk, gap });
                let read = |job: &Vec<(u64, u64)>| job.iter().map(|(_, length)| length).sum::<u64>();
                assert!(longest.iter().all(|job| read(job) <= chunk), "{chunk} {gap}");
            }
        }
    }
}
