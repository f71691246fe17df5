"""`dmlbench evaluate`: evaluate saved runs again, or files of embeddings from elsewhere."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, allow_own_code, check_config_dir, path
from dmlbench.cli.progress import headline
from dmlbench.cli.table import print_skipped
from dmlbench.errors import UserError
from dmlbench.system.terminal import printable

if TYPE_CHECKING:
    from dmlbench.evaluation.evaluator import Distance, EvaluationConfig
    from dmlbench.results.row import Row

T = TypeVar("T", int, float)
# Options that may also be written as `key=value`, as in previous versions.
KEYS = (
    *("ks", "clusters", "queries", "gallery", "distance", "rerank", "rerank.k1", "rerank.k2", "rerank.lambda", "whiten"),
    *("beta", "layer", "dataset", "trunk", "seed", "labels"),
)
EMBEDDING_SUFFIXES = (".safetensors", ".npz", ".npy")
ONLY_FILES = ("name", "labels", "dataset", "trunk", "seed")
EXAMPLES = """\
evaluate runs/omniglot --ks 1,5,20            # every run below, with other values of k
evaluate omniglot/triplet --rerank k_reciprocal
evaluate runs/cub --layer pooled dataset.root=/data/cub
evaluate runs/cub --queries 200 --gallery full  # 200 queries, in test images and in all
evaluate theirs.npz --name "Their method"
"""
DETAILS = """\
A file of embeddings is .safetensors or .npz with the keys embeddings, labels and optionally ids,
is_query, is_gallery; or .npy with a CSV file that has a column labels (--labels).

The new row of a run is written below the directory of the run and names it as its parent. The row of a
file has the protocol `external`. Both are compared only with rows that were evaluated in the same way.
The scores of each query are written beside the row (per_query.safetensors). Options may also be written
as KEY=VALUE: ks=1,5,20.

--layer, --whiten and --beta embed the images of a run again, with its model; so does --gallery full,
unless the run did. Images outside of the current directory have to be named again: dataset.root=DIR, or
paths.data=DIR. Other values of the data set, device and workers may be set in the same way. A run
directory is data: nothing in it is executed.
"""
# Overrides that say how the images of a run are read.
OVERRIDES = re.compile(r"[+~]*(dataset\.|trunk\.make\.|paths\.data=|device=|workers=)")


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Evaluate saved runs again, without training, or files of embeddings from elsewhere."
    parser = Parser("evaluate", "RUNS|FILE ... [options]", description, EXAMPLES, DETAILS, KEYS, OVERRIDES)
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS|FILE", help="runs (see `dmlbench table --help`), or a file of embeddings")
    add(
        *("--ks",),
        metavar="K,K",
        help="values of k for Recall@k, Precision@k and Retrieved@k, also beyond the largest R (default: those of the run; "
        "1,2,4,8 for a file)",
    )
    add(
        "--clusters",
        metavar="N",
        help="k-means clusters per class; 0 disables clustering (default: 1, or 0 above 1,000 classes)",
    )
    add(
        *("--distance",),
        metavar="NAME",
        choices=("inner_product", "cosine", "euclidean"),
        help="inner_product (default for a run, whose embeddings have unit length), cosine (default for a file) or euclidean "
        "(default with --beta)",
    )
    add(
        *("--queries",),
        metavar="N",
        help="evaluate N queries, drawn at random from those with a relevant item; 0 for all (default: those of the run; "
        "all for a file)",
    )
    add(
        *("--gallery",),
        metavar="NAME",
        choices=("test", "full"),
        default="test",
        help="full: also evaluate in a gallery of training and test images, as columns full_* (default: that of the run; test "
        "for a file)",
    )
    add("--rerank", metavar="NAME", choices=("none", "k_reciprocal"), default="none", help="k_reciprocal or none (default)")
    add("--rerank.k1", dest="k1", metavar="N", help="neighbours of k-reciprocal re-ranking (default: 20)")
    add("--rerank.k2", dest="k2", metavar="N", help="neighbours of its query expansion (default: 6)")
    add("--rerank.lambda", dest="share", metavar="X", help="weight of the original distance (default: 0.3)")
    add("--whiten", metavar="D", help="reduce to D dimensions by PCA whitening, fitted on the training images")
    add("--beta", metavar="B", help="beta-normalisation: replace each embedding x by x / |x| + B x")
    layers = ("embedding", "fully_connected", "pooled")
    add(
        *("--layer",),
        metavar="NAME",
        choices=layers,
        default="embedding",
        help="layer of a run's model: embedding (default), fully_connected (last hidden layer of the head) or pooled (trunk)",
    )
    add("--name", metavar="NAME", help="name of a file's method in print (default: the file's name)")
    add("--dataset", metavar="NAME", help="name of a file's data set (default: the file's name)")
    add("--trunk", metavar="NAME", help="name of a file's trunk")
    add("--seed", metavar="N", help="seed of a file's run (default: 0)")
    add("--labels", metavar="CSV", type=path, help="labels of an .npy file")
    add_runs_dir(parser)
    add_config_dir(parser, "directory of the configuration files and own code of the runs")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Evaluate every run and file, and print the main metrics of each."""
    options = tuple(one for one in arguments.selectors if OVERRIDES.match(one) and "=" in one and not Path(one).exists())
    selectors = [one for one in arguments.selectors if one not in options]
    if not selectors:
        raise UserError("dmlbench evaluate needs runs or a file of embeddings, such as runs/omniglot or theirs.npz")
    config_dir = check_config_dir(arguments.config_dir)
    if config_dir is not None:  # a run directory may come from somebody else, and so may the current directory
        allow_own_code(config_dir)
    from dmlbench.results import run_files
    from dmlbench.results.find_runs import select
    from dmlbench.results.row_files import read_rows

    # Everything is found before the first evaluation, so that an unknown name is refused at once.
    targets: list[tuple[Path, bool]] = []
    for selector in selectors:
        file = Path(selector)
        if file.suffix in EMBEDDING_SUFFIXES and not file.exists():
            raise UserError(f"{file} does not exist; name a file of embeddings, or runs")
        is_external = file.is_file() and file.name != run_files.ROW
        targets += [(file, True)] if is_external else [(one, False) for one in select(selector, arguments.runs)]
    for target, is_external in targets:
        if target.is_dir():
            print_skipped(read_rows(target)[1])
        if is_external and options:
            raise UserError(f"{options[0]} is for runs; {target} contains embeddings, which are not computed again")
        found = _evaluate_external(target, arguments) if is_external else _evaluate_runs(target, arguments, options, config_dir)
        for written, row in found:
            print(printable(f"{row['loss_label']} on {row['dataset_label']}: {_scores(row, arguments.ks)}  ({written})"))
    return 0


