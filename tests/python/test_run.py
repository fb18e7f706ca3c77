"""Quantizing, measuring, sampling and reference layers: what the command line gives, with numpy in and out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flow_fabric
from flow_fabric import Plan, Policy, QuantizedWeight
from support import ROOT, write_safetensors

RANDOM = np.random.default_rng(13)


def command(*args: str | Path, status: int = 0) -> str:
    """Runs the command that the wheel installs."""
    done = subprocess.run(
        [sys.executable, "-m", "flow_fabric", *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


QUANTIZED = """
language = 1
policy = "quantized"
[partition]
unmatched = "replicate"
[scheme.int8]
format = "int8"
[quantization]
layout = "grok-1"
contract = -2
[[QUANTIZATION_RULES]]
name = "matrices"
glob = "**/w"
scheme = "int8"
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tensors = {"a/w": RANDOM.standard_normal((16, 24)).astype(np.float32), "a/b": np.ones(3, np.float32)}
    return write_safetensors(tmp_path / "source.safetensors", tensors)


@pytest.fixture
def plan(checkpoint: Path) -> Plan:
    return Policy.loads(QUANTIZED).plan(checkpoint)


def test_what_is_quantized_is_what_is_loaded(plan: Plan, tmp_path: Path) -> None:
    steps: list[str] = []
    report = plan.quantize(tmp_path / "out", progress=lambda step, done, total: steps.append(step))
    assert (report["total"]["changed"], report["run"]["published"]) == (1, True)
    assert steps
    (tmp_path / "p.toml").write_text(QUANTIZED, encoding="utf-8")
    command("quantize", tmp_path / "p.toml", plan.checkpoint, "-o", tmp_path / "command")
    for written in sorted((tmp_path / "command").glob("*.safetensors")):
        assert (tmp_path / "out" / written.name).read_bytes() == written.read_bytes()
    again = Policy.loads(QUANTIZED).plan(tmp_path / "out")
    weight = again.load()["a/w"]
    assert isinstance(weight, QuantizedWeight) and again["a/w"].format == "grok-1"
    source = plan.load()["a/w"]
    assert isinstance(source, np.ndarray)
    scale = np.abs(source).max(axis=0) / 127
    assert np.abs(weight.dequantize() - source).max() <= scale.max()
    figures = plan.drift()
    assert figures["weights"] == report["weights"]
    assert plan.stored_otherwise() != [] and again.stored_otherwise() == []


