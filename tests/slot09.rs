//! The spike of `examples/slot09`: the same tensors, figures and answer everywhere, and a limit that defers.

use std::path::Path;

#[path = "../examples/slot09/spike.rs"]
mod spike;
#[path = "../examples/slot09/tensors.rs"]
mod tensors;

#[test]
fn eight_bits_are_adopted_until_a_limit_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let examples = folder.path().join("examples");
    std::fs::create_dir_all(examples.join("slot09")).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    std::fs::copy(own.join("slot09.jsonl"), examples.join("slot09.jsonl")).unwrap();
    let policy = std::fs::read_to_string(own.join("slot09/policy.toml")).unwrap();
    let path = examples.join("slot09/policy.toml");
    std::fs::write(&path, &policy).unwrap();
    let adopted = spike::run(&examples, folder.path()).unwrap();
    insta::assert_snapshot!(adopted.to_string());
    assert!(adopted.is_adopted() && adopted.times().contains("int8"));

    // What the detectors have is more than so little.
    std::fs::write(&path, policy.replace("max_relative_error = 0.02", "max_relative_error = 0.008")).unwrap();
    let deferred = spike::run(&examples, folder.path()).unwrap();
    assert!(!deferred.is_adopted() && !deferred.report.run.published);
    assert!(deferred.to_string().ends_with("answer defer\n"), "{deferred}");
}
