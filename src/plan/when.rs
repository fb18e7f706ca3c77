//! Conditions of rules, on what is known of a weight.

use super::layers::Layer;
use crate::Dtype;
use crate::policy::{When, WhenLayer};

/// What is known of a weight when a rule's conditions are asked. `None` = not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Logical dimensions.
    pub shape: Option<&'a [u64]>,
    /// Dtype of the values.
    pub dtype: Option<Dtype>,
    /// Stored format's name.
    pub format: Option<&'a str>,
    /// Whether layers were counted at all; without a checkpoint they are not.
    pub layers_known: bool,
}

/// The answer of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All conditions hold.
    Holds,
    /// One does not: which, as a sentence.
    Fails(String),
    /// What would have to be known.
    Undecided(Vec<&'static str>),
}

/// Asks every condition. `layer` looks the weight's layer up, by the named token if one is given.
pub fn evaluate(when: &When, facts: &Facts<'_>, layer: impl Fn(Option<&str>) -> Option<Layer>) -> Verdict {
    let mut missing = Vec::new();
    let mut failed = None;
    let mut ask = |answer: Option<Result<(), String>>, fact: &'static str| match answer {
        Some(Ok(())) => {}
        Some(Err(why)) => {
            failed.get_or_insert(why);
        }
        None => missing.push(fact),
    };
    if let Some(ranks) = &when.rank {
        ask(facts.shape.map(|shape| rank(ranks, shape)), "rank");
    }
    if let Some(dtypes) = &when.dtype {
        ask(facts.dtype.map(|dtype| one_of(dtypes, &dtype, "dtype")), "dtype");
    }
    if let Some(formats) = &when.format {
        ask(facts.format.map(|format| one_of(formats, &format.to_owned(), "format")), "format");
    }
    if let Some(sizes) = &when.shape {
        ask(facts.shape.map(|shape| sized(sizes, shape)), "shape");
    }
    if when.min_elements.is_some() || when.max_elements.is_some() {
        ask(facts.shape.map(|shape| elements(when, shape)), "shape");
    }
    if let Some(divisors) = &when.divisible_by {
        ask(facts.shape.map(|shape| divisible(divisors, shape)), "shape");
    }
    if let Some(condition) = &when.layer {
        let answer = facts.layers_known.then(|| position(condition, layer(condition.of.as_deref())));
        ask(answer, "layer");
    }
    match (failed, missing.is_empty()) {
        (Some(why), _) => Verdict::Fails(why),
        (None, true) => Verdict::Holds,
        (None, false) => {
            missing.dedup();
            Verdict::Undecided(missing)
        }
    }
}

fn rank(ranks: &[u64], shape: &[u64]) -> Result<(), String> {
    let rank = shape.len() as u64;
    if ranks.contains(&rank) { Ok(()) } else { Err(format!("wants rank {}, found {rank}", alternatives(ranks))) }
}

fn one_of<T: PartialEq + std::fmt::Display>(wanted: &[T], found: &T, what: &str) -> Result<(), String> {
    if wanted.contains(found) { Ok(()) } else { Err(format!("wants {what} {}, found {found}", alternatives(wanted))) }
}

fn sized(sizes: &[Option<u64>], shape: &[u64]) -> Result<(), String> {
    let fits = sizes.len() == shape.len()
        && sizes.iter().zip(shape).all(|(size, found)| size.is_none_or(|size| size == *found));
    if fits { Ok(()) } else { Err(format!("wants shape {}, found {shape:?}", stars(sizes))) }
}

fn elements(when: &When, shape: &[u64]) -> Result<(), String> {
    let count = shape.iter().try_fold(1u64, |count, size| count.checked_mul(*size)).unwrap_or(u64::MAX);
    if let Some(min) = when.min_elements.filter(|min| count < *min) {
        return Err(format!("wants at least {min} elements, found {count}"));
    }
    match when.max_elements.filter(|max| count > *max) {
        Some(max) => Err(format!("wants at most {max} elements, found {count}")),
        None => Ok(()),
    }
}

