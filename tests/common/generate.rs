//! Generators of patterns and paths.

use proptest::prelude::*;

/// A path over few characters, so that patterns meet it.
pub(crate) fn path() -> impl Strategy<Value = String> {
    "[ab1_é]{0,3}([/.][ab1_é]{0,3}){0,4}"
}

/// A whole-path regex of the dialect, mostly.
pub(crate) fn regex() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => "[ab1_]{1,2}",
        3 => Just(r"\.".to_owned()),
        1 => Just("/".to_owned()),
        3 => Just(".*".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(".+".to_owned()),
        1 => Just(r"\w+".to_owned()),
        1 => Just(r"\d".to_owned()),
        1 => Just("[ab.]".to_owned()),
        1 => Just("[^/]*".to_owned()),
        1 => Just("[./]".to_owned()),
        1 => Just(r"\b".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            1 => inner.clone().prop_map(|part| format!("(?:{part})?")),
            1 => inner.clone().prop_map(|part| format!("({part})*")),
            1 => inner.prop_map(|part| format!("(?:{part}){{1,3}}")),
        ]
    })
}

/// A glob, mostly a good one.
pub(crate) fn glob() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => "[ab1_]{1,2}",
        2 => Just("/".to_owned()),
        1 => Just(".".to_owned()),
        2 => Just("*".to_owned()),
        1 => Just("**/".to_owned()),
        1 => Just("/**".to_owned()),
        1 => Just("/**/".to_owned()),
        1 => Just("?".to_owned()),
        1 => Just("[!a_]".to_owned()),
        1 => Just("[]1-9-]".to_owned()),
        1 => Just(r"\a".to_owned()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            1 => prop::collection::vec(inner, 1..4).prop_map(|parts| format!("{{{}}}", parts.join(","))),
        ]
    })
}
