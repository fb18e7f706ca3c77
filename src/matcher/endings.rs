//! What tails make of strands.

use hashbrown::HashTable;

use super::TableId;
use super::hash;
use super::lists::number;
use super::rows::Row;
use super::strands::StrandId;

/// The outcomes of strands at the ends of tails, as far as they are known, a row for each block of tails.
#[derive(Debug)]
pub(super) struct Endings {
    rows: Vec<Entry>,
    /// Into `rows`, by what it is of and block.
    ids: HashTable<u32>,
    /// Per strand and table, the row asked for last; `NO_ROW` without any.
    last: Vec<u32>,
    tables: usize,
}

#[derive(Debug)]
struct Entry {
    strand: StrandId,
    table: TableId,
    block: u32,
    row: Row,
}

const NO_ROW: u32 = u32::MAX;

impl Endings {
    pub(super) fn new(tables: usize) -> Self {
        Self { rows: Vec::new(), ids: HashTable::new(), last: Vec::new(), tables }
    }

    /// The row of a strand for a table, if there is any.
    pub(super) fn row(&mut self, strand: StrandId, table: TableId, block: u32) -> Option<&Row> {
        let at = strand as usize * self.tables + table.index();
        let last = *self.last.get(at)?;
        let mut entry = self.rows.get(last as usize)?;
        if entry.block != block {
            let other = self.find(strand, table, block)?;
            self.last[at] = other;
            entry = &self.rows[other as usize];
        }
        Some(&entry.row)
    }

    /// Remembers the row of a strand for a table, in place of what was known.
    pub(super) fn set_row(&mut self, strand: StrandId, table: TableId, block: u32, row: Row) {
        let id = match self.find(strand, table, block) {
            Some(id) => {
                self.rows[id as usize].row = row;
                id
            }
            None => {
                let rows = &mut self.rows;
                let id = number(rows.len());
                rows.push(Entry { strand, table, block, row });
                let hash = |id: &u32| {
                    let Entry { strand, table, block, .. } = rows[*id as usize];
                    hash_of(strand, table, block)
                };
                self.ids.insert_unique(hash_of(strand, table, block), id, hash);
                id
            }
        };
        let begin = strand as usize * self.tables;
        if self.last.len() <= begin {
            self.last.resize(begin + self.tables, NO_ROW);
        }
        self.last[begin + table.index()] = id;
    }

    fn find(&self, strand: StrandId, table: TableId, block: u32) -> Option<u32> {
        let is = |id: &u32| {
            let entry = &self.rows[*id as usize];
            entry.strand == strand && entry.table == table && entry.block == block
        };
        self.ids.find(hash_of(strand, table, block), is).copied()
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        size_of::<Entry>() * self.rows.capacity() + self.ids.allocation_size() + 4 * self.last.capacity()
    }
}

fn hash_of(strand: StrandId, table: TableId, block: u32) -> u64 {
    hash::pair(strand, block ^ table.0.rotate_right(8))
}
