"""Floor 7: words to commands; every import stands inside its branch, and errors are printed here alone.

Exit status: 0 done; 1 an accident, or a method that failed; 2 a mistake that the user can mend; 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.errors import UserError, suggest

if TYPE_CHECKING:
    from dmlbench.launch import Outcome
    from dmlbench.rows import Row

HELP = """\
dmlbench: deep metric learning methods, compared fairly.

  dmlbench train  loss=softtriple dataset=cub         one run, one row
  dmlbench sweep  dataset=cub seed=0,1,2              the seven losses and the untrained trunk, then their table
  dmlbench table  [runs...] --format latex            rows -> fair comparison tables
  dmlbench evaluate PLACE [rerank=k_reciprocal]       score a saved run again, or anyone's embeddings
  dmlbench data   prepare NAME                        download, or take your archive; verify, unpack
  dmlbench data   check NAME [dataset.root=...]       count, verify, find unreadable and duplicate images
  dmlbench list   losses | datasets | trunks | protocols | samplers | optimizers | sweeps

dmlbench COMMAND --help tells more of one.
"""

TRAIN_HELP = """\
dmlbench train [KEY=VALUE...]: one run, one row.

  dmlbench train loss=softtriple dataset=cub
  dmlbench train loss=triplet loss.make.margin=0.1 protocol.epochs=20 seed=1
  dmlbench train loss=mine --config-dir my_conf       your own loss/mine.yaml, with your own code
  dmlbench train -m loss=triplet,arcface seed=0,1     several runs, one after the other

  dataset= trunk= loss= protocol= sampler= optimizer=   choose a file of conf/ (`dmlbench list` shows them)
  dataset.KEY= trunk.KEY= loss.KEY= protocol.KEY=       change a value in it; unknown keys are refused
  preset=paper|reality_check   the values that a loss's authors, or the reality check, publish for the data set
  seed=0  device=auto|cpu|cuda  workers=auto|N  paths.data=data  paths.runs=runs

  --cfg job          print the composed configuration and stop
  --config-dir DIR   look for configuration files in DIR too
  -m, --multirun     run every combination of comma-separated values

A finished run is skipped; one that was killed goes on from its last checkpoint.
"""

SWEEP_HELP = """\
dmlbench sweep [KEY=VALUE,VALUE...]: every combination of comma-separated values, then their table.

  dmlbench sweep                                      the seven losses and the untrained trunk on the embedded data set
  dmlbench sweep dataset=cub seed=0,1,2               three seeds of each
  dmlbench sweep loss=mine,arcface --config-dir my_conf
  dmlbench sweep retry=failed                         run methods again whose rows say that they failed

Everything `dmlbench train --help` tells holds here too. Without loss= the sweep runs conf/sweep/seven.yaml; the
untrained trunk is always added. The same command again skips what is done, goes on with what broke off, and tries
again what met an accident (a method that failed only with retry=failed); started twice at once, the two share the work.
Each job that ends says how many are left. The table is printed and written as markdown, LaTeX and CSV to RUNS/tables/.
"""

TABLE_HELP = """\
dmlbench table [PLACE...] [vary=loss] [--format FORMAT]: rows -> fair comparison tables.

  dmlbench table                                      every row under runs/
  dmlbench table runs/cub --format latex
  dmlbench table --format csv > results.csv

  PLACE              a folder that holds runs, or a row.json (default: runs)
  vary=AXIS          what may differ between two lines of a table: loss (default); trunk, sampler, optimizer, protocol, or one
                     value such as loss.make.margin or protocol.embedding_dim, each for one loss at a time; or preset: the
                     same loss under a fixed protocol and under its paper's recipe, each line told for what it is
  --format FORMAT    markdown, latex or csv (default: markdown)
  --untested         do not look which methods cannot be told from the best; faster for thousands of rows

