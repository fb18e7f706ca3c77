"""JAX: Grok-1's oracle, specs, and arrays on meshes of eight devices, in one process and in two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

import flow_fabric
import flow_fabric.jax
from flow_fabric import Plan, Policy, QuantizedWeight, _layout, _load
from flow_fabric._quantized import register_pytree
from support import ROOT, gguf, lines, write_safetensors

RANDOM = np.random.default_rng(11)


def spec(entries: list[Any] | None) -> P | None:
    """A spec as the oracles write it."""
    if entries is None:
        return None
    return P(*(tuple(entry) if isinstance(entry, list) else entry for entry in entries))


def same(ours: P | None, theirs: P | None) -> bool:
    """Equal entry by entry: `P()` and `P(None)` are not the same answer."""
    return (ours is None) == (theirs is None) and (ours is None or theirs is None or tuple(ours) == tuple(theirs))


@pytest.fixture(scope="module")
def grok() -> Policy:
    return Policy.load(ROOT / "policies/grok-1.toml")


@pytest.mark.parametrize("oracle", ["grok-1.oracle.jsonl", "grok-1-dense-variant.oracle.jsonl"])
def test_rules_are_a_drop_in_for_groks_own(grok: Policy, oracle: str) -> None:
    leaves = lines(oracle)
    tree: dict[str, dict[str, Any]] = {}
    for leaf in leaves:
        *module, name = leaf["path"]
        tree.setdefault("/".join(module), {})[name] = jax.ShapeDtypeStruct(tuple(leaf["shape"]), np.float32)
    specs = jax.tree_util.tree_map_with_path(flow_fabric.jax.rules(grok), tree)
    wrong = [
        leaf["name"]
        for leaf in leaves
        if not same(specs["/".join(leaf["path"][:-1])][leaf["path"][-1]], spec(leaf["spec"]))
    ]
    assert wrong == []
    assert len(leaves) == {"grok-1.oracle.jsonl": 770}.get(oracle, 24)


def test_made_up_paths_too(grok: Policy) -> None:
    apply = flow_fabric.jax.rules(grok)
    wrong = [
        leaf["path"]
        for leaf in lines("grok-1-paths.oracle.jsonl")
        if not same(apply([DictKey(key) for key in leaf["dict_keys"]], None), spec(leaf["spec"]))
    ]
    # Python's `$` also matches before a final newline; the language's patterns end where the token ends.
    assert wrong == [["moe", "linear", "w\n"]]


def test_codes_and_scales_of_a_pair_have_one_path(grok: Policy) -> None:
    weight = QuantizedWeight(np.zeros((8, 16), np.int8), np.zeros((1, 16), np.float32))
    tree = {"transformer/decoder_layer_0/multi_head_attention/query": {"w": weight}}
    register_pytree()
    specs = jax.tree_util.tree_map_with_path(flow_fabric.jax.rules(grok), tree)
    found = specs["transformer/decoder_layer_0/multi_head_attention/query"]["w"]
    assert isinstance(found, QuantizedWeight)
    assert (found.weight, found.scales) == (P("data", "model"), P("data", "model"))


def test_other_keys_count_when_asked(grok: Policy) -> None:
    keys = [GetAttrKey("moe"), SequenceKey(0), DictKey("router"), DictKey("w")]
    assert flow_fabric.jax.rules(grok)(keys, None) == P("data")
    policy = Policy.loads(
        'language = 1\npolicy = "p"\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = "r"\ntokens = ["moe", "0"]\nspec = []\n'
    )
    assert flow_fabric.jax.rules(policy)(keys, None) is None
    assert flow_fabric.jax.rules(policy, keys="all")(keys, None) == P()


def test_partition_specs_are_those_of_the_oracle(grok: Policy) -> None:
    plan = grok.plan(ROOT / "tests/data/inventories/grok-1.jsonl")
    specs = flow_fabric.jax.partition_specs(plan)
    leaves = lines("grok-1.oracle.jsonl")
    assert len(specs) == len(leaves)
    for leaf in leaves:
        found = specs[leaf["name"]]
        assert same(found.weight if isinstance(found, QuantizedWeight) else found, spec(leaf["spec"])), leaf["name"]
    down = specs["transformer/decoder_layer_0/moe/linear_1/w"]
    assert isinstance(down, QuantizedWeight) and down.scales == P(None, "model", "data")
    tree = flow_fabric.jax.partition_specs(plan, nested=True)
    assert tree["transformer"]["decoder_layer_0"]["moe"]["linear_1"]["w"].weight == down.weight


POLICY = """
language = 1
policy = "sharded"
separators = ["/"]
[mesh]
axes = ["data", "model"]
shape = [1, 8]
[partition]
indivisible = "{indivisible}"
[[FLOW_FABRIC_PARTITION_RULES]]
name = "both"
glob = "both/**"
spec = ["-", ["data", "model"]]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "matrices"
glob = "**/w"
spec = ["model", "data"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "rest"
glob = "**"
spec = []
"""


def write(path: Path) -> dict[str, Any]:
    """A checkpoint of all kinds of weights; returns what it holds."""
    codes = RANDOM.integers(-127, 128, (64, 16), dtype=np.int8)
    tensors = {
        "a/w": RANDOM.standard_normal((16, 24)).astype(np.float32),
        "a/b": RANDOM.standard_normal(5).astype(ml_dtypes.bfloat16),
        "both/x": RANDOM.standard_normal((3, 32)).astype(ml_dtypes.bfloat16),
        "fp8/w": RANDOM.standard_normal((8, 8)).astype(ml_dtypes.float8_e4m3fn),
        "scalar": np.array(2.5, np.float32),
        "moe/w/weight": codes,
        "moe/w/scales": RANDOM.uniform(0.01, 0.1, (8, 16)).astype(ml_dtypes.bfloat16),
    }
    write_safetensors(path, tensors)
    return tensors


@pytest.fixture(params=[(1, 8), (2, 4), (8, 1)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def mesh(request: pytest.FixtureRequest) -> Mesh:
    assert jax.device_count() == 8, "conftest.py asks XLA for eight"
    return Mesh(np.array(jax.devices()).reshape(request.param), ("data", "model"))


def sharded(mesh: Mesh, path: Path, indivisible: str = "error") -> Plan:
    policy = Policy.loads(POLICY.format(indivisible=indivisible))
    return policy.plan(path, mesh=dict(mesh.shape))


def check(array: jax.Array, whole: Any) -> None:
    """Every shard is the slice of the whole that its device should hold."""
    assert isinstance(array.sharding, NamedSharding)
    assert (array.shape, array.dtype) == (whole.shape, whole.dtype)
    assert len(array.addressable_shards) == jax.local_device_count()
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), whole[shard.index])


def test_every_shard_is_the_slice_of_the_whole(mesh: Mesh, tmp_path: Path) -> None:
    tensors = write(tmp_path / "m.safetensors")
    plan = sharded(mesh, tmp_path / "m.safetensors")
    # A batch of one byte: a weight at a time.
    for batch_bytes in (1, 1 << 30):
        arrays = flow_fabric.jax.load_sharded(plan, mesh, batch_bytes=batch_bytes)
        assert list(arrays) == list(plan)
        for name in ("a/w", "a/b", "both/x", "fp8/w", "scalar"):
            check(arrays[name], tensors[name])
        pair = arrays["moe/w"]
        check(pair.weight, tensors["moe/w/weight"])
        check(pair.scales, tensors["moe/w/scales"])
        specs = flow_fabric.jax.partition_specs(plan)
        placed = jax.tree.map(lambda array: array.sharding.spec, arrays)
        assert jax.tree.all(jax.tree.map(same, placed, specs))
        total = jax.jit(lambda pair: pair.weight.astype(np.float32).sum())(pair)
        assert float(total) == float(tensors["moe/w/weight"].sum())
        scales = tensors["moe/w/scales"].astype(np.float32).repeat(8, axis=0)
        np.testing.assert_array_equal(pair.dequantize(), tensors["moe/w/weight"] * scales)


def test_each_distinct_part_is_read_once(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = write(tmp_path / "m.safetensors")
    plan = sharded(mesh, tmp_path / "m.safetensors")
    sizes: list[int] = []
    original = _load.assemble

    def counted(weight: Any) -> Any:
        sizes.extend(len(tensor.buffer) for tensor in weight.tensors)
        return original(weight)

    monkeypatch.setattr(_layout, "assemble", counted)
    flow_fabric.jax.load_sharded(plan, mesh)
    # Scales of 8 rows have as many as `model` has devices, or are split over `data`: every byte once, none twice.
    assert sum(sizes) == sum(array.nbytes for array in tensors.values())


def test_packed_elements_are_sharded_as_bytes(tmp_path: Path) -> None:
    mesh = Mesh(np.array(jax.devices()).reshape(1, 8), ("data", "model"))
    blocks = RANDOM.integers(-127, 128, (4, 16, 34), dtype=np.int8)
    blocks[:, :, :2] = np.array([0.25], np.float16).view(np.int8)
    (tmp_path / "m.gguf").write_bytes(gguf("both/w", [512, 4], 8, blocks.tobytes()))
    weight = flow_fabric.jax.load_sharded(sharded(mesh, tmp_path / "m.gguf"), mesh)["both/w"]
    assert weight.weight.shape == (4, 16 * 34)
    check(weight.weight, blocks.reshape(4, 16 * 34).view(np.uint8))
    values = blocks[:, :, 2:].astype(np.float32) / 4
    np.testing.assert_array_equal(weight.dequantize(), values.reshape(4, 512))


def test_padding_is_part_of_the_array(tmp_path: Path) -> None:
    mesh = Mesh(np.array(jax.devices()).reshape(1, 8), ("data", "model"))
    whole = RANDOM.standard_normal((10, 3)).astype(np.float32)
    path = write_safetensors(tmp_path / "m.safetensors", {"a/w": whole})
    array = flow_fabric.jax.load_sharded(sharded(mesh, path, "pad"), mesh)["a/w"]
    assert array.shape == (16, 3)
    np.testing.assert_array_equal(np.asarray(array), np.pad(whole, ((0, 6), (0, 0))))


def test_what_jax_cannot_hold_names_the_weights(tmp_path: Path) -> None:
    mesh = Mesh(np.array(jax.devices()).reshape(1, 8), ("data", "model"))
    path = write_safetensors(tmp_path / "m.safetensors", {"a/w": np.zeros((10, 3), np.float32)})
    with pytest.raises(flow_fabric.ShardingError, match=r"unequal chunks \(`uneven`\): `a/w`"):
        flow_fabric.jax.load_sharded(sharded(mesh, path, "uneven"), mesh)
    # A declared fallback is held as it is taken.
    replicated = flow_fabric.jax.load_sharded(sharded(mesh, path, "replicate"), mesh)["a/w"]
    assert replicated.sharding.spec == P(None, "data")
    placed = Policy.loads(
        'language = 1\npolicy = "p"\n[mesh]\naxes = ["expert"]\nshape = [8]\n'
        '[[FLOW_FABRIC_PARTITION_RULES]]\nname = "r"\nglob = "**"\nspec = []\n'
        "place = { axis = \"expert\", index = 'e\\.(\\d+)', of = 8 }\n"
    )
    experts = {f"e.{index}.w": np.zeros(2, np.float32) for index in range(10)}
    with pytest.raises(flow_fabric.ShardingError, match="and 2 more"):
        plan = placed.plan(write_safetensors(tmp_path / "e.safetensors", experts), strict=False)
        flow_fabric.jax.load_sharded(plan, Mesh(np.array(jax.devices()), ("expert",)))
    heads = Policy.loads(
        'language = 1\npolicy = "p"\n[mesh]\naxes = ["model"]\nshape = [8]\n'
        '[[FLOW_FABRIC_PARTITION_RULES]]\nname = "kv"\nglob = "**"\n'
        'spec = [{ axis = "model", unit = 4, fewer = "replicate" }]\n'
    )
    with pytest.raises(flow_fabric.ShardingError, match="fewer units than devices"):
        plan = heads.plan(write_safetensors(tmp_path / "h.safetensors", {"kv": np.zeros((8, 2), np.float32)}))
        flow_fabric.jax.load_sharded(plan, Mesh(np.array(jax.devices()), ("model",)))


def test_another_mesh_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors")
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
    plan = Policy.loads(POLICY.format(indivisible="error")).plan(tmp_path / "m.safetensors")
    with pytest.raises(flow_fabric.ShardingError, match="policy.plan"):
        flow_fabric.jax.load_sharded(plan, mesh)


def test_a_subset_and_a_mesh_with_more_axes(tmp_path: Path) -> None:
    tensors = write(tmp_path / "m.safetensors")
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("stage", "data", "model"))
    plan = Policy.loads(POLICY.format(indivisible="error")).plan(
        tmp_path / "m.safetensors", mesh={"data": 2, "model": 2}
    )
    arrays = flow_fabric.jax.load_sharded(plan, mesh, ["a/w"])
    assert list(arrays) == ["a/w"]
    check(arrays["a/w"], tensors["a/w"])


WORKER = """
import json, sys
import jax
import numpy as np
from jax.sharding import Mesh

port, rank, root = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
assert (jax.device_count(), jax.local_device_count()) == (8, 4)

import flow_fabric, flow_fabric.jax

mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
plan = flow_fabric.Policy.load(f"{root}/p.toml").plan(f"{root}/m.safetensors", mesh=dict(mesh.shape))
whole = dict(np.load(f"{root}/whole.npz"))
arrays = flow_fabric.jax.load_sharded(plan, mesh)
shards = 0
for name, array in [("a/w", arrays["a/w"]), ("moe/w/weight", arrays["moe/w"].weight)]:
    assert array.shape == whole[name].shape and not array.is_fully_addressable
    for shard in array.addressable_shards:
        assert np.array_equal(np.asarray(shard.data), whole[name][shard.index])
        shards += 1
print(json.dumps({"rank": rank, "shards": shards}))
"""


def test_two_processes_read_their_own_devices(tmp_path: Path) -> None:
    import socket

    tensors = write(tmp_path / "m.safetensors")
    np.savez(tmp_path / "whole.npz", **{name: tensors[name] for name in ("a/w", "moe/w/weight")})
    (tmp_path / "p.toml").write_text(POLICY.format(indivisible="error"), encoding="utf-8")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "worker.py"), str(port), str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert [json.loads(out.splitlines()[-1]) for out, _ in outputs] == [
        {"rank": 0, "shards": 8},
        {"rank": 1, "shards": 8},
    ]
