"""Entry point of the command `dmlbench`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    from dmlbench.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
