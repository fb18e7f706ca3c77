"""Checkpoints as torch 2.15 and numpy 2.4 write them, each with its tensors in a safetensors file beside it.

    python make.py     # needs torch, numpy, safetensors
"""

import collections
import pathlib

import numpy
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file as save_torch

here = pathlib.Path(__file__).parent
torch.manual_seed(7)


def tensors():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    shared = torch.arange(10, dtype=torch.bfloat16)
    state = collections.OrderedDict()
    state["embed.weight"] = base
    state["head.weight"] = base  # tied
    state["rows"] = base[1:3]  # a view that is contiguous
    state["transposed"] = base.t()
    state["also_transposed"] = base.t()  # tied, too
    state["columns"] = base[:, 1:5:2]
    state["expanded"] = torch.tensor([5.0]).expand(3, 2)
    state["channels_last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state["half"] = shared[:6].view(2, 3)
    state["shifted"] = shared[4:]
    state["scalar"] = torch.tensor(3, dtype=torch.int64)
    state["none"] = torch.empty(0, 4)
    state["flags"] = torch.tensor([True, False, True])
    state["float8"] = torch.randn(4).to(torch.float8_e4m3fn)
    state["nested"] = {"layers": [torch.ones(2, dtype=torch.float16), torch.nn.Parameter(torch.full((2,), 7.0))]}
    return state


def flat(state, prefix=""):
    items = enumerate(state) if isinstance(state, list) else state.items()
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value.detach()


state = tensors()
expected = {name: tensor.contiguous().clone() for name, tensor in flat(state)}
save_torch(expected, here / "torch.expected.safetensors")
torch.save(state, here / "torch.pt")
# The form before 1.6 has no type for float8.
del state["float8"], expected["float8"]
torch.save(state, here / "torch-legacy.pt", _use_new_zipfile_serialization=False)

arrays = {
    "w": numpy.arange(12, dtype="<f4").reshape(3, 4),
    "columns": numpy.asfortranarray(numpy.arange(24, dtype="<i2").reshape(2, 3, 4)),
    "scalar": numpy.array(2.5),
    "none": numpy.zeros((0, 3), "<f8"),
    "layer/bytes": numpy.arange(7, dtype="u1"),
}
save_numpy({name: numpy.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}, here / "numpy.expected.safetensors")
numpy.savez(here / "numpy.npz", **arrays)
del arrays["columns"]
numpy.savez_compressed(here / "numpy-compressed.npz", **arrays)
