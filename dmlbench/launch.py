"""Floor 6: a composed configuration to a row: plan, the lock of the run's folder, what is done is skipped, the row written."""

from __future__ import annotations

import copy
import json
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dmlbench import experiment
from dmlbench.build import build, check, source_sha256
from dmlbench.configs import conf_dir
from dmlbench.data.check import readable
from dmlbench.data.folds import training_parts
from dmlbench.data.prepare import prepare as prepare_files
from dmlbench.data.split import Split
from dmlbench.errors import UserError, suggest
from dmlbench.locks import locked
from dmlbench.plan import Dataset, Method, Plan, Protocol, Scalar, Trunk, flatten, typed
from dmlbench.presets import GROUP, NONE
from dmlbench.randomness import seed_of
from dmlbench.rows import CHECKPOINT, PLAN_FILE, ROW_FILE, WORDS, Row, read_row, write_row, write_text
from dmlbench.train import BEST
from dmlbench.trunks.weights import sha256, weights_file
from dmlbench.tuning.space import overrides
from dmlbench.tuning.study import Study, Tuning, columns_of, search
from dmlbench.tuning.trials import best_of
from dmlbench.unfinished import ERROR, LOCK

TOP = (
    *("dataset", "trunk", "loss", "sampler", "optimizer", "protocol", "tuning"),
    *("seed", "device", "workers", "oracle", "retry", "paths"),
)
PATHS = ("data", "runs")
RETRY = ("none", "failed")

