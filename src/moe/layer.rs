//! A layer profile, checked.

use super::config::{
    Activation, Combine, FIELDS, FusedLayout, GroupScore, MoeConfig, MoeRounding, MoeTensors, Normalize, Orientation,
    Round, Score,
};
use super::preset;
use crate::finding::code;
use crate::policy::language::Kind;
use crate::sample::ConfigIssue;

/// A mixture-of-experts layer: how its router chooses, what its experts compute, where its tensors are.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeLayer {
    pub(crate) experts: usize,
    pub(crate) top_k: usize,
    pub(crate) score: Score,
    pub(crate) groups: usize,
    pub(crate) group_top_k: usize,
    pub(crate) group_score: GroupScore,
    pub(crate) normalize: Normalize,
    pub(crate) normalize_epsilon: f64,
    pub(crate) scale: f64,
    pub(crate) activation: Activation,
    pub(crate) activation_alpha: f64,
    pub(crate) clamp: Option<f64>,
    pub(crate) up_offset: f64,
    pub(crate) shared: bool,
    pub(crate) fused_layout: FusedLayout,
    pub(crate) orientation: Orientation,
    pub(crate) router_orientation: Orientation,
    pub(crate) combine: Combine,
    pub(crate) tensors: MoeTensors,
    pub(crate) rounding: Rounding,
}

/// What each value is rounded to; see [`MoeRounding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounding {
    pub(crate) weights: Round,
    pub(crate) router_logits: Round,
    pub(crate) probabilities: Round,
    pub(crate) routing_weights: Round,
    pub(crate) gate_up: Round,
    pub(crate) activation: Round,
    pub(crate) hidden: Round,
    pub(crate) down: Round,
    pub(crate) weighted: Round,
    pub(crate) sum: Round,
    pub(crate) output: Round,
}

impl MoeConfig {
    /// This profile with its preset's settings and, for the rest, the defaults. Keys that have none stay unset.
    ///
    /// ```
    /// use flow_fabric::moe::{MoeConfig, Preset};
    /// let config = MoeConfig { preset: Some(Preset::Mixtral), ..MoeConfig::default() };
    /// assert_eq!(config.filled().experts, Some(8));
    /// ```
    #[must_use]
    pub fn filled(&self) -> Self {
        let base = self.preset.map(super::Preset::settings).unwrap_or_default();
        let mut full = self.over(&base);
        if let Some(tensors) = &mut full.tensors {
            settle_fusion(tensors, self.tensors.as_ref());
        }
        full.over(&preset::defaults())
    }
}

