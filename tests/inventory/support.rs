//! Text in, inventories out.

use std::fs::File;
use std::path::{Path, PathBuf};

use flow_fabric::finding::Finding;
use flow_fabric::inventory::{Checkpoint, Grouping, Inventory, Weight};

/// A file of `tests/data/inventories`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inventories").join(name)
}

/// Reads one of the shipped lists, which must be free of findings.
pub(crate) fn shipped(name: &str) -> Checkpoint {
    let (checkpoint, findings) = Checkpoint::from_list(File::open(data(name)).unwrap(), name).unwrap();
    assert_eq!(lines(&findings), "");
    checkpoint
}

/// Makes a checkpoint of `NAME DTYPE [SHAPE]` lines.
pub(crate) fn checkpoint(list: &str) -> Checkpoint {
    let mut json = String::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (name, dtype, shape) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        json += &format!("{}\n", serde_json::json!({"name": name, "dtype": dtype, "shape": shape_of(shape)}));
    }
    let (checkpoint, findings) = Checkpoint::from_list(json.as_bytes(), "list").unwrap();
    assert_eq!(lines(&findings), "");
    checkpoint
}

fn shape_of(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// Groups `NAME DTYPE [SHAPE]` lines; the weights and then the findings, one per line.
pub(crate) fn grouped(list: &str, grouping: &Grouping<'_>) -> String {
    render(&Inventory::group(&checkpoint(list), grouping))
}

/// Weights, then findings, one per line.
pub(crate) fn render((inventory, findings): &(Inventory, Vec<Finding>)) -> String {
    let weights: Vec<String> = inventory.weights.iter().map(weight_line).collect();
    [weights.join("\n"), lines(findings)].join("\n").trim().to_owned()
}

fn weight_line(weight: &Weight) -> String {
    let roles: Vec<&str> = weight.components.iter().map(|component| component.role.name()).collect();
    let from = if weight.path == weight.stored_path { String::new() } else { format!(" from {}", weight.stored_path) };
    let alias = weight.alias_of.as_ref().map_or_else(String::new, |of| format!(" = {of}"));
    format!("{} {} {} {:?} <{}>{from}{alias}", weight.path, weight.format, weight.dtype, weight.shape, roles.join(" "))
}

/// Findings with their places, one per line.
pub(crate) fn lines(findings: &[Finding]) -> String {
    use std::fmt::Write as _;

    use flow_fabric::finding::Place;

    let mut out = String::new();
    for finding in findings {
        write!(out, "{} {}", finding.code.id, finding.code.name).unwrap();
        if let Some(Place::File { offset: Some(offset), .. }) = finding.labels.first().map(|label| &label.place) {
            write!(out, " at {offset}").unwrap();
        }
        write!(out, ": {}", finding.message).unwrap();
        for note in &finding.notes {
            write!(out, " ({note})").unwrap();
        }
        out.push('\n');
    }
    out
}

/// Paths and shapes, in order.
pub(crate) fn paths_and_shapes(inventory: &Inventory) -> Vec<(String, Vec<u64>)> {
    inventory.weights.iter().map(|weight| (weight.path.clone(), weight.shape.clone())).collect()
}