Status = Literal["done", "skipped", "tuned", "busy", "mistake", "accident"]


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Args:
        status: `done` and `skipped` have a row; `tuned`: its trials are done, and no run was asked for; `busy`: another process
            is running it; `mistake`: the user can mend it; `accident`: it is tried again by the same command.
        job: what it was, for print.
        folder: the run's, or the study's, where the plan could be made.
        row: where there is one.
        error: one sentence, of a mistake or an accident.
        tuned: the columns that tell of a search, where there was one.
    """

    status: Status
    job: str
    folder: Path | None = None
    row: Row | None = None
    error: str | None = None
    tuned: Mapping[str, Scalar] | None = None


def run_job(
    cfg: DictConfig,
    choices: Mapping[str, str],
    wait: bool,
    tell: Callable[[str], None],
    words: Sequence[str] = (),
    name: str | None = None,
    begun: Callable[[Path], None] = lambda folder: None,
) -> Outcome:
    """Run one composed configuration; never raises but on an interrupt, so that a failing job stops no other.

    Args:
        cfg: as composed.
        choices: the chosen file of each group.
        wait: for a run that another process is at.
        tell: prints a line.
        words: that it was composed of; kept beside the row, so that the saved model can be built again.
        name: in print.
        begun: called with the run's folder before the run.
    """
    name, folder = name or f"loss={choices['loss']} seed={cfg.get('seed')}", None
    try:
        tuning, tuned = typed(Tuning, "tuning", _plain(cfg, "tuning")), None
        again = _again(cfg.retry)
        if tuning.trials and not cfg.loss.search:
            _refuse_untuned(cfg, choices["loss"], tuning.trials)
            tell(f"tuning    loss/{choices['loss']} names no search space; its values stay")
        elif tuning.trials:
            study = study_of(cfg, choices, tuning)
            folder = study.folder
            trials = search(study, wait, tell)
            if trials is None:
                return Outcome("busy", name, folder)
            (folder / ERROR).unlink(missing_ok=True)
            tuned = columns_of(study, trials)
            words = [*words, *give(cfg, best_of(trials).values)]
        if tuning.only:
            return Outcome("tuned", name, folder, tuned=tuned)
        plan, split = prepare(cfg, choices)
        plan, folder = replace(plan, tuned=tuned or {}), plan.folder
        begun(folder)
        return _run_locked(name, plan, split, wait, tell, words, again)
    except UserError as mistake:
        return Outcome("mistake", name, folder, error=str(mistake))
    except OmegaConfBaseException as mistake:  # an interpolation that leads nowhere shows only when it is resolved
        place = f"{mistake.full_key}: " if mistake.full_key else ""
        return Outcome("mistake", name, folder, error=place + str(mistake).splitlines()[0])
    except Exception as accident:
        if folder is None and isinstance(accident, OSError) and accident.filename:  # nothing has run: a dangling link, say
            return Outcome("mistake", name, error=f"{accident.filename} cannot be used: {accident.strerror}")
        where = ""
        if folder is not None and folder.is_dir():
            with suppress(OSError):  # a full disk is an accident that cannot be written down
                write_text(folder / ERROR, traceback.format_exc())
                where = f" (see {folder / ERROR})"
        sentence = f"{type(accident).__name__}: {str(accident).splitlines()[0] if str(accident) else ''}{where}"
        return Outcome("accident", name, folder, error=sentence)


def _again(retry: Any) -> bool:
    """Whether a method is run again whose row says that it failed."""
    if retry not in RETRY:
        raise UserError(f"retry is {retry!r}; it must be {' or '.join(RETRY)}{suggest(str(retry), RETRY)}")
    return bool(retry == "failed")


def _refuse_untuned(cfg: DictConfig, loss: str, trials: int) -> None:
    """Refuse trials of a method that trains: it would stand among tuned ones as if it had had them."""
    if cfg.loss.get("make") is not None:
        said = "1 trial" if trials == 1 else f"{trials} trials"
        raise UserError(
            f"loss/{loss} names no search space, so {said} cannot be given to it; add `search:` to its file, "
            "or leave out tuning.trials"
        )


def study_of(cfg: DictConfig, choices: Mapping[str, str], tuning: Tuning) -> Study:
    """The search that a composed configuration asks for; of the data set it sees the training images alone."""
    there = copy.deepcopy(cfg)
    there.seed, there.oracle = seed_of(tuning.seed, "tuning"), False
    there.protocol.fold, there.protocol.folds = tuning.fold, tuning.folds
    there.protocol.epochs = tuning.epochs or there.protocol.epochs
    try:
        plan, split = prepare(there, choices, training_only=True)
    except UserError as error:  # the folds are those of tuning here
        raise UserError(str(error).replace("protocol.fold", "tuning.fold")) from None

    def plan_with(values: Mapping[str, Scalar]) -> Plan:
        tried = copy.deepcopy(there)
        give(tried, values)
        method = method_of(tried, choices["loss"], plan.dataset, plan.protocol)
        return replace(plan, method=method, sampler=_plain(tried, "sampler"), optimizer=_plain(tried, "optimizer"))

    return Study(tuning, plan, plan_with, split)


def give(cfg: DictConfig, values: Mapping[str, Scalar]) -> list[str]:
    """Give the method of a composed configuration other values; returns the words that would have done so."""
    for key, value in values.items():
        OmegaConf.update(cfg, f"loss.{key}", value)
    return overrides(values)


def _run_locked(
    name: str, plan: Plan, split: Split, wait: bool, tell: Callable[[str], None], words: Sequence[str], again: bool
) -> Outcome:
    folder = plan.folder

    def waiting() -> None:
        tell(f"{folder.name} is being run by another process; waiting for it")

    with locked(folder / LOCK, waiting if wait else None) as ours:
        if not ours:
            return Outcome("busy", name, folder)
        row = read_row(folder / ROW_FILE) if (folder / ROW_FILE).is_file() else None
        done_before = (row is not None and (row.ok or not again)) and (
            not plan.oracle or row.get("oracle_map_at_r") is not None or row["selected_on"] == "none"
        )
        if row is None or not done_before:
            for line in announcement(plan, split):
                tell(line)
            (folder / ERROR).unlink(missing_ok=True)  # of an earlier try: what it tells is no longer why there is no row
            write_text(folder / WORDS, json.dumps(list(words), indent=1) + "\n")
            write_row(folder, experiment.begun_row(plan), PLAN_FILE)
            row = experiment.run(plan, split)
            write_row(folder, row)
        for leaving in (CHECKPOINT, BEST, ERROR, PLAN_FILE):  # the row is there: none is needed again
            for leftover in (folder / leaving, *folder.glob(f"fold*/{leaving}")):
                leftover.unlink(missing_ok=True)
        return Outcome("skipped" if done_before else "done", name, folder, row)


def prefer_own_launchers() -> None:
    """Take what plugins say of the launchers that conf/ describes out of Hydra's store: it would merge the two, and warn."""
    Plugins.instance()  # this is what fills the store
    described = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for file in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        described.pop(file.name, None)


