//! Covering a set of number tuples by products of number sets.

use std::collections::BTreeMap;

/// Up to this many kinds of remainders, a product is widened over other kinds; the search is quadratic.
const WIDENED_KINDS: usize = 64;

/// One ascending set per position; stands for all tuples that take one number of each.
pub(super) type Product = Vec<Vec<u64>>;

/// Disjoint products whose union is the given set of distinct, ascending tuples of one length.
///
/// The first position is cut into values that have equal remainders. The remainder that stands for the most tuples
/// becomes a product first, over every value whose remainder contains it; what is left over makes products of its own.
/// So one tuple more than a full product leaves that product as it was.
pub(super) fn cover(tuples: &[&[u64]]) -> Vec<Product> {
    if tuples.first().is_none_or(|tuple| tuple.is_empty()) {
        // Tuples of no numbers: there is one, or none.
        return tuples.first().map(|_| Product::new()).into_iter().collect();
    }
    let mut products = Vec::new();
    let mut push = |remainder: &[&[u64]], mut values: Vec<u64>| {
        values.sort_unstable();
        for rest in cover(remainder) {
            products.push(std::iter::once(values.clone()).chain(rest).collect());
        }
    };
    let mut kinds = kinds(tuples);
    if kinds.len() > WIDENED_KINDS {
        kinds.into_iter().for_each(|(remainder, values)| push(&remainder, values));
        return products;
    }
    while let Some((remainder, mut values)) = take_largest(&mut kinds) {
        widen(&remainder, &mut values, &mut kinds);
        push(&remainder, values);
    }
    products
}

/// Remainders and the first numbers that have them.
type Kinds<'a> = BTreeMap<Vec<&'a [u64]>, Vec<u64>>;

fn kinds<'a>(tuples: &[&'a [u64]]) -> Kinds<'a> {
    let mut kinds = Kinds::new();
    for run in tuples.chunk_by(|a, b| a.first() == b.first()) {
        let remainder = run.iter().map(|tuple| tuple.get(1..).unwrap_or_default()).collect();
        let value = run.first().and_then(|tuple| tuple.first()).copied().unwrap_or_default();
        kinds.entry(remainder).or_default().push(value);
    }
    kinds
}

/// Takes the kind that stands for the most tuples; of equals, the one with the smallest value.
fn take_largest<'a>(kinds: &mut Kinds<'a>) -> Option<(Vec<&'a [u64]>, Vec<u64>)> {
    let weight = |remainder: &[&[u64]], values: &[u64]| remainder.len().saturating_mul(values.len());
    let smallest = |values: &[u64]| std::cmp::Reverse(values.iter().min().copied());
    let largest = kinds
        .iter()
        .max_by_key(|(remainder, values)| (weight(remainder, values), smallest(values)))
        .map(|(remainder, _)| remainder.clone())?;
    kinds.remove_entry(&largest)
}

/// Takes a remainder out of every kind that contains it.
fn widen<'a>(remainder: &[&'a [u64]], values: &mut Vec<u64>, kinds: &mut Kinds<'a>) {
    for (held, others) in std::mem::take(kinds) {
        let rest = subtract(&held, remainder);
        if rest.len() + remainder.len() == held.len() {
            values.extend(&others);
            kinds.entry(rest).or_default().extend(others);
        } else {
            kinds.entry(held).or_default().extend(others);
        }
    }
}

/// What is in `all` and not in `taken`; both ascending.
fn subtract<'a>(all: &[&'a [u64]], taken: &[&[u64]]) -> Vec<&'a [u64]> {
    all.iter().copied().filter(|tuple| taken.binary_search(tuple).is_err()).collect()
}

/// Calls `visit` with every tuple of a product, the last number changing fastest.
pub(super) fn each(product: &[Vec<u64>], mut visit: impl FnMut(&[u64])) {
    fn descend(product: &[Vec<u64>], tuple: &mut Vec<u64>, visit: &mut impl FnMut(&[u64])) {
        let Some((numbers, rest)) = product.split_first() else { return visit(tuple) };
        for &number in numbers {
            tuple.push(number);
            descend(rest, tuple, visit);
            tuple.pop();
        }
    }
    descend(product, &mut Vec::with_capacity(product.len()), &mut visit);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cover_of(tuples: &[Vec<u64>]) -> Vec<Product> {
        let mut slices: Vec<&[u64]> = tuples.iter().map(Vec::as_slice).collect();
        slices.sort_unstable();
        slices.dedup();
        cover(&slices)
    }

    fn grid(first: std::ops::Range<u64>, second: std::ops::Range<u64>) -> Vec<Vec<u64>> {
        first.flat_map(|a| second.clone().map(move |b| vec![a, b])).collect()
    }

    #[test]
    fn one_tuple_more_leaves_the_product_as_it_was() {
        let full = vec![(3..61).collect::<Vec<u64>>(), (0..256).collect()];
        let mut tuples = grid(3..61, 0..256);
        assert_eq!(cover_of(&tuples), std::slice::from_ref(&full));
        tuples.push(vec![61, 0]);
        assert_eq!(cover_of(&tuples), [full.clone(), vec![vec![61], vec![0]]]);
        tuples.push(vec![30, 256]);
        assert_eq!(cover_of(&tuples), [full, vec![vec![30], vec![256]], vec![vec![61], vec![0]]]);
    }

    #[test]
    fn one_tuple_less_takes_its_row_out() {
        let mut tuples = grid(0..5, 0..4);
        tuples.retain(|tuple| *tuple != [2, 3]);
        assert_eq!(cover_of(&tuples), [vec![vec![0, 1, 3, 4], vec![0, 1, 2, 3]], vec![vec![2], vec![0, 1, 2]]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, rng_seed: proptest::test_runner::RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn products_are_disjoint_and_cover(tuples in proptest::collection::vec(proptest::collection::vec(0_u64..5, 3), 0..60)) {
            let mut covered = Vec::new();
            for product in cover_of(&tuples) {
                each(&product, |tuple| covered.push(tuple.to_vec()));
            }
            let count = covered.len();
            covered.sort();
            covered.dedup();
            prop_assert_eq!(count, covered.len());
            let mut expected = tuples;
            expected.sort();
            expected.dedup();
            prop_assert_eq!(covered, expected);
        }
    }
}
