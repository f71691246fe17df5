"""Count where the wrong nearest neighbours of test queries come from, in comparison with chance.

python scripts/error_shares.py runs/omniglot
python scripts/error_shares.py runs/omniglot --data data

Reads `embeddings.safetensors` of the finished runs of one data set whose split has groups, such as the alphabets of Omniglot.
A query is wrong if its nearest neighbour, by inner product and without itself, has another class. `same group` is the
percentage of the wrong queries whose neighbour is of the query's group. `chance` is what a neighbour drawn at random from all
images of other classes would give for the same queries. Raw pixels and the untrained trunk have learnt nothing, so what they
confuse is similar in the images; a larger share after training would come from what was trained. Numbers are means over seeds,
in percent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dmlbench.config.compose import compose, resolve
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.evaluation.embedding_files import load_embeddings
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_rows
from dmlbench.runs.prepare import listed_split
from dmlbench.tables.table import compare

QUERIES_AT_ONCE = 1024  # rows of the matrix of scores


def nearest(queries: np.ndarray, gallery: np.ndarray, query_ids: np.ndarray, gallery_ids: np.ndarray) -> np.ndarray:
    """Return the index of the nearest gallery item of each query, int `(Q,)`; a query is never its own neighbour.

    Args:
        queries: Embeddings `(Q, D)`.
        gallery: Embeddings `(G, D)`.
        query_ids: `(Q,)`.
        gallery_ids: `(G,)`.
    """
    found = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        scores = queries[part] @ gallery.T
        scores[query_ids[part, None] == gallery_ids[None]] = -np.inf
        found.append(scores.argmax(1))
    return np.concatenate(found)


def shares(
    labels: np.ndarray, groups: np.ndarray, neighbours: np.ndarray, gallery_labels: np.ndarray, gallery_groups: np.ndarray
) -> tuple[float, float, float]:
    """Compute the share of wrong queries, and the share of these whose neighbour is of the query's group.

    Args:
        labels: Class of each query, `(Q,)`.
        groups: Group of each query, `(Q,)`.
        neighbours: Index of the nearest gallery item of each query, `(Q,)`.
        gallery_labels: Class of each gallery item, `(G,)`.
        gallery_groups: Group of each gallery item, `(G,)`.

    Returns:
        Share of wrong queries; share of the wrong queries with a neighbour of the same group; and the share that chance gives
        for the same queries. The last two are NaN if no query is wrong.
    """
    wrong = gallery_labels[neighbours] != labels
    if not wrong.any():
        return 0.0, float("nan"), float("nan")
    same = gallery_groups[neighbours[wrong]] == groups[wrong]
    other_class = gallery_labels[None] != labels[wrong, None]
    in_group = other_class & (gallery_groups[None] == groups[wrong, None])
    chance = in_group.sum(1) / other_class.sum(1)
    return float(wrong.mean()), float(same.mean()), float(chance.mean())


def shares_of_run(row: Row, split: Split) -> tuple[float, float, float]:
    """Return what `shares` returns for a finished run.

    Args:
        row: Its row, which names the directory.
        split: Its data set, with a column `group`.

    Raises:
        UserError: The run has no embeddings.
    """
    folder = row.folder
    if folder is None or not (folder / run_files.EMBEDDINGS).is_file():
        raise UserError(f"{folder} contains no {run_files.EMBEDDINGS}; runs with one model have this file")
    found = load_embeddings(folder / run_files.EMBEDDINGS)
    rows, labels, ids = (np.asarray(one) for one in (found.in_memory().rows, found.labels, found.ids))
    query, gallery = found.is_query.numpy(), found.is_gallery.numpy()
    groups = split.frame["group"].to_numpy()[ids]
    neighbours = nearest(rows[query], rows[gallery], ids[query], ids[gallery])
    return shares(labels[query], groups[query], neighbours, labels[gallery], groups[gallery])


def split_of(rows: list[Row], data: Path) -> Split:
    """Return the split of some runs.

    Args:
        rows: Rows of the runs.
        data: Directory of data sets and caches.

    Raises:
        UserError: The rows are of several splits, the split is not that of the default configuration, or has no groups.
    """
    digests = {(str(row["dataset"]), str(row["split_digest"])) for row in rows}
    if len(digests) > 1:
        raise UserError("the runs are of several data sets or splits; name the directory of one")
    [(name, digest)] = digests
    split = listed_split(resolve(compose([f"dataset={name}", f"paths.data={data}"])).dataset)
    if split.digest != digest:
        raise UserError(f"the runs have another split of {name} than dataset={name} has now; train them again")
    if "group" not in split.frame:
        raise UserError(f"the split of {name} has no column group")
    return split


def table(found: Mapping[str, list[tuple[float, float, float]]]) -> str:
    """Return the shares as a table in markdown.

    Args:
        found: Name of each method to what `shares` returned for its seeds.
    """
    lines = ["| method | n | wrong | same group | chance |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, each in found.items():
        wrong, same, chance = (f"{100 * value:.1f}" for value in np.mean(each, axis=0))
        lines.append(f"| {name} | {len(each)} | {wrong} | {same} | {chance} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print the shares of each method, and return the exit status.

    Args:
        argv: Arguments of the command.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="directory with the runs of one data set")
    parser.add_argument("--data", type=Path, default=Path("data"), help="directory of data sets and caches (default: data)")
    arguments = parser.parse_args(argv)
    try:
        rows = [row for row in read_rows(arguments.runs)[0] if row.ok and row.get("parent") is None]
        if not rows:
            raise UserError(f"{arguments.runs} contains no finished run")
        split = split_of(rows, arguments.data)
        for one in compare(rows, tested=False, published="none"):
            print(table({row.label: [shares_of_run(run, split) for run in row.rows if run.ok] for row in one.rows}))
    except UserError as error:
        print(f"error_shares: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
