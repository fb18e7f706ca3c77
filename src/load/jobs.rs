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
    /// The chunk that is read whole, so that its digest can be held against it.
    pub(super) check: Option<Check>,
}

/// A chunk of a stored tensor that has a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// Its number.
    pub(super) chunk: u64,
    /// Its bytes, from the start of the tensor.
    pub(super) range: Range<u64>,
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
    /// What of it has a digest.
    pub(super) checks: &'a [Checked],
}

/// A chunk with a digest, in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    /// Index of the part in the job.
    pub(super) part: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Memory that requests are put together in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pieces: Vec<Placed>,
    checks: Vec<Checked>,
}

/// Long pieces are cut where pages and most direct-I/O blocks begin.
const PAGE: u64 = 4096;

/// Cuts the wanted bytes of targets, which are of one file and in its order.
///
/// `digested` gives the length of the chunks that a target has digests of, where it is to be verified.
pub(super) fn cut<'a>(
    targets: impl IntoIterator<Item = (usize, &'a Target)>,
    cutting: Cutting,
    digested: impl Fn(usize) -> Option<u64>,
) -> Vec<Job> {
    let mut cutter = Cutter { cutting, jobs: Vec::new(), parts: Vec::new(), read: 0, end: 0 };
    for (index, target) in targets {
        let base = target.place.map_or(0, |place| place.offset);
        if let Some(chunk_bytes) = digested(index) {
            cutter.push_chunks(index, target, chunk_bytes.max(1));
            continue;
        }
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

    /// Takes the chunks of a target that hold wanted bytes, each read whole.
    fn push_chunks(&mut self, index: usize, target: &Target, chunk_bytes: u64) {
        let base = target.place.map_or(0, |place| place.offset);
        let span = target.slice.span();
        let mut chunk = span.start / chunk_bytes;
        while chunk.saturating_mul(chunk_bytes) < span.end {
            let start = chunk * chunk_bytes;
            let range = start..start.saturating_add(chunk_bytes).min(target.length);
            let positions = target.slice.wanted_before(range.start)..target.slice.wanted_before(range.end);
            if !positions.is_empty() {
                let (offset, length) = (base.saturating_add(start), range.end - range.start);
                if !self.parts.is_empty() && self.read.saturating_add(length) > self.cutting.chunk {
                    self.flush();
                }
                let between = if self.parts.is_empty() { None } else { between(self.end, offset, self.cutting.gap) };
                self.read += between.unwrap_or(0) + length;
                self.end = offset + length;
                self.parts.push(Part { target: index, positions, check: Some(Check { chunk, range }) });
            }
            chunk += 1;
        }
    }

    fn take(&mut self, target: usize, position: u64, offset: u64, length: u64, between: Option<u64>) {
        self.read += between.unwrap_or(0) + length;
        self.end = offset + length;
        match self.parts.last_mut() {
            Some(part) if part.target == target && part.check.is_none() => part.positions.end = position + length,
            _ => self.parts.push(Part { target, positions: position..position + length, check: None }),
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
    /// Goes through the requests of the job, in the order of the file.
    pub(super) fn requests<E>(
        &self,
        targets: &[Target],
        gap: u64,
        scratch: &mut Scratch,
        mut each: impl FnMut(Request<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Scratch { pieces, checks } = scratch;
        pieces.clear();
        checks.clear();
        let (mut offset, mut end) = (0, 0);
        // A span is what must be read together: a piece, or a whole chunk with all its pieces.
        let mut begin = |span: Range<u64>, pieces: &mut Vec<Placed>, checks: &mut Vec<Checked>| {
            if !pieces.is_empty() && between(end, span.start, gap).is_none() {
                each(Request { offset, length: end - offset, pieces, checks })?;
                pieces.clear();
                checks.clear();
            }
            if pieces.is_empty() {
                offset = span.start;
            }
            end = span.end;
            Ok((offset, end))
        };
        let mut last = (0, 0);
        for (index, part) in self.parts.iter().enumerate() {
            let Some(target) = targets.get(part.target) else { continue };
            let base = target.place.map_or(0, |place| place.offset);
            if let Some(Check { range, .. }) = &part.check {
                let span = base.saturating_add(range.start)..base.saturating_add(range.end);
                last = begin(span.clone(), pieces, checks)?;
                checks.push(Checked { part: index, offset: span.start, length: span.end - span.start });
            }
            for piece in target.slice.pieces(part.positions.clone()) {
                let source = base.saturating_add(piece.source);
                if part.check.is_none() {
                    last = begin(source..source + piece.length, pieces, checks)?;
                }
                pieces.push(Placed { part: index, source, target: piece.target, length: piece.length });
            }
        }
        if !pieces.is_empty() {
            let (offset, end) = last;
            each(Request { offset, length: end - offset, pieces, checks })?;
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
        let jobs = cut(targets.iter().enumerate(), cutting, |_| None);
        let mut scratch = Scratch::default();
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
                let jobs = cut(targets.iter().enumerate(), Cutting { chunk, gap }, |_| None);
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

    #[test]
    fn what_is_verified_is_read_in_whole_chunks() {
        // The second and third chunk of 1000 bytes hold the wanted rows; the small tensor is a chunk of its own.
        let rows = Extent { size: 30, start: 15, count: 10, stored: 10 };
        let targets = [target(50, &[rows, whole(100)]), target(3050, &[whole(7)])];
        let cutting = Cutting { chunk: 1 << 20, gap: 0 };
        let jobs = cut(targets.iter().enumerate(), cutting, |_| Some(1000));
        let mut seen = Vec::new();
        jobs[0]
            .requests(&targets, 0, &mut Scratch::default(), |request| {
                let checks: Vec<(u64, u64)> = request.checks.iter().map(|check| (check.offset, check.length)).collect();
                let wanted: u64 = request.pieces.iter().map(|piece| piece.length).sum();
                seen.push((request.offset, request.length, wanted, checks));
                Ok::<(), Infallible>(())
            })
            .unwrap();
        assert_eq!(seen, [(1050, 2007, 1007, vec![(1050, 1000), (2050, 1000), (3050, 7)])]);
        let chunks: Vec<u64> = jobs[0].parts.iter().filter_map(|part| Some(part.check.as_ref()?.chunk)).collect();
        assert_eq!(chunks, [1, 2, 0]);
    }
}