impl MoeLayer {
    /// Checks a profile and fills in its preset.
    ///
    /// # Errors
    ///
    /// Every key that is missing or does not fit the others.
    ///
    /// ```
    /// use flow_fabric::moe::{MoeConfig, MoeLayer, Preset};
    /// let config = MoeConfig { preset: Some(Preset::Grok1), ..MoeConfig::default() };
    /// let layer = MoeLayer::compile(&config).unwrap();
    /// assert_eq!((layer.experts(), layer.top_k()), (8, 2));
    ///
    /// let wrong = MoeConfig { top_k: Some(9), ..config };
    /// assert_eq!(MoeLayer::compile(&wrong).unwrap_err()[0].to_string(), "`top_k` is 9, but there are 8 experts");
    /// ```
    pub fn compile(config: &MoeConfig) -> Result<Self, Vec<ConfigIssue>> {
        let full = config.filled();
        let mut issues = Vec::new();
        let experts = required("experts", full.experts, &mut issues);
        let top_k = required("top_k", full.top_k, &mut issues);
        check_numbers(&full, &mut issues);
        let groups = full.groups.unwrap_or(1) as usize;
        let group_top_k = full.group_top_k.map_or(groups, |count| count as usize);
        let tensors = full.tensors.clone().unwrap_or_default();
        if issues.is_empty() {
            check_counts(experts, top_k, groups, group_top_k, &mut issues);
        }
        check_tensors(&tensors, full.shared_experts.unwrap_or(0) > 0, &mut issues);
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Self {
            experts,
            top_k,
            score: full.score.unwrap_or(Score::Softmax),
            groups,
            group_top_k,
            group_score: full.group_score.unwrap_or(GroupScore::SumOfTwo),
            normalize: full.normalize.unwrap_or(Normalize::None),
            normalize_epsilon: full.normalize_epsilon.unwrap_or(0.0),
            scale: full.scale.unwrap_or(1.0),
            activation: full.activation.unwrap_or(Activation::Silu),
            activation_alpha: full.activation_alpha.unwrap_or(1.0),
            clamp: full.clamp,
            up_offset: full.up_offset.unwrap_or(0.0),
            shared: full.shared_experts.unwrap_or(0) > 0,
            fused_layout: full.fused_layout.unwrap_or(FusedLayout::Halves),
            orientation: full.orientation.unwrap_or(Orientation::ByShape),
            router_orientation: full.router_orientation.unwrap_or(Orientation::ByShape),
            combine: full.combine.unwrap_or(Combine::Selection),
            tensors,
            rounding: Rounding::of(&full.rounding.unwrap_or_default()),
        })
    }

    /// Number of experts.
    #[must_use]
    pub const fn experts(&self) -> usize {
        self.experts
    }

    /// Experts per token.
    #[must_use]
    pub const fn top_k(&self) -> usize {
        self.top_k
    }

    /// Where the tensors are, relative to a prefix.
    #[must_use]
    pub const fn tensors(&self) -> &MoeTensors {
        &self.tensors
    }
}

impl Rounding {
    fn of(rounding: &MoeRounding) -> Self {
        let or_none = |round: Option<Round>| round.unwrap_or(Round::None);
        Self {
            weights: or_none(rounding.weights),
            router_logits: or_none(rounding.router_logits),
            probabilities: or_none(rounding.probabilities),
            routing_weights: or_none(rounding.routing_weights),
            gate_up: or_none(rounding.gate_up),
            activation: or_none(rounding.activation),
            hidden: or_none(rounding.hidden),
            down: or_none(rounding.down),
            weighted: or_none(rounding.weighted),
            sum: or_none(rounding.sum),
            output: rounding.output.unwrap_or(Round::Input),
        }
    }
}

fn issue(key: &'static str, message: impl Into<String>, help: impl Into<String>) -> ConfigIssue {
    ConfigIssue { key, code: &code::BAD_VALUE, message: message.into(), help: Some(help.into()) }
}

fn missing(key: &'static str, message: String, help: String) -> ConfigIssue {
    ConfigIssue { key, code: &code::MISSING_KEY, message, help: Some(help) }
}

fn required(key: &'static str, value: Option<u32>, issues: &mut Vec<ConfigIssue>) -> usize {
    if value.is_none() {
        issues.push(missing(key, format!("`{key}` is missing"), format!("set `{key}`, or a `preset`")));
    }
    value.unwrap_or(0) as usize
}

/// A profile that names one fused tensor does not also mean the preset's two, nor the other way round.
fn settle_fusion(tensors: &mut MoeTensors, own: Option<&MoeTensors>) {
    let Some(own) = own else { return };
    if own.gate_up.is_some() && own.gate.is_none() && own.up.is_none() {
        (tensors.gate, tensors.up) = (None, None);
    }
    if own.gate_up.is_none() && own.gate.is_some() && own.up.is_some() {
        tensors.gate_up = None;
    }
}

