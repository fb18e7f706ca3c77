//! Profiles of samplers and of mixture-of-experts layers: read whole, then compiled, so that a policy that loads can run.

use std::collections::{BTreeMap, BTreeSet};

use super::profiles::members;
use super::view::View;
use super::{Named, Reader};
use crate::finding::{Finding, code};
use crate::moe::{MoeConfig, MoeLayer};
use crate::policy::language;
use crate::policy::node::Node;
use crate::sample::{ConfigIssue, Sampler, SamplerConfig, resolve};
use crate::source::Spanned;

/// A sampler profile as written.
struct Profile<'a> {
    view: View<'a>,
    /// Whether all that is written could be read; what is left of the others is not judged.
    whole: bool,
    inherit: Option<Spanned<String>>,
}

type Profiles<'a> = BTreeMap<&'a str, Profile<'a>>;
type Configs = BTreeMap<String, SamplerConfig>;

/// Every sampler profile with all that it inherits.
pub(super) fn samplers(reader: &mut Reader<'_>, view: &View<'_>) -> Named<SamplerConfig> {
    let (profiles, configs) = read(reader, view);
    cycles(reader, &profiles);
    let bases: BTreeSet<&str> = profiles.values().filter_map(Profile::base).collect();
    let mut samplers = Named::new();
    for (name, _) in members(view, "sampler", &language::SAMPLER) {
        let name = name.value.as_str();
        // What has no end is refused already; it stays declared, so that slots that name it are not blamed.
        let resolved = resolve(name, &configs);
        if let Ok(config) = &resolved
            && lineage(name, &profiles).iter().all(|name| profiles.get(name).is_some_and(|profile| profile.whole))
            && let Some(profile) = profiles.get(name)
        {
            let inherited = profile.base().and_then(|base| resolve(base, &configs).ok());
            let inherited = inherited.as_ref().map(issues).unwrap_or_default();
            for issue in issues(config).into_iter().filter(|issue| !inherited.contains(issue)) {
                // What looks idle in a profile may serve one that builds on it.
                let idle = issue.code == &code::NO_EFFECT;
                if !idle || (profile.view.has_any(&[issue.key]) && !bases.contains(name)) {
                    report(reader, &profile.view, profile.inherit.as_ref(), issue);
                }
            }
        }
        samplers.insert(name.to_owned(), resolved.unwrap_or_default());
    }
    samplers
}

impl Profile<'_> {
    fn base(&self) -> Option<&str> {
        self.inherit.as_ref().map(|base| base.value.as_str())
    }
}

fn read<'a>(reader: &mut Reader<'_>, view: &View<'a>) -> (Profiles<'a>, Configs) {
    let names = view.names("sampler");
    let (mut profiles, mut configs) = (Profiles::new(), Configs::new());
    for (name, view) in members(view, "sampler", &language::SAMPLER) {
        let biases = token_ids(reader, &view);
        let (config, whole) = if biases { view.settings() } else { (SamplerConfig::default(), false) };
        let inherit = view.string("inherit");
        let known =
            inherit.as_ref().is_none_or(|base| reader.known(&code::UNKNOWN_SAMPLER, "sampler", base, names.as_deref()));
        profiles.insert(&name.value, Profile { view, whole: whole && known, inherit });
        configs.insert(name.value.clone(), config);
    }
    (profiles, configs)
}

/// Whether the keys of `logit_bias` are token ids, which the shape of the language cannot say.
fn token_ids(reader: &mut Reader<'_>, view: &View<'_>) -> bool {
    let table = view.node("logit_bias").and_then(Node::as_table);
    let entries = table.map(|table| table.entries.as_slice()).unwrap_or_default();
    let is_id = |key: &str| key.parse::<u32>().is_ok_and(|id| id.to_string() == key);
    let wrong: Vec<_> = entries.iter().map(|(key, _)| key).filter(|key| !is_id(&key.value)).collect();
    for key in &wrong {
        reader.push(
            Finding::new(&code::BAD_VALUE, format!("`{key}` is not a token id"))
                .at(key.span, "")
                .help("`logit_bias` takes ids and what is added to their logits: `{ 50256 = -100.0 }`"),
        );
    }
    wrong.is_empty()
}

/// Refuses each circle once, at its first name in the order of the alphabet.
fn cycles(reader: &mut Reader<'_>, profiles: &Profiles<'_>) {
    for (&name, profile) in profiles {
        let line = lineage(name, profiles);
        let closes = line.last().and_then(|last| profiles.get(last)).and_then(Profile::base) == Some(name);
        let Some(inherit) = profile.inherit.as_ref().filter(|_| closes && line.iter().min() == Some(&name)) else {
            continue;
        };
        let path: Vec<_> = line.iter().chain([&name]).map(|name| format!("`{name}`")).collect();
        reader.push(
            Finding::new(&code::INHERIT_CYCLE, format!("sampler `{name}` inherits itself: {}", path.join(" -> ")))
                .at(inherit.span, "")
                .help("take out one `inherit`"),
        );
    }
}

/// A profile and what it inherits, nearest first, until there is no other.
fn lineage<'a>(name: &str, profiles: &Profiles<'a>) -> Vec<&'a str> {
    let mut line: Vec<&str> = Vec::new();
    let mut next = profiles.get_key_value(name);
    while let Some((&name, profile)) = next.filter(|(name, _)| !line.contains(name)) {
        line.push(name);
        next = profile.base().and_then(|base| profiles.get_key_value(base));
    }
    line
}

/// All that is wrong, or odd, about a profile.
fn issues(config: &SamplerConfig) -> Vec<ConfigIssue> {
    match Sampler::compile(config) {
        Ok((_, warnings)) => warnings,
        Err(issues) => issues,
    }
}

/// Points at the key, else at where it is inherited, else at the profile's name.
fn report(reader: &mut Reader<'_>, view: &View<'_>, inherit: Option<&Spanned<String>>, issue: ConfigIssue) {
    let finding = Finding::new(issue.code, issue.message);
    let finding = match (view.node(issue.key), inherit) {
        (Some(node), _) => finding.at(node.span, ""),
        (None, Some(base)) => finding.at(base.span, format!("`{}` comes from here", issue.key)),
        (None, None) => finding.at(view.span, ""),
    };
    reader.push(match issue.help {
        Some(help) => finding.help(help),
        None => finding,
    });
}

/// Every profile of a mixture-of-experts layer.
pub(super) fn moes(reader: &mut Reader<'_>, view: &View<'_>) -> Named<MoeConfig> {
    let mut moes = Named::new();
    for (name, view) in members(view, "moe", &language::MOE) {
        let (config, whole): (MoeConfig, bool) = view.settings();
        let issues = if whole { MoeLayer::compile(&config).err() } else { None };
        for issue in issues.into_iter().flatten() {
            report(reader, &view, None, issue);
        }
        moes.insert(name.value.clone(), config);
    }
    moes
}
