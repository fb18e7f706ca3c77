"""Loads a checkpoint over a JAX mesh as its policy says.

    pip install '.[jax]'
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python examples/jax_load.py POLICY CHECKPOINT

The mesh is the policy's own, over the devices that JAX has. Under `jax.distributed` run it in every process: each reads
what its own devices hold.
"""

from __future__ import annotations

import sys

import jax
import numpy as np
from jax.sharding import Mesh

import flow_fabric.jax


def main(policy_path: str, checkpoint: str) -> None:
    policy = flow_fabric.Policy.load(policy_path)
    shape = tuple(policy.mesh.values())
    devices = np.array(jax.devices()[: int(np.prod(shape, dtype=int))])
    if devices.size < np.prod(shape):
        raise SystemExit(f"the policy's mesh {policy.mesh} needs more than the {devices.size} devices there are")
    mesh = Mesh(devices.reshape(shape), tuple(policy.mesh))
    plan = policy.plan(checkpoint)
    weights = flow_fabric.jax.load_sharded(plan, mesh)
    for path, weight in weights.items():
        for key, part in jax.tree_util.tree_leaves_with_path(weight):
            name = path + jax.tree_util.keystr(key)
            local = part.addressable_shards[0].data.shape
            print(f"{name}: {part.dtype} {part.shape}, {part.sharding.spec}, {local} on a device")


if __name__ == "__main__":
    main(*sys.argv[1:3])
