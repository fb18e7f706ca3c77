use std::path::Path;

use flow_fabric::array::{self, Array, write_safetensors};
use flow_fabric::moe::MoeReport;

use crate::{flow_fabric, output_of, within};

/// The cases of a small layer, made by the command line.
fn cases(folder: &Path, layer: &str) -> String {
    within(folder, &format!("moe examples/samplers.toml --layer {layer} --make-inputs DIR --sizes 32,48,8"))
}

fn line(case: &str, rest: &str) -> String {
    format!(
        "moe DIR/policy.toml --layer {case} --weights DIR/{case}/weights.safetensors --prefix layer \
         --input DIR/{case}/input.safetensors {rest}"
    )
}

fn save(path: &Path, name: &str, array: &Array) {
    write_safetensors(std::fs::File::create(path).unwrap(), &[(name.to_owned(), array)]).unwrap();
}

#[test]
fn made_inputs_give_their_expected_results() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("moe-make-inputs", cases(folder.path(), "mixtral"));
    insta::assert_snapshot!("moe-policy", std::fs::read_to_string(folder.path().join("policy.toml")).unwrap());
    for case in
        ["normal", "one-token", "ties", "all-tie", "unused-experts", "every-expert", "zero-weights", "huge-router"]
    {
        let compare = format!(
            "--compare DIR/{case}/expected.safetensors:output --compare-routes DIR/{case}/expected.safetensors:ids \
             --tolerance f32 --format json"
        );
        let output = output_of(&line(case, &compare).replace("DIR", folder.path().to_str().unwrap()), "");
        assert_eq!(output.status.code(), Some(0), "{case}");
        let report: MoeReport = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report.holds() && report.comparison.unwrap().figures.max_error == 0.0, "{case}");
    }
    let again = tempfile::tempdir().unwrap();
    cases(again.path(), "mixtral");
    for file in ["normal/weights.safetensors", "ties/input.safetensors", "all-tie/expected.safetensors", "policy.toml"]
    {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(folder.path()) == read(again.path()), "{file} is the same each time");
    }
}

#[test]
fn a_result_is_held_against_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path(), "grok-1");
    insta::assert_snapshot!("moe-reference", within(folder.path(), &line("normal", "--out DIR/all.safetensors")));
    insta::assert_snapshot!(
        "moe-stages",
        flow_fabric(&format!("inspect --stored --all {}/all.safetensors", folder.path().display()))
            .replace(folder.path().to_str().unwrap(), "DIR")
    );
    let expected = array::read(&folder.path().join("normal/expected.safetensors"), Some("output")).unwrap();
    let mut values = expected.to_f64().unwrap();
    values[37] *= 1.5;
    values[101] = f64::NAN;
    let wrong = Array::from_f64(expected.dtype(), expected.shape().to_vec(), &values).unwrap();
    save(&folder.path().join("wrong.safetensors"), "y", &wrong);
    insta::assert_snapshot!("moe-beyond", within(folder.path(), &line("normal", "--compare DIR/wrong.safetensors:y")));
    let ids = array::read(&folder.path().join("normal/expected.safetensors"), Some("ids")).unwrap();
    let mut swapped: Vec<f64> = ids.to_f64().unwrap();
    swapped.swap(0, 1);
    swapped[2] = if swapped[3] == 0.0 { 1.0 } else { 0.0 };
    let swapped = Array::from_f64(ids.dtype(), ids.shape().to_vec(), &swapped).unwrap();
    save(&folder.path().join("routes.safetensors"), "ids", &swapped);
    insta::assert_snapshot!(
        "moe-routes",
        within(folder.path(), &line("normal", "--compare-routes DIR/routes.safetensors"))
    );
    // With a threshold as wide as the scores, the other expert is a tie, and its token no longer counts.
    let lenient = line(
        "normal",
        "--compare-routes DIR/routes.safetensors --tie 1 --compare DIR/normal/expected.safetensors:output",
    );
    insta::assert_snapshot!("moe-ties", within(folder.path(), &lenient));
}

#[test]
fn wrong_layers_and_files() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path(), "mixtral");
    let nan = Array::from_f64(flow_fabric::Dtype::F32, vec![1, 32], &[f64::NAN; 32]).unwrap();
    save(&folder.path().join("nan.safetensors"), "x", &nan);
    let weights = "--weights DIR/normal/weights.safetensors";
    let input = "--input DIR/normal/input.safetensors";
    let lines = [
        "moe examples/samplers.toml --layer mixtrel --make-inputs DIR/x".to_owned(),
        "moe examples/samplers.toml --layer mixtral".to_owned(),
        format!("moe examples/samplers.toml --layer mixtral {weights}"),
        format!("moe examples/samplers.toml --layer mixtral {weights} {input}"),
        format!("moe examples/samplers.toml --layer mixtral {weights} {input} --prefix model.layer"),
        format!("moe examples/samplers.toml --layer grok-1 {weights} {input} --prefix layer"),
        format!("moe examples/samplers.toml --layer mixtral {weights} --input DIR/nan.safetensors --prefix layer"),
        format!(
            "moe examples/samplers.toml --layer mixtral {weights} --input DIR/normal/expected.safetensors:sum --prefix layer.experts"
        ),
        format!(
            "moe examples/samplers.toml --layer mixtral {weights} --input DIR/normal/expected.safetensors:gate --prefix layer"
        ),
        format!(
            "moe examples/samplers.toml --layer mixtral {weights} --input DIR/normal/expected.safetensors:ids --prefix layer"
        ),
        line("normal", "--compare DIR/normal/expected.safetensors:gate"),
        line("normal", "--compare-routes DIR/normal/expected.safetensors:output"),
        line("normal", "--compare-routes DIR/one-token/expected.safetensors:ids"),
        line("normal", "--tolerance f32"),
        "moe examples/samplers.toml --layer mixtral --make-inputs DIR/x --sizes 0,1".to_owned(),
    ];
    let all = lines.map(|line| within(folder.path(), &line));
    insta::assert_snapshot!("moe-wrong", all.join("\n"));
}
