"""Plans as JAX shards them: partition specs, and arrays placed on a mesh.

    import jax, flow_fabric.jax

    mesh = jax.make_mesh((1, 8), ("data", "model"))
    weights = flow_fabric.jax.load_sharded(plan, mesh)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, overload

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from . import _layout
from ._layout import Coordinates, Part, Pieces
from ._load import DTYPES, Progress
from ._native import Component, Cut, Plan, PlannedWeight, Policy
from ._quantized import QuantizedWeight, register_pytree

__all__ = ["load_sharded", "partition_specs", "rules"]

register_pytree()

Spec = PartitionSpec | QuantizedWeight[PartitionSpec]
Array = jax.Array | QuantizedWeight[jax.Array]


def rules(
    policy: Policy, *, keys: Literal["dict", "all"] = "dict"
) -> Callable[[Sequence[Any], Any], PartitionSpec | None]:
    """A function for `jax.tree_util.tree_map_with_path`, in place of Grok-1's `apply_rules(rules)`.

    It gives the spec of the rule that decides a leaf, `None` where no rule matches. As with Grok-1 only dictionary keys
    make up the path; with `keys="all"` list indices and attributes do too. Conditions (`when`) see the leaf's shape and
    dtype; a rule that asks for a layer raises `UndecidedError`: plan over the checkpoint instead.
    """

    def apply(path: Sequence[Any], leaf: Any) -> PartitionSpec | None:
        tokens = [token(key) for key in path if keys == "all" or isinstance(key, DictKey)]
        shape = getattr(leaf, "shape", None)
        dtype = getattr(leaf, "dtype", None)
        spec = policy.resolve(tokens, shape=shape, dtype=dtype).spec
        return None if spec is None else partition_spec(spec)

    return apply


def token(key: Any) -> str:
    match key:
        case DictKey(key=name) | FlattenedIndexKey(key=name):
            return str(name)
        case SequenceKey(idx=index):
            return str(index)
        case GetAttrKey(name=name):
            return str(name)
        case _:
            return str(key)


@overload
def partition_specs(plan: Plan, *, nested: Literal[False] = False) -> dict[str, Spec]: ...
@overload
def partition_specs(plan: Plan, *, nested: Literal[True]) -> dict[str, Any]: ...
def partition_specs(plan: Plan, *, nested: bool = False) -> dict[str, Any]:
    """The spec of every weight by path, as a tree of dictionaries if `nested`.

    A weight that is stored as codes has a `QuantizedWeight` of specs, in the tree that `load_sharded` gives. Where a
    declared fallback replicates a dimension that the axes do not divide, so does the spec.
    """
    specs = {weight.path: specs_of(weight) for weight in plan.values()}
    if not nested:
        return dict(specs)
    tree: dict[str, Any] = {}
    cut = re.compile("[" + "".join(map(re.escape, plan.separators)) + "]")
    for path, spec in specs.items():
        *branches, leaf = cut.split(path)
        at = tree
        for branch in branches:
            at = at.setdefault(branch, {})
            if not isinstance(at, dict):
                raise ValueError(f"`{path}` lies below another weight: there is no tree of these paths")
        if leaf in at:
            raise ValueError(f"`{path}` is above another weight: there is no tree of these paths")
        at[leaf] = spec
    return tree


def specs_of(weight: PlannedWeight) -> Spec:
    specs = {component.role: spec_of(component) for component in weight.components}
    if weight.form.format == "plain":
        return specs["weight"]
    return QuantizedWeight.of(specs, weight.form)


def spec_of(component: Component) -> PartitionSpec:
    written = component.spec or ()
    return partition_spec(entry_of(cut) if entry is not None else None for entry, cut in zip(written, component.cuts))


def partition_spec(entries: Iterable[str | tuple[str, ...] | None]) -> PartitionSpec:
    return PartitionSpec(*entries)


def entry_of(cut: Cut) -> str | tuple[str, ...] | None:
    match cut.axes:
        case []:
            return None
        case [axis]:
            return axis
        case axes:
            return tuple(axes)


def load_sharded(
    plan: Plan,
    mesh: Mesh,
    tensors: Iterable[str | PlannedWeight] | None = None,
    *,
    batch_bytes: int = 1 << 30,
    threads: int | None = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Loads a plan's weights as global arrays, each sharded as the plan says; `tensors` limits which.

    Each process reads what its own devices hold and nothing else, and each distinct part once. The mesh must have the
    plan's axes with their sizes; over axes that the plan does not know, weights are replicated. Files are read some
    `batch_bytes` of weights at a time, so that host memory stays within that and one weight. A dimension that the plan
    pads is padded in the array. Weights that are stored as codes are `QuantizedWeight`s of arrays.

    Raises `ShardingError` for what JAX cannot hold, naming the weights: unequal chunks (`uneven`), weights that only
    some devices have (`place`), units that are fewer than devices (`fewer = "replicate"`).
    """
    _layout.match(plan, dict(mesh.shape))
    sources, weights = _layout.selected(plan, tensors)
    _layout.refuse(weights, "JAX", cannot)
    local = jax.process_index()
    devices: list[Coordinates] = [
        dict(zip(mesh.axis_names, index))
        for index, device in np.ndenumerate(mesh.devices)
        if device.process_index == local
    ]
    arrays: dict[str, Any] = {}
    for batch in _layout.batches(weights, batch_bytes):
        read = _layout.read(plan, batch, devices, threads, progress)
        for weight in batch:
            arrays[weight.path] = place(plan, mesh, weight, read.pop(weight.path))
    return {name: arrays[source] for name, source in sources.items()}


def cannot(weight: PlannedWeight, cut: Cut) -> str | None:
    if cut.kind == "uneven":
        return "cut in unequal chunks (`uneven`)"
    if cut.replicas > 1:
        return 'cut in fewer units than devices (`fewer = "replicate"`)'
    return None


def place(plan: Plan, mesh: Mesh, weight: PlannedWeight, pieces: Pieces) -> Any:
    parts = {part.role: make(plan, mesh, weight, part, pieces) for part in _layout.parts(weight, plan.mesh)}
    if weight.form.format == "plain":
        return parts["weight"]
    return QuantizedWeight.of(parts, weight.form)


def make(plan: Plan, mesh: Mesh, weight: PlannedWeight, part: Part, pieces: Pieces) -> jax.Array:
    """One global array of the parts that this process has read."""
    split = _layout.axes(weight)
    by_start = {
        part.start(dict(zip(split, at)), plan.mesh): _layout.piece(loaded, part.role) for at, loaded in pieces.items()
    }
    shape = part.shape
    dtype = DTYPES.get(part.component.dtype, np.dtype(np.uint8))
    if part.packed:
        by_start = {(*start[:-1], part.in_bytes(start[-1])): array for start, array in by_start.items()}
        shape = (*shape[:-1], part.in_bytes(shape[-1]))
    if part.role == "shape":
        # On a device it tells the shape of the device's part; here it is the whole weight's.
        whole = np.array(weight.shape, dtype)
        by_start = {start: whole for start in by_start}
    sharding = NamedSharding(mesh, spec_of(part.component))
    canonical = jax.dtypes.canonicalize_dtype(dtype)

    def shard(index: tuple[slice, ...] | None) -> Any:
        start = tuple(dimension.start or 0 for dimension in index or ())
        return by_start[start].astype(canonical, copy=False)

    return jax.make_array_from_callback(shape, sharding, shard, dtype=canonical)
