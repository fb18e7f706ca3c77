"""The `flow-fabric` command, as the wheel installs it: `python -m flow_fabric` is the same."""

import signal
import sys

from ._native import main as run


def main() -> int:
    """Runs the command line of this process."""
    # The command line handles the interrupt itself, or dies of it as any command does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run(["flow-fabric", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
