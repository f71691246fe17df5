"""Write the generated pages: docs/cli.md, from the texts that `--help` and `list` print.

python scripts/write_docs.py           write them
python scripts/write_docs.py --check   say which differ; status 1 if any
"""

from __future__ import annotations

import sys
from pathlib import Path

from dmlbench.cli import HELP, HELPS
from dmlbench.configs import GROUPS, entries

DOCS = Path(__file__).resolve().parents[1] / "docs"


def cli_page() -> str:
    """The command-line reference."""
    parts = ["# The command line\n", "Generated from `dmlbench --help` by `make docs`; a test compares the two.\n"]
    parts.append(f"```text\n{HELP}```\n")
    for command, text in HELPS.items():
        parts.append(f"## dmlbench {command}\n\n```text\n{text}```\n")
    parts.append("## What can be named\n")
    for group in GROUPS:
        lines = [f"| `{GROUPS[group]}=` | |\n| --- | --- |"]
        lines += [f"| `{name}` | {opening} |" for name, opening in entries(GROUPS[group])]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


PAGES = {"cli.md": cli_page}


def main(check: bool) -> int:
    """Write or compare every page.

    Returns:
        1 where a page differs and was only to be compared, else 0.
    """
    stale = [name for name, page in PAGES.items() if not _same(DOCS / name, page())]
    for name in stale:
        if check:
            print(f"docs/{name} is not what the code says; run `make docs`")
        else:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
    return int(check and bool(stale))


def _same(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
