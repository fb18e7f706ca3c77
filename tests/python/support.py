"""What tests share besides fixtures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]

NAMES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int8": "I8",
    "uint8": "U8",
    "float8_e4m3fn": "F8_E4M3",
}


def lines(name: str) -> list[dict[str, Any]]:
    """The records of an inventory in `tests/data`."""
    text = (ROOT / "tests/data/inventories" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write_safetensors(path: Path, tensors: dict[str, npt.NDArray[Any]]) -> Path:
    """Writes a safetensors file without any library of ours."""
    header: dict[str, Any] = {}
    body = b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def gguf(name: str, dimensions: list[int], kind: int, data: bytes) -> bytes:
    """A GGUF file of one tensor."""
    header = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + (0).to_bytes(8, "little")
    header += len(name).to_bytes(8, "little") + name.encode() + len(dimensions).to_bytes(4, "little")
    header += b"".join(size.to_bytes(8, "little") for size in dimensions)
    header += kind.to_bytes(4, "little") + (0).to_bytes(8, "little")
    return header + b"\0" * (-len(header) % 32) + data
