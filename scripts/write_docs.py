"""Write the generated pages.

docs/cli.md is what `--help` and `list` print; docs/metrics.md is `measures`, and what the conformance cases say of us and
others; docs/published.md is `conf/published/`.

python scripts/write_docs.py           write them
python scripts/write_docs.py --check   say which differ; status 1 if any
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

from dmlbench.cli.helps import HELP, HELPS

from dmlbench.config.files import GROUPS, entries
from dmlbench.results.literature import PublishedTable, read_published
from dmlbench.results.metric_specs import METRIC_SPECS, parse_metric

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


def metrics_page() -> str:
    """Every measure, the rules they share, and who passes the conformance cases."""
    parts = ["# What is measured\n", "Generated from `dmlbench/measures.py` by `make docs`; a test compares the two.\n", RULES]
    titles = {"retrieval": "Retrieval", "clustering": "Clustering", "diagnostic": "Diagnostics"}
    for kind, title in titles.items():
        lines = ["| column | in print | range | better | what it is | source |", "| --- | --- | --- | --- | --- | --- |"]
        for one in METRIC_SPECS:
            if one.kind == kind:
                high = "D" if one.high == math.inf else f"{one.high:g}"
                better = "higher" if one.higher_is_better else "lower"
                name = f"`{one.name}`"
                label = one.label.replace("<k>", "k")
                lines.append(f"| {name} | {label} | {one.low:g} to {high} | {better} | {one.definition} | {one.source} |")
        parts.append(f"## {title}\n\n{SAID[kind]}\n\n" + "\n".join(lines) + "\n")
    parts.append(f"## Who computes it right\n\n{CONFORMANCE}\n\n{conformance_table()}")
    return "\n".join(parts)


def conformance_table() -> str:
    """What `python tests/conformance` prints."""
    done = subprocess.run([sys.executable, "tests/conformance"], cwd=DOCS.parent, capture_output=True, text=True, check=True)
    return done.stdout


def published_page() -> str:
    """Every table of `conf/published/`, as its source has it."""
    parts = ["# Published results\n", "Generated from `conf/published/` by `make docs`; a test compares the two.\n", PUBLISHED]
    for name, opening in entries("published"):
        tables = [table for table in read_published() if table.name == name]
        source = tables[0].source
        parts.append(f"## {source.cite}{f', arXiv:{source.arxiv}' if source.arxiv else ''}\n\n{opening}\n")
        parts += [published_table(table, dataset) for table in tables for dataset in table.columns]
    return "\n".join(parts)


def published_table(table: PublishedTable, dataset: str) -> str:
    """One published table's numbers on one data set."""
    source, columns = table.source, table.columns[dataset]
    said = [source.kind, f"split {source.split}", f"in {'%' if table.unit == 'percent' else 'fractions'}"]
    said += [source.note or "", f"± {source.plus_minus}" if source.plus_minus else ""]
    heads = ["method", "trunk and size", *(_printed_name(name) for name in columns), "after, and note"]
    lines = []
    for line in table.lines:
        if line.dataset == dataset:
            numbers = [line.printed.get(name, "--") for name in columns]
            lines.append([line.label, line.size, *numbers, "; ".join(filter(None, [line.cite, line.note]))])
    rows = [heads, ["---", "---", *["--:" for _ in columns], "---"], *lines]
    if not any(line[-1] for line in lines):
        rows = [row[:-1] for row in rows]
    title = f"**{source.where[0].upper()}{source.where[1:]}**, `{dataset}`: {'; '.join(filter(None, said))}"
    return f"{title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _printed_name(name: str) -> str:
    column = parse_metric(name)
    return column.label if column else name.removeprefix("other_").replace("_", " ")


PUBLISHED = """\
What others published on the data sets that dmlbench knows: facts and figures, each with its source. `dmlbench table` prints
those of a table's data set, split and trunk below a rule; `--published all` those of every trunk too, and ablations;
`--published none` none. **None of them is made alike with a row of dmlbench, nor with each other**: trunk, crops, tuning and
the choice of the epoch differ. So they have no interval, are never bold and in no test. Validation numbers stand here alone.
A CSV has none of them, lest a program take them for rows; `conf/published/` is as easily read.

Results of your own choice: a file of the same form in `published/` of the `--config-dir` folder; `dmlbench/published.py` tells
the form.
"""
RULES = """\
## Rules

- **The query itself** is left out by its id, never by its position or because it comes first.
- **R**, the number of relevant items, comes from the labels; it is each query's own.
- **A query without a relevant item** is left out of every mean, and counted (`n_excluded`).
- **Labels** are whole numbers and are compared as such.
- **NaN and infinity** are refused, with the rows they stand in.
- **The score** of two embeddings is the inner product of their float32 vectors, correctly rounded to float64. It is a
  property of the pair: neither a permutation of the rows nor the size of a chunk nor the number of threads changes a
  number.
- **A tie** is two equal scores. It counts with its expected value over random orders of the tied items, in closed form
  (after McSherry & Najork, ECIR 2008). In a tie group of n items, r of them relevant, with c relevant ones above it,
  the item at position t of the group and rank i adds (r/n) (c + 1 + (t-1)(r-1)/(n-1)) / i to the sum of MAP@R. A
  collapsed embedding scores chance.
"""
SAID = {
    "retrieval": (
        "Means over the queries; `macro_<column>` is the mean over the classes of their means. A list is kept of "
        "the first R ranks, and of ten where R is smaller: `precision_at_<k>` and `retrieved_at_<k>` are given "
        "for k within it. What each query scored stands in `per_query.safetensors` beside the row."
    ),
    "clustering": (
        "k-means with one cluster a class (or `clusters=N` times as many), five runs with seeds of their own; the "
        "mean is the number, `<column>_std` the standard deviation over the runs, `cluster_init` and "
        "`cluster_seed` say how. Left out beyond 1,000 clusters, unless asked for. What is clustered are queries "
        "and gallery."
    ),
    "diagnostic": ("They tell how an embedding lies, and are no metrics: no table compares them."),
}
CONFORMANCE = (
    "`tests/conformance` asks any implementation the questions below; its README tells how to put yours to it. The "
    "expected numbers are those of an oracle that shares no code with any of them. pytorch-metric-learning is its "
    "`AccuracyCalculator` with faiss; drop-first is what much research code does: sort, and drop the first neighbour."
)

PAGES = {"cli.md": cli_page, "metrics.md": metrics_page, "published.md": published_page}


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
