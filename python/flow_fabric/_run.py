"""Samplers and layers of a policy, with numpy in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ._load import DTYPES
from ._native import Buffer, Policy
from ._quantized import QuantizedWeight
from .errors import SamplingError


@dataclass(frozen=True)
class Samples:
    """Drawn tokens."""

    tokens: npt.NDArray[np.int64]
    """One for each row that was asked for; -1 for a row that cannot be sampled."""
    probabilities: npt.NDArray[np.float64]
    """Of each token among those that were left."""
    report: dict[str, Any]
    """What `flow-fabric sample --format json` prints."""


@dataclass(frozen=True)
class MoeResult:
    """What a mixture-of-experts layer computes."""

    output: npt.NDArray[Any]
    """In the dtype that the layer rounds its output to, shaped as the input."""
    ids: npt.NDArray[np.uint32]
    """The chosen experts, `[tokens, top_k]`, best first."""
    weights: npt.NDArray[np.float64]
    """Their weights."""
    probabilities: npt.NDArray[np.float64]
    """The router's scores, `[tokens, experts]`."""
    gaps: npt.NDArray[np.float64]
    """By how much the last chosen expert beat the first that was not."""
    stages: Mapping[str, npt.NDArray[np.float64]]
    """What lies between, on request: `gate`, `up`, `hidden`, `expert_output`, `shared_output`."""


def sample(
    policy: Policy,
    sampler: str,
    logits: Any,
    *,
    rows: Iterable[int] | None = None,
    seed: int | None = None,
    slot: int | None = None,
    position: int | None = None,
    prompt: Sequence[int] | Sequence[Sequence[int]] = (),
    history: Sequence[int] | Sequence[Sequence[int]] = (),
    top: int = 0,
    trace: bool | int = False,
    strict: bool = True,
) -> Samples:
    """Draws a token from each row of `logits`, `[.., tokens]` of float32, float16 or bfloat16, with a sampler of the policy.

    The same seed, slot and position give the same token for the same row, here and on the command line, whatever the
    other rows are. `slot` is the stream of every row (its own number when left out), `position` its step (the length of
    its history). `prompt` and `history` are token ids for penalties, one list for all rows or one for each. `top` lists
    so many of the tokens that are left in the report, `trace` what each stage left, and the fate of a token if it is one.

    Raises `SamplingError` for rows that cannot be sampled (NaN, all tokens masked); with `strict=False` they give -1.
    """
    wanted = [] if rows is None else list(rows)
    empty = rows is not None and not wanted
    report = policy._sample(
        sampler,
        given(logits),
        rows=wanted,
        seed=seed,
        slot=slot,
        position=position,
        prompt=lists(prompt),
        history=lists(history),
        top=top,
        trace=trace is not False,
        token=None if isinstance(trace, bool) else trace,
    )
    found = [] if empty else report["rows"]
    failed = [f"row {row['row']}: {row['error']['message']}" for row in found if row["drawn"] is None]
    if failed and strict:
        more = "" if len(failed) <= 8 else f"\n  and {len(failed) - 8} more"
        raise SamplingError(f"{len(failed)} rows cannot be sampled\n  " + "\n  ".join(failed[:8]) + more)
    drawn = [row["drawn"] or {"token": -1, "probability": 0.0} for row in found]
    return Samples(
        np.array([row["token"] for row in drawn], np.int64),
        np.array([row["probability"] for row in drawn], np.float64),
        report,
    )


def moe_reference(
    policy: Policy,
    layer: str,
    weights: Mapping[str, Any],
    x: Any,
    *,
    prefix: str = "",
    evaluator: Literal["exact", "rounded"] = "exact",
    stages: bool = False,
) -> MoeResult:
    """Evaluates a mixture-of-experts layer of the policy on `x`, `[.., hidden]` of float32, float16 or bfloat16.

    `weights` has the layer's tensors by the names of `[moe.NAME.tensors]`, behind `prefix` and a separator where one is
    given: what `plan.load` gives will do. Those stored as codes are decoded. `exact` computes in float64 and rounds once,
    `rounded` in float32 with the roundings that the layer names.
    """
    below = prefix if not prefix or prefix.endswith(("/", ".")) else None
    named: list[tuple[str, Any]] = []
    for name, weight in weights.items():
        start = below
        if start is None:
            start = next((prefix + mark for mark in "/." if name.startswith(prefix + mark)), None)
        if start is not None and name.startswith(start):
            values = weight.dequantize() if isinstance(weight, QuantizedWeight) else weight
            named.append((name[len(start) :], given(values)))
    found = policy._moe(layer, named, given(x), evaluator=evaluator, stages=stages)
    arrays = {name: array(*parts) for name, parts in found.items()}
    output, ids, gates = arrays.pop("output"), arrays.pop("ids"), arrays.pop("weights")
    output = output.reshape(np.shape(x))
    return MoeResult(output, ids, gates, arrays.pop("probabilities"), arrays.pop("gaps"), arrays)


def given(values: Any) -> tuple[str, list[int], bytes]:
    """An array as the compiled part takes it."""
    array = np.ascontiguousarray(values)
    return array.dtype.name, list(np.shape(values)), array.tobytes()


def array(dtype: str, shape: list[int], buffer: Buffer) -> npt.NDArray[Any]:
    return np.ndarray(shape, DTYPES[dtype], buffer=memoryview(buffer))


def lists(tokens: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    """One list for all rows, or one for each."""
    if len(tokens) == 0:
        return []
    if all(isinstance(token, int | np.integer) for token in tokens):
        return [[int(token) for token in tokens]]  # type: ignore[arg-type]
    return [[int(token) for token in row] for row in tokens]  # type: ignore[union-attr]
