"""compressed-tensors reads and decodes what is written here, by the config.json that is written beside it."""

import json

import peers
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import save_file

CASES = {
    "int8": 'format = "int8"',
    "int8-asymmetric": 'format = "int8"\nsymmetric = false',
    "int8-tensor": 'format = "int8"\ngranularity = "tensor"',
    "int8-group": 'format = "int8"\ngranularity = { group = 128 }',
    "int4": 'format = "int4"',
    "int4-asymmetric": 'format = "int4"\nsymmetric = false',
    "fp8-tensor": 'format = "fp8_e4m3"\ngranularity = "tensor"',
    "fp8-channel": 'format = "fp8_e4m3"',
    "fp8-block": 'format = "fp8_e4m3"\ngranularity = { block = [128, 128] }',
    "mxfp4": 'format = "mxfp4"',
    "nvfp4": 'format = "nvfp4"',
}

POLICY = """
[scheme.s]
{scheme}

[quantization]
layout = "compressed-tensors"

[[QUANTIZATION_RULES]]
name = "projections"
glob = "model.layers.*.*_proj.weight"
scheme = "s"
"""


def model(work):
    """Two modules of a transformer in bf16, one of them with a column of outliers."""
    generator = torch.Generator().manual_seed(4)
    weights = {
        f"model.layers.{layer}.{name}.weight": torch.randn(shape, generator=generator).mul(0.02).bfloat16()
        for layer in range(2)
        for name, shape in [("q_proj", (256, 384)), ("down_proj", (384, 512))]
    }
    weights["model.layers.1.q_proj.weight"][:, 7] *= 20
    weights["model.norm.weight"] = torch.ones(384).bfloat16()
    folder = work / "model"
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    return folder


def groups(out):
    """The scheme and the format of each module, as the config says."""
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    parsed = QuantizationConfig.model_validate(config)
    (group,) = parsed.config_groups.values()
    return group, group.format or parsed.format


def check_decodes_to_the_same_bits(work):
    source, values = model(work), 0
    for case, scheme in CASES.items():
        out, back = work / case, work / f"{case}-back"
        peers.run("quantize", peers.policy(work, POLICY.format(scheme=scheme)), source, "-o", out)
        peers.run("dequantize", out, "-o", back, "--dtype", "bf16")
        ours, stored = peers.tensors(back), peers.tensors(out)
        group, format = groups(out)
        compressor = BaseCompressor.get_value_from_registry(format)
        modules = sorted({name.rsplit(".", 1)[0] for name in stored if "_proj." in name})
        assert len(modules) == 4, modules
        for module in modules:
            state = {name.rsplit(".", 1)[1]: x for name, x in stored.items() if name.startswith(f"{module}.")}
            theirs = compressor.decompress(state, group)["weight"]
            peers.equal(ours[f"{module}.weight"], theirs.bfloat16(), f"{case}: {module}")
            values += theirs.numel()
    return f"{values:,} values of {len(CASES)} schemes"
