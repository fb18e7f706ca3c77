//! Which layer a weight belongs to, and how many there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::Inventory;
use crate::pattern::Separators;
use crate::policy::Policy;

/// Numbers of layers found under one prefix, in order.
type Numbers = BTreeSet<u64>;

/// Position of a weight's layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// The number in the path.
    pub number: u64,
    /// Its rank among the layers that count, from 0.
    pub position: u64,
    /// How many count.
    pub count: u64,
}

/// The layers of a checkpoint, counted per prefix.
///
/// The layer is the first all-digit token; failing that the first `name_N` token whose siblings number 0 to n without a
/// gap. Numbers that a policy ignores do not count, and weights under them have no layer.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    digits: BTreeMap<String, Numbers>,
    stems: BTreeMap<String, Numbers>,
    named: BTreeMap<String, BTreeMap<String, Numbers>>,
    ignored: BTreeSet<u64>,
    separators: Separators,
}

impl Layers {
    /// Counts the layers of `paths`; `named` are the `of` tokens that rules use.
    pub fn new<'a>(
        paths: impl IntoIterator<Item = &'a str>,
        separators: &Separators,
        ignored: &[u64],
        named: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut layers = Self {
            named: named.into_iter().map(|of| (of.to_owned(), BTreeMap::new())).collect(),
            ignored: ignored.iter().copied().collect(),
            separators: separators.clone(),
            ..Self::default()
        };
        for path in paths {
            if let Some((prefix, number)) = all_digits(path, separators) {
                layers.digits.entry(prefix.to_owned()).or_default().insert(number);
            } else {
                for (prefix, number) in stems(path, separators) {
                    layers.stems.entry(prefix.to_owned()).or_default().insert(number);
                }
            }
            for (of, found) in &mut layers.named {
                if let Some((prefix, number)) = numbered_by(path, of, separators) {
                    found.entry(prefix.to_owned()).or_default().insert(number);
                }
            }
        }
        layers
    }

    /// Counts the layers of a checkpoint as a policy's conditions ask.
    #[must_use]
    pub fn of_policy(policy: &Policy, inventory: &Inventory) -> Self {
        let paths = inventory.weights.iter().map(|weight| weight.path.as_str());
        Self::new(paths, &policy.separators, &policy.ignored_layers, policy.layer_conditions().flatten())
    }

    /// The layer of a path, by the token `of` when one is named.
    #[must_use]
    pub fn of(&self, path: &str, of: Option<&str>) -> Option<Layer> {
        if let Some(of) = of {
            let (prefix, number) = numbered_by(path, of, &self.separators)?;
            return self.position(self.named.get(of)?.get(prefix)?, number);
        }
        if let Some((prefix, number)) = all_digits(path, &self.separators) {
            return self.position(self.digits.get(prefix)?, number);
        }
        stems(path, &self.separators).find_map(|(prefix, number)| {
            let numbers = self.stems.get(prefix)?;
            let gapless = numbers.iter().copied().eq(0..numbers.len() as u64);
            if gapless && numbers.len() > 1 { self.position(numbers, number) } else { None }
        })
    }

    fn position(&self, numbers: &Numbers, number: u64) -> Option<Layer> {
        if self.ignored.contains(&number) {
            return None;
        }
        let counted = |numbers: &Numbers| numbers.difference(&self.ignored).count() as u64;
        let before = numbers.range(..number).filter(|n| !self.ignored.contains(n)).count() as u64;
        Some(Layer { number, position: before, count: counted(numbers) })
    }
}

/// The text before the first all-digit token, and its number.
fn all_digits<'a>(path: &'a str, separators: &Separators) -> Option<(&'a str, u64)> {
    tokens(path, separators).find_map(|(start, token)| {
        let digits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
        if digits { Some((path.get(..start)?, token.parse().ok()?)) } else { None }
    })
}

/// The text up to the number of every `name_N` token, and the number.
fn stems<'a>(path: &'a str, separators: &'a Separators) -> impl Iterator<Item = (&'a str, u64)> {
    tokens(path, separators).filter_map(|(start, token)| {
        let (stem, number) = token.rsplit_once('_')?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if digits && !stem.is_empty() {
            Some((path.get(..start + stem.len() + 1)?, number.parse().ok()?))
        } else {
            None
        }
    })
}

/// The text before the first token that `of` names, and the number at its `*`.
fn numbered_by<'a>(path: &'a str, of: &str, separators: &Separators) -> Option<(&'a str, u64)> {
    let (head, tail) = of.split_once('*')?;
    tokens(path, separators).find_map(|(start, token)| {
        let number = token.strip_prefix(head)?.strip_suffix(tail)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if digits { Some((path.get(..start)?, number.parse().ok()?)) } else { None }
    })
}

/// Tokens with their byte offsets.
fn tokens<'a>(path: &'a str, separators: &'a Separators) -> impl Iterator<Item = (usize, &'a str)> {
    separators.split(path).scan(0, |at, token| {
        let start = *at;
        // Separators are ASCII.
        *at += token.len() + 1;
        Some((start, token))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(paths: &[&str], ignored: &[u64]) -> Layers {
        Layers::new(paths.iter().copied(), &Separators::default(), ignored, ["block_*"])
    }

    #[test]
    fn the_first_all_digit_token_counts_per_prefix() {
        let layers =
            layers(&["model.layers.0.w", "model.layers.1.experts.7.w", "model.layers.3.w", "vision.0.w"], &[3]);
        let at = |path| layers.of(path, None);
        assert_eq!(at("model.layers.1.experts.7.w"), Some(Layer { number: 1, position: 1, count: 2 }));
        assert_eq!(at("vision.0.w"), Some(Layer { number: 0, position: 0, count: 1 }));
        assert_eq!(at("model.layers.3.w"), None, "ignored");
        assert_eq!(at("model.norm.w"), None);
    }

    #[test]
    fn a_numbered_name_counts_when_its_siblings_have_no_gap() {
        let layers = layers(
            &[
                "t/decoder_layer_0/rms_norm_1/scale",
                "t/decoder_layer_1/rms_norm_1/scale",
                "t/decoder_layer_1/linear_1/w",
            ],
            &[],
        );
        let layer = layers.of("t/decoder_layer_1/rms_norm_1/scale", None).unwrap();
        assert_eq!((layer.number, layer.count), (1, 2));
        assert_eq!(layers.of("t/head/linear_1/w", None), None);
    }

    #[test]
    fn of_names_the_token() {
        let layers = layers(&["3/block_0/w", "3/block_4/w"], &[]);
        assert_eq!(layers.of("3/block_4/w", Some("block_*")), Some(Layer { number: 4, position: 1, count: 2 }));
    }
}
