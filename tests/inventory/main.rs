//! Inventories: readers, grouping, templates.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod archive;
mod generate;
mod gguf;
mod group;
mod hostile;
mod open;
mod pickles;
mod support;
mod template;
