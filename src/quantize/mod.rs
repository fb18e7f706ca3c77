//! Quantization: schemes, what each layout stores, encoders and decoders, drift; [`run`] carries a plan out.

mod cast;
mod codec;
mod drift;
pub mod layout;
pub mod run;
mod scheme;
mod values;

pub use codec::{Counts, Decoder, Encoder, Scratch, Settled, Survey, Undecodable, decode, encode};
pub use drift::{Breach, Drift, Figures, WorstGroup};
pub use layout::{Encoded, EncodedComponent, Logical, NameRule, Refusal, RefusalKind, check, companions};
pub use scheme::{Arithmetic, Format, Granularity, Layout, Limits, NonFinite, Scheme, UnknownName};
pub use values::{Stored, Values, narrow};
