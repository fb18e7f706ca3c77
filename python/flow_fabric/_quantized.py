"""Weights that are stored as codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ._native import Form

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class QuantizedWeight(Generic[T]):
    """A weight as it is stored: codes, what scales them, and how they make up its values.

    The parts are numpy arrays, JAX arrays, PyTorch tensors or partition specs, whatever is asked for. For JAX it is a
    pytree whose leaves are the parts, as Grok-1's own quantized weights are.
    """

    weight: T
    """The codes."""
    scales: T | None = None
    """Multipliers of groups of codes; `None` where the codes hold them (GGML blocks)."""
    others: Mapping[str, T] = field(default_factory=dict)
    """Further parts by role: `zero-point`, `global-scale`, `shape`, ..."""
    form: Form | None = field(default=None, repr=False)
    """How the parts make up the weight."""

    @classmethod
    def of(cls, parts: Mapping[str, T], form: Form | None) -> QuantizedWeight[T]:
        """Makes one from parts by role."""
        others = {role: part for role, part in parts.items() if role not in ("weight", "scales")}
        return cls(parts["weight"], parts.get("scales"), dict(sorted(others.items())), form)

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape; that of the codes where the form is not known."""
        if self.form is not None:
            return self.form.shape
        return tuple(getattr(self.weight, "shape"))

    @property
    def dtype(self) -> str:
        """Dtype of the values."""
        return self._known().dtype

    def parts(self) -> Iterator[tuple[str, T]]:
        """The parts by role, codes first."""
        yield "weight", self.weight
        if self.scales is not None:
            yield "scales", self.scales
        yield from self.others.items()

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The values, decoded on the host: bit for bit what the command line's `dequantize` gives, in float32."""
        form = self._known()
        parts = dict(self.parts())
        data = [_bytes(parts[role]) for role in form.roles]
        return np.ndarray(form.shape, np.float32, buffer=memoryview(form.decode(data)))

    def _known(self) -> Form:
        if self.form is None:
            raise ValueError("a QuantizedWeight that was put together by hand has no form to decode it by")
        return self.form


_registered = False


def register_pytree() -> None:
    """Makes `QuantizedWeight` a pytree, once; needs JAX."""
    global _registered
    if _registered:
        return
    from jax import tree_util

    def names(weight: QuantizedWeight[Any]) -> tuple[Form | None, tuple[str, ...]]:
        return weight.form, tuple(role for role, _ in weight.parts())

    def flatten_with_keys(weight: QuantizedWeight[Any]) -> tuple[list[tuple[Any, Any]], Any]:
        return [(tree_util.GetAttrKey(role), part) for role, part in weight.parts()], names(weight)

    def flatten(weight: QuantizedWeight[Any]) -> tuple[list[Any], Any]:
        return [part for _, part in weight.parts()], names(weight)

    def unflatten(aux: tuple[Form | None, tuple[str, ...]], children: Any) -> QuantizedWeight[Any]:
        form, roles = aux
        return QuantizedWeight.of(dict(zip(roles, children)), form)

    tree_util.register_pytree_with_keys(QuantizedWeight, flatten_with_keys, unflatten, flatten)
    _registered = True


def register_where_jax_is() -> None:
    """The same where JAX is imported already; nobody else has trees to map over."""
    if "jax" in sys.modules:
        register_pytree()


def _bytes(part: Any) -> bytes:
    if hasattr(part, "detach"):
        # A PyTorch tensor, whose dtypes numpy may not have.
        import torch

        return part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()  # type: ignore[no-any-return]
    return np.ascontiguousarray(part).tobytes()
