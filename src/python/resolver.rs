//! A compiled policy with a matcher that remembers.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use self_cell::self_cell;

use super::error;
use crate::matcher::Matcher;
use crate::plan::resolve::{PathResolution, resolve};
use crate::plan::when::Facts;
use crate::policy::{Policy, PolicyMatcher};

self_cell!(
    /// A matcher and the graph that it borrows.
    struct Remembering {
        owner: Arc<PolicyMatcher>,
        #[covariant]
        dependent: Matcher,
    }
);

/// Resolves single paths; what one look-up learns, the next ones use.
pub(super) struct Resolver {
    matcher: Arc<PolicyMatcher>,
    remembering: Mutex<Remembering>,
}

impl Resolver {
    pub(super) fn new(matcher: PolicyMatcher) -> Self {
        let matcher = Arc::new(matcher);
        let remembering = Remembering::new(Arc::clone(&matcher), |matcher| matcher.graph.matcher());
        Self { matcher, remembering: Mutex::new(remembering) }
    }

    pub(super) fn matcher(&self) -> &PolicyMatcher {
        &self.matcher
    }

    /// Never runs Python code while the matcher is locked, so that threads that wait for it cannot wait for each other.
    pub(super) fn resolve(&self, policy: &Policy, path: &str, facts: &Facts<'_>) -> PyResult<PathResolution> {
        let mut remembering = self.remembering.lock().map_err(|_| error::poisoned())?;
        Ok(remembering.with_dependent_mut(|matcher, walk| resolve(policy, matcher, walk, path, facts)))
    }
}
