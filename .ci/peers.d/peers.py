"""Runs the checks beside this file, and what they share.

A check module has functions `check_*(work)`. `work` is an empty folder of the check's own. A check fails by raising; what
it returns is printed after its name. It calls `peers.run(...)` for the command, `peers.weights(...)` for pinned files.
"""

import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
DIR = pathlib.Path(os.environ["PEERS_DIR"])
BINARY = os.environ["FLOW_FABRIC"]


def run(*args, status=0):
    """Runs `flow-fabric ARGS`, expects its exit status, gives its standard output."""
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True)
    if done.returncode != status:
        command = " ".join(map(str, args))
        raise AssertionError(f"flow-fabric {command}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def weights(file):
    """A file of weights.txt, its checksum verified by the script that runs this."""
    return DIR / "weights" / file


def policy(folder, text):
    """Writes a policy and gives its path."""
    path = folder / "policy.toml"
    path.write_text('language = 1\npolicy = "peers"\n\n[partition]\nunmatched = "replicate"\n\n' + text)
    return path


def tensors(path):
    """All tensors of a safetensors file or of a folder of them, as torch tensors by name."""
    from safetensors.torch import load_file

    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def equal(ours, theirs, what):
    """Fails unless two tensors have one dtype, one shape and the same bits."""
    import torch

    assert ours.dtype == theirs.dtype, f"{what}: {ours.dtype} and {theirs.dtype}"
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} and {tuple(theirs.shape)}"
    ours, theirs = (x.contiguous().reshape(-1).view(torch.uint8) for x in (ours, theirs))
    different = int((ours != theirs).sum())
    assert different == 0, f"{what}: {different} of {ours.numel()} bytes differ"


def checks(file):
    """The checks of a file; one that cannot be imported is a check that fails."""
    try:
        module = importlib.import_module(file.stem)
    except Exception as error:
        failure = error

        def check_import(work):
            raise failure

        return [check_import]
    return [found for name, found in vars(module).items() if name.startswith("check_")]


def main(words):
    passed = failed = 0
    for file in sorted(HERE.glob("*.py")):
        if file.stem == "peers" or (words and not any(word in file.stem for word in words)):
            continue
        for check in checks(file):
            work = DIR / "work" / file.stem / check.__name__
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            start = time.monotonic()
            try:
                said = check(work) or ""
                outcome, passed = "ok", passed + 1
                shutil.rmtree(work)
            except Exception:
                said, outcome, failed = "\n" + traceback.format_exc(), "FAILED", failed + 1
            title = f"{file.stem}: {check.__name__.removeprefix('check_').replace('_', ' ')}"
            print(f"{title} ... {outcome} ({time.monotonic() - start:.1f} s) {said}".rstrip(), flush=True)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.modules["peers"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
