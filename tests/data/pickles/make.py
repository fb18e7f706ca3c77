"""Pickles as numpy, ml_dtypes and jax write them.

    python make.py     # with numpy 1.26.4, ml_dtypes 0.3.2: plain.*, quantized.*
    python make.py     # with numpy 2.4.6, ml_dtypes 0.6.0, jax 0.10.2: the others
"""

import dataclasses
import pathlib
import pickle

import ml_dtypes
import numpy

here = pathlib.Path(__file__).parent


@dataclasses.dataclass
class QuantizedWeight8bit:  # noqa: D101  (Grok-1's own, without its methods)
    weight: object
    scales: object


def write(name, value, protocol):
    (here / f"{name}.protocol{protocol}.pkl").write_bytes(pickle.dumps(value, protocol=protocol))


def quantized(array):
    weight = numpy.arange(12, dtype=numpy.int8).reshape(4, 3)
    return QuantizedWeight8bit(array(weight), array(numpy.ones((2, 3), ml_dtypes.bfloat16)))


plain = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
if numpy.__version__.startswith("1."):
    for protocol in (3, 4, 5):
        write("plain", plain, protocol)
        write("quantized", quantized(numpy.asarray), protocol)
else:
    import jax.numpy

    for protocol in (2, 3, 4, 5):
        write("numpy-2", plain, protocol)
        write("jax", jax.numpy.asarray(plain), protocol)
    write("jax-quantized", quantized(jax.numpy.asarray), 4)
    write("jax-weak", jax.numpy.asarray(2.5), 4)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4"):
        write(f"ml_dtypes-{name}", numpy.array([1, 2], getattr(ml_dtypes, name)), 4)
    write("columns", numpy.asfortranarray(plain), 4)
    write("columns", numpy.asfortranarray(plain), 5)
    write("big-endian", plain.astype(">f4"), 4)
    write("structured", numpy.zeros(2, [("a", "f4"), ("b", "i4")]), 4)
    write("objects", numpy.array([None, "text"], object), 4)
    write("number", numpy.float32(3), 4)
    write("list", [plain, plain], 4)
