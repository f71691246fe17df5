"""Write the generated pages of docs/.

    python scripts/write_docs.py           write the pages that have changed
    python scripts/write_docs.py --check   print which pages are out of date; the exit status is 1 if there are any

docs/cli.md is the help of every command and the list of configuration files. docs/columns.md is made from the column registry
and docs/metrics.md from the metric registry and the conformance cases. docs/published.md is made from `conf/published/`. The
table of fields in docs/protocols.md is made from the fields of `Protocol`; the rest of that page is written by hand.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docs_texts

from dmlbench import cli
from dmlbench.config.files import GROUPS, entries
from dmlbench.config.schema import UNSET, Protocol, row_fields
from dmlbench.results import column_specs
from dmlbench.results.column_specs import COLUMNS, Column, Role
from dmlbench.results.columns import SCHEMA_VERSION, column
from dmlbench.results.literature import PublishedTable, read_published
from dmlbench.results.metric_specs import METRIC_SPECS, MetricSpec, parse_metric

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GENERATED = "This page is generated from {} by `make docs`. A test checks that it is up to date.\n"


def cli_page() -> str:
    """Return the command-line reference."""
    parts = ["# Command line\n", GENERATED.format("the parsers of the commands"), f"```text\n{cli.overview()}```\n"]
    for command in cli.COMMANDS:
        parser = importlib.import_module(f"dmlbench.cli.{command}").make_parser()
        parts.append(f"## dmlbench {command}\n\n```text\n{parser.format_help().rstrip()}\n```\n")
    parts.append("## Configuration files\n\nA file is chosen by its name, as in `loss=triplet`. Each file cites its source.\n")
    for group in GROUPS.values():
        parts.append(markdown_table([f"`{group}=`", "description"], ([f"`{name}`", text] for name, text in entries(group))))
    return "\n".join(parts)


def columns_page() -> str:
    """Return the reference of all columns of a result row."""
    about = docs_texts.ABOUT_ROWS.format(schema_version=SCHEMA_VERSION)
    parts = ["# Columns of a result row\n", GENERATED.format("`dmlbench/results/column_specs.py`"), about]
    for role, meaning in roles().items():
        parts.append(f"## {role.capitalize()}\n\n{meaning[0].upper()}{meaning[1:]}.\n")
        if role == "metric":
            parts.append(f"{docs_texts.ABOUT_METRICS}\n{_metric_columns(('retrieval', 'clustering', 'attributes'))}")
            continue
        lines = [_column_line(one) for one in COLUMNS if one.role == role and not one.sum_of]
        parts.append(markdown_table(COLUMN_HEADINGS, lines))
        if role == "result":
            parts.append(f"Diagnostics describe the geometry of an embedding:\n\n{_metric_columns(('diagnostic',))}")
    return "\n".join(parts)


def roles() -> dict[str, str]:
    """Return each role of a column with its meaning, as the module of the registry documents them."""
    found = dict(re.findall(r"^    (\w+) {2,}(\S.*)$", str(column_specs.__doc__), re.MULTILINE))
    assert set(found) == set(get_args(Role))
    return found


def _column_line(column: Column) -> list[str]:
    since = f"{column.since}"
    if column.before is not UNSET:
        since += f"; older rows: `{json.dumps(column.before)}`"
    return [f"`{column.name}`", column.meaning, _row_unit(column), since]


def _row_unit(column: Column) -> str:
    """The unit of the value in a row, which is never scaled for print."""
    if column.unit == "%":
        return "fraction"
    return column.unit if column.scale == 1 else ""


def _metric_columns(kinds: Sequence[str]) -> str:
    specs = [one for one in METRIC_SPECS if one.kind in kinds]
    return markdown_table(COLUMN_HEADINGS, ([f"`{one.name}`", one.definition, _metric_unit(one), "1"] for one in specs))


def _metric_unit(spec: MetricSpec) -> str:
    return "fraction" if (spec.low, spec.high) == (0, 1) else ""


def metrics_page() -> str:
    """Return the definitions of all metrics, their common rules, and the conformance cases."""
    parts = ["# Metrics\n", GENERATED.format("`dmlbench/results/metric_specs.py`"), docs_texts.RULES]
    for kind, (title, text) in docs_texts.METRIC_SECTIONS.items():
        lines = [
            [f"`{one.name}`", one.label.replace("<k>", "k"), _range(one), _better(one), one.definition, one.source]
            for one in METRIC_SPECS
            if one.kind == kind
        ]
        table = markdown_table(["column", "in print", "range", "better", "definition", "source"], lines)
        parts.append(f"## {title}\n\n{text}\n\n{table}")
    parts.append(f"## Conformance of implementations\n\n{docs_texts.CONFORMANCE}\n\n{conformance_table()}")
    return "\n".join(parts)


def _range(spec: MetricSpec) -> str:
    return f"{spec.low:g} to {'D' if spec.high == math.inf else f'{spec.high:g}'}"


def _better(spec: MetricSpec) -> str:
    return "higher" if spec.higher_is_better else "lower"


def conformance_table() -> str:
    """Return what `python tests/conformance` prints."""
    directory = ROOT / "tests" / "conformance"
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    spec = importlib.util.spec_from_file_location("conformance_main", directory / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.table(module.KNOWN))


def protocols_page() -> str:
    """Return docs/protocols.md with the present fields of a protocol."""
    written = (DOCS / "protocols.md").read_text(encoding="utf-8")
    begin, end = (written.index(comment) for comment in docs_texts.PROTOCOL_FIELDS)
    begin += len(docs_texts.PROTOCOL_FIELDS[0])
    return f"{written[:begin]}\n{protocol_fields()}\n{written[end:]}"


def protocol_fields() -> str:
    """Return the table of the fields of a protocol, with the values that each accepts."""
    types = get_type_hints(Protocol)
    lines = [
        [f"`{one.name}`", _accepted(types[one.name], one.metadata.get("at_least")), _meaning(one.name)]
        for one in row_fields(Protocol)
    ]
    return markdown_table(("field", "values", "meaning"), lines)


def _meaning(field: str) -> str:
    """The meaning of a field of a protocol; configuration files write None as null."""
    return re.sub(r"\bNone\b", "`null`", column(f"protocol_{field}").meaning)


def _accepted(annotation: Any, at_least: float | None) -> str:
    """Describe the values of a type.

    >>> _accepted(int | None, 1), _accepted(bool, None), _accepted(tuple[int, ...], None), _accepted(tuple[float, float], None)
    ('integer, at least 1, `null`', '`true`, `false`', 'list of integers', 'list of 2 numbers')
    """
    kinds, parts = {int: "integer", float: "number", str: "text", bool: "`true`, `false`"}, get_args(annotation)
    kinds[NoneType] = "`null`"
    if annotation in kinds:
        is_limited = at_least is not None and annotation in (int, float)
        return f"{kinds[annotation]}, at least {at_least:g}" if is_limited else kinds[annotation]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if get_origin(annotation) is tuple:
        return f"list of {'' if Ellipsis in parts else f'{len(parts)} '}{kinds[parts[0]]}s"
    return ", ".join(_accepted(part, at_least) for part in parts)


def published_page() -> str:
    """Return every table of `conf/published/`, with the numbers as printed in its source."""
    parts = ["# Published results\n", GENERATED.format("`conf/published/`"), docs_texts.PUBLISHED]
    for name, opening in entries("published"):
        tables = [table for table in read_published() if table.name == name]
        source = tables[0].source
        parts.append(f"## {source.cite}{f', arXiv:{source.arxiv}' if source.arxiv else ''}\n\n{opening}\n")
        parts += [published_table(table, dataset) for table in tables for dataset in table.columns]
    return "\n".join(parts)


def published_table(table: PublishedTable, dataset: str) -> str:
    """Return the numbers of a published table on one data set.

    Args:
        table: Table as read from its file.
        dataset: One of the data sets of the table.
    """
    source, columns = table.source, table.columns[dataset]
    facts = [source.kind, f"split {source.split}", f"in {'%' if table.unit == 'percent' else 'fractions'}"]
    facts += [f"{source.clusters_per_class} clusters per class"] if source.clusters_per_class > 1 else []
    facts += [source.note or "", f"± {source.plus_minus}" if source.plus_minus else ""]
    headings = ["method", "trunk and size", *(_printed_name(name) for name in columns), "reference or note"]
    lines = [
        [
            *(line.label, line.size),
            *(line.printed.get(name, "--") for name in columns),
            "; ".join(filter(None, [line.cite, line.note])),
        ]
        for line in table.lines
        if line.dataset == dataset
    ]
    if not any(line[-1] for line in lines):
        headings, lines = headings[:-1], [line[:-1] for line in lines]
    title = f"**{source.where[0].upper()}{source.where[1:]}**, `{dataset}`: {'; '.join(filter(None, facts))}"
    return f"{title}\n\n{markdown_table(headings, lines, numbers=range(2, 2 + len(columns)))}"


def _printed_name(name: str) -> str:
    column = parse_metric(name)
    return column.label if column else name.removeprefix("other_").replace("_", " ")


def markdown_table(headings: Sequence[str], lines: Iterator[list[str]] | Sequence[list[str]], numbers: range = range(0)) -> str:
    """Return a markdown table.

    Args:
        headings: Text of each column's heading.
        lines: Cells of each line.
        numbers: Indices of the columns that are aligned to the right.
    """
    rule = ["--:" if index in numbers else "---" for index in range(len(headings))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [list(headings), rule, *lines])


COLUMN_HEADINGS = ("column", "meaning", "unit", "since")
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "columns.md": columns_page,
    "metrics.md": metrics_page,
    "protocols.md": protocols_page,
    "published.md": published_page,
}


def main(check: bool) -> int:
    """Write or check every page.

    Args:
        check: Print the names of the pages that are out of date, and write nothing.

    Returns:
        The exit status: 1 if `check` found a page that is out of date, else 0.
    """
    pages = {DOCS / name: page() for name, page in PAGES.items()}
    outdated = [file for file, text in pages.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    for file in outdated:
        if check:
            print(f"docs/{file.name} is out of date; run `make docs`")
        else:
            file.write_text(pages[file], encoding="utf-8")
    return int(check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
