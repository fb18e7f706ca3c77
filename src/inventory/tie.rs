//! Ties: weights that are one weight under several paths.

use std::collections::HashMap;

use super::trouble::{Report, Trouble, quoted};
use super::{ByteRange, ModelConfig, Weight};
use crate::finding::code;

/// Last tokens of input embeddings.
const EMBEDDINGS: [&str; 4] = ["embed_tokens.weight", "word_embeddings.weight", "wte.weight", "shared.weight"];
/// Last tokens of output heads.
const HEADS: [&str; 2] = ["lm_head.weight", "cls.predictions.decoder.weight"];

/// Marks aliases: by the policy's `[[tie]]`, by shared storage, by the config's flag.
pub(super) fn apply(weights: &mut [Weight], ties: &[Vec<String>], config: Option<&ModelConfig>, report: &mut Report) {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    if !ties.is_empty() {
        let places: HashMap<&str, usize> =
            weights.iter().enumerate().map(|(at, weight)| (weight.path.as_str(), at)).collect();
        for tie in ties {
            let mut stored = tie.iter().filter_map(|path| places.get(path.as_str()).copied());
            if let Some(first) = stored.next() {
                pairs.extend(stored.map(|alias| (first, alias)));
            }
        }
    }
    pairs.extend(shared_storage(weights));
    if config.is_some_and(|config| config.tie_word_embeddings) {
        pairs.extend(embedding_and_head(weights));
    }
    for (first, alias) in pairs {
        tie(weights, first, alias, report);
    }
}

fn tie(weights: &mut [Weight], first: usize, alias: usize, report: &mut Report) {
    let (Some(weight), Some(other)) = (weights.get(first), weights.get(alias)) else { return };
    if first == alias || other.alias_of.is_some() {
        return;
    }
    if weight.shape != other.shape || weight.dtype != other.dtype || weight.format != other.format {
        let form = |weight: &Weight| format!("{} ({} {:?})", weight.format, weight.dtype, weight.shape);
        let message = format!(
            "{} is {}, {} is {}; they cannot be one weight",
            quoted(&weight.path),
            form(weight),
            quoted(&other.path),
            form(other)
        );
        report.push(
            Trouble::anywhere(&code::TIE_MISMATCH, message).help("they stay apart; tie only names of one tensor"),
        );
        return;
    }
    // An alias of an alias is an alias of the weight itself.
    let path = weight.alias_of.clone().unwrap_or_else(|| weight.path.clone());
    let old = other.path.clone();
    if path == old {
        return;
    }
    for weight in weights.iter_mut().filter(|weight| weight.alias_of.as_ref() == Some(&old)) {
        weight.alias_of = Some(path.clone());
    }
    if let Some(other) = weights.get_mut(alias) {
        other.alias_of = Some(path);
    }
}

/// Weights that a file keeps in the same bytes, each with the first that has them.
fn shared_storage(weights: &[Weight]) -> Vec<(usize, usize)> {
    let mut owners: HashMap<ByteRange, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (at, weight) in weights.iter().enumerate() {
        let Some(bytes) = weight.components.first().map(|component| component.tensor.bytes) else { continue };
        if bytes.file.is_none() || bytes.offset.is_none() || bytes.length == 0 {
            continue;
        }
        let owner = *owners.entry(bytes).or_insert(at);
        // A view of other shape over the same bytes is no alias.
        if owner != at && weights.get(owner).is_some_and(|owner| owner.shape == weight.shape) {
            pairs.push((owner, at));
        }
    }
    pairs
}

/// The embedding and the head, if both are stored and there is one of each.
fn embedding_and_head(weights: &[Weight]) -> Option<(usize, usize)> {
    let only = |endings: &[&str]| {
        let mut found = weights.iter().enumerate().filter(|(_, weight)| {
            endings.iter().any(|ending| {
                weight
                    .stored_path
                    .strip_suffix(ending)
                    .is_some_and(|head| head.is_empty() || head.ends_with(['.', '/']))
            })
        });
        let (at, _) = found.next()?;
        found.next().is_none().then_some(at)
    };
    Some((only(&EMBEDDINGS)?, only(&HEADS)?))
}