Rows stand in one table only where everything but the axis and the seed is equal; what differs makes another table. Bold are the
best and all that are not significantly different from it, where two seeds or more allow a test (docs/significance.md).
"""

EVALUATE_HELP = """\
dmlbench evaluate PLACE... [KEY=VALUE...]: score a saved run again, without training, or anyone's embeddings.

  dmlbench evaluate runs/digits ks=1,5,20             every run below, at other ks
  dmlbench evaluate runs/digits rerank=k_reciprocal   with k-reciprocal re-ranking
  dmlbench evaluate theirs.npz --name "Their method"  a row that tables can hold

  PLACE              a folder that holds runs; or a file: .safetensors or .npz with the keys embeddings, labels and, if wanted,
                     ids, is_query, is_gallery; or .npy with a CSV that has a column labels
  ks=1,2,4,8         of Recall@k (default: the run's own)
  clusters=N         N clusters a class for k-means, 0 for none (default: 1, where there are at most 1,000 classes)
  distance=NAME      inner_product (of a run: the cosine), cosine (default for a file), euclidean (default with beta)
  rerank=k_reciprocal  rerank.k1=20 rerank.k2=6 rerank.lambda=0.3
  whiten=D           PCA whitening to D dimensions, fitted on training images (of a file: rows neither query nor gallery)
  beta=B             beta-normalisation: x / |x| + B x
  layer=NAME         of a run: embedding (default), fully_connected (the head's last hidden layer), pooled (the trunk)
  --name NAME        of a file's method, in print      dataset=NAME trunk=NAME seed=0   what it says of them
  --runs DIR         where a file's row goes (default: runs)
  --config-dir DIR   where the configurations of a run with own code are

The row names its parent, or its protocol is `external`; either way it stands in a table of its own, never among rows made
otherwise. Scores of each query are written beside it, as per_query.safetensors.
"""

DATA_HELP = """\
dmlbench data prepare NAME [KEY=VALUE...]: download or take the user's archive, verify, unpack; then check.
dmlbench data check NAME [KEY=VALUE...]: count, verify, find unreadable and duplicate images.

  dmlbench data prepare cub                               a download that broke off goes on
  dmlbench data prepare cub dataset.archive=CUB_200_2011.tgz
  dmlbench data check cub
  dmlbench data check folder dataset.root=photos dataset.split=half_per_class

  --config-dir DIR   look for configuration files in DIR too
"""

LIST_HELP = """\
dmlbench list GROUP: what can be named on the command line.

  dmlbench list losses
  dmlbench list trunks --config-dir my_conf

GROUP is one of losses, datasets, trunks, protocols, samplers, optimizers, sweeps.
"""

HELPS = {
    "train": TRAIN_HELP,
    "sweep": SWEEP_HELP,
    "table": TABLE_HELP,
    "evaluate": EVALUATE_HELP,
    "data": DATA_HELP,
    "list": LIST_HELP,
}
DATA_VERBS = ("prepare", "check")
HELP_WORDS = ("--help", "-h", "help")


def run(words: Sequence[str]) -> int:
    """Run one command line.

    Args:
        words: what was typed after `dmlbench`.

    Returns:
        The exit status.
    """
    command, rest = (words[0], list(words[1:])) if words else ("--help", [])
    if command in HELP_WORDS:
        print(HELPS.get(rest[0], HELP) if rest else HELP, end="")
        return 0
    if command == "--version":
        from dmlbench import __version__

        print(f"dmlbench {__version__}")
        return 0
    try:
        if command not in COMMANDS:
            raise UserError(f"dmlbench has no command '{command}'{suggest(command, COMMANDS)}")
        if any(word in ("--help", "-h") for word in rest):
            print(HELPS[command], end="")
            return 0
        return COMMANDS[command](rest)
    except UserError as mistake:
        _complain(str(mistake))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from the last checkpoint")
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(sentence: str) -> None:
    print(f"dmlbench: {sentence}", file=sys.stderr)


def train(words: list[str]) -> int:
    """`dmlbench train`: every job of the words, waiting for one that another process is at."""
    return _status(_launched(_with_preset(words), wait=True, each=_say_end))


def sweep(words: list[str]) -> int:
    """`dmlbench sweep`: every job, then the table of their rows."""
    parts = [_with_preset(part) for part in sweep_words(words)]
    say = _say_end_of(parts)
    outcomes = [outcome for part in parts for outcome in _launched(part, wait=False, each=say)]
    if any(outcome.status == "busy" for outcome in outcomes):
        print("waiting for the runs that another process is at")
        outcomes = [outcome for part in parts for outcome in _launched(part, wait=True, each=lambda outcome: None)]
    folders = [outcome.folder for outcome in outcomes if outcome.row is not None and outcome.folder is not None]
    if folders:
        _write_tables(folders)
    return _status(outcomes)


def sweep_words(words: list[str]) -> list[list[str]]:
    """The words of a sweep as Hydra's: multirun, the seven losses unless others are named, and always the untrained trunk.

    Where losses are named, the untrained trunk is a part of its own: it has none of the values (`loss.make.margin=0.1,0.3`)
    that are swept over.
    """
    words = ["--multirun", *(word for word in words if word not in ("-m", "--multirun"))]
    losses = [word for word in words if word.startswith("loss=")]
    if any(word.startswith("preset=") and word != "preset=none" for word in words):
        return _a_part_each(words, losses[-1].removeprefix("loss=").split(",") if losses else [])
    own = re.compile(r"\+{0,2}~?loss[.=]")
    untrained = [*(word for word in words if not own.match(word)), "loss=untrained"]
    if losses:
        named = losses[-1].removeprefix("loss=").split(",")
        return [words] if "untrained" in named or "--cfg" in words else [untrained, words]
    if not any(word.lstrip("+").startswith("sweep=") for word in words):
        words.insert(1, "sweep=seven")
    return [words]


def _a_part_each(words: list[str], losses: list[str]) -> list[list[str]]:
    """A preset is a file a loss: each loss is a part of its own; the losses that the preset has, unless others are named.

    There is no untrained trunk among them: each loss may have a trunk and a protocol of its own.
    """
    from dmlbench.presets import available, chosen

    if not losses:
        name, dataset = (chosen(words, group) for group in ("preset", "dataset"))
        files = available(_config_dir(words)[0]).get(name, [])
        losses = [file.removesuffix(f"_{dataset}") for file in files if file.endswith(f"_{dataset}")] or ["multi_similarity"]
    rest = [word for word in words if not word.startswith("loss=")]
    return [[*rest, f"loss={loss}"] for loss in losses]


def _with_preset(words: list[str]) -> list[str]:
    from dmlbench.presets import spelt_out

    return spelt_out(words, _config_dir(words)[0])


def _launched(words: list[str], wait: bool, each: Callable[[Outcome], None]) -> list[Outcome]:
    """Run the jobs of some words, Hydra's and OmegaConf's errors reworded into one sentence each.

    Returns:
        An outcome a job; none where Hydra only printed something, as for `--cfg job`.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a traceback and leaves with status 1
    _find_own_code(_config_dir(words)[0])
    from dmlbench.launch import launch
    from dmlbench.mistakes import COMPOSING, reword

    try:
        return launch(_flags_last(words), wait, tell=_say_once(), each=each)
    except COMPOSING as error:
        raise reword(error, words) from error


def _flags_last(words: list[str]) -> list[str]:
    """Overrides first, then flags with their values: Hydra's parser takes no override after a flag's value."""
    overrides = [word for word in words if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    return overrides + [word for word in words if word not in overrides]


def _say_once() -> Callable[[str], None]:
    """A printer that leaves out what it printed before: the jobs of a sweep share most of what they announce."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            print(line, flush=True)

    return say


def _say_end_of(parts: Sequence[Sequence[str]]) -> Callable[[Outcome], None]:
    """A printer of ended jobs that also says how many are left, and how long these may take."""
    import time

    from dmlbench.launch import count_jobs

    try:
        total = sum(count_jobs(part) for part in parts)
    except Exception:  # words that Hydra will not parse: it says so itself, when it is its turn
        total = 0
    ended, last, took = 0, time.monotonic(), []

    def say(outcome: Outcome) -> None:
        nonlocal ended, last
        now = time.monotonic()
        if outcome.status == "done":
            took.append(now - last)
        ended, last = ended + 1, now
        left = total - ended
        about = f", about {_duration(left * sum(took) / len(took))}" if took and left else ""
        _say_end(outcome, f"[{ended} of {total}{about}] " if total > 1 and left >= 0 else "")

    return say


def _duration(seconds: float) -> str:
    """How long, in the greatest unit that fits.

    >>> _duration(40), _duration(4000), _duration(100_000)
    ('40 s', '67 min', '27.8 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _say_end(outcome: Outcome, ahead: str = "") -> None:
    if outcome.row is not None and outcome.row.ok:
        numbers = _headline(outcome.row)
        said = "already done" if outcome.status == "skipped" else f"done in {outcome.row['train_seconds']:.0f} s of training"
        print(f"{ahead}{outcome.job}: {numbers}  ({said}: {outcome.folder})", flush=True)
    elif outcome.row is not None:
        print(f"{ahead}{outcome.job}: failed: {outcome.row['reason']}  ({outcome.folder})", flush=True)
    elif outcome.status == "busy":
        print(f"{ahead}{outcome.job}: another process is at it")
    else:
        sys.stdout.flush()
        _complain(f"{outcome.job}: {outcome.error}" if outcome.status == "accident" else str(outcome.error))


def _headline(row: Row) -> str:
    named = (("R@1", row.get("recall_at_1")), ("MAP@R", row.get("map_at_r")))
    return "  ".join(f"{name} {value:.1%}" for name, value in named if isinstance(value, float))


def _status(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.status == "accident" or (outcome.row is not None and not outcome.row.ok) for outcome in outcomes):
        return 1
    return 2 if any(outcome.status == "mistake" for outcome in outcomes) else 0


def _write_tables(folders: Sequence[Path]) -> None:
    """Print the table of these runs, and write it in every format beside them."""
    from dmlbench.render import FORMATS, render
    from dmlbench.rows import find_rows, read_row, write_text
    from dmlbench.table import compare

    rows = [read_row(path) for path in find_rows(*folders)]
    tables = compare(rows)
    place = folders[0].parents[2] / "tables" / f"{rows[0]['dataset']}-{rows[0]['fingerprint']}"
    for name, suffix in FORMATS.items():
        write_text(Path(f"{place}{suffix}"), render(tables, name))
    print()
    print(render(tables, "markdown"))
    print(f"rows      {len(rows)}, each a row.json under {folders[0].parents[1]}")
    for name, suffix in FORMATS.items():
        print(f"{name:9} {place}{suffix}")


def table(words: list[str]) -> int:
    """`dmlbench table`: rows to tables."""
    from dmlbench.render import render
    from dmlbench.rows import find_rows, read_row
    from dmlbench.table import compare

    chosen, vary, places, tested = "markdown", "loss", [], True
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--format":
            chosen = value if equals else next(rest, "")
        elif name == "vary" and equals:
            vary = value
        elif word == "--untested":
            tested = False
        elif word.startswith("-") or equals:
            known = ["--format", "--untested", "vary=", "--help"]
            raise UserError(f"dmlbench table does not know '{word}'{suggest(name, known)}")
        else:
            places.append(Path(word))
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; name a folder that holds runs, such as runs")
    rows = [read_row(path) for path in find_rows(*(places or [Path("runs")]))]
    print(render(compare(rows, vary, tested=tested), chosen), end="")
    return 0


EVALUATE_KEYS = (
    *("ks", "clusters", "distance", "rerank", "rerank.k1", "rerank.k2", "rerank.lambda", "whiten", "beta", "layer"),
    *("dataset", "trunk", "seed", "labels"),
)


def evaluate(words: list[str]) -> int:
    """`dmlbench evaluate PLACE...`: saved runs and files of embeddings to rows."""
    config_dir, words = _config_dir(words)
    places, values, flags = _evaluate_words(words)
    if not places:
        raise UserError("dmlbench evaluate needs a run's folder or a file of embeddings, such as runs/digits or theirs.npz")
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; name a folder that holds runs, or a file of embeddings")
    _find_own_code(config_dir)
    from dmlbench.mistakes import COMPOSING, reword
    from dmlbench.rescore import evaluate as scored
    from dmlbench.rescore import request_of
    from dmlbench.rows import ROW_FILE

    for place in places:
        request = request_of(
            values, flags.get("--name"), flags.get("--runs"), place.is_file() and place.name != ROW_FILE, config_dir
        )
        try:
            for path, row in scored(place, request):
                print(f"{row['loss_label']} on {row['dataset_label']}: {_headline(row)}  ({path})")
        except COMPOSING as error:
            raise reword(error, words) from error
    return 0


def _evaluate_words(words: list[str]) -> tuple[list[Path], dict[str, str], dict[str, str]]:
    """Places, values by their key, and flags with theirs."""
    known = {"--name": "NAME", "--runs": "DIR"}
    places, values, flags = [], {}, {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in known:
            flags[name] = value if equals else next(rest, "")
            if not flags[name]:
                raise UserError(f"{name} needs a value: {name} {known[name]}")
        elif name in EVALUATE_KEYS and equals:
            values[name] = value
        elif word.startswith("-") or (equals and not Path(word).exists()):
            raise UserError(f"dmlbench evaluate does not know '{name}'{suggest(name, [*EVALUATE_KEYS, *known, '--help'])}")
        else:
            places.append(Path(word))
    return places, values, flags


def data(words: list[str]) -> int:
    """`dmlbench data prepare NAME`: fetch and unpack; `dmlbench data check NAME`: read every image and say what is there."""
    config_dir, words = _config_dir(words)
    verb = words[0] if words else ""
    if verb not in DATA_VERBS:
        raise UserError(
            f"dmlbench data does not know '{verb}'; use `dmlbench data {' NAME` or `dmlbench data '.join(DATA_VERBS)} NAME`"
        )
    if len(words) < 2 or "=" in words[1]:
        raise UserError(f"dmlbench data {verb} needs the name of a data set; `dmlbench list datasets` shows them")
    _find_own_code(config_dir)
    from dmlbench.data.check import report
    from dmlbench.launch import compose, data_of, prepare_data
    from dmlbench.mistakes import COMPOSING, reword

    overrides = [f"dataset={words[1]}", *words[2:]]
    try:
        composed = compose(overrides, config_dir)
        if verb == "prepare":
            for line in prepare_data(*composed):
                print(line, flush=True)
        dataset, split = data_of(*composed)
    except COMPOSING as error:
        raise reword(error, overrides) from error
    for line in report(dataset.label, split):
        print(line)
    return 0


def list_(words: list[str]) -> int:
    """`dmlbench list GROUP`: the words that can be typed, and what each stands for."""
    import textwrap

    from dmlbench.configs import GROUPS, entries

    config_dir, words = _config_dir(words)
    group = words[0] if words else ""
    group = next((name for name, folder in GROUPS.items() if group in (name, folder)), group)
    if group not in GROUPS:
        raise UserError(f"dmlbench list does not know '{group}'{suggest(group, GROUPS)}")
    found = list(entries(GROUPS[group], Path(config_dir) if config_dir else None))
    width = max(len(name) for name, _ in found) + 2
    for name, opening in found:
        print(textwrap.fill(opening, 110, initial_indent=name.ljust(width), subsequent_indent=" " * width))
    return 0


def _find_own_code(config_dir: str | None) -> None:
    """Let the user's own mine.py be imported from the current folder, or from where the user's YAML lies."""
    sys.path[:0] = [os.getcwd(), *([os.path.abspath(config_dir)] if config_dir else [])]


def _config_dir(words: list[str]) -> tuple[str | None, list[str]]:
    """Take `--config-dir DIR` or `--config-dir=DIR` out of the words."""
    from dmlbench.configs import refuse_hidden

    rest, found = [], None
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name == "--config-dir":
            found = value if equals else next(remaining, "")
            if not Path(found).is_dir():
                raise UserError(f"--config-dir {found} is no folder")
            refuse_hidden(Path(found))
        else:
            rest.append(word)
    return found, rest


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "sweep": sweep,
    "table": table,
    "evaluate": evaluate,
    "data": data,
    "list": list_,
}