def compose(words: Sequence[str], config_dir: str | None = None) -> tuple[DictConfig, Mapping[str, str]]:
    """Compose a configuration without running anything.

    Args:
        words: overrides.
        config_dir: a folder of the user's own configurations.

    Returns:
        The configuration, and the chosen file of each group.
    """
    cfg = compose_with_hydra(words, config_dir)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def compose_with_hydra(words: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """The same with Hydra's own node."""
    GlobalHydra.instance().clear()
    prefer_own_launchers()
    extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose("config", overrides=[*words, *extra], return_hydra_config=True)


def prepare(cfg: DictConfig, choices: Mapping[str, str], training_only: bool = False) -> tuple[Plan, Split]:
    """From a composed configuration to a checked plan; reads the data set's list, trains nothing.

    Args:
        cfg: as composed; interpolations are resolved here.
        choices: the chosen file of each group; its stem is the name.
        training_only: leave the test images out, before any image is opened.

    Raises:
        UserError: anything the user can mend: an unknown key, a wrong type, a fact that the files do not confirm, ...
    """
    for key in cfg:
        if key not in TOP:
            raise UserError(f"{key!s} is not known{suggest(str(key), TOP)}")
    for key in cfg.paths:
        if key not in PATHS:
            raise UserError(f"paths.{key!s} is not known{suggest(str(key), PATHS)}")
    dataset, split = data_of(cfg, choices, training_only)
    protocol = typed(Protocol, "protocol", {"name": choices["protocol"], **_plain(cfg, "protocol")}).resolved
    if protocol.crop_to_box:
        split.boxes()  # refused before any work where there are none
    part = training_parts(split, protocol)[0]  # each of several folds has as many training classes
    with open_dict(cfg.dataset):
        cfg.dataset.update(part.facts)
    dataset = typed(Dataset, "dataset", _plain(cfg, "dataset"))
    method = method_of(cfg, choices["loss"], dataset, protocol)
    trunk = trunk_of(cfg, choices["trunk"])
    device = _device(cfg.device)
    sampler, optimizer = _plain(cfg, "sampler"), _plain(cfg, "optimizer")
    check("sampler", sampler, positional=3)
    check("optimizer", optimizer, positional=1)
    precision = "bf16" if device == "cuda" and protocol.mixed_precision else "fp32"
    shared = shared_columns(cfg, choices, dataset, split, trunk, protocol, precision)
    plan = Plan(
        dataset=dataset,
        trunk=trunk,
        method=method,
        protocol=protocol,
        sampler=sampler,
        optimizer=optimizer,
        seed=_whole("seed", cfg.seed),
        shared=shared,
        runs=Path(cfg.paths.runs),
        device=device,
        precision=precision,
        caches=Path(cfg.paths.data) / "cache",
        oracle=_yes_or_no("oracle", cfg.oracle),
        workers=-1 if cfg.workers == "auto" else _whole("workers", cfg.workers),
    )
    return plan, split


def data_of(cfg: DictConfig, choices: Mapping[str, str], training_only: bool = False) -> tuple[Dataset, Split]:
    """The data set and its split, verified against the declared facts; unknown facts are filled in, in `cfg` too.

    Args:
        cfg: as composed.
        choices: the chosen file of each group.
        training_only: leave the test images out once the list is verified, before any image is opened.
    """
    with open_dict(cfg.dataset):
        if cfg.dataset.get("name") is None:
            root = _plain(cfg, "dataset").get("root")
            cfg.dataset.name = Path(root).resolve().name if root else choices["dataset"]
        if cfg.dataset.get("label") is None:
            cfg.dataset.label = cfg.dataset.name
    dataset = typed(Dataset, "dataset", _plain(cfg, "dataset"))
    split = build(f"dataset/{dataset.name}", dataset.make)
    split.verify(dataset.name, dataset.declared)
    if training_only:
        split = split.training()
    split = readable(split, dataset.on_unreadable, Path(cfg.paths.data) / "checked")
    if not training_only:
        split.verify(dataset.name, {})  # what is left must still do
    with open_dict(cfg.dataset):
        cfg.dataset.update(split.facts)
    return typed(Dataset, "dataset", _plain(cfg, "dataset")), split


def prepare_data(cfg: DictConfig, choices: Mapping[str, str]) -> Iterator[str]:
    """Fetch and unpack a data set into its root, once what was unpacked is verified; yields what was done, a line each."""

    def verified(place: Path) -> Split:
        there = copy.deepcopy(cfg)
        there.dataset.root = str(place)
        return data_of(there, choices)[1]

    dataset = typed(Dataset, "dataset", {"name": choices["dataset"], "label": "", **_named(cfg)})
    yield from prepare_files(dataset, Path(cfg.paths.data) / "archives", verified)


def _named(cfg: DictConfig) -> dict[str, Any]:
    return {key: value for key, value in _plain(cfg, "dataset").items() if key not in ("name", "label") or value is not None}


def method_of(cfg: DictConfig, name: str, dataset: Dataset, protocol: Protocol) -> Method:
    """The method, its constructor's arguments checked, and its own source file digested."""
    place = f"loss/{name}"
    values = _plain(cfg, "loss")
    method = typed(Method, "loss", {"label": name, **values, "name": name})
    if method.make is None:
        return method
    check("loss.make", method.make)
    if method.miner is not None:
        check("loss.miner", method.miner)
    facts = {
        "num_classes": (dataset.train_classes, f"{dataset.name} has {{}} training classes", "dataset.train_classes"),
        "embedding_size": (
            protocol.embedding_dim,
            "the protocol's embedding has {} dimensions",
            "protocol.embedding_dim",
        ),
    }
    for argument, (fact, sentence, source) in facts.items():
        given = method.make.get(argument, fact)
        if given != fact:
            raise UserError(f"{place}: {argument} is {given} but {sentence.format(fact)}; use ${{{source}}}")
    return replace(method, source_sha256=source_sha256("loss.make", method.make, method.miner))


def trunk_of(cfg: DictConfig, name: str) -> Trunk:
    """The trunk, its constructor's arguments checked, and its weights digested."""
    trunk = typed(Trunk, "trunk", {"label": name, **_plain(cfg, "trunk"), "name": name})
    check("trunk.make", trunk.make)
    file = weights_file(f"trunk/{name}", trunk)
    return replace(trunk, weights_sha256=sha256(file) if file else None)


def shared_columns(
    cfg: DictConfig,
    choices: Mapping[str, str],
    dataset: Dataset,
    split: Split,
    trunk: Trunk,
    protocol: Protocol,
    precision: str,
) -> dict[str, Scalar]:
    """What two compared rows must agree in; paths, labels, workers and the method are left out."""
    columns: dict[str, Scalar] = {
        "dataset": dataset.name,
        "split_digest": split.digest,
        "split_seed": dataset.split_seed,
        "split_rule": dataset.split,
        "split_recall_at": str(list(dataset.recall_at)),
        "trunk": trunk.name,
        "trunk_weights_sha256": trunk.weights_sha256,
        "trunk_source_sha256": source_sha256("trunk.make", trunk.make),
        **dict(flatten("trunk_make", trunk.make)),
        "trunk_mean": str(list(trunk.mean)),
        "trunk_std": str(list(trunk.std)),
        "trunk_channel_order": trunk.channel_order,
        "trunk_input_range": trunk.input_range,
        "preset": choices.get(GROUP, NONE).partition("/")[0],
        "protocol": protocol.name,
        "precision": precision,
    }
    for spec in fields(protocol):
        if spec.name != "name":
            columns |= flatten(f"protocol_{spec.name}", getattr(protocol, spec.name))
    columns["protocol_resize_px"] = protocol.resized_px  # given or following the crop, it is the same protocol
    for group in ("sampler", "optimizer"):
        columns[group] = choices[group]
        columns[f"{group}_source_sha256"] = source_sha256(group, _plain(cfg, group))
        columns |= flatten(group, _with_method_unresolved(cfg, group))
    return columns | typed(Tuning, "tuning", _plain(cfg, "tuning")).columns


def _with_method_unresolved(cfg: DictConfig, group: str) -> dict[str, Any]:
    """A group's values, where an interpolation into the method keeps its text: it is the method's own business."""
    written = OmegaConf.to_container(cfg[group], resolve=False)
    resolved = _plain(cfg, group)
    assert isinstance(written, dict)
    ours = {str(k): v for k, v in written.items() if isinstance(v, str) and re.search(r"\$\{\.*loss\.", v)}
    return {**resolved, **ours}


def _plain(cfg: DictConfig, group: str) -> dict[str, Any]:
    container = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True)
    if not isinstance(container, dict):
        raise UserError(f"{group} is {container!r}; it needs a mapping, as in conf/{group}/")
    return {f"{key!s}": value for key, value in container.items()}


