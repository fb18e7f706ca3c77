//! Loading: the bytes that one device of a mesh needs, read from a checkpoint's files.
//!
//! A [`ReadPlan`] says for each stored tensor of the device which bytes it wants and where they go ([`Slice`]). A [`Loader`]
//! reads them, several threads at a time, into tensors that own their memory; [`traffic`] foretells what it will read.
//! Nothing is re-encoded: what is loaded is what is stored, cut.

mod bounce;
mod differs;
mod disk;
mod error;
mod export;
mod jobs;
mod ladder;
mod loader;
mod options;
mod plan;
mod record;
mod report;
mod sink;
mod slice;
mod tensor;
mod traffic;
mod verify;
mod worker;

pub use differs::stored_otherwise;
pub use error::LoadError;
pub use export::{ExportError, ExportOptions, export};
pub use ladder::Rung;
pub use loader::Loader;
pub use options::LoadOptions;
pub use plan::{Place, ReadPlan, ReadPlanError, Reshape, Target};
pub use record::{
    DeviceFileRecord, LoadDocument, LoadFormat, LoadedTensorRecord, OptionsRecord, RuleTrafficRecord, TimingsRecord,
    TrafficRecord,
};
pub use report::{FileReport, LoadReport};
pub use slice::{Extent, Piece, Slice};
pub use tensor::{Loaded, LoadedTensor};
pub use traffic::{Traffic, traffic};
