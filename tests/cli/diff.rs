use std::fs;
use std::path::Path;
use std::process::Command;

use flow_fabric::plan::diff::PlanDiff;

use crate::{command, edited_grok, flow_fabric, stdout_of, within};

const GROK: &str = "tests/data/inventories/grok-1.jsonl";

/// Cuts the experts' gate as their down projection is cut. An `expect` of the policy says otherwise.
fn edit(folder: &Path) {
    let rule = "name = \"moe-gate\"\ntokens = [\"moe\", \"linear\", \"w\"]\nspec = ";
    let (old, new) = (r#"["-", "data", "model"]"#, r#"["-", "model", "data"]"#);
    edited_grok(folder, &format!("{rule}{old}"), &format!("{rule}{new}"));
}

#[test]
fn an_edit_of_one_rule_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    edit(folder.path());
    let line = format!("diff policies/grok-1.toml DIR/grok-1.toml {GROK}");
    insta::assert_snapshot!("diff-human", within(folder.path(), &line));
    let short = within(folder.path(), &format!("{line} --format markdown --max-bytes 2000"));
    insta::assert_snapshot!("diff-markdown", short);
    let json = stdout_of(&format!("{line} --format json").replace("DIR", folder.path().to_str().unwrap()), "");
    let diff: PlanDiff = serde_json::from_str(&json).unwrap();
    assert_eq!((diff.weights.len(), diff.edits.len(), diff.edits[0].weights), (64, 1, 64));
    let schema = flow_fabric::schema::by_name("diff").unwrap().schema().to_value();
    let errors: Vec<String> = jsonschema::draft7::new(&schema)
        .unwrap()
        .iter_errors(&serde_json::from_str(&json).unwrap())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, [""; 0]);
}

/// What a reviewer reads of one edit: together less than a screen, and of one mind.
#[test]
fn diff_snapshot_and_check_say_the_same_on_one_screen() {
    let folder = tempfile::tempdir().unwrap();
    edit(folder.path());
    let diff = within(folder.path(), &format!("diff policies/grok-1.toml DIR/grok-1.toml {GROK}"));
    let snapshot = within(folder.path(), &format!("snapshot DIR/grok-1.toml {GROK} --dir snapshots --check"));
    let check = within(folder.path(), &format!("check DIR/grok-1.toml --against {GROK}"));
    let ours = |line: &&str| ["$ ", "exit status ", "-- "].iter().any(|start| line.starts_with(start));
    let lines = |text: &str| text.lines().filter(|line| !ours(line)).count();
    let all = [&diff, &snapshot, &check];
    assert!(all.iter().map(|text| lines(text)).sum::<usize>() <= 60, "{diff}\n{snapshot}\n{check}");
    for said in all {
        assert!(said.contains("moe-gate") && said.contains("[-, model, data]"), "{said}");
    }
    // 64 weights, of one template, cut one way and now the other, and what that adds on each device.
    let template = "transformer/decoder_layer_{0..63}/moe/linear/w  64 x bf16 [8, 6144, 32768] as grok-1";
    assert!(diff.contains(template) && snapshot.contains(template));
    assert!(diff.contains("shard [-, data, model] -> [-, model, data]"));
    assert!(snapshot.contains("\n-  shard [-, data, model]  moe-gate\n+  shard [-, model, data]  moe-gate\n"));
    assert!(diff.contains("planned 37.06 GiB -> 37.09 GiB") && snapshot.contains("planned 37.09 GiB; fits"));
    // The inline test is one finding, wherever it is reported.
    let finding = "spec `[-, model, data]`, not `[-, data, model]`";
    assert!([&diff, &check].iter().all(|text| text.contains(finding)) && snapshot.contains("FF413"));
    for (text, status) in [(&diff, 0), (&snapshot, 1), (&check, 1)] {
        assert!(text.contains(&format!("\nexit status {status}\n")), "{text}");
    }
}

