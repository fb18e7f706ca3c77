//! Inventories: readers, grouping, templates.
//!
//! Hostile files, each with the finding that it gives:
//!
//! | files | cases | findings |
//! |---|---|---|
//! | safetensors headers | `hostile.rs` | `hostile_findings.snap`; `hostile_beyond_the_reference.snap` has what safetensors 0.8 takes |
//! | any byte, any prefix, any splice of a header | `hostile.rs` | the reference library's verdict, or stricter |
//! | indexes and their shards; devices, links, sparse files | `open.rs` | `hostile_indexes.snap`, `shards_that_are_links.snap`, in the tests |
//! | storage that fails or ends at any read of a header | `faults.rs` | the inventory of a good read, or a finding |
//! | pickled arrays, by hand and by numpy, ml_dtypes and jax | `pickles.rs` | `pickled_arrays.snap`, `pickled_by_libraries.snap` |
//! | torch's files, zip archives, numpy's archives | `pickles.rs` | `torch_findings.snap`, `zip_findings.snap`, in the tests |
//! | GGUF | `gguf.rs` | `gguf_findings.snap` |
//!
//! Files that change or fail while tensors are read are in `tests/load/`, storage that is full or refused in `tests/kill.rs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod archive;
mod faults;
mod generate;
mod gguf;
mod group;
mod hostile;
mod open;
mod pickles;
mod support;
mod template;
