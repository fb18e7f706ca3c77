//! Quantization: schemes, what each layout stores, encoders and decoders, drift.

pub mod layout;
mod scheme;

pub use layout::{Encoded, EncodedComponent, Logical, NameRule, Refusal, RefusalKind, check, companions};
pub use scheme::{Arithmetic, Format, Granularity, Layout, Limits, NonFinite, Scheme, UnknownName};
