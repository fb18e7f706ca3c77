"""What the engines share: which devices hold which part of a weight, and what they cannot hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ._load import DTYPES, Array, Loaded, Progress, assemble, bar, paths
from ._native import Component, Cut, Plan, PlannedWeight
from ._quantized import QuantizedWeight
from .errors import ShardingError

Coordinates = Mapping[str, int]
Pieces = dict[tuple[int, ...], "Loaded"]
"""A weight's distinct parts by the coordinates, on the axes that split it, of the devices that hold them."""


@dataclass(frozen=True)
class Part:
    """One stored tensor of a weight, seen from all devices."""

    role: str
    component: Component
    shape: tuple[int, ...]
    """The global shape: padded where the plan pads."""

    @property
    def packed(self) -> bool:
        """Whether its elements are given as their bytes, which the last dimension then counts."""
        return self.component.dtype not in DTYPES

    def in_bytes(self, elements: int) -> int:
        """So many elements along the last dimension, in bytes."""
        return elements * self.component.length // max(math.prod(self.component.shape), 1)

    def start(self, at: Coordinates, mesh: Mapping[str, int]) -> tuple[int, ...]:
        """The first index of each dimension on the device at some coordinates."""
        return tuple(chunk_of(cut, at, mesh) * (cut.chunk or 0) for cut in self.component.cuts)


def parts(weight: PlannedWeight, mesh: Mapping[str, int]) -> list[Part]:
    """The stored tensors of a weight, codes first."""
    found = []
    for component in weight.components:
        sizes = zip(component.shape, component.cuts, strict=True)
        found.append(Part(component.role, component, tuple(global_size(size, cut, mesh) for size, cut in sizes)))
    return found


def global_size(size: int, cut: Cut, mesh: Mapping[str, int]) -> int:
    """A dimension over all devices, padding included."""
    if cut.kind != "padded" or cut.chunk is None:
        return size
    devices = 1
    for axis in cut.axes:
        devices *= mesh[axis]
    return cut.chunk * devices


def chunk_of(cut: Cut, at: Coordinates, mesh: Mapping[str, int]) -> int:
    """The number of the chunk that the device at some coordinates holds."""
    index = 0
    for axis in cut.axes:
        index = index * mesh[axis] + at[axis]
    return index


def axes(weight: PlannedWeight) -> tuple[str, ...]:
    """The axes that split a weight."""
    split = {axis for component in weight.components for cut in component.cuts for axis in cut.axes}
    return tuple(sorted(split.union(axis for cut in weight.cuts for axis in cut.axes)))


def match(plan: Plan, engine: Mapping[str, int]) -> None:
    """Raises unless an engine's mesh has the plan's axes, with their sizes."""
    wrong = [axis for axis, size in plan.mesh.items() if engine.get(axis) != size]
    if wrong:
        raise ShardingError(
            f"the plan is for the mesh {dict(plan.mesh)}, not {dict(engine)}; make it with `policy.plan(.., mesh={dict(engine)})`"
        )


def refuse(weights: Iterable[PlannedWeight], engine: str, can: Callable[[PlannedWeight, Cut], str | None]) -> None:
    """Raises with the names of the weights that an engine cannot hold; `can` says why not."""
    why: dict[str, list[str]] = {}
    for weight in weights:
        if weight.placed_over is not None:
            reason = f"placed whole over `{weight.placed_over}` (`place`)"
            why.setdefault(reason, []).append(weight.path)
            continue
        reasons = {can(weight, cut) for cut in weight.cuts} - {None}
        for reason in sorted(reason for reason in reasons if reason is not None):
            why.setdefault(reason, []).append(weight.path)
    if why:
        lines = [f"  {reason}: {listed(paths)}" for reason, paths in why.items()]
        raise ShardingError("\n".join([f"{engine} cannot hold what the plan asks for", *lines]))


def listed(paths: Sequence[str], most: int = 8) -> str:
    """Some paths, and how many more there are."""
    shown = ", ".join(f"`{path}`" for path in paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"


def batches(weights: Sequence[PlannedWeight], most: int) -> Iterator[list[PlannedWeight]]:
    """Weights in the order of the checkpoint, some bytes at a time."""
    batch: list[PlannedWeight] = []
    size = 0
    for weight in weights:
        stored = sum(component.length for component in weight.components)
        if batch and size + stored > most:
            yield batch
            batch, size = [], 0
        batch.append(weight)
        size += stored
    if batch:
        yield batch


def read(
    plan: Plan,
    weights: Sequence[PlannedWeight],
    devices: Sequence[Coordinates],
    threads: int | None,
    progress: Progress,
) -> dict[str, Pieces]:
    """Reads what some devices hold of some weights, each distinct part once."""
    mesh = plan.mesh
    wanted: list[set[str]] = [set() for _ in devices]
    keys: dict[str, dict[tuple[int, ...], int]] = {}
    for weight in weights:
        split = axes(weight)
        held = keys.setdefault(weight.path, {})
        for number, at in enumerate(devices):
            key = tuple(at[axis] for axis in split)
            if held.setdefault(key, number) == number:
                wanted[number].add(weight.path)
    loaded: dict[tuple[int, str], Loaded] = {}
    with bar(progress) as callback:
        for number, at in enumerate(devices):
            if wanted[number]:
                for found in plan._read({axis: at[axis] for axis in mesh}, wanted[number], threads, callback):
                    loaded[number, found.path] = assemble(found)
    return {
        path: {key: loaded[number, path] for key, number in held.items() if (number, path) in loaded}
        for path, held in keys.items()
    }


def piece(loaded: Loaded, role: str) -> Array:
    """One stored tensor of what was loaded of a weight."""
    if isinstance(loaded, QuantizedWeight):
        return dict(loaded.parts())[role]
    return loaded


def selected(plan: Plan, tensors: Iterable[str | PlannedWeight] | None) -> tuple[dict[str, str], list[PlannedWeight]]:
    """What is asked for: the path that each name is read as, and the weights to read."""
    names = plan.keys() if tensors is None else paths(plan, tensors)
    sources = {name: plan[name].alias_of or name for name in names}
    return sources, [plan[path] for path in dict.fromkeys(sources.values())]
