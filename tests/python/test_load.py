"""Loading: arrays over the compiled part's memory, parts of devices, codes, failures."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flow_fabric
from flow_fabric import Plan, Policy, QuantizedWeight
from flow_fabric._load import assemble
from support import ROOT, gguf, write_safetensors

RANDOM = np.random.default_rng(7)


def matrix(*shape: int, dtype: Any = np.float32) -> Any:
    return RANDOM.standard_normal(shape).astype(dtype)


TENSORS = {
    "layer.0.w": matrix(8, 16),
    "layer.1.w": matrix(4, 8, dtype=ml_dtypes.bfloat16),
    "layer.1.b": matrix(6, dtype=ml_dtypes.float8_e4m3fn),
    "layer.1.count": np.array(3, np.uint8),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_safetensors(tmp_path / "model.safetensors", TENSORS)


@pytest.fixture
def plan(tiny: Policy, checkpoint: Path) -> Plan:
    return tiny.plan(checkpoint)


def test_every_device_gets_its_slice(plan: Plan) -> None:
    for device in plan.devices:
        loaded = plan.load(device.coordinates)
        assert list(loaded) == list(TENSORS)
        for path, whole in TENSORS.items():
            array = loaded[path]
            assert isinstance(array, np.ndarray)
            index = plan[path].slice(device.number)
            assert index is not None
            assert array.dtype == whole.dtype
            np.testing.assert_array_equal(array, whole[index])


def test_a_subset_by_path_or_by_slot(plan: Plan) -> None:
    assert list(plan.load(0, ["layer.1.b"])) == ["layer.1.b"]
    assert list(plan.load(0, plan.slot("one").tensors)) == ["layer.1.w", "layer.1.b", "layer.1.count"]
    assert plan.load(0, []) == {}
    with pytest.raises(KeyError, match="layer.9"):
        plan.load(0, ["layer.9"])
    with pytest.raises(TypeError, match=r"write \['layer.1.b'\]"):
        plan.load(0, "layer.1.b")


def test_arrays_lie_in_the_memory_that_was_read_into(plan: Plan) -> None:
    (read,) = plan._read(0, {"layer.0.w"}, None, None)
    array = assemble(read)
    assert isinstance(array, np.ndarray)
    buffer = read.tensors[0].buffer
    assert array.__array_interface__["data"] == (buffer.address, False)
    assert array.nbytes == len(buffer) and buffer.address % 64 == 0
    alive = weakref.ref(buffer)
    del read, buffer
    gc.collect()
    assert alive() is not None, "the array keeps the memory"
    array[0, 0] = 5
    del array
    gc.collect()
    assert alive() is None, "and frees it"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_loads_leave_nothing_behind(tiny: Policy, tmp_path: Path) -> None:
    plan = tiny.plan(write_safetensors(tmp_path / "m.safetensors", {"a.w": matrix(512, 512), "b": matrix(1000)}))
    for _ in range(20):
        plan.load(0)
    before = resident()
    for _ in range(1000):
        plan.load(0)
    # One load is 135 KB; leaks of a tensor or of a thread's stack would be a hundred megabytes.
    assert resident() - before < 16 << 20


def grok_pair(rows: int, columns: int, groups: int) -> tuple[Any, Any, Any]:
    codes = RANDOM.integers(-127, 128, (rows, columns), dtype=np.int8)
    scales = RANDOM.uniform(0.01, 0.1, (groups, columns)).astype(ml_dtypes.bfloat16)
    values = codes.reshape(groups, rows // groups, columns).astype(np.float32) * scales.astype(np.float32)[:, None]
    return codes, scales, values.reshape(rows, columns)


def test_a_grok_pair_is_a_quantized_weight(tiny: Policy, tmp_path: Path) -> None:
    codes, scales, values = grok_pair(16, 8, 4)
    plan = tiny.plan(
        write_safetensors(tmp_path / "m.safetensors", {"moe/w/weight": codes, "moe/w/scales": scales}),
        mesh={"data": 1, "model": 1},
    )
    weight = plan.load()["moe/w"]
    assert isinstance(weight, QuantizedWeight)
    assert (weight.shape, weight.dtype) == ((16, 8), "bf16")
    np.testing.assert_array_equal(weight.weight, codes)
    np.testing.assert_array_equal(weight.scales, scales)
    np.testing.assert_array_equal(weight.dequantize(), values)
    assert weight.form == plan["moe/w"].form and hash(weight.form) == hash(plan["moe/w"].form)


def test_a_part_of_a_pair_decodes_to_the_part_of_its_values(tmp_path: Path) -> None:
    policy = Policy.loads(
        'language = 1\npolicy = "p"\n[mesh]\naxes = ["data", "model"]\nshape = [2, 4]\n'
        '[[FLOW_FABRIC_PARTITION_RULES]]\nname = "r"\nglob = "**"\nspec = ["model", "data"]\n'
    )
    codes, scales, values = grok_pair(16, 8, 4)
    plan = policy.plan(write_safetensors(tmp_path / "m.safetensors", {"w/weight": codes, "w/scales": scales}))
    for device in range(8):
        part = plan.load(device)["w"]
        assert isinstance(part, QuantizedWeight)
        np.testing.assert_array_equal(part.dequantize(), values[plan["w"].slice(device)])


def test_ggml_blocks_come_as_bytes_and_decode(tmp_path: Path, tiny: Policy) -> None:
    blocks = RANDOM.integers(-127, 128, (4, 2, 34), dtype=np.int8)
    blocks[:, :, :2] = np.array([0.5], np.float16).view(np.int8)
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf("w", [64, 4], 8, blocks.tobytes()))
    plan = tiny.plan(path, mesh={"data": 1, "model": 1})
    weight = plan.load()["w"]
    assert isinstance(weight, QuantizedWeight) and weight.scales is None
    assert weight.weight.shape == (4, 68) and weight.shape == (4, 64)
    np.testing.assert_array_equal(weight.dequantize().reshape(4, 2, 32), blocks[:, :, 2:].astype(np.float32) / 2)


def test_an_alias_is_read_once(tmp_path: Path) -> None:
    policy = Policy.loads(
        'language = 1\npolicy = "p"\n[partition]\nunmatched = "replicate"\n[[tie]]\npaths = ["embed", "head"]\n'
    )
    plan = policy.plan(write_safetensors(tmp_path / "m.safetensors", {"embed": matrix(4, 2), "head": matrix(4, 2)}))
    assert plan["head"].alias_of == "embed"
    loaded = plan.load()
    assert loaded["head"] is loaded["embed"]
    assert list(plan.load(tensors=["head"])) == ["head"]


def test_placed_weights_are_absent_elsewhere(tmp_path: Path) -> None:
    policy = Policy.loads(
        'language = 1\npolicy = "p"\n[mesh]\naxes = ["expert"]\nshape = [2]\n'
        '[[FLOW_FABRIC_PARTITION_RULES]]\nname = "r"\nglob = "**"\nspec = []\n'
        "place = { axis = \"expert\", index = 'experts\\.(\\d+)', of = 2 }\n"
    )
    tensors = {"experts.0.w": matrix(2, 2), "experts.1.w": matrix(2, 2)}
    plan = policy.plan(write_safetensors(tmp_path / "m.safetensors", tensors))
    assert (plan["experts.1.w"].owners, plan["experts.1.w"].placed_over) == ([1], "expert")
    assert plan["experts.1.w"].slice(0) is None
    assert [list(plan.load(device)) for device in (0, 1)] == [["experts.0.w"], ["experts.1.w"]]


@pytest.mark.parametrize(
    ("device", "error", "text"),
    [
        (None, ValueError, "say which one to load"),
        (8, ValueError, "devices 0 to 7"),
        (-1, ValueError, "no device -1"),
        ("0", TypeError, "a device is a number"),
        ({"data": 0}, ValueError, "left open"),
        ({"data": 0, "model": 4}, ValueError, "`model=4` is not a coordinate"),
    ],
)
def test_devices_that_do_not_exist(plan: Plan, device: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        plan.load(device)


def test_a_list_has_no_bytes(root: Path) -> None:
    plan = Policy.load(root / "policies/slot09.toml").plan(root / "examples/slot09.jsonl")
    with pytest.raises(flow_fabric.LoadError, match="`slot09/policy/input/w` is no range of bytes"):
        plan.load(0)


def test_a_checkpoint_that_changed_is_refused(plan: Plan, checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes() + b"x")
    with pytest.raises(flow_fabric.LoadError, match="FF") as caught:
        plan.load(0)
    assert caught.value.findings[0].file == str(checkpoint)
    checkpoint.unlink()
    with pytest.raises(flow_fabric.LoadError):
        plan.load(0)


CAREFUL = """
language = 1
policy = "careful"
[partition]
unmatched = "replicate"
[loader]
verify = "blake3"
stage = "shm"
"""


def test_what_is_read_is_held_against_the_manifest(checkpoint: Path) -> None:
    plan = Policy.loads(CAREFUL).plan(checkpoint)
    with pytest.raises(flow_fabric.LoadError, match="manifest"):
        plan.load()
    written = flow_fabric.write_manifest(checkpoint)
    assert written.parent == checkpoint.parent
    loaded = plan.load()
    for path, whole in TENSORS.items():
        np.testing.assert_array_equal(loaded[path], whole)
    # The same size and time, another bit: only the digests can tell.
    before = os.stat(checkpoint)
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    checkpoint.write_bytes(data)
    os.utime(checkpoint, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(flow_fabric.LoadError) as caught:
        Policy.loads(CAREFUL.replace('"shm"', '"none"')).plan(checkpoint).load()
    assert caught.value.findings and "layer.1.count" in str(caught.value)


def test_progress_is_told_in_bytes(plan: Plan) -> None:
    said: list[tuple[str, int, int | None]] = []
    plan.load(0, progress=lambda *step: said.append(step))
    step, done, total = said[-1]
    assert step and total is not None and done == total > 0
    with pytest.raises(TypeError, match="`progress` is called as"):
        plan.load(0, progress=3)  # type: ignore[arg-type]


def test_what_progress_raises_stops_the_load(plan: Plan) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        plan.load(0, progress=refuse)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A FIFO as a policy: reading it takes until somebody writes."""
    fifo = tmp_path / "slow.toml"
    os.mkfifo(fifo)
    # A shell starts what it runs in the background with interrupts ignored, and then Python leaves it at that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield fifo
    signal.signal(signal.SIGINT, before)
    # Frees the reader that was left behind.
    with open(os.open(fifo, os.O_RDWR | os.O_NONBLOCK), "wb") as end:
        end.write(b"\n")
        time.sleep(0.2)


