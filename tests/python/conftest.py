"""Fixtures: the repository itself, and a small policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports JAX: a mesh needs devices.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import flow_fabric  # noqa: E402
from support import ROOT  # noqa: E402

TINY = """
language = 1
policy = "tiny"

[mesh]
axes = ["data", "model"]
shape = [2, 4]

[[FLOW_FABRIC_PARTITION_RULES]]
name = "matrices"
glob = "**.w"
when = { rank = 2 }
spec = ["data", "model"]

[[FLOW_FABRIC_PARTITION_RULES]]
name = "rest"
glob = "**"
spec = []

[slot.one]
tensors = ["layer.1.**"]
"""


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def tiny() -> flow_fabric.Policy:
    """A policy with one conditional rule, on a mesh of 2 x 4."""
    return flow_fabric.Policy.loads(TINY, name="tiny.toml")
