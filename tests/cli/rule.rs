use flow_fabric::finding::CODES;

use crate::flow_fabric;

#[test]
fn a_page_in_every_format() {
    insta::assert_snapshot!("rule-human", flow_fabric("rule FF002"));
    insta::assert_snapshot!("rule-markdown", flow_fabric("rule unknown-key --format markdown"));
    insta::assert_snapshot!("rule-json", flow_fabric("rule ff002 --format json"));
}

#[test]
fn a_code_that_does_not_exist_is_refused_with_the_nearest() {
    insta::assert_snapshot!("rule-unknown", flow_fabric("rule unknwon-key"));
}

#[test]
fn without_a_code_all_are_listed_in_order() {
    let list = flow_fabric("rule");
    let ids: Vec<&str> = list.lines().skip(3 - 1).filter_map(|line| line.split(' ').next()).skip(1).collect();
    assert_eq!(ids, CODES.iter().map(|code| code.id).collect::<Vec<_>>());
}
