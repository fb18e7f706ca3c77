"""Policies: loading, checking, resolving single paths."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flow_fabric
from flow_fabric import Policy

BROKEN = 'language = 1\npolicy = "p"\n[mesh]\naxis = ["model"]\n'


def test_a_shipped_policy_loads_and_has_nothing_to_be_said_about(root: Path) -> None:
    policy = Policy.load(root / "policies/grok-1.toml")
    assert (policy.name, policy.mesh) == ("grok-1", {"data": 1, "model": 8})
    assert policy.check() == []
    assert repr(policy).startswith("<Policy grok-1 from ") and "on data=1, model=8" in repr(policy)


def test_a_policy_that_extends_names_its_files_root_first(root: Path) -> None:
    policy = Policy.load(str(root / "policies/slot09.toml"))
    assert [Path(file).name for file in policy.files] == ["slot09.toml", "flow-fabric.toml"]
    assert policy.slots == ["slot09"]


def test_a_broken_policy_raises_the_rendered_finding() -> None:
    with pytest.raises(flow_fabric.PolicyError) as caught:
        Policy.loads(BROKEN, name="broken.toml")
    error = caught.value
    assert "FF002" in str(error) and "broken.toml:4:1" in str(error)
    finding = next(finding for finding in error.findings if finding.name == "unknown-key")
    assert (finding.code, finding.severity) == ("FF002", "error")
    assert (finding.file, finding.line, finding.column) == ("broken.toml", 4, 1)
    assert finding.message == "`mesh` has no key `axis`"
    assert finding.help is not None and "axes" in finding.help
    assert finding.locations[0].line == 4
    assert repr(finding) == "<error FF002 unknown-key at broken.toml:4:1: `mesh` has no key `axis`>"
    assert "axis" in str(finding)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is flow_fabric.PolicyError and str(copy) == str(error) and copy.findings == ()


def test_check_over_a_checkpoint_finds_what_does_not_fit(tiny: Policy) -> None:
    weights = {"layer.0.w": np.zeros((2, 6), np.float32), "layer.1.b": np.zeros(3, np.float32)}
    findings = tiny.check(weights)
    assert [finding.name for finding in findings] == ["indivisible-dimension"]
    assert findings[0].file == "tiny.toml"
    assert tiny.check(weights, mesh={"model": 2}) == []


def test_resolve_decides_with_what_is_known(tiny: Policy) -> None:
    resolution = tiny.resolve("layer.0.w", (512, 2048), "bf16")
    assert resolution.decided
    assert (resolution.spec, resolution.partition_rule) == (("data", "model"), "matrices")
    assert (resolution.scheme, resolution.quantization_rule) == (None, None)
    assert (resolution.load.read, resolution.loader_rule) == ("auto", None)
    assert repr(resolution) == "<Resolution layer.0.w: shard [data, model] by matrices, quant keep>"
    assert tiny.resolve("layer.0.b").spec == ()
    assert tiny.resolve(["layer.0", "w"], shape=[8]).partition_rule == "rest"


def test_resolve_never_guesses(tiny: Policy) -> None:
    resolution = tiny.resolve("layer.0.w")
    assert not resolution.decided
    candidates = resolution.candidates["partition"]
    assert [(candidate.rule, candidate.needs) for candidate in candidates] == [("matrices", ["rank"]), ("rest", [])]
    with pytest.raises(flow_fabric.UndecidedError, match="depends on its rank"):
        _ = resolution.spec
    assert resolution.scheme is None


BFLOAT16 = ["bf16", "BF16", "bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), np.zeros(1, ml_dtypes.bfloat16)]


@pytest.mark.parametrize("dtype", BFLOAT16)
def test_dtypes_have_many_spellings(dtype: Any) -> None:
    text = 'language = 1\npolicy = "p"\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = "r"\nglob = "**"\nspec = []\n'
    policy = Policy.loads(text + 'when = { dtype = ["bf16"] }\n')
    assert policy.resolve("w", dtype=dtype).partition_rule == "r"
    assert policy.resolve("w", dtype=np.float32).partition_rule is None


def test_explain_names_the_losers(root: Path) -> None:
    policy = Policy.load(root / "policies/grok-1.toml")
    text = policy.explain("transformer/decoder_layer_7/moe/linear_1/w")
    assert "shard [-, model, data]  moe-down" in text
    assert "nearly matched:" in text