def _scores(row: Row, ks: str | None) -> str:
    """The main metrics, with Recall@k for each requested k."""
    if ks is None:
        return headline(row)
    from dmlbench.results.formatting import metric_label

    names = [*(f"recall_at_{k}" for k in _ks(ks)), "map_at_r"]
    return "  ".join(f"{metric_label(name)} {value:.1%}" for name in names if isinstance(value := row.get(name), float))


def _evaluate_external(file: Path, arguments: argparse.Namespace) -> list[tuple[Path, Row]]:
    from dmlbench.results.row import EXTERNAL
    from dmlbench.runs.external import ExternalRequest, evaluate_file

    if arguments.layer != "embedding":
        raise UserError(f"--layer {arguments.layer} is for runs; {file} contains embeddings of one layer")
    request = ExternalRequest(
        config=_config(arguments, "cosine"),
        name=arguments.name,
        runs_dir=arguments.runs,
        dataset=arguments.dataset,
        trunk=arguments.trunk or EXTERNAL,
        seed=_number("seed", arguments.seed or "0", int),
        labels=arguments.labels,
    )
    return [evaluate_file(file, request)]


def _evaluate_runs(
    target: Path, arguments: argparse.Namespace, options: tuple[str, ...], config_dir: Path | None
) -> list[tuple[Path, Row]]:
    from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error
    from dmlbench.runs.reevaluate import RunRequest, reevaluate

    for key in ONLY_FILES:
        if getattr(arguments, key) is not None:
            raise UserError(f"--{key} is for files of embeddings; the row of a run has its own value")
    try:
        return reevaluate(target, RunRequest(_config(arguments, "inner_product"), arguments.layer, options, config_dir))
    except UserError:
        raise
    except COMPOSE_ERRORS as error:
        raise translate_error(error, list(options), config_dir) from error


def _config(arguments: argparse.Namespace, default_distance: Distance) -> EvaluationConfig:
    """The settings of the evaluation."""
    from dmlbench.evaluation.evaluator import EvaluationConfig
    from dmlbench.evaluation.reranking import KReciprocal

    distance: Distance = arguments.distance or ("euclidean" if arguments.beta else default_distance)
    rerank = None
    if arguments.rerank == "k_reciprocal":
        rerank = KReciprocal(
            k1=_number("rerank.k1", arguments.k1 or "20", int),
            k2=_number("rerank.k2", arguments.k2 or "6", int),
            share=_number("rerank.lambda", arguments.share or "0.3", float),
        )
    else:
        for key, value in (("k1", arguments.k1), ("k2", arguments.k2), ("lambda", arguments.share)):
            if value is not None:
                raise UserError(f"--rerank.{key} needs --rerank k_reciprocal")
    return EvaluationConfig(
        ks=_ks(arguments.ks),
        all_ks=arguments.ks is not None,
        clusters_per_class=None if arguments.clusters is None else _number("clusters", arguments.clusters, int),
        queries=None if arguments.queries is None else _number("queries", arguments.queries, int),
        full_gallery=arguments.gallery == "full",
        distance=distance,
        whiten=None if arguments.whiten is None else _number("whiten", arguments.whiten, int),
        beta=None if arguments.beta is None else _number("beta", arguments.beta, float),
        rerank=rerank,
    )


def _ks(text: str | None) -> tuple[int, ...]:
    """The values of k, ascending."""
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        if not re.fullmatch(r"\s*[1-9][0-9]{0,17}\s*", part, re.ASCII):
            raise UserError(f"--ks is '{text}', but '{part.strip()}' is not a whole number of at least 1")
        if int(part) in found:
            raise UserError(f"--ks is '{text}', which contains {int(part)} twice; name each value once")
        found.append(int(part))
    return tuple(sorted(found))


def _number(key: str, text: str, kind: Callable[[str], T]) -> T:
    try:
        number = kind(text)
    except ValueError:
        raise UserError(f"--{key} is '{text}', but a {'whole ' if kind is int else ''}number is needed") from None
    if not 0 <= number < math.inf:
        raise UserError(f"--{key} is {text}; it must be at least 0")
    return number
