//! What a policy decides for one path.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::weight::PyLoadSettings;
use super::{convert, error};
use crate::plan::LoadPlan;
use crate::plan::resolve::{Answer, Candidate, PathResolution};
use crate::policy::{Policy, Rule};

/// How a policy shards, quantizes and loads the weight at a path, each with the deciding rule.
#[pyclass(frozen, name = "Resolution", module = "flow_fabric")]
pub(super) struct PyResolution {
    pub(super) policy: Arc<Policy>,
    pub(super) path: String,
    pub(super) resolution: PathResolution,
}

/// A rule that may decide, and the facts that would have to be known.
#[pyclass(frozen, get_all, eq, name = "Candidate", module = "flow_fabric")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PyCandidate {
    rule: String,
    needs: Vec<String>,
}

/// A table's answer, or the exception that says what it depends on.
fn decided(py: Python<'_>, path: &str, table: &str, answer: &Answer) -> PyResult<Option<usize>> {
    match answer {
        Answer::Decided(rule) => Ok(Some(*rule)),
        Answer::Unmatched => Ok(None),
        Answer::Undecided(candidates) => {
            let mut needs: Vec<&str> = candidates.iter().flat_map(|candidate| &candidate.needs).copied().collect();
            needs.sort_unstable();
            needs.dedup();
            let message = format!(
                "the {table} of `{path}` depends on its {}; give `resolve` what is known, or plan over a checkpoint",
                needs.join(", ")
            );
            Err(error::raise(py, error::Kind::Undecided, &message, Vec::new()))
        }
    }
}

fn name<D>(rules: &[Rule<D>], index: Option<usize>) -> Option<&str> {
    Some(&rules.get(index?)?.name.value)
}

impl PyResolution {
    fn partition(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        decided(py, &self.path, "sharding", &self.resolution.partition)
    }

    fn quantization(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        decided(py, &self.path, "quantization", &self.resolution.quantization)
    }

    fn loader(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        decided(py, &self.path, "loading", &self.resolution.loader)
    }
}

#[pymethods]
impl PyResolution {
    /// The path.
    #[getter]
    fn path(&self) -> &str {
        &self.path
    }

    /// Whether every table has an answer; otherwise see ``candidates``.
    #[getter]
    fn decided(&self) -> bool {
        let PathResolution { partition, quantization, loader, .. } = &self.resolution;
        ![partition, quantization, loader].into_iter().any(|answer| matches!(answer, Answer::Undecided(_)))
    }

    /// ``PartitionSpec(*spec)``: per leading dimension an axis, a tuple of axes or ``None``. ``None`` when no rule matches.
    #[getter]
    fn spec<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let spec = self.partition(py)?.and_then(|rule| self.resolution.spec(&self.policy, rule));
        spec.map(|spec| convert::spec(py, &spec)).transpose()
    }

    /// Name of the deciding partition rule.
    #[getter]
    fn partition_rule(&self, py: Python<'_>) -> PyResult<Option<&str>> {
        Ok(name(&self.policy.partition_rules, self.partition(py)?))
    }

    /// Name of the quantization scheme; ``None`` when the weight is kept as stored.
    #[getter]
    fn scheme(&self, py: Python<'_>) -> PyResult<Option<&str>> {
        let rule = self.quantization(py)?.and_then(|rule| self.policy.quantization_rules.get(rule));
        Ok(rule.and_then(|rule| rule.decision.scheme.value.as_deref()))
    }

    /// Name of the deciding quantization rule.
    #[getter]
    fn quantization_rule(&self, py: Python<'_>) -> PyResult<Option<&str>> {
        Ok(name(&self.policy.quantization_rules, self.quantization(py)?))
    }

    /// How the weight is read.
    #[getter]
    fn load(&self, py: Python<'_>) -> PyResult<PyLoadSettings> {
        let rule = self.loader(py)?.and_then(|rule| self.policy.loader_rules.get(rule));
        Ok(LoadPlan::new(&self.policy, rule.map(|rule| &rule.decision)).into())
    }

    /// Name of the deciding loader rule; ``None`` when the defaults of ``[loader]`` hold.
    #[getter]
    fn loader_rule(&self, py: Python<'_>) -> PyResult<Option<&str>> {
        Ok(name(&self.policy.loader_rules, self.loader(py)?))
    }

    /// The rules that may decide, in order, for each table that is undecided.
    #[getter]
    fn candidates(&self) -> std::collections::BTreeMap<&'static str, Vec<PyCandidate>> {
        fn named<D>(rules: &[Rule<D>], answer: &Answer) -> Option<Vec<PyCandidate>> {
            let Answer::Undecided(candidates) = answer else { return None };
            let candidate = |Candidate { rule, needs }: &Candidate| PyCandidate {
                rule: name(rules, Some(*rule)).unwrap_or_default().to_owned(),
                needs: needs.iter().map(|fact| (*fact).to_owned()).collect(),
            };
            Some(candidates.iter().map(candidate).collect())
        }
        let (policy, resolution) = (&self.policy, &self.resolution);
        [
            ("partition", named(&policy.partition_rules, &resolution.partition)),
            ("quantization", named(&policy.quantization_rules, &resolution.quantization)),
            ("loader", named(&policy.loader_rules, &resolution.loader)),
        ]
        .into_iter()
        .filter_map(|(table, candidates)| Some((table, candidates?)))
        .collect()
    }

    fn __repr__(&self) -> String {
        let policy = &self.policy;
        let by = |rule: &str| format!(" by {rule}");
        let shard = match &self.resolution.partition {
            Answer::Decided(rule) => {
                let spec = self.resolution.spec(policy, *rule).unwrap_or_default();
                format!("{spec}{}", by(name(&policy.partition_rules, Some(*rule)).unwrap_or_default()))
            }
            Answer::Undecided(_) => "undecided".to_owned(),
            Answer::Unmatched => "no rule".to_owned(),
        };
        let quant = match &self.resolution.quantization {
            Answer::Decided(rule) => {
                let rule = policy.quantization_rules.get(*rule);
                let scheme = rule.and_then(|rule| rule.decision.scheme.value.as_deref()).unwrap_or("keep");
                format!("{scheme}{}", by(rule.map_or("", |rule| &rule.name.value)))
            }
            Answer::Undecided(_) => "undecided".to_owned(),
            Answer::Unmatched => "keep".to_owned(),
        };
        format!("<Resolution {}: shard {shard}, quant {quant}>", self.path)
    }
}

#[pymethods]
impl PyCandidate {
    fn __repr__(&self) -> String {
        match self.needs.as_slice() {
            [] => format!("<Candidate {}>", self.rule),
            needs => format!("<Candidate {} needs {}>", self.rule, needs.join(", ")),
        }
    }
}
