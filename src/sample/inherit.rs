//! Profiles that build on profiles.

use std::collections::BTreeMap;

use super::compile::ConfigIssue;
use super::config::SamplerConfig;
use crate::finding::{Code, code};

/// A profile with everything it inherits.
///
/// # Errors
///
/// An unknown name (the first one asked for, or one that `inherit` names), or a circle.
///
/// ```
/// use std::collections::BTreeMap;
/// use flow_fabric::sample::{SamplerConfig, resolve};
/// let base = SamplerConfig { temperature: Some(0.7), top_k: Some(40), ..SamplerConfig::default() };
/// let child = SamplerConfig { inherit: Some("base".into()), top_k: Some(7), ..SamplerConfig::default() };
/// let profiles = BTreeMap::from([("base".to_owned(), base), ("child".to_owned(), child)]);
/// let resolved = resolve("child", &profiles).unwrap();
/// assert_eq!((resolved.temperature, resolved.top_k), (Some(0.7), Some(7)));
/// ```
pub fn resolve(name: &str, profiles: &BTreeMap<String, SamplerConfig>) -> Result<SamplerConfig, ConfigIssue> {
    let issue = |code: &'static Code, message: String, help: String| ConfigIssue {
        key: "inherit",
        code,
        message,
        help: Some(help),
    };
    let mut resolved = SamplerConfig::default();
    let mut seen = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        let Some(profile) = profiles.get(name) else {
            let names = profiles.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let message = format!("there is no sampler `{name}`");
            return Err(issue(&code::UNKNOWN_SAMPLER, message, format!("the samplers are {names}")));
        };
        if seen.contains(&name) {
            let circle = seen.iter().chain([&name]).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
            let message = format!("`{name}` inherits itself: {circle}");
            return Err(issue(&code::INHERIT_CYCLE, message, "take out one `inherit`".to_owned()));
        }
        seen.push(name);
        resolved = resolved.over(profile);
        next = profile.inherit.as_deref();
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(links: &[(&str, &str)]) -> BTreeMap<String, SamplerConfig> {
        let profile = |base: &str| SamplerConfig {
            inherit: (!base.is_empty()).then(|| base.to_owned()),
            ..SamplerConfig::default()
        };
        links.iter().map(|(name, base)| ((*name).to_owned(), profile(base))).collect()
    }

    #[test]
    fn circles_and_unknown_names_are_named() {
        let circle = resolve("a", &profiles(&[("a", "b"), ("b", "c"), ("c", "a")])).unwrap_err();
        assert_eq!(circle.message, "`a` inherits itself: `a` -> `b` -> `c` -> `a`");
        let unknown = resolve("a", &profiles(&[("a", "z")])).unwrap_err();
        assert_eq!(
            (unknown.message.as_str(), unknown.help.as_deref()),
            ("there is no sampler `z`", Some("the samplers are `a`"))
        );
    }
}
