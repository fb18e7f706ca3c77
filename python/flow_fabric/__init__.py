"""Policy-as-code for model weights: ask how each tensor is sharded, quantized and loaded, and load it so.

    import flow_fabric

    policy = flow_fabric.Policy.load("policies/slot09.toml")
    plan = policy.plan("checkpoints/slot09")
    for weight in plan.slot("slot09").tensors:
        print(weight.path, weight.spec, weight.scheme)

`flow_fabric.jax` and `flow_fabric.torch` place weights on devices as a plan says.
"""

from collections.abc import Mapping

from ._native import (
    Candidate,
    Component,
    Cut,
    Device,
    Finding,
    LoadSettings,
    Location,
    Plan,
    PlannedWeight,
    Policy,
    Resolution,
    Slot,
    __version__,
    write_manifest,
)
from ._quantized import QuantizedWeight
from ._run import MoeResult, Samples, moe_reference, sample
from .errors import (
    CheckpointError,
    FlowFabricError,
    GateError,
    InternalError,
    LoadError,
    PlanError,
    PolicyError,
    QuantizeError,
    SamplingError,
    ShardingError,
    UndecidedError,
)

Mapping.register(Plan)

__all__ = [
    "Candidate",
    "CheckpointError",
    "Component",
    "Cut",
    "Device",
    "Finding",
    "FlowFabricError",
    "GateError",
    "InternalError",
    "LoadError",
    "LoadSettings",
    "Location",
    "MoeResult",
    "Plan",
    "PlanError",
    "PlannedWeight",
    "Policy",
    "PolicyError",
    "QuantizeError",
    "QuantizedWeight",
    "Resolution",
    "Samples",
    "SamplingError",
    "ShardingError",
    "Slot",
    "UndecidedError",
    "__version__",
    "moe_reference",
    "sample",
    "write_manifest",
]
