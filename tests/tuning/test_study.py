"""Tuning: equal budgets, on training classes alone, and no trial lost or counted twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rows_factory
from dmlbench.cli.training import TRIALS, sweep_words
from dmlbench.launch import class_scores, compose, prepare
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from dmlbench.cli import run
from dmlbench.config.files import conf_dir, entries
from dmlbench.config.schema import Method, Tuning
from dmlbench.config.typed import typed
from dmlbench.data import check, resized
from dmlbench.errors import MethodFailure, UserError
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.system.seeding import derive_seed
from dmlbench.tables.table import compare
from dmlbench.training import trainer as train_module
from dmlbench.tuning import proposals, study
from dmlbench.tuning.proposals import Pruner, propose
from dmlbench.tuning.space import initial_values, overrides, parse_space
from dmlbench.tuning.study import search
from dmlbench.tuning.trials import Trial, read_trials, trial_lock

SMALL = [
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.lr=0.003",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
    "protocol.epochs=2",
]
DIGITS = [
    *("dataset.make.images_per_class=3", "dataset.train_images=150", "dataset.query_images=150"),
    *("dataset.gallery_images=150", *SMALL),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def words(data: Path, runs: Path, *more: str) -> list[str]:
    loss = [] if any(word.startswith("loss=") for word in more) else ["loss=triplet"]
    return [*loss, *DIGITS, *more, f"paths.data={data}", f"paths.runs={runs}"]


def tuned(data: Path, runs: Path, *more: str) -> Path:
    """Tune; the study's folder."""
    assert run(["tune", *words(data, runs, *more)]) == 0
    [folder] = runs.glob("*/*/tune-*")
    return folder


def trials(folder: Path, n: int = 99) -> list[dict[str, Any]]:
    """What must be the same however often a study was interrupted."""
    found = read_trials(folder, range(1, n + 1))
    return [{key: value for key, value in vars(one).items() if key not in ("seconds", "n_resumed")} for one in found]


def row_of(runs: Path, loss: str = "triplet", seed: int = 0) -> Row:
    [row] = [row for row in map(read_row, find_rows(runs)) if (row["loss"], row["seed"]) == (loss, seed)]
    return row


# A study


def test_the_first_trial_is_the_methods_own_values_and_the_best_is_kept_with_the_history(data: Path, tmp_path: Path) -> None:
    folder = tuned(data, tmp_path, "loss=contrastive", "trials=4")
    lines = list(csv.DictReader((folder / "history.csv").open()))
    assert [line["trial"] for line in lines] == ["1", "2", "3", "4"]
    assert (lines[0]["make.pos_margin"], lines[0]["make.neg_margin"]) == ("0.0", "1.0")
    scores = [float(line["validation_map_at_r"]) for line in lines]
    best = json.loads((folder / "best.json").read_text())
    assert best["validation_map_at_r"] == float(lines[-1]["best_so_far"]) == max(scores) >= scores[0]
    line = lines[best["trial"] - 1]
    assert best["words"] == [f"loss.{key}={line[key]}" for key in ("make.pos_margin", "make.neg_margin")]
    assert not list(folder.rglob("*.pt")) + list(tmp_path.rglob("row.json"))


def test_the_picture_is_the_same_for_the_same_trials(data: Path, tmp_path: Path) -> None:
    folder = tuned(data, tmp_path, "trials=2")
    picture = (folder / "history.svg").read_text()
    assert "best so far" in picture
    (folder / "history.svg").unlink()
    tuned(data, tmp_path, "trials=2")
    assert (folder / "history.svg").read_text() == picture


@pytest.mark.parametrize("selection", ["last", "validation"])
def test_the_score_of_a_trial_is_what_a_run_with_that_fold_held_out_would_report(
    data: Path, tmp_path: Path, selection: str
) -> None:
    more = [f"protocol.selection={selection}"]
    folder = tuned(data, tmp_path / "tune", "trials=1", "tuning.fold=2", "protocol.lr=0.03", *more)
    seed = derive_seed(derive_seed(0, "tuning"), "fold", 0)
    held = words(data, tmp_path / "run", "protocol.fold=2", "protocol.lr=0.03", "protocol.selection=validation", f"seed={seed}")
    assert run(["train", *held]) == 0
    [history] = (tmp_path / "run").rglob("history.jsonl")
    scores = [json.loads(line)["validation_map_at_r"] for line in history.read_text().splitlines()]
    assert trials(folder)[0]["score"] == (max(scores) if selection == "validation" else scores[-1])