#[test]
fn saved_plans_stand_for_policies() {
    let folder = tempfile::tempdir().unwrap();
    edit(folder.path());
    let saved = folder.path().join("old.json");
    fs::write(&saved, stdout_of(&format!("plan policies/grok-1.toml {GROK} --format json"), "")).unwrap();
    let from_files = within(folder.path(), &format!("diff policies/grok-1.toml DIR/grok-1.toml {GROK}"));
    let from_saved = within(folder.path(), &format!("diff DIR/old.json DIR/grok-1.toml {GROK}"));
    assert_eq!(from_saved.replace("DIR/old.json", "policies/grok-1.toml"), from_files);
    let same = within(folder.path(), "diff DIR/old.json DIR/old.json --exit-code");
    assert!(same.contains("exit status 0") && same.contains("none of 770 weights changes"), "{same}");

    assert!(within(folder.path(), "diff DIR/old.json DIR/grok-1.toml").contains("no checkpoint is given"));
    for (text, why) in [
        ("{}", "missing field `format`"),
        (r#"{"format":"flow-fabric/inventory","format_version":1}"#, "its format is `flow-fabric/inventory`"),
        (r#"{"format":"flow-fabric/plan","format_version":9}"#, "version 9 of the format, and this is version 1"),
    ] {
        fs::write(&saved, text).unwrap();
        let said = within(folder.path(), "diff DIR/old.json DIR/old.json");
        assert!(said.contains("exit status 2\n") && said.contains(why), "{said}");
    }
}

#[test]
fn exit_code_tells_of_a_change() {
    let folder = tempfile::tempdir().unwrap();
    edit(folder.path());
    let line = format!("diff policies/grok-1.toml DIR/grok-1.toml {GROK} --exit-code");
    assert!(within(folder.path(), &line).contains("exit status 1\n"));
    assert!(
        flow_fabric(&format!("diff policies/grok-1.toml policies/grok-1.toml {GROK} --exit-code"))
            .contains("exit status 0\n")
    );
}

#[test]
fn a_policy_that_is_not_there_or_not_one() {
    insta::assert_snapshot!("diff-absent", flow_fabric(&format!("diff no/such.toml policies/grok-1.toml {GROK}")));
    let wrong = flow_fabric(&format!("diff nowhere:policies/grok-1.toml policies/grok-1.toml {GROK}"));
    assert!(wrong.contains("exit status 2\n-- stderr\nerror: cannot read `nowhere:policies/grok-1.toml`"), "{wrong}");
}

/// A repository whose policy and the base that it extends have two revisions.
#[test]
fn revisions_are_read_with_what_they_extend() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").current_dir(folder.path()).args(identity).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let base = |spec: &str| {
        let rule = format!("[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = {spec}\n");
        let text = format!("language = 1\npolicy = \"base\"\n[mesh]\naxes = [\"model\"]\nshape = [2]\n{rule}");
        fs::write(folder.path().join("policies/base.toml"), text).unwrap();
    };
    fs::create_dir(folder.path().join("policies")).unwrap();
    let own = "language = 1\npolicy = \"own\"\nextends = [\"base.toml\"]\n";
    fs::write(folder.path().join("policies/own.toml"), own).unwrap();
    fs::write(folder.path().join("list.jsonl"), "{\"name\":\"w\",\"dtype\":\"F32\",\"shape\":[8]}\n").unwrap();
    base("[\"model\"]");
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    base("[]");
    let run = |directory: &str, line: &str| {
        let directory = folder.path().join(directory);
        let output = command().current_dir(directory).args(line.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let said = run("", "diff main:policies/own.toml policies/own.toml list.jsonl");
    insta::assert_snapshot!("diff-revision", said);
    let said = run("policies", "diff HEAD:./own.toml own.toml ../list.jsonl");
    assert!(said.contains("shard [model] -> []"), "{said}");
    let said = run("", "diff main:policies/none.toml policies/own.toml list.jsonl");
    assert!(said.starts_with("error: cannot read `main:policies/none.toml`: path"), "{said}");

    // A base that the revision lacks is a finding of the policy there, not a file of today.
    let own = "language = 1\npolicy = \"own\"\nextends = [\"later.toml\"]\n";
    fs::write(folder.path().join("policies/own.toml"), own).unwrap();
    git(&["commit", "-q", "-a", "-m", "two"]);
    fs::write(folder.path().join("policies/later.toml"), "language = 1\npolicy = \"later\"\n").unwrap();
    let said = run("", "diff main:policies/own.toml policies/own.toml list.jsonl");
    assert!(said.contains("cannot read `main:policies/later.toml`"), "{said}");
}
