"""Pickles that this numpy, ml_dtypes and jax write, read without running them: the arrays that are loaded are those that were pickled."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import flow_fabric
from flow_fabric import Policy

POLICY = """
language = 1
policy = "whole"
[mesh]
axes = ["m"]
shape = [1]
[partition]
unmatched = "replicate"
"""

NUMPY = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
ML_DTYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]
# The last one is more than a frame of protocol 4 and later holds.
SHAPES = [(), (0, 3), (7,), (2, 3, 4), (300, 300)]


def values(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    return (np.arange(count) % 7).reshape(shape).astype(dtype)


def read(path: Path, pickled: bytes) -> Any:
    path.write_bytes(pickled)
    loaded = Policy.loads(POLICY, name="whole.toml").plan(path).load(0)
    (array,) = loaded.values()
    return array


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_read_as_they_were_pickled(tmp_path: Path, protocol: int) -> None:
    dtypes = [np.dtype(name) for name in NUMPY] + [np.dtype(getattr(ml_dtypes, name)) for name in ML_DTYPES]
    for dtype, shape in itertools.product(dtypes, SHAPES):
        array = values(dtype, shape)
        found = read(tmp_path / "tensor00000_000", pickle.dumps(array, protocol=protocol))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_so_are_those_of_jax(tmp_path: Path, protocol: int) -> None:
    for dtype, shape in itertools.product([jnp.float32, jnp.bfloat16, jnp.int8], SHAPES):
        array = jnp.asarray(values(np.dtype(dtype), shape))
        found = read(tmp_path / "tensor00000_000", pickle.dumps(array, protocol=protocol))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, np.asarray(array))


def test_nothing_that_is_named_is_called(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (exec, (f"open({str(tmp_path / 'called')!r}, 'w')",))

    for value in (Evil(), [Evil()], {"w": Evil()}):
        for protocol in range(6):
            path = tmp_path / "tensor00000_000"
            path.write_bytes(pickle.dumps(value, protocol=protocol))
            with pytest.raises(flow_fabric.FlowFabricError):
                Policy.loads(POLICY, name="whole.toml").plan(path).load(0)
    assert not (tmp_path / "called").exists()