def test_with_all_folds_the_mean_over_them_counts(data: Path, tmp_path: Path) -> None:
    all_folds = trials(tuned(data, tmp_path / "all", "trials=1", "tuning.fold=all", "tuning.folds=3"))[0]
    first = trials(tuned(data, tmp_path / "first", "trials=1", "tuning.folds=3"))[0]
    assert [step for step, _ in all_folds["intermediate_values"]] == [1, 2, 3, 4, 5, 6]
    assert all_folds["intermediate_values"][:2] == first["intermediate_values"]
    assert all_folds["score"] == all_folds["intermediate_values"][-1][1] != first["score"]
    assert all_folds["epochs"] == 3 * first["epochs"]


def test_an_interpolation_follows_the_value_that_is_tried(data: Path, tmp_path: Path) -> None:
    cfg, choices = compose(words(data, tmp_path, "tuning.trials=1"))
    made = class_scores(cfg, choices, Tuning(trials=1)).plan_with({"make.margin": 0.55})
    assert made.method.make["margin"] == made.method.miner["margin"] == 0.55  # type: ignore[index]
    assert cfg.loss.make.margin == 0.2


def test_a_method_that_breaks_down_is_a_trial_with_no_score(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(model: Any, objective: Any, part: Any, batches: Any, plan: Any, *rest: Any) -> Any:
        if plan.method.make["margin"] != 0.2:
            raise MethodFailure("the loss is nan")
        return train_module.train(model, objective, part, batches, plan, *rest)

    monkeypatch.setattr(study, "train", breaking)
    found = trials(tuned(data, tmp_path, "trials=3"))
    assert [(one["state"], one["reason"]) for one in found[1:]] == [("failed", "the loss is nan")] * 2
    assert found[0]["score"] > found[1]["score"] == 0


def test_a_trial_that_falls_behind_is_ended_early_and_still_counts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score_queries(model: Any, part: Any, roles: Any, batches: Any, plan: Any) -> float:
        return 1 - abs(plan.method.make["margin"] - 0.2)

    monkeypatch.setattr(study, "map_at_r_on", score_queries)
    found = trials(tuned(data, tmp_path / "pruned", "trials=9", "protocol.epochs=3"))
    states = [one["state"] for one in found]
    assert states[:5] == ["complete"] * 5
    assert "pruned" in states
    assert len(states) == 9
    assert all(one["epochs"] < 3 for one in found if one["state"] == "pruned")
    whole = trials(tuned(data, tmp_path / "whole", "trials=9", "protocol.epochs=3", "tuning.prune=false"))
    assert {one["state"] for one in whole} == {"complete"}


# Interrupted, shared, prolonged


class PowerCutError(BaseException):
    pass


def test_a_study_that_was_cut_off_ends_like_an_undisturbed_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "RANDOM_TRIALS", 2)  # so that trials 3 to 5 learn from those before them
    whole = trials(tuned(data, tmp_path / "whole", "trials=5"))
    saves, save = [], train_module.save_checkpoint

    def cut(*args: Any) -> None:
        save(*args)
        saves.append(args[0])
        if len(saves) in (5, 9):
            raise PowerCutError

    monkeypatch.setattr(train_module, "save_checkpoint", cut)
    for number in (3, 5):
        with pytest.raises(PowerCutError):
            tuned(data, tmp_path / "cut", "trials=5")
        assert f"trials/{number:04d}/" in str(saves[-1])
    assert trials(tuned(data, tmp_path / "cut", "trials=5")) == whole
    [folder] = (tmp_path / "cut").glob("*/*/tune-*")
    assert [one.n_resumed for one in read_trials(folder, range(1, 6))] == [0, 0, 1, 0, 1]


