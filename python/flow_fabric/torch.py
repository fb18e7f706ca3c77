"""Plans as PyTorch shards them: `DTensor`s on a device mesh, and one rank's own tensors.

    import flow_fabric.torch
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (1, 4), mesh_dim_names=("data", "model"))
    weights = flow_fabric.torch.load_sharded(plan, mesh)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement

from . import _layout
from ._layout import Coordinates, Part
from ._load import Array, Progress
from ._native import Cut, Plan, PlannedWeight
from ._quantized import QuantizedWeight
from .errors import ShardingError

__all__ = ["load_sharded", "placements", "state_dict"]

DTYPES: Mapping[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
    "float8_e8m0fnu": torch.float8_e8m0fnu,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint64": torch.uint64,
    "uint32": torch.uint32,
    "uint16": torch.uint16,
    "uint8": torch.uint8,
    "bool": torch.bool,
    "complex64": torch.complex64,
}
"""PyTorch's dtypes by numpy's and ml_dtypes' names."""


def placements(weight: PlannedWeight, mesh: DeviceMesh) -> tuple[Placement, ...]:
    """How a weight lies on a device mesh: `Shard(dimension)` or `Replicate()` for each of its dimensions."""
    return placed(weight.cuts, names_of(mesh))


def placed(cuts: Iterable[Cut], axes: tuple[str, ...]) -> tuple[Placement, ...]:
    split = {axis: dimension for dimension, cut in enumerate(cuts) for axis in cut.axes}
    return tuple(Shard(split[axis]) if axis in split else Replicate() for axis in axes)


def load_sharded(
    plan: Plan,
    device_mesh: DeviceMesh,
    tensors: Iterable[str | PlannedWeight] | None = None,
    *,
    batch_bytes: int = 1 << 30,
    threads: int | None = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Loads a plan's weights as `DTensor`s, each placed as the plan says; `tensors` limits which.

    To be called by every rank of the mesh; each reads what it holds and nothing else, and nothing is sent between them.
    The mesh must name its dimensions, and have the plan's axes with their sizes; over others weights are replicated. A
    dimension that the plan pads is padded in the tensor. Weights that are stored as codes are `QuantizedWeight`s of
    `DTensor`s.

    Raises `ShardingError` for what `DTensor` cannot hold, naming the weights: weights that only some devices have
    (`place`), units that are fewer than devices, chunks that are not those of `torch.chunk`, and axes that split one
    dimension in another order than the mesh's.
    """
    names = names_of(device_mesh)
    sizes = {axis: int(device_mesh.size(number)) for number, axis in enumerate(names)}
    _layout.match(plan, sizes)
    sources, weights = _layout.selected(plan, tensors)
    _layout.refuse(weights, "DTensor", lambda weight, cut: cannot(weight, cut, names, sizes))
    coordinate = device_mesh.get_coordinate()
    if coordinate is None:
        raise ShardingError("this rank is not in the device mesh")
    at: Coordinates = dict(zip(names, coordinate))
    loaded: dict[str, Any] = {}
    for batch in _layout.batches(weights, batch_bytes):
        read = _layout.read(plan, batch, [at], threads, progress)
        for weight in batch:
            (mine,) = read.pop(weight.path).values()
            parts = {
                part.role: distributed(weight, part, _layout.piece(mine, part.role), device_mesh)
                for part in _layout.parts(weight, plan.mesh)
            }
            plain = weight.form.format == "plain"
            loaded[weight.path] = parts["weight"] if plain else QuantizedWeight.of(parts, weight.form)
    return {name: loaded[source] for name, source in sources.items()}


def state_dict(
    plan: Plan,
    device: int | Mapping[str, int] | None = None,
    tensors: Iterable[str | PlannedWeight] | None = None,
    *,
    threads: int | None = None,
    progress: Progress = None,
) -> dict[str, torch.Tensor]:
    """One device's own tensors, over the memory they were read into; needs no process group.

    A plain weight has its path for a name; the parts of one that is stored as codes have the names of their checkpoint.
    """
    loaded = plan.load(device, tensors, threads=threads, progress=progress)
    tensors_by_name: dict[str, torch.Tensor] = {}
    for path, weight in loaded.items():
        if isinstance(weight, QuantizedWeight):
            names = {component.role: component.name for component in plan[path].components}
            tensors_by_name.update({names[role]: tensor(part) for role, part in weight.parts()})
        else:
            tensors_by_name[path] = tensor(weight)
    return tensors_by_name


def names_of(mesh: DeviceMesh) -> tuple[str, ...]:
    if mesh.mesh_dim_names is None:
        raise ShardingError("the device mesh does not name its dimensions: give it `mesh_dim_names`")
    return tuple(mesh.mesh_dim_names)


def cannot(weight: PlannedWeight, cut: Cut, names: tuple[str, ...], sizes: Mapping[str, int]) -> str | None:
    if cut.replicas > 1:
        return 'cut in fewer units than devices (`fewer = "replicate"`)'
    order = [names.index(axis) for axis in cut.axes]
    if order != sorted(order):
        return "split over axes in another order than the mesh's"
    if cut.kind == "uneven":
        size = weight.shape[weight.cuts.index(cut)]
        devices = math.prod(sizes[axis] for axis in cut.axes)
        if len(cut.axes) > 1 or cut.chunk != -(-size // devices):
            return "cut in chunks that are not those of `torch.chunk`"
    return None


def distributed(weight: PlannedWeight, part: Part, array: Array, mesh: DeviceMesh) -> DTensor:
    if part.role == "shape":
        # On a device it tells the shape of the device's part; here it is the whole weight's.
        array = np.array(weight.shape, array.dtype)
    local = tensor(array).to(mesh.device_type)
    shape = list(part.shape)
    if part.packed:
        shape[-1] = part.in_bytes(shape[-1])
    stride = tuple(math.prod(shape[dimension + 1 :]) for dimension in range(len(shape)))
    return DTensor.from_local(
        local,
        mesh,
        placed(part.component.cuts, names_of(mesh)),
        run_check=False,
        shape=torch.Size(shape),
        stride=stride,
    )


def tensor(array: Array) -> torch.Tensor:
    """A tensor over an array's memory."""
    dtype = DTYPES[array.dtype.name]
    return torch.from_numpy(array.reshape(-1).view(np.uint8)).view(dtype).reshape(array.shape)