def test_an_interrupt_ends_a_call_that_waits(slow: Path) -> None:
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Policy.load(slow)
    assert time.monotonic() - began < 5
    timer.join()


def test_other_threads_run_while_one_waits(slow: Path) -> None:
    ticks = 0
    stop = threading.Event()

    def interrupt() -> None:
        nonlocal ticks
        for _ in range(30):
            time.sleep(0.01)
            ticks += 1
        signal.raise_signal(signal.SIGINT)
        stop.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Policy.load(slow)
    thread.join()
    assert ticks == 30 and stop.is_set()


def test_threads_share_a_plan(plan: Plan, tiny: Policy) -> None:
    failures: list[BaseException] = []

    def work(device: int) -> None:
        try:
            for _ in range(20):
                array = plan.load(device)["layer.0.w"]
                np.testing.assert_array_equal(array, TENSORS["layer.0.w"][plan["layer.0.w"].slice(device)])
                assert tiny.resolve(f"layer.{device}.w", (2, 2)).partition_rule == "matrices"
                assert json.loads(plan.to_json())["format"] == "flow-fabric/plan"
        except BaseException as error:  # the thread's own failures are what is tested
            failures.append(error)

    threads = [threading.Thread(target=work, args=(device,)) for device in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_hostile_files_are_findings_or_exceptions(tiny: Policy, tmp_path: Path) -> None:
    good = write_safetensors(tmp_path / "good.safetensors", TENSORS).read_bytes()
    for cut in [0, 4, 8, 20, len(good) // 2, len(good) - 1]:
        path = tmp_path / "cut.safetensors"
        path.write_bytes(good[:cut])
        with pytest.raises(flow_fabric.FlowFabricError):
            tiny.plan(path)
    for file in sorted((ROOT / "tests/data/pickles").iterdir()):
        try:
            plan = tiny.plan(file, strict=False)
        except flow_fabric.CheckpointError:
            continue
        assert plan.findings or len(plan) > 0
