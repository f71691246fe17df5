"""Entry point of the command `dmlbench`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    from dmlbench.system.garbage import searching_rarely
    from dmlbench.system.leave import leave, prepare_to_leave
    from dmlbench.system.signals import handle_signals
    from dmlbench.system.terminal import open_closed_streams

    prepare_to_leave()
    open_closed_streams()
    handle_signals()  # before the imports that take time
    from dmlbench.cli import run
    from dmlbench.cli.several_processes import started_by_torchrun

    if started_by_torchrun():
        from dmlbench.system.parent import end_with_parent

        end_with_parent(os.getppid())  # also if torchrun is killed while this process imports torch
    os.environ["PYTHONSAFEPATH"] = "1"  # processes of joblib do not import from the current directory either
    with searching_rarely():
        status = run(sys.argv[1:])
    leave(status)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `python -m` searches the current directory first. Commands that import the user's own modules add it again, last.
        del sys.path[0]
    main()
