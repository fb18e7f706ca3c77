"""A slot adapter: asks what is planned for its slot, loads what its device holds, and draws a decision.

    pip install .
    python examples/slot_adapter.py                          random weights in the shapes of examples/slot09.jsonl
    python examples/slot_adapter.py CHECKPOINT [DEVICE]      a checkpoint of your own
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np

import flow_fabric

ROOT = Path(__file__).resolve().parents[1]


def random_checkpoint(folder: Path) -> Path:
    """A safetensors file of random values, in the shapes of the list beside this file."""
    tensors = [json.loads(line) for line in (ROOT / "examples/slot09.jsonl").read_text().splitlines()]
    random, header, body = np.random.default_rng(9), {}, b""
    for tensor in tensors:
        data = random.standard_normal(tensor["shape"], np.float32).tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[tensor["name"]] = {"dtype": "F32", "shape": tensor["shape"], "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    path = folder / "slot09.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    # The slot's rules verify what is loaded.
    flow_fabric.write_manifest(path)
    return path


def main(checkpoint: Path, device: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    policy = flow_fabric.Policy.load(ROOT / "policies/slot09.toml")
    # Raises, with the findings drawn, where the policy and the checkpoint do not fit.
    plan = policy.plan(checkpoint)
    slot = plan.slot("slot09")
    print(slot)
    for weight in slot.tensors:
        print(f"  {weight.path}: {weight.spec} by {weight.partition_rule}, {weight.scheme or 'kept'}")

    # Only the bytes that this device holds are read; the arrays lie in the memory they were read into.
    weights = plan.load(device, slot.tensors)
    for path, array in weights.items():
        assert isinstance(array, np.ndarray)
        print(f"  {path}: {array.dtype} {array.shape} on device {device}")

    assert slot.sampler is not None
    logits = np.random.default_rng(1).standard_normal((1, 64), np.float32)
    samples = flow_fabric.sample(policy, slot.sampler["name"], logits, position=0)
    print(f"decision {samples.tokens[0]} by {slot.sampler['name']}")


if __name__ == "__main__":
    on = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), on)
    else:
        with tempfile.TemporaryDirectory() as name:
            main(random_checkpoint(Path(name)), on)
