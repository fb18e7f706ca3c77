"""Plans: the mapping, weights, slots, devices, documents."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import flow_fabric
from flow_fabric import Plan, Policy
from support import write_safetensors


@pytest.fixture
def grok(root: Path) -> Plan:
    return Policy.load(root / "policies/grok-1.toml").plan(root / "tests/data/inventories/grok-1.jsonl")


@pytest.fixture
def small(tiny: Policy, tmp_path: Path) -> Plan:
    tensors = {
        "layer.0.w": np.arange(64, dtype=np.float32).reshape(4, 16),
        "layer.1.w": np.arange(32, dtype=np.float32).reshape(4, 8),
        "layer.1.b": np.arange(8, dtype=np.float32),
    }
    return tiny.plan(write_safetensors(tmp_path / "model.safetensors", tensors))


def test_a_plan_is_a_mapping_in_checkpoint_order(small: Plan) -> None:
    assert isinstance(small, Mapping)
    assert list(small) == ["layer.0.w", "layer.1.w", "layer.1.b"] == list(small.keys())
    assert len(small) == 3 and "layer.1.b" in small and "nothing" not in small and 7 not in small
    assert [weight.path for weight in small.values()] == list(small)
    assert {path: weight.shape for path, weight in small.items()}["layer.1.w"] == (4, 8)
    assert small.get("nothing") is None and small.get("nothing", 3) == 3
    with pytest.raises(KeyError, match="did you mean `layer.1.w`"):
        small["layer.1.x"]


def test_a_weight_says_what_is_decided(small: Plan) -> None:
    weight = small["layer.0.w"]
    assert (weight.dtype, weight.shape, weight.format) == ("f32", (4, 16), "plain")
    assert (weight.spec, weight.partition_rule) == (("data", "model"), "matrices")
    assert (weight.scheme, weight.placed_over, weight.owners, weight.alias_of) == (None, None, None, None)
    assert weight.slice(5) == weight.slice({"data": 1, "model": 1}) == (slice(2, 4, 1), slice(4, 8, 1))
    (component,) = weight.components
    assert (component.name, component.role, component.dtype, component.shape) == ("layer.0.w", "weight", "f32", (4, 16))
    assert component.spec == ("data", "model") and component.length == 256 and component.offset is not None
    assert weight.record()["shard"]["local_shape"] == [2, 4]
    assert repr(weight) == "<PlannedWeight layer.0.w: f32 [4, 16], shard [data, model] by matrices, quant keep, load auto>"


def test_devices_add_up(small: Plan) -> None:
    devices = small.devices
    assert len(devices) == 8
    assert devices[5].coordinates == {"data": 1, "model": 1} and devices[5].number == 5
    # An eighth of both matrices, and all of the vector.
    assert {device.stored_bytes for device in devices} == {(256 + 128) // 8 + 32}
    assert repr(devices[5]).startswith("<Device 5 (data=1, model=1): 80 B stored")


def test_slots_hold_weights_and_profiles(root: Path, small: Plan) -> None:
    assert [weight.path for weight in small.slot("one").tensors] == ["layer.1.w", "layer.1.b"]
    assert small.slot("one").sampler is None
    plan = Policy.load(root / "policies/slot09.toml").plan(root / "examples/slot09.jsonl")
    slot = plan.slot("slot09")
    assert slot.sampler is not None and slot.sampler["name"] == "greedy" and slot.sampler["profile"]["temperature"] == 0.0
    assert repr(slot) == "<Slot slot09: 7 tensors, sampler greedy>"
    with pytest.raises(KeyError, match="did you mean `slot09`"):
        plan.slot("slot9")


def test_json_is_what_the_command_line_prints(grok: Plan) -> None:
    document = json.loads(grok.to_json())
    assert (document["format"], len(document["tensors"])) == ("flow-fabric/plan", 770)
    assert document["tensors"][2] == grok[document["tensors"][2]["path"]].record()
    assert document["summary"] == grok.summary


def test_grok_has_its_quantization(grok: Plan) -> None:
    weight = grok["transformer/decoder_layer_7/moe/linear_1/w"]
    assert (weight.format, weight.scheme, weight.quantization_rule) == ("grok-1", "int8", "experts")
    assert [component.role for component in weight.components] == ["weight", "scales"]
    assert [component.dtype for component in weight.companions] == ["i8", "bf16"]
    assert (weight.load.read, weight.load.stage, weight.load.verify) == ("direct", "shm", "xxh3")
    assert "770 weights" in repr(grok) and repr(grok).startswith("<Plan grok-1 over ")
    assert "moe-down" in grok.explain(weight.path)
    assert "shard [-, model, data]  moe-down" in str(grok)


def test_errors_are_raised_unless_told_otherwise(tiny: Policy, caplog: pytest.LogCaptureFixture) -> None:
    weights = {"layer.0.w": np.zeros((2, 6), np.float32), "layer.1.b": np.zeros(3, np.float32)}
    with pytest.raises(flow_fabric.PlanError, match="6") as caught:
        tiny.plan(weights)
    assert [finding.name for finding in caught.value.findings] == ["indivisible-dimension"]
    with caplog.at_level(logging.INFO, logger="flow_fabric"):
        plan = tiny.plan(weights, strict=False)
    assert [finding.name for finding in plan.findings] == ["indivisible-dimension"]
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "ERROR"] and "tiny.toml:" in caplog.text
    assert tiny.plan(weights, mesh={"model": 3})["layer.0.w"].slice(0) == (slice(0, 1, 1), slice(0, 2, 1))
