"""What a question from Python costs: `pip install .`, then `python benches/python.py`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import flow_fabric

ROOT = Path(__file__).resolve().parents[1]
DEEPSEEK = ROOT / "tests/data/inventories/deepseek-v3.jsonl.gz"


def fastest(work: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def resolving() -> None:
    policy = flow_fabric.Policy.load(ROOT / "policies/deepseek-v3.toml")
    plan = policy.plan(DEEPSEEK)
    paths = list(plan)
    facts = [(weight.path, weight.shape, weight.dtype) for weight in plan.values()]

    def by_path() -> None:
        resolve = policy.resolve
        for path in paths:
            resolve(path)

    def with_facts() -> None:
        resolve = policy.resolve
        for path, shape, dtype in facts:
            resolve(path, shape, dtype)

    def with_answer() -> None:
        resolve = policy.resolve
        for path, shape, dtype in facts:
            resolve(path, shape, dtype).spec

    one = paths[len(paths) // 2]
    print(f"policy.resolve, {len(paths)} paths in checkpoint order")
    for name, work in [("path alone", by_path), ("shape and dtype", with_facts), ("and its spec read", with_answer)]:
        print(f"  {name:18} {fastest(work, 5) / len(paths) * 1e9:7.0f} ns a call")
    again = fastest(lambda: [policy.resolve(one) for _ in range(10_000)], 5) / 10_000
    print(f"  {'one path again':18} {again * 1e9:7.0f} ns a call")


def planning() -> None:
    policy = flow_fabric.Policy.load(ROOT / "policies/deepseek-v3.toml")
    plan = policy.plan(DEEPSEEK)
    tensors = sum(len(weight.components) for weight in plan.values())
    took = fastest(lambda: policy.plan(DEEPSEEK), 5)
    print(f"policy.plan, {tensors} stored tensors, {len(plan)} weights: {took * 1e3:.0f} ms")
    print(f"plan[path] of every weight: {fastest(lambda: [plan[path] for path in plan], 5) / len(plan) * 1e9:.0f} ns each")
    print(f"plan.to_json: {fastest(plan.to_json, 3) * 1e3:.0f} ms, {len(plan.to_json()) / 2**20:.0f} MiB")


def loading(folder: Path) -> None:
    values = np.random.default_rng(1).standard_normal((8192, 8192), np.float32)
    header = b'{"w":{"dtype":"F32","shape":[8192,8192],"data_offsets":[0,268435456]}}'
    (folder / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    policy = flow_fabric.Policy.loads('language = 1\npolicy = "p"\n[partition]\nunmatched = "replicate"\n')
    plan = policy.plan(folder / "m.safetensors")
    ours = fastest(lambda: plan.load(), 5)
    numpy = fastest(lambda: np.fromfile(folder / "m.safetensors", np.float32, offset=8 + len(header)), 5)
    print(f"plan.load of 256 MiB in the page cache: {ours * 1e3:.0f} ms; numpy.fromfile {numpy * 1e3:.0f} ms")


if __name__ == "__main__":
    resolving()
    planning()
    with tempfile.TemporaryDirectory() as name:
        loading(Path(name))
