"""Loads a checkpoint as PyTorch `DTensor`s as its policy says.

    pip install '.[torch]'
    torchrun --nproc-per-node 4 examples/torch_load.py POLICY CHECKPOINT

The mesh is the policy's own, one rank for each device; on CPUs the ranks talk by gloo.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import flow_fabric.torch


def main(policy_path: str, checkpoint: str) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    policy = flow_fabric.Policy.load(policy_path)
    mesh = init_device_mesh(device, tuple(policy.mesh.values()), mesh_dim_names=tuple(policy.mesh))
    weights = flow_fabric.torch.load_sharded(policy.plan(checkpoint), mesh)
    if dist.get_rank() == 0:
        for path, weight in weights.items():
            parts = weight.parts() if isinstance(weight, flow_fabric.QuantizedWeight) else [("", weight)]
            for role, part in parts:
                local = tuple(part.to_local().shape)
                print(f"{path} {role}: {part.dtype} {tuple(part.shape)}, {part.placements}, {local} on a rank")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:3])
