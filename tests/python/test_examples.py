"""The examples run, and the page for adapters says what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from support import ROOT, write_safetensors


def run(*args: str | Path) -> str:
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_adapter_asks_loads_and_decides() -> None:
    out = run("examples/slot_adapter.py")
    assert "<Slot slot09: 7 tensors, sampler greedy>" in out
    assert "slot09/policy/input/w: ('data', 'model') by matrices, int8-channel" in out
    assert "slot09/policy/input/w: float32 (4096, 128) on device 0" in out
    assert "decision " in out


def test_jax_loads_over_the_policys_mesh(tmp_path: Path) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text(
        'language = 1\npolicy = "p"\n[mesh]\naxes = ["model"]\nshape = [8]\n'
        '[[FLOW_FABRIC_PARTITION_RULES]]\nname = "r"\nglob = "**"\nspec = ["model"]\n',
        encoding="utf-8",
    )
    checkpoint = write_safetensors(tmp_path / "m.safetensors", {"w": np.zeros((16, 3), np.float32)})
    assert os.environ["XLA_FLAGS"].endswith("=8")
    assert "w: float32 (16, 3), P('model',), (2, 3) on a device" in run(
        "examples/jax_load.py", policy, checkpoint
    )


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 5
    script = tmp_path / "page.py"
    # Blocks go on where the ones before stopped; what needs PyTorch is tested apart.
    script.write_text("\n".join(block for block in blocks if "torch" not in block), encoding="utf-8")
    run(script)
