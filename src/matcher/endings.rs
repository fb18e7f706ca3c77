//! What tails make of strands and of states.

use hashbrown::HashTable;

use super::TableId;
use super::hash;
use super::lists::number;
use super::nfa::StateId;
use super::rows::Row;
use super::strands::StrandId;

/// The outcomes of strands and states at the ends of tails, as far as they are known, a row for each block of tails.
///
/// A strand's outcome is that of its states together. Strands have states in common, those of neighbouring experts above
/// all, so that a strand's row is soon put together from rows that are known.
#[derive(Debug)]
pub(super) struct Endings {
    rows: Vec<Entry>,
    /// Into `rows`, by what it is of and block.
    ids: HashTable<u32>,
    /// Per strand and table, the row asked for last; `NO_ROW` without any.
    last: Vec<u32>,
    tables: usize,
}

/// What a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A strand and one of the tables.
    Strand(StrandId, TableId),
    /// A state, which is of one table only.
    State(StateId),
}

#[derive(Debug)]
struct Entry {
    of: Of,
    block: u32,
    row: Row,
}

const NO_ROW: u32 = u32::MAX;

impl Endings {
    pub(super) fn new(tables: usize) -> Self {
        Self { rows: Vec::new(), ids: HashTable::new(), last: Vec::new(), tables }
    }

    /// The row of a strand for a table, if there is any.
    pub(super) fn of_strand(&mut self, strand: StrandId, table: TableId, block: u32) -> Option<&Row> {
        let at = strand as usize * self.tables + table.index();
        let last = *self.last.get(at)?;
        if self.rows.get(last as usize).is_none_or(|entry| entry.block != block) {
            self.last[at] = self.find(Of::Strand(strand, table), block)?;
        }
        self.rows.get(self.last[at] as usize).map(|entry| &entry.row)
    }

    /// The row of a state, if there is any.
    pub(super) fn of_state(&self, state: StateId, block: u32) -> Option<&Row> {
        self.find(Of::State(state), block).map(|id| &self.rows[id as usize].row)
    }

    /// The row of something, for changes; a new one if there is none.
    pub(super) fn of_mut(&mut self, of: Of, block: u32) -> &mut Row {
        let id = match self.find(of, block) {
            Some(id) => id,
            None => {
                let rows = &mut self.rows;
                let id = number(rows.len());
                rows.push(Entry { of, block, row: Row::UNKNOWN });
                let hash = |id: &u32| hash_of(rows[*id as usize].of, rows[*id as usize].block);
                self.ids.insert_unique(hash_of(of, block), id, hash);
                id
            }
        };
        if let Of::Strand(strand, table) = of {
            let begin = strand as usize * self.tables;
            if self.last.len() <= begin {
                self.last.resize(begin + self.tables, NO_ROW);
            }
            self.last[begin + table.index()] = id;
        }
        &mut self.rows[id as usize].row
    }

    fn find(&self, of: Of, block: u32) -> Option<u32> {
        let is = |id: &u32| {
            let entry = &self.rows[*id as usize];
            entry.of == of && entry.block == block
        };
        self.ids.find(hash_of(of, block), is).copied()
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        size_of::<Entry>() * self.rows.capacity() + self.ids.allocation_size() + 4 * self.last.capacity()
    }
}

fn hash_of(of: Of, block: u32) -> u64 {
    match of {
        Of::Strand(strand, table) => hash::pair(strand, block ^ table.0.rotate_right(8)),
        Of::State(state) => hash::pair(state, !block),
    }
}
