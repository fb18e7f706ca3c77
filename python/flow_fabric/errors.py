"""The exceptions of this package. Their text is the rendered findings; `findings` holds them as objects.

What Python has exceptions for raises those: an absent file is a `FileNotFoundError`, a wrong type a `TypeError`, a device
that does not exist a `ValueError`, a path that is not in a plan a `KeyError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import Finding


class FlowFabricError(Exception):
    """Any failure of this package."""

    findings: tuple[Finding, ...]
    """What was found, warnings included; may be empty."""

    def __init__(self, message: str, findings: Iterable[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)

    def __reduce__(self) -> tuple[type[FlowFabricError], tuple[str]]:
        # Findings stay in the process that found them; their text travels.
        return type(self), (str(self),)


class PolicyError(FlowFabricError):
    """A policy that cannot be used."""


class CheckpointError(FlowFabricError):
    """A path that is no checkpoint."""


class PlanError(FlowFabricError):
    """A plan with findings of severity error."""


class UndecidedError(FlowFabricError):
    """A decision that depends on facts of the weight that were not given."""


class LoadError(FlowFabricError):
    """Tensor bytes that cannot be read."""


class QuantizeError(FlowFabricError):
    """A run that could not do its job; the output, if there was one, is as it was."""


class GateError(QuantizeError):
    """A gate of the policy that was not passed; nothing was written, unless `keep_going` lets gates pass."""

    report: dict[str, Any]
    """The drift report."""


class SamplingError(FlowFabricError):
    """Rows of logits that give no token."""


class ShardingError(FlowFabricError):
    """A plan that an engine cannot hold, or that is for another mesh."""


class InternalError(FlowFabricError):
    """A bug in this package."""