fn check_counts(experts: usize, top_k: usize, groups: usize, group_top_k: usize, issues: &mut Vec<ConfigIssue>) {
    if top_k > experts {
        issues.push(issue(
            "top_k",
            format!("`top_k` is {top_k}, but there are {experts} experts"),
            format!("at most {experts}"),
        ));
    } else if !experts.is_multiple_of(groups) {
        issues.push(issue(
            "groups",
            format!("{experts} experts do not make {groups} equal groups"),
            "take a divisor of `experts`",
        ));
    } else if group_top_k > groups {
        issues.push(issue(
            "group_top_k",
            format!("`group_top_k` is {group_top_k}, but there are {groups} groups"),
            format!("at most {groups}"),
        ));
    } else if top_k > experts / groups * group_top_k {
        issues.push(issue(
            "top_k",
            format!(
                "`top_k` is {top_k}, but {group_top_k} open groups hold {} experts",
                experts / groups * group_top_k
            ),
            "open more groups, or choose fewer experts",
        ));
    }
}

fn check_numbers(full: &MoeConfig, issues: &mut Vec<ConfigIssue>) {
    let integer = |value: Option<u32>| value.map(f64::from);
    let numbers = [
        ("experts", integer(full.experts)),
        ("top_k", integer(full.top_k)),
        ("groups", integer(full.groups)),
        ("group_top_k", integer(full.group_top_k)),
        ("normalize_epsilon", full.normalize_epsilon),
        ("scale", full.scale),
        ("activation_alpha", full.activation_alpha),
        ("clamp", full.clamp),
        ("up_offset", full.up_offset),
        ("shared_experts", integer(full.shared_experts)),
    ];
    for (key, value) in numbers {
        let (min, max) = match FIELDS.iter().find(|field| field.key == key).map(|field| &field.kind) {
            Some(Kind::Number { min, max }) => (*min, *max),
            #[expect(clippy::cast_precision_loss, reason = "bounds of counts are far below 2^53")]
            Some(Kind::Integer { min, max }) => (*min as f64, *max as f64),
            _ => continue,
        };
        if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
            issues.push(issue(key, format!("`{key}` cannot be {value}"), format!("{min} to {max}")));
        }
    }
}

fn check_tensors(tensors: &MoeTensors, shared: bool, issues: &mut Vec<ConfigIssue>) {
    let absent = |names: &[(&'static str, &Option<String>)]| -> Vec<&str> {
        let absent = names.iter().filter(|(_, name)| name.as_ref().is_none_or(String::is_empty));
        absent.map(|(key, _)| *key).collect()
    };
    let mut need = |keys: Vec<&str>, when: &str| {
        let Some((first, rest)) = keys.split_first() else { return };
        let list = rest.iter().fold(format!("`tensors.{first}`"), |list, key| format!("{list}, `tensors.{key}`"));
        let (verb, each) = if rest.is_empty() { ("is", "the tensor") } else { ("are", "the tensors") };
        let help = format!("name {each}, relative to `--prefix`, or set a `preset`");
        issues.push(missing("tensors", format!("{list} {verb} missing{when}"), help));
    };
    let pair = [("gate", &tensors.gate), ("up", &tensors.up)];
    let apart = if tensors.gate_up.is_none() { &pair[..] } else { &[] };
    need(absent(&[&[("router", &tensors.router)], apart, &[("down", &tensors.down)]].concat()), "");
    if shared {
        let names = [
            ("shared_gate", &tensors.shared_gate),
            ("shared_up", &tensors.shared_up),
            ("shared_down", &tensors.shared_down),
        ];
        need(absent(&names), ", and there are shared experts");
    }
    let both = [
        (
            tensors.gate_up.is_some() && (tensors.gate.is_some() || tensors.up.is_some()),
            "gate_up",
            "gate` and `tensors.up",
        ),
        (
            tensors.gate_up_bias.is_some() && (tensors.gate_bias.is_some() || tensors.up_bias.is_some()),
            "gate_up_bias",
            "gate_bias` and `tensors.up_bias",
        ),
    ];
    for (clash, fused, parts) in both {
        if clash {
            let message = format!("`tensors.{fused}` and one of `tensors.{parts}` are both named");
            issues.push(issue("tensors", message, "name the fused tensor or the two"));
        }
    }
}
