"""bitsandbytes reads and decodes NF4 that is written here."""

import bitsandbytes.functional
import peers
import torch
from bitsandbytes.functional import QuantState
from safetensors.torch import save_file

POLICY = """
[scheme.nf4]
format = "nf4"
double_quant = {double}
arithmetic = "reference"

[quantization]
layout = "bitsandbytes"

[[QUANTIZATION_RULES]]
name = "projections"
glob = "**.*_proj.weight"
scheme = "nf4"
"""


def weights():
    generator = torch.Generator().manual_seed(9)
    shapes = {"a.q_proj.weight": (256, 384), "a.odd_proj.weight": (130, 200)}
    return {name: torch.randn(shape, generator=generator).mul(0.02).bfloat16() for name, shape in shapes.items()}


def check_nf4_and_double_quantization(work):
    source, values = weights(), 0
    save_file(source, work / "model.safetensors")
    for double in [False, True]:
        out, back = work / f"out-{double}", work / f"back-{double}"
        policy = peers.policy(work, POLICY.format(double=str(double).lower()))
        peers.run("quantize", policy, work / "model.safetensors", "-o", out)
        peers.run("dequantize", out, "-o", back, "--dtype", "bf16")
        stored, ours = peers.tensors(out), peers.tensors(back)
        for name, weight in source.items():
            parts = {key.removeprefix(f"{name}."): x for key, x in stored.items() if key.startswith(f"{name}.")}
            state = QuantState.from_dict(parts, device="cpu")
            theirs = bitsandbytes.functional.dequantize_4bit(stored[name], state)
            peers.equal(ours[name], theirs, f"double {double}: {name}")
            packed, expected = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
            peers.equal(stored[name], packed, f"double {double}: codes of {name}")
            peers.equal(parts["absmax"], expected.absmax, f"double {double}: absmax of {name}")
            values += weight.numel()
    return f"{values:,} values"
