"""Write a report about runs into one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dmlbench.report.contents import Contents, Options, read_contents
from dmlbench.report.page import page
from dmlbench.system.atomic_write import atomic_write


def write_report(paths: Sequence[Path], output: Path, options: Options, title: str = "") -> Contents:
    """Write a report.

    Args:
        paths: Directories with runs, or files of rows.
        output: File to write.
        options: What to show.
        title: Title of the page; empty for one that names the data sets.

    Returns:
        What the report shows.

    Raises:
        UserError: The axis or a metric is unknown.
        OSError: The file cannot be written.
    """
    contents = read_contents(paths, options)
    atomic_write(output, page(contents, title or _title(contents)))
    return contents


def _title(contents: Contents) -> str:
    datasets = dict.fromkeys(section.dataset for section in contents.sections)
    return f"dmlbench: {', '.join(datasets)}" if datasets else "dmlbench: no runs"
