//! The reference mixture-of-experts layer: an oracle for kernels, and a deterministic stand-in for a model's own layer.
//!
//! A profile ([`MoeConfig`], `[moe.NAME]` in a policy, usually little more than a [`Preset`]) compiles to a [`MoeLayer`].
//! [`MoeLayer::evaluate`] runs it on the weights that a [`WeightSource`] gives, whatever they are stored as. There are two
//! evaluators:
//!
//! - [`Evaluator::Exact`]: f64 everywhere, one rounding at the end. What arithmetic without rounding gives.
//! - [`Evaluator::Rounded`]: f32, with a rounding at each place that the layer names. What one implementation gives.
//!
//! What both promise: sums grow in an order that the layer fixes; ties go to the lower expert; experts are chosen off a
//! list, never by overwriting scores; a router that gives NaN or infinity is an error. The result is the same for any
//! number of threads. The matrix products are matrixmultiply's and fuse multiply and add where the machine can, so the
//! last bit of a sum may differ between machines; after the rounding of the output that is rarely seen.
//!
//! [`Comparison`] holds a kernel's result against it, [`TestCase`] makes inputs.
//!
//! ```
//! use flow_fabric::Dtype;
//! use flow_fabric::moe::{CaseKind, CaseSizes, Evaluator, Input, MoeConfig, MoeLayer, Preset, TestCase};
//!
//! let config = MoeConfig { preset: Some(Preset::Grok1), ..MoeConfig::default() };
//! let layer = MoeLayer::compile(&config).unwrap();
//! let case = TestCase::new(CaseKind::Ties, &layer, CaseSizes::default(), 7).unwrap();
//! let input = Input { values: &case.input, hidden: 64, dtype: Dtype::Bf16 };
//! let exact = layer.evaluate(&case.weights, &input, Evaluator::Exact, false).unwrap();
//! assert_eq!(exact.output.len(), 32 * 64);
//! assert_eq!(exact.routing.ids[0] + 1, exact.routing.ids[1], "neighbours tie, the lower one comes first");
//! ```

mod activation;
mod compare;
mod config;
mod evaluate;
mod geometry;
mod inputs;
mod layer;
mod number;
mod preset;
mod product;
mod report;
mod router;
mod stored;
mod weights;

pub(crate) use config::FIELDS;

pub use compare::{Comparison, RouteComparison, RouteVerdict, Tolerance, ToleranceKind, ULP_BUCKETS};
pub use config::{
    Activation, Combine, FusedLayout, GroupScore, MoeConfig, MoeRounding, MoeTensors, Normalize, Orientation, Preset,
    Round, Score,
};
pub use evaluate::{Evaluation, Evaluator, Input, MoeError, Stages};
pub use inputs::{CaseKind, CaseSizes, TestCase};
pub use layer::MoeLayer;
pub use report::{ComparisonReport, MOE_FORMAT, MoeReport, RouteGap, RouteReport};
pub use router::Routing;
pub use stored::StoredWeights;
pub use weights::{MemoryWeights, WeightError, WeightSource};
