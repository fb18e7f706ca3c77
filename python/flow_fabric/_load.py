"""Arrays over what the compiled part has read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ._native import LoadedTensor, LoadedWeight, Plan, PlannedWeight
from ._quantized import QuantizedWeight, register_where_jax_is

Array: TypeAlias = npt.NDArray[Any]
Loaded: TypeAlias = "Array | QuantizedWeight[Array]"
Progress: TypeAlias = "Callable[[str, int, int | None], object] | bool | None"

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "f64": np.float64,
        "f32": np.float32,
        "f16": np.float16,
        "bf16": ml_dtypes.bfloat16,
        "f8_e4m3": ml_dtypes.float8_e4m3fn,
        "f8_e5m2": ml_dtypes.float8_e5m2,
        "f8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
        "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
        "f8_e8m0": ml_dtypes.float8_e8m0fnu,
        "i64": np.int64,
        "i32": np.int32,
        "i16": np.int16,
        "i8": np.int8,
        "u64": np.uint64,
        "u32": np.uint32,
        "u16": np.uint16,
        "u8": np.uint8,
        "bool": np.bool_,
        "c64": np.complex64,
    }.items()
}
"""Dtypes whose elements have an address. Others (GGML's blocks, packed 4-bit floats) are given as their bytes."""


def load(
    plan: Plan,
    device: int | Mapping[str, int] | None = None,
    tensors: Iterable[str | PlannedWeight] | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> dict[str, Loaded]:
    """See `Plan.load`."""
    register_where_jax_is()
    if device is None:
        if len(plan.devices) > 1:
            raise ValueError(f"the mesh has {len(plan.devices)} devices: say which one to load, `device=0`")
        device = 0
    asked = None if tensors is None else paths(plan, tensors)
    wanted = None
    if asked is not None:
        # An alias is read as the weight whose storage it shares.
        wanted = {plan[path].alias_of or path for path in asked}
    with bar(progress) as callback:
        read = {weight.path: assemble(weight) for weight in plan._read(device, wanted, threads, callback)}
    names: Iterable[str] = plan if asked is None else asked
    sources = {path: plan[path].alias_of or path for path in names}
    return {path: read[source] for path, source in sources.items() if source in read}


def paths(plan: Plan, tensors: Iterable[str | PlannedWeight]) -> list[str]:
    """The paths of what is asked for; each is in the plan."""
    if isinstance(tensors, str):
        raise TypeError(f"`tensors` is a list of paths; write [{tensors!r}]")
    asked = []
    for tensor in tensors:
        path = tensor.path if isinstance(tensor, PlannedWeight) else tensor
        asked.append(plan[path].path)
    return asked


def assemble(weight: LoadedWeight) -> Loaded:
    """The array of a plain weight, the parts of any other."""
    parts = {tensor.role: array(tensor) for tensor in weight.tensors}
    if weight.form.format == "plain" and list(parts) == ["weight"]:
        return parts["weight"]
    return QuantizedWeight.of(parts, weight.form)


def array(tensor: LoadedTensor) -> Array:
    """An array over the memory that the tensor was read into."""
    dtype = DTYPES.get(tensor.dtype)
    if dtype is not None:
        return np.ndarray(tensor.shape, dtype, buffer=memoryview(tensor.buffer))
    elements, size = tensor.block
    *outer, last = tensor.shape or (1,)
    shape = (*outer, last // elements * size) if last % elements == 0 else (len(tensor.buffer),)
    return np.ndarray(shape, np.uint8, buffer=memoryview(tensor.buffer))


class bar:
    """The callable that `progress` asks for: none, the given one, or a tqdm bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: Any = None
        self._step: str | None = None

    def __enter__(self) -> Callable[[str, int, int | None], object] | None:
        if self._progress is None or self._progress is False:
            return None
        return self._draw if self._progress is True else self._progress

    def _draw(self, step: str, done: int, total: int | None) -> None:
        if step != self._step:
            from tqdm.auto import tqdm

            self._close()
            self._bar = tqdm(desc=step, total=total, unit="B", unit_scale=True, unit_divisor=1024)
            self._step = step
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __exit__(self, *_: object) -> None:
        self._close()
