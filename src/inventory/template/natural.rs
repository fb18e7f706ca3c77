//! Numbers inside paths: cutting at them and ordering by them.

use std::cmp::Ordering;

/// Cuts a path at its numbers: `n` numbers and the `n + 1` texts around them.
///
/// A run of digits is a number when writing the number gives the run back; `007` and what is beyond 64 bits is text.
pub(super) fn cut(path: &str) -> (Vec<&str>, Vec<u64>) {
    let bytes = path.as_bytes();
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    let (mut text_start, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        if !byte.is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let (run, before) = (path.get(start..at).unwrap_or(""), path.get(text_start..start).unwrap_or(""));
        if let Some(number) = exact(run) {
            texts.push(before);
            numbers.push(number);
            text_start = at;
        }
    }
    texts.push(path.get(text_start..).unwrap_or(""));
    (texts, numbers)
}

fn exact(digits: &str) -> Option<u64> {
    if digits.len() > 1 && digits.starts_with('0') { None } else { digits.parse().ok() }
}

/// Orders texts as people do: runs of digits by value, everything else by character.
///
/// ```
/// use std::cmp::Ordering;
/// use flow_fabric::inventory::natural_cmp;
/// assert_eq!(natural_cmp("layer_2/w", "layer_10/a"), Ordering::Less);
/// assert_eq!(natural_cmp("a", "a"), Ordering::Equal);
/// ```
#[must_use]
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (text_a, text_b) = (head(&mut left, false), head(&mut right, false));
        let (digits_a, digits_b) = (head(&mut left, true), head(&mut right, true));
        let order = text_a.cmp(text_b).then_with(|| {
            let (value_a, value_b) = (digits_a.trim_start_matches('0'), digits_b.trim_start_matches('0'));
            // No digits at all come before a zero.
            digits_a
                .is_empty()
                .cmp(&digits_b.is_empty())
                .reverse()
                .then_with(|| value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b)))
        });
        if order != Ordering::Equal {
            return order;
        }
        if left.is_empty() && right.is_empty() {
            // Equal but for leading zeros, if at all.
            return a.cmp(b);
        }
    }
}

/// Takes the leading digits, or everything up to the first digit.
fn head<'a>(text: &mut &'a str, digits: bool) -> &'a str {
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (head, tail) = text.split_at(end);
    *text = tail;
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_what_is_not_a_canonical_number() {
        assert_eq!(cut("layer_12/w3"), (vec!["layer_", "/w", ""], vec![12, 3]));
        assert_eq!(cut("0"), (vec!["", ""], vec![0]));
        assert_eq!(cut("a007b8"), (vec!["a007b", ""], vec![8]));
        assert_eq!(cut("99999999999999999999"), (vec!["99999999999999999999"], vec![]));
        assert_eq!(cut(""), (vec![""], vec![]));
    }

    #[test]
    fn natural_order_is_total_and_numeric() {
        let sorted = ["", "0", "1", "2", "10", "a", "a0", "a00", "a0b", "a1", "a01", "a1/b", "a2", "a10", "b"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                if a.trim_end_matches('0') != b.trim_end_matches('0') {
                    assert_eq!(natural_cmp(a, b), natural_cmp(b, a).reverse(), "{a} {b}");
                }
                if i == j {
                    assert_eq!(natural_cmp(a, b), Ordering::Equal);
                }
            }
        }
        let mut again = ["a10", "b", "a2", "a", "10", "2"];
        again.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(again, ["2", "10", "a", "a2", "a10", "b"]);
    }
}
