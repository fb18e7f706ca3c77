//! Buffers that outlive a row.

use super::dense::{Blocks, Sample};
use super::order::Entry;
use super::row::Candidate;
use super::stage::Seen;
use super::stream::Chain;

/// Buffers for sampling rows one after another. After the first row of a size nothing is allocated any more.
///
/// It holds no state that a result depends on: any workspace gives the same token.
#[derive(Debug, Clone, Default)]
pub struct Workspace {
    /// The row's scores, where they are not the caller's own.
    pub(crate) scores: Vec<f32>,
    pub(crate) blocks: Blocks,
    /// Survivors in order, once a filter has cut the row.
    pub(crate) entries: Vec<Entry>,
    pub(crate) spare: Vec<Entry>,
    pub(crate) weights: Vec<f64>,
    pub(crate) keys: Vec<i32>,
    pub(crate) sample: Sample,
    pub(crate) marks: Marks,
    pub(crate) sequence: Vec<u32>,
    pub(crate) repeats: Vec<u32>,
    pub(crate) chain: Chain,
    pub(crate) top: Vec<Candidate>,
}

impl Workspace {
    /// The likeliest tokens of the last row, as many as `top_logprobs` asks for.
    #[must_use]
    pub fn top(&self) -> &[Candidate] {
        &self.top
    }
}

/// A number for some tokens: a count, a length. Zero for all others, and cleared at the cost of the tokens marked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    values: Vec<u32>,
    marked: Vec<u32>,
    /// What is counted at the moment, when it is the occurrences of a sequence's tokens.
    pub(crate) counted: Option<Seen>,
}

impl Marks {
    /// Forgets all marks and makes room for tokens below `tokens`.
    pub(crate) fn reset(&mut self, tokens: usize) {
        for &token in &self.marked {
            if let Some(value) = self.values.get_mut(token as usize) {
                *value = 0;
            }
        }
        self.marked.clear();
        self.values.resize(tokens.max(self.values.len()), 0);
        self.counted = None;
    }

    pub(crate) fn get(&self, token: u32) -> u32 {
        self.values.get(token as usize).copied().unwrap_or(0)
    }

    /// Changes the value of a token; tokens beyond the row are left out.
    pub(crate) fn update(&mut self, token: u32, change: impl FnOnce(u32) -> u32) {
        if let Some(value) = self.values.get_mut(token as usize) {
            let changed = change(*value);
            if *value == 0 && changed != 0 {
                self.marked.push(token);
            }
            *value = changed;
        }
    }

    /// The tokens that are marked, in the order of their first mark.
    pub(crate) fn marked(&self) -> &[u32] {
        &self.marked
    }
}