def _device(device: str) -> str:
    available = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if device == "auto":
        return available[-1]
    if device not in available:
        raise UserError(f"device is {device!r}; this machine has {' and '.join(available)}, and auto takes the best")
    return device


def _whole(place: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{place} is {value!r}, but a whole number from 0 on is needed")
    return value


def _yes_or_no(place: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{place} is {value!r}, but true or false is needed")
    return value


def announcement(plan: Plan, split: Split) -> list[str]:
    """A few lines that say what will run."""
    protocol, method = plan.protocol, plan.method
    facts = training_parts(split, protocol)[0].facts
    own = f", {method.samples_per_class} images a class" if "m_per_class" in plan.sampler["_target_"] else ""
    lr = f", own learning rate {method.lr_scale * protocol.lr:g}" if method.kind == "classification" else ""
    preset = "" if plan.shared["preset"] == NONE else f", preset {plan.shared['preset']}"
    weights = "from scratch" if plan.trunk.weights == "none" else f"with {Path(plan.trunk.weights).name}"
    return [
        f"dataset   {plan.dataset.label}: train {facts['train_images']:,} images of {facts['train_classes']:,} classes; "
        f"query {facts['query_images']:,} and gallery {facts['gallery_images']:,} images of {facts['test_classes']:,}",
        f"trunk     {plan.trunk.label} {weights}",
        f"protocol  {protocol.name} v{protocol.version}{preset}: {protocol.epochs} epochs, batch {protocol.batch_size}, "
        f"{protocol.embedding_dim}-d, crop {protocol.image_px} of {protocol.resized_px} px, "
        f"{plan.shared['optimizer']} at {protocol.lr:g}, {plan.device} {plan.precision}",
        *(["features  of the frozen trunk, computed once: centre crops, none mirrored"] if protocol.trunk_frozen else []),
        *_selection(protocol),
        *(f"note      {note}" for note in (*split.notes, *_few_images(plan, split))),
        f"method    {method.label} ({method.kind}{own}{lr})" if method.make else f"method    {method.label}: no training",
        f"run       {plan.run_id}, seed {plan.seed}, in {plan.folder}",
    ]


def _selection(protocol: Protocol) -> Iterator[str]:
    """How the reported model comes about, where that is more than one training and its last epoch."""
    epoch = "the best epoch on held-out training classes" if protocol.selection == "validation" else "the last epoch"
    if protocol.fold == "all":
        yield f"selection {epoch}; {protocol.folds} models, each with another fold of these classes held out"
    elif protocol.fold != "none":
        yield f"selection {epoch}; fold {protocol.fold} of {protocol.folds} of the training classes is held out"
    elif protocol.selection == "validation":
        yield f"selection {epoch}, which the data set names"


def _few_images(plan: Plan, split: Split) -> Iterator[str]:
    counts = split.frame.loc[split.frame["train"], "label"].value_counts()
    few = int((counts < plan.method.samples_per_class).sum())
    if few and "samples_per_class" in plan.sampler:
        crops = "" if plan.protocol.trunk_frozen else ", each with a crop of its own"
        yield (
            f"{few} training classes have fewer than {plan.method.samples_per_class} images; "
            f"their images repeat within a batch{crops}"
        )
