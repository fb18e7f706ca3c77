"""Wrong arguments from Python: exceptions that say what is wrong, never a panic."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow_fabric
from flow_fabric import Plan, Policy
from support import ROOT, write_safetensors


@pytest.fixture
def plan(tiny: Policy, tmp_path: Path) -> Plan:
    return tiny.plan(write_safetensors(tmp_path / "m.safetensors", {"a.w": np.zeros((2, 4), np.float32)}))


def test_absent_files_are_what_python_calls_them(tiny: Policy, tmp_path: Path) -> None:
    for ask in (Policy.load, tiny.plan, tiny.check):
        with pytest.raises(FileNotFoundError) as caught:
            ask(tmp_path / "absent")
        assert caught.value.filename is not None and Path(caught.value.filename) == tmp_path / "absent"
    with pytest.raises(IsADirectoryError):
        Policy.load(tmp_path)
    with pytest.raises(flow_fabric.CheckpointError):
        tiny.plan(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    with pytest.raises((flow_fabric.PolicyError, OSError)):
        Policy.load(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda policy: policy.resolve(3), TypeError, "a path is a string or a list of tokens, not `int`"),
        (lambda policy: policy.resolve("w", shape=5), TypeError, "shape"),
        (lambda policy: policy.resolve("w", shape=[-1]), OverflowError, "negative"),
        (lambda policy: policy.resolve("w", shape=["x"]), TypeError, "shape"),
        (lambda policy: policy.resolve("w", dtype="float7"), ValueError, "unknown dtype `float7`"),
        (lambda policy: policy.resolve("w", dtype=3), TypeError, "a dtype was expected, not `int`"),
        (lambda policy: policy.resolve("w\udc80"), UnicodeEncodeError, "surrogates"),
        (lambda policy: policy.plan(None), TypeError, "a checkpoint is a path or a mapping of arrays"),
        (lambda policy: policy.plan({"w": 3}), AttributeError, "shape"),
        (lambda policy: policy.plan({3: np.zeros(1)}), TypeError, "str"),
        (lambda policy: policy.plan({}, mesh={"nothing": 2}), ValueError, "unknown mesh axis `nothing`"),
        (lambda policy: policy.plan({}, mesh={"model": 0}), ValueError, "size 0"),
        (lambda policy: policy.plan({}, mesh={"model": "2"}), TypeError, "int"),
        (lambda policy: policy.plan({}, mesh=[("model", 2)]), TypeError, "mesh"),
        (lambda policy: policy.plan({}), flow_fabric.PlanError, "FF"),
        (lambda policy: type(policy).loads(b"language = 1"), TypeError, "text"),
        (lambda policy: type(policy).loads("language = 1\0"), flow_fabric.PolicyError, "FF"),
        (lambda policy: type(policy)(), TypeError, "cannot create"),
    ],
)
def test_wrong_arguments_say_so(
    tiny: Policy, ask: Callable[[Any], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ask(tiny)


JUNK: list[Any] = [
    None, True, -1, 0, 2**70, 1.5, "", "a.w", "\0", "x" * 10_000, b"a.w", [], ["a", "w"], [1], [[]], (), {}, {"a": 1},
    {"model": 10**9}, set(), object(), int, np.zeros((0, 3)), np.array("x"), np.array([object()]), ROOT, Path("/dev/null"),
    lambda *_: None, Ellipsis, float("nan"), range(3), "\N{GREEK SMALL LETTER ALPHA}/w",
]  # fmt: skip


def test_no_argument_makes_it_panic(tiny: Policy, plan: Plan) -> None:
    logits = np.zeros((2, 3), np.float32)
    asks: list[Callable[..., object]] = [
        tiny.resolve,
        tiny.explain,
        tiny.check,
        tiny.plan,
        lambda a, b: tiny.resolve("a.w", a, b),
        lambda a, b: tiny.plan({"a.w": logits}, mesh=a, strict=b),
        plan.__getitem__,
        plan.get,
        plan.slot,
        plan.explain,
        plan["a.w"].slice,
        plan["a.w"].form.decode,
        plan.load,
        lambda a, b: plan.load(0, a, threads=b),
        lambda a, b: plan.load(0, progress=a, threads=b),
        lambda a, b: plan.drift(sample=a, memory=b),
        lambda a, b: flow_fabric.sample(tiny, a, b),
        lambda a, b: flow_fabric.moe_reference(tiny, "layer", a, b),
    ]
    for ask in asks:
        for arguments in itertools.chain(((junk,) for junk in JUNK), itertools.product(JUNK, JUNK)):
            try:
                ask(*arguments)
            except flow_fabric.InternalError:
                raise
            except Exception:
                # Anything but a panic, which is no `Exception`, or an abort, which ends the tests.
                continue
    assert plan["a.w"].path == "a.w", "and the plan is what it was"


def test_what_python_keeps_of_a_plan_outlives_it(tiny: Policy) -> None:
    weight = tiny.plan({"a.w": np.zeros((2, 4), np.float32)})["a.w"]
    assert (weight.path, weight.spec) == ("a.w", ("data", "model"))
    assert sys.getrefcount(weight) < 10


def test_objects_are_immutable(tiny: Policy, plan: Plan) -> None:
    for thing, name in [(tiny, "name"), (plan, "policy"), (plan["a.w"], "path")]:
        with pytest.raises(AttributeError):
            setattr(thing, name, "other")