def test_an_output_that_is_there_stays(plan: Plan, tmp_path: Path) -> None:
    plan.quantize(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(flow_fabric.QuantizeError, match="FF"):
        plan.quantize(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    plan.quantize(tmp_path / "out", replace=True)


def test_a_gate_that_is_not_passed_publishes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    policy = Policy.loads(QUANTIZED + "limits = { max_relative_error = 0.0000001 }\n")
    plan = policy.plan(checkpoint)
    with pytest.raises(flow_fabric.GateError) as caught:
        plan.quantize(tmp_path / "out")
    assert caught.value.report["run"]["published"] is False
    assert not (tmp_path / "out").exists()
    assert issubclass(flow_fabric.GateError, flow_fabric.QuantizeError) and "a/w" in str(caught.value)


SAMPLER = """
language = 1
policy = "sampled"
[sampler.warm]
temperature = 0.8
top_p = 0.9
seed = 11
[sampler.greedy]
temperature = 0.0
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tokens_are_those_of_the_command_line(tmp_path: Path, dtype: Any) -> None:
    logits = (RANDOM.standard_normal((5, 100)) * 4).astype(dtype)
    (tmp_path / "p.toml").write_text(SAMPLER, encoding="utf-8")
    file = write_safetensors(tmp_path / "logits.safetensors", {"logits": logits})
    printed = json.loads(
        command("sample", tmp_path / "p.toml", "--sampler", "warm", "--logits", file, "--format", "json", "--top", "3")
    )
    policy = Policy.load(tmp_path / "p.toml")
    samples = flow_fabric.sample(policy, "warm", logits, top=3)
    assert samples.report == printed
    assert samples.tokens.tolist() == [row["drawn"]["token"] for row in printed["rows"]]
    # A row's token does not depend on the rows beside it.
    assert flow_fabric.sample(policy, "warm", logits, rows=[3]).tokens.tolist() == [int(samples.tokens[3])]
    assert flow_fabric.sample(policy, "warm", logits[3], slot=3).tokens.tolist() == [int(samples.tokens[3])]
    assert flow_fabric.sample(policy, "warm", logits, rows=[]).tokens.tolist() == []
    greedy = flow_fabric.sample(policy, "greedy", logits, trace=int(samples.tokens[0]), rows=[0])
    assert greedy.tokens.tolist() == [int(logits[0].astype(np.float32).argmax())]
    assert greedy.report["rows"][0]["trace"]["token"] == int(samples.tokens[0])


def test_rows_that_cannot_be_sampled_are_an_error() -> None:
    policy = Policy.loads(SAMPLER)
    logits = np.zeros((3, 4), np.float32)
    logits[1, 2] = np.nan
    with pytest.raises(flow_fabric.SamplingError, match="row 1: "):
        flow_fabric.sample(policy, "warm", logits)
    assert flow_fabric.sample(policy, "warm", logits, strict=False).tokens[1] == -1
    with pytest.raises(KeyError, match="warm"):
        flow_fabric.sample(policy, "warmer", logits)
    with pytest.raises(ValueError, match="f64"):
        flow_fabric.sample(policy, "warm", logits.astype(np.float64))
    with pytest.raises(ValueError, match="no row 3"):
        flow_fabric.sample(policy, "warm", np.zeros((3, 4), np.float32), rows=[3])
    with pytest.raises(ValueError, match="no row of logits"):
        flow_fabric.sample(policy, "warm", np.zeros((0, 4), np.float32))


LAYER = """
language = 1
policy = "layers"
[moe.tiny]
experts = 4
top_k = 2
score = "softmax"
normalize = "sum"
activation = "silu"
orientation = "in-out"
[moe.tiny.tensors]
router = "router"
gate = "{expert}.gate"
up = "{expert}.up"
down = "{expert}.down"
"""


def test_a_layer_is_what_its_formula_says() -> None:
    hidden, inner = 6, 10
    weights = {"layer/router": RANDOM.standard_normal((hidden, 4)).astype(np.float32)}
    for expert in range(4):
        for name, shape in [("gate", (hidden, inner)), ("up", (hidden, inner)), ("down", (inner, hidden))]:
            weights[f"layer/{expert}.{name}"] = RANDOM.standard_normal(shape).astype(np.float32)
    weights["other/router"] = np.zeros((1, 1), np.float32)
    x = RANDOM.standard_normal((2, 3, hidden)).astype(np.float32)
    result = flow_fabric.moe_reference(Policy.loads(LAYER), "tiny", weights, x, prefix="layer", stages=True)
    assert (result.output.shape, result.ids.shape, result.weights.shape) == ((2, 3, hidden), (6, 2), (6, 2))
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    for token, row in enumerate(x.reshape(6, hidden).astype(np.float64)):
        scores = np.exp(row @ exact["layer/router"])
        scores /= scores.sum()
        chosen = np.argsort(-scores)[:2]
        assert result.ids[token].tolist() == chosen.tolist()
        gates = scores[chosen] / scores[chosen].sum()
        np.testing.assert_allclose(result.weights[token], gates, rtol=1e-12)
        expected = np.zeros(hidden)
        for expert, gate in zip(chosen, gates):
            inside = row @ exact[f"layer/{expert}.gate"]
            inside = inside / (1 + np.exp(-inside)) * (row @ exact[f"layer/{expert}.up"])
            expected += gate * (inside @ exact[f"layer/{expert}.down"])
        np.testing.assert_allclose(result.output.reshape(6, hidden)[token], expected, rtol=1e-6)
    assert result.stages["gate"].shape == (6, 2, inner)
    with pytest.raises(ValueError, match="router"):
        flow_fabric.moe_reference(Policy.loads(LAYER), "tiny", weights, x, prefix="nowhere")
    with pytest.raises(ValueError, match="no evaluator"):
        flow_fabric.moe_reference(Policy.loads(LAYER), "tiny", weights, x, evaluator="fast")  # type: ignore[arg-type]


def test_the_command_is_there_and_keeps_its_exit_statuses(tmp_path: Path) -> None:
    assert "unknown-key" in command("rule", "FF002")
    (tmp_path / "broken.toml").write_text("language = 1\n", encoding="utf-8")
    command("check", tmp_path / "broken.toml", status=1)
    command("check", tmp_path / "absent.toml", status=2)
    plan = Policy.load(ROOT / "policies/slot09.toml").plan(ROOT / "examples/slot09.jsonl")
    printed = json.loads(command("plan", ROOT / "policies/slot09.toml", ROOT / "examples/slot09.jsonl", "--format", "json"))
    ours = json.loads(plan.to_json())
    for document in (printed, ours):
        document["findings"] = [finding["code"] for finding in document["findings"]]
    assert [t["shard"] for t in ours["tensors"]] == [t["shard"] for t in printed["tensors"]]
    assert ours["summary"] == printed["summary"] and ours["devices"] == printed["devices"]