fn divisible(divisors: &[Option<u64>], shape: &[u64]) -> Result<(), String> {
    let fits = divisors.len() == shape.len()
        && divisors.iter().zip(shape).all(|(divisor, size)| divisor.is_none_or(|divisor| size % divisor.max(1) == 0));
    if fits { Ok(()) } else { Err(format!("wants dimensions divisible by {}, found {shape:?}", stars(divisors))) }
}

fn position(condition: &WhenLayer, layer: Option<Layer>) -> Result<(), String> {
    let Some(layer) = layer else { return Err("wants a layer, found none in the path".to_owned()) };
    let Layer { number, position, count } = layer;
    let first = condition.first.is_some_and(|first| position < first.of(count));
    let last = condition.last.is_some_and(|last| position >= count - last.of(count));
    let every = condition.every.is_some_and(|every| position % every.max(1) == 0);
    let among = condition.among.as_ref().is_some_and(|among| among.contains(&number));
    if first || last || every || among { Ok(()) } else { Err(format!("wants other layers than {number} of {count}")) }
}

fn alternatives<T: std::fmt::Display>(wanted: &[T]) -> String {
    wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn stars(sizes: &[Option<u64>]) -> String {
    let sizes: Vec<String> =
        sizes.iter().map(|size| size.map_or_else(|| "*".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::LayerCount;

    fn ask(when: &When, facts: &Facts<'_>) -> Verdict {
        evaluate(when, facts, |_| Some(Layer { number: 3, position: 3, count: 16 }))
    }

    #[test]
    fn every_condition_can_hold_fail_and_be_undecided() {
        let facts =
            Facts { shape: Some(&[8, 6144]), dtype: Some(Dtype::Bf16), format: Some("plain"), layers_known: true };
        let layer = |change: fn(&mut WhenLayer)| {
            let mut layer = WhenLayer::default();
            change(&mut layer);
            When { layer: Some(layer), ..When::default() }
        };
        let cases = [
            (When { rank: Some(vec![2, 3]), ..When::default() }, true),
            (When { rank: Some(vec![1]), ..When::default() }, false),
            (When { dtype: Some(vec![Dtype::F32, Dtype::Bf16]), ..When::default() }, true),
            (When { dtype: Some(vec![Dtype::F32]), ..When::default() }, false),
            (When { format: Some(vec!["grok-1".into()]), ..When::default() }, false),
            (When { shape: Some(vec![None, Some(6144)]), ..When::default() }, true),
            (When { shape: Some(vec![Some(6144)]), ..When::default() }, false),
            (When { min_elements: Some(49152), ..When::default() }, true),
            (When { min_elements: Some(49153), ..When::default() }, false),
            (When { max_elements: Some(49151), ..When::default() }, false),
            (When { divisible_by: Some(vec![None, Some(128)]), ..When::default() }, true),
            (When { divisible_by: Some(vec![Some(3), None]), ..When::default() }, false),
            (layer(|layer| layer.first = Some(LayerCount::Fraction(1, 4))), true),
            (layer(|layer| layer.first = Some(LayerCount::Count(3))), false),
            (layer(|layer| layer.last = Some(LayerCount::Count(13))), true),
            (layer(|layer| layer.last = Some(LayerCount::Fraction(1, 8))), false),
            (layer(|layer| layer.every = Some(3)), true),
            (layer(|layer| layer.every = Some(2)), false),
            (layer(|layer| layer.among = Some(vec![3])), true),
            (layer(|layer| layer.among = Some(vec![4])), false),
        ];
        for (when, holds) in cases {
            let verdict = ask(&when, &facts);
            assert_eq!(verdict == Verdict::Holds, holds, "{when:?}: {verdict:?}");
            assert!(matches!(ask(&when, &Facts::default()), Verdict::Undecided(_)), "{when:?}");
        }
    }

    #[test]
    fn a_known_failure_decides_whatever_is_unknown() {
        let when = When { rank: Some(vec![3]), dtype: Some(vec![Dtype::F32]), ..When::default() };
        let facts = Facts { shape: Some(&[1]), ..Facts::default() };
        assert_eq!(ask(&when, &facts), Verdict::Fails("wants rank 3, found 1".into()));
    }
}