def start(data: Path, runs: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dmlbench", "tune", *words(data, runs, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_killed_in_the_midst_of_a_trial_the_same_command_goes_on_with_its_values(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["trials=3", "protocol.epochs=4"]
    process = start(data, tmp_path / "killed", *more)
    wait_for(lambda: any(tmp_path.glob("killed/*/*/tune-*/trials/0002/fold0/checkpoint.pt")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    [folder] = tmp_path.glob("killed/*/*/tune-*")
    [values] = folder.glob("trials/0002/values.json")
    begun = json.loads(values.read_text())
    assert len(trials(folder)) == 1

    tuned(data, tmp_path / "killed", *more)

    assert "(1 done before)" in capsys.readouterr().out
    found = read_trials(folder, range(1, 10))
    assert [one.number for one in found] == [1, 2, 3]
    assert (found[1].values, found[1].n_resumed) == (begun, 1)
    assert trials(folder) == trials(tuned(data, tmp_path / "whole", *more))


def test_two_processes_share_the_trials_and_make_none_too_many(data: Path, tmp_path: Path) -> None:
    outputs = [finish(process) for process in [start(data, tmp_path, "trials=6") for _ in range(2)]]
    [folder] = tmp_path.glob("*/*/tune-*")
    assert [one["number"] for one in trials(folder)] == list(range(1, 7))
    for number in range(1, 7):
        assert sum(output.count(f"trial {number} of 6:") for output in outputs) == 1
    ends = {output.splitlines()[-1] for output in outputs}
    assert len(ends) == 1
    assert len((folder / "history.csv").read_text().splitlines()) == 7


def test_a_trial_that_another_process_is_at_is_waited_for_or_left(data: Path, tmp_path: Path) -> None:
    made = class_scores(*compose(words(data, tmp_path, "tuning.trials=2")), Tuning(trials=2))
    with trial_lock(made.folder, 1) as ours:
        assert ours
        assert search(made, wait=False, tell=lambda line: None) is None
        assert [one["number"] for one in trials(made.folder)] == [2]
    found = search(made, wait=True, tell=lambda line: None)
    assert found is not None
    assert [one.number for one in found] == [1, 2]


def test_a_larger_budget_goes_on_with_the_same_trials_and_leaves_the_smaller_ones_rows_alone(
    data: Path, tmp_path: Path
) -> None:
    at_once = trials(tuned(data, tmp_path / "once", "trials=4"))
    runs = tmp_path / "grown"
    assert run(["train", *words(data, runs, "tuning.trials=2")]) == 0
    before = row_of(runs)
    folder = tuned(data, runs, "trials=4")
    assert trials(folder) == at_once
    [file] = find_rows(runs)
    file.unlink()
    assert run(["train", *words(data, runs, "tuning.trials=2")]) == 0
    assert row_of(runs).outcome == before.outcome
    assert before["n_tuning_trials"] == 2
    assert before["tuned_score"] == max(one["score"] for one in at_once[:2])


def test_a_torn_trial_is_made_again(data: Path, tmp_path: Path) -> None:
    folder = tuned(data, tmp_path, "trials=2")
    whole = trials(folder)
    (folder / "trials" / "0002.json").write_text('{"number": 2, "sta')
    tuned(data, tmp_path, "trials=2")
    assert trials(folder) == whole


# The test set


def photos(place: Path, test_label: Callable[[int], int] = lambda label: label) -> list[str]:
    """Twelve classes of four images; a manifest in which the last four classes are the test set."""
    generator = np.random.default_rng(0)
    lines = []
    for label in range(12):
        (place / f"{label}").mkdir(parents=True, exist_ok=True)
        for k in range(4):
            path = f"{label}/{k}.png"
            Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place / path)
            test = label >= 8
            lines.append((path, test_label(label) if test else label, "test" if test else "train"))
    pd.DataFrame(lines, columns=["path", "label", "role"]).to_csv(place / "list.csv", index=False)
    own = ("dataset=folder", "dataset.name=photos", f"dataset.root={place}", "dataset.manifest=list.csv")
    return ["loss=triplet", *own, "dataset.split=manifest", "trunk=convnet", "protocol=quick", *SMALL, "protocol.batch_size=6"]


@pytest.mark.parametrize("cache", ["none", "memmap"])
def test_no_test_image_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    typed_words = [*photos(tmp_path / "photos"), f"dataset.cache={cache}", f"paths.data={tmp_path}", f"paths.runs={tmp_path}"]
    for label in range(8, 12):
        for file in (tmp_path / "photos" / f"{label}").iterdir():
            file.write_bytes(b"no image")
    opened: set[str] = set()

    def spied(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def spy(path: Path) -> Any:
            opened.add(path.parent.name)
            return read(path)

        return spy

    for module in (check, resized):
        monkeypatch.setattr(module, "read_image", spied(module.read_image))
    assert run(["tune", *typed_words, "trials=2"]) == 0
    assert opened == {f"{label}" for label in range(8)}
    assert run(["train", *typed_words, "tuning.trials=2"]) == 2  # the run itself needs them


def test_what_the_test_set_is_changes_nothing_in_a_study(tmp_path: Path) -> None:
    found = {}
    for name, test_label in {"as it is": lambda label: label, "other": lambda label: 8 + label % 2}.items():
        typed_words = photos(tmp_path / name, test_label)
        paths = [f"'dataset.root={tmp_path / name}'", f"paths.data={tmp_path}", f"'paths.runs={tmp_path / name}/runs'"]
        paths = [word.strip("'") for word in paths]
        assert run(["tune", *typed_words, *paths, "trials=2"]) == 0
        [folder] = (tmp_path / name).glob("runs/*/*/tune-*")
        found[folder.name] = trials(folder)
    [both] = found.values()
    assert len(both) == 2


def test_the_split_of_a_study_has_training_images_alone(data: Path, tmp_path: Path) -> None:
    cfg, choices = compose(words(data, tmp_path, "tuning.trials=1"))
    _, split = prepare(cfg, choices)
    own = split.training()
    assert own.facts == split.facts | {"images": 150, "test_classes": 0, "query_images": 0, "gallery_images": 0}
    assert list(own.frame["path"]) == list(split.frame.loc[split.frame["train"], "path"])


# Rows and tables


def test_a_tuned_sweep_gives_every_loss_the_same_trials_and_one_study_for_all_seeds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["+sweep=tuned", "loss=contrastive,fastap", "seed=0,1", "tuning.trials=2"]
    assert run(["sweep", *words(data, tmp_path, *more)]) == 0
    rows = [read_row(path) for path in find_rows(tmp_path)]
    assert {(row["loss"], row["seed"]) for row in rows} == {
        (loss, seed) for loss in ("untrained", "contrastive", "fastap") for seed in (0, 1)
    }
    assert {row["tuning_trials"] for row in rows} == {2}
    assert len(compare(rows, tested=False)) == 1
    for loss in ("contrastive", "fastap"):
        one, other = (row_of(tmp_path, loss, seed) for seed in (0, 1))
        [folder] = tmp_path.glob(f"*/{loss}/tune-*")
        assert len(trials(folder)) == one["n_tuning_trials"] == 2
        assert one["method_digest"] == other["method_digest"]
        tuning = [name for name in one.columns if name.startswith(("tuned_", "n_tuning_", "tuning_"))]
        assert [one[name] for name in tuning] == [other[name] for name in tuning]
        values = json.loads(str(one["tuned_values"]))
        assert all(one[f"loss_{key.replace('.', '_')}"] == value for key, value in values.items())
        assert one["tuned_hours"] > 0  # type: ignore[operator]
    assert "tuned_values" not in row_of(tmp_path, "untrained").columns
    assert "loss/untrained names no search space; its values stay" in capsys.readouterr().out


def test_a_loss_that_trains_without_a_search_space_is_refused_in_a_tuned_sweep_and_the_others_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "conf" / "loss" / "mine.yaml"
    own.parent.mkdir(parents=True)
    shipped = OmegaConf.load(conf_dir() / "loss" / "contrastive.yaml")
    del shipped["search"]
    OmegaConf.save(shipped, own)
    more = ["loss=mine,triplet", "tuning.trials=1", "--config-dir", str(own.parents[1])]
    assert run(["sweep", *words(data, tmp_path, *more)]) == 2
    assert (
        "dmlbench: loss/mine names no search space, so 1 trial cannot be given to it; add `search:` to its file, "
        "or leave out tuning.trials\n"
    ) in capsys.readouterr().err
    assert {read_row(path)["loss"] for path in find_rows(tmp_path)} == {"untrained", "triplet"}


def test_both_spellings_of_the_tuned_sweep_are_the_same_words() -> None:
    assert sweep_words(["+sweep=tuned", "seed=0"]) == sweep_words(["sweep=tuned", "seed=0"]) != sweep_words(["seed=0"])
    cfg, _ = compose(["sweep=tuned"])
    assert cfg.tuning.trials == TRIALS
    losses = [OmegaConf.load(conf_dir() / "sweep" / f"{name}.yaml").hydra.sweeper.params for name in ("seven", "tuned")]
    assert losses[0] == losses[1]


def test_an_untuned_run_keeps_its_name_and_has_no_column_of_tuning(data: Path, tmp_path: Path) -> None:
    plan, _ = prepare(*compose(words(data, tmp_path)))
    other, _ = prepare(*compose(words(data, tmp_path, "tuning.fold=3", "tuning.seed=5")))
    assert plan.run_id == other.run_id
    assert not any(name.startswith("tun") for name in plan.shared)


@pytest.mark.parametrize("word", ["trials=3", "folds=5", "fold=1", "epochs=1", "prune=false", "seed=1"])
def test_rows_with_unequal_budgets_never_share_a_table(data: Path, tmp_path: Path, word: str) -> None:
    plan, _ = prepare(*compose(words(data, tmp_path, "tuning.trials=2")))
    other, _ = prepare(*compose(words(data, tmp_path, "tuning.trials=2", f"tuning.{word}")))
    assert plan.fingerprint != other.fingerprint
    rows = [
        rows_factory.make_row(loss=loss, fingerprint=made.fingerprint, **made.shared)
        for loss, made in (("triplet", plan), ("contrastive", other))
    ]
    assert len(compare(rows)) == 2


def test_a_tuned_run_is_evaluated_again_without_a_search(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = ["loss=contrastive", "loss.make.pos_margin=0.9", "loss.make.neg_margin=0.1"]
    assert run(["train", *words(data, tmp_path, *poor, "tuning.trials=3")]) == 0
    assert row_of(tmp_path, "contrastive")["tuned_trial"] != 1, "the test needs values that are not the method's own"
    monkeypatch.setattr("dmlbench.launch.search", None)
    assert run(["evaluate", str(tmp_path), "layer=pooled"]) == 0
    assert "Contrastive" in capsys.readouterr().out


# Spaces


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"make.margin": {"low": 1, "high": 0}}, "loss.search.make.margin: low is 1 and high is 0; low must be below high"),
        ({"make.margin": {"low": 0, "high": 1, "log": True}}, "low is 0; a logarithmic range begins above 0"),
        ({"make.margin": {"low": 0, "hihg": 1}}, "loss.search.make.margin.hihg is not known; did you mean 'high'"),
        ({"make.margin": {"low": 0}}, "loss.search.make.margin.high is missing"),
        ({"make.margin": {"low": "a", "high": 1}}, "loss.search.make.margin.low is 'a', but a number is needed"),
        ({"make.margin": 3}, "loss.search.make.margin is 3; it needs low and high, or choices"),
        ({"make.margin": {}}, "it needs low and high, or choices"),
        ({"make.margin": {"choices": [1]}}, "`choices` is a list of two values or more"),
        ({"make.margin": {"choices": [1, [2]]}}, "each has to be a text, a number, true, false or null"),
        ({"make.margin": {"low": 0, "high": 1, "step": 2}}, "step is 2; it must be above 0 and at most high - low"),
        ({"make.margin": {"low": 1, "high": 9, "step": 2, "log": True}}, "a logarithmic range has none, or 1"),
        ({"make.margn": {"low": 0, "high": 1}}, "loss/x has no value loss.make.margn; did you mean 'make.margin'"),
        ({"make._target_": {"choices": ["a", "b"]}}, "loss/x has no value loss.make._target_"),
        (
            {"make.margin": {"low": 0.3, "high": 1}},
            "loss.make.margin is 0.2, outside its search space 0.3 to 1; the first trial",
        ),
        (
            {"make.margin": {"low": 0, "high": 1, "step": 0.5}},
            "loss.make.margin is 0.2, outside its search space 0 to 1 by 0.5",
        ),
        ({"weight_decay": {"low": 0, "high": 1}}, "loss.weight_decay is null, outside"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_sentence(search: Mapping[str, Any], sentence: str) -> None:
    method = Method("x", "X", "pair", make={"_target_": "a.B", "margin": 0.2}, search=dict(search))
    with pytest.raises(UserError) as caught:
        initial_values(parse_space(method.search), method)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_changes_a_space() -> None:
    cfg, _ = compose(["loss=triplet", "+loss.search.make.margin={high: 0.4}"])
    [margin] = parse_space(OmegaConf.to_container(cfg.loss.search)).values()  # type: ignore[arg-type]
    assert str(margin) == "0 to 0.4"


@pytest.mark.parametrize("loss", [name for name, _ in entries("loss")])
def test_the_space_of_every_shipped_method_holds_its_own_values(loss: str) -> None:
    cfg, _ = compose([f"loss={loss}"])
    cfg.dataset.train_classes = 50
    method = typed(Method, "loss", {"name": loss, **OmegaConf.to_container(cfg.loss, resolve=True)})  # type: ignore[dict-item]
    if loss == "untrained":
        assert not method.search
    else:
        assert initial_values(parse_space(method.search), method)


SPACE = parse_space(
    {"a": {"low": 0.01, "high": 1, "log": True}, "b": {"low": 2, "high": 9, "step": 1}, "c": {"choices": ["x", None, True]}}
)


def told(number: int, values: Mapping[str, Any], score: float = 0.5) -> Trial:
    return Trial(number, "complete", score, values, intermediate_values=[(1, score), (2, score)])


def test_proposals_lie_in_the_space_and_depend_on_trials_and_seed_alone() -> None:
    before: list[Trial] = []
    for number in range(1, 15):
        drawn = propose(SPACE, before, [], seed=number)
        assert drawn == propose(SPACE, before, [], seed=number)
        assert all(allowed.holds(drawn[key]) for key, allowed in SPACE.items())
        assert isinstance(drawn["b"], int)
        before.append(told(number, drawn, float(drawn["a"])))  # type: ignore[arg-type]
    assert len({one.values["a"] for one in before}) == 14


def test_proposals_learn_from_the_trials_before_them() -> None:
    space = parse_space({"a": {"low": 0, "high": 1}})
    before: list[Trial] = []
    for number in range(1, 41):
        drawn = propose(space, before, [], seed=number)
        before.append(told(number, drawn, 1 - abs(float(drawn["a"]) - 0.7)))  # type: ignore[arg-type]
    off = [1 - one.score for one in before]
    assert np.mean(off[10:]) < 0.2, "a uniform draw is off by (0.7 ** 2 + 0.3 ** 2) / 2 = 0.29"


def test_a_trial_is_pruned_below_the_median_of_five_and_never_in_its_warm_up() -> None:
    values = {"a": 0.1, "b": 2, "c": "x"}
    five = [told(number, values, score) for number, score in enumerate((0.1, 0.2, 0.3, 0.4, 0.5), start=1)]
    assert not Pruner(SPACE, five[1:], warmup=0).ends(1, 0.01)
    assert Pruner(SPACE, five, warmup=0).ends(1, 0.29)
    assert not Pruner(SPACE, five, warmup=0).ends(1, 0.31)
    warm = Pruner(SPACE, five, warmup=2)
    assert not warm.ends(1, 0.29)
    assert warm.ends(2, 0.29)


def test_the_words_of_tuned_values_are_read_back_as_the_same_values() -> None:
    values = {"a": 0.1234, "b": 1e-05, "c": -3, "d": True, "e": None, "f": "it's", "g": "a b=c", "h": 1e16, "i": "3"}
    parsed = OverridesParser.create().parse_overrides(overrides(values))
    assert [one.value() if not hasattr(one.value(), "text") else one.value().text for one in parsed] == list(values.values())
    assert [type(one.value()) for one in parsed][:4] == [float, float, int, bool]


# Mistakes


def test_without_optuna_one_sentence_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(["tune", *words(data, tmp_path)]) == 2
    assert "tuning needs optuna and matplotlib: pip install 'dmlbench[tune]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("trials=many", "tuning.trials is 'many', but a whole number is needed"),
        ("trials=-1", "tuning.trials is -1; it must be at least 0"),
        ("trials=0", "tuning.only is true, but tuning.trials is 0"),
        ("tuning.fold=4", "tuning.fold is 4, but there are 4 folds, 0 to 3, or `all`"),
        ("tuning.fold=some", "tuning.fold is 'some', but a whole number or 'all' is needed"),
        ("tuning.folds=30", "tuning.fold: 50 training classes cannot be held out in 30 folds of two classes or more"),
        ("tuning.epochs=0", "tuning.epochs is 0; it must be at least 1"),
        ("tuning.trails=3", "tuning.trails is not known; did you mean 'trials'"),
        ("loss.make.margin=7", "loss.make.margin is 7, outside its search space 0 to 1"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    data: Path, tmp_path: Path, word: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tune", *words(data, tmp_path, word)]) == 2
    assert sentence in capsys.readouterr().err


def test_the_untrained_trunk_has_nothing_to_tune(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune", f"paths.data={data}", f"paths.runs={tmp_path}", "loss=untrained"]) == 0
    assert "there is nothing to tune" in capsys.readouterr().out
