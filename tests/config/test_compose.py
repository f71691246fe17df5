"""From overrides to a composed and checked configuration."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from dmlbench.config.compose import compose, compose_with_hydra, dataset_settings, directory, plain, resolve
from dmlbench.config.files import conf_dir
from dmlbench.config.schema import GROUPS, defaults
from dmlbench.errors import UserError

WRONG_VALUES = {
    "seed=-1": "seed is -1, but a whole number from 0 on is needed",
    "seed=null": "seed is null, but a whole number from 0 on is needed",
    "seed=true": "seed is true, but a whole number from 0 on is needed",
    "workers=many": "workers is 'many', but a whole number from 0 on is needed",
    "device=gpu": "device is 'gpu'; it must be auto, cpu or cuda",
    "retry=all": "retry is 'all'; it must be none or failed",
    "oracle=1": "oracle is 1, but true or false is needed",
    "paths.runs=null": "paths.runs is null, but a directory is needed",
    "paths=null": "paths is null, but a mapping is needed",
    "+paths.cache=x": "paths.cache is not known; known: data, runs",
    "+protocols.epochs=1": "protocols is not known; did you mean 'protocol'?",
    "+protocol.epoch=1": "protocol.epoch is not known; did you mean 'epochs'?",
    "protocol.lr=fast": "protocol.lr is 'fast', but a number is needed",
    "protocol.lr=-1": "protocol.lr is -1.0; it must be at least 0",
    "dataset.recall_at=[]": "dataset.recall_at is []; it needs one or more different values of at least 1",
    "trunk.input_range=0": "trunk.input_range is 0.0; it is the value of white that the trunk expects: 1 or 255",
    "loss.make=null": "loss/multi_similarity: kind is 'pair', so `make` must be given",
    "tuning.fold=9": "tuning.fold is 9, but there are 4 folds, 0 to 3, or `all`",
}
REPORT_ERRORS = """
import json, sys
from dmlbench.config.compose import compose, resolve
from dmlbench.errors import UserError

sentences = {}
resolve(compose([]))
for override in json.loads(sys.argv[1]):
    try:
        resolve(compose([override]))
    except UserError as error:
        sentences[override] = str(error)
print(json.dumps({"sentences": sentences, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_every_wrong_value_is_refused_in_one_sentence_without_importing_torch() -> None:
    command = [sys.executable, "-c", REPORT_ERRORS, json.dumps(list(WRONG_VALUES))]
    output = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert output["sentences"] == WRONG_VALUES
    assert not {"torch", "torchvision", "sklearn", "scipy", "pandas"} & set(output["modules"])


@pytest.mark.parametrize("dataset", ["omniglot", "cub"])
def test_the_composed_configuration_has_every_default_of_the_schema(dataset: str) -> None:
    composed = compose([f"dataset={dataset}"])
    for group, configuration_class in GROUPS.items():
        values = OmegaConf.to_container(composed.cfg[group], resolve=False)
        assert isinstance(values, dict)
        file = conf_dir() / group / f"{composed.choices.get(group)}.yaml"
        from_file = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
        found = {name: values[name] for name in defaults(configuration_class) if name not in from_file}
        expected = {name: value for name, value in defaults(configuration_class).items() if name not in from_file}
        assert found == expected, group
        assert expected, f"the test needs a field of {group} that its file does not set"


def test_overrides_take_precedence_over_files_and_files_over_defaults() -> None:
    assert compose([]).cfg.protocol.schedule == "cosine"  # quick.yaml; the default is constant
    assert compose(["protocol.schedule=step"]).cfg.protocol.schedule == "step"


def test_with_values_returns_a_copy_and_does_not_change_the_original() -> None:
    composed = compose(["loss=triplet"])
    before = copy.deepcopy(composed.cfg)
    changed = composed.with_values({"loss.make.margin": 0.7, "seed": 3})
    assert (changed.cfg.loss.make.margin, changed.cfg.seed) == (0.7, 3)
    assert changed.cfg.loss.miner.margin == 0.7, "interpolations follow the new value"
    assert composed.cfg == before
    assert (changed.choices, changed.overrides, changed.config_dir) == (composed.choices, composed.overrides, None)


def test_the_facts_of_a_data_set_resolve_interpolations_and_do_not_change_the_configuration() -> None:
    composed = compose(["loss=arcface"])
    before = copy.deepcopy(composed.cfg)
    declared, counted = resolve(composed), resolve(composed, {"train_classes": 7})
    assert declared.method.make is not None
    assert counted.method.make is not None
    assert (declared.method.make["num_classes"], declared.dataset.train_classes) == (115, 115)
    assert (counted.method.make["num_classes"], counted.dataset.train_classes) == (7, 7)
    assert composed.cfg == before


@pytest.mark.parametrize(
    ("overrides", "name", "label"),
    [
        (["dataset=digits"], "digits", "Digits (pairs)"),
        (["dataset=folder", "dataset.root=pictures/birds"], "birds", "birds"),
        (["dataset=folder", "dataset.root=pictures/birds", "dataset.name=mine"], "mine", "mine"),
    ],
)
def test_a_data_set_is_named_by_its_name_its_directory_or_its_file(overrides: list[str], name: str, label: str) -> None:
    composed = compose(overrides)
    for dataset in (resolve(composed).dataset, dataset_settings(composed)):
        assert (dataset.name, dataset.label) == (name, label)


def test_settings_are_plain_values_with_directories_and_the_choice_of_files() -> None:
    settings = resolve(compose(["workers=auto", "retry=failed", "paths.data=d", "paths.runs=r", "trunk=resnet18"]))
    assert (settings.workers, settings.retry_failed, settings.data_dir, settings.runs_dir) == (-1, True, Path("d"), Path("r"))
    assert (settings.trunk.name, settings.protocol.name, settings.method.name) == ("resnet18", "quick", "multi_similarity")
    kinds = {type(value) for value in (settings.sampler, settings.optimizer, settings.trunk.make)}
    assert kinds == {dict}


def test_files_of_the_users_directory_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("label: Mine\nkind: none\n")
    composed = compose(["loss=mine"], tmp_path)
    assert (composed.choices["loss"], composed.config_dir) == ("mine", tmp_path)
    assert resolve(composed).method.label == "Mine"


def test_a_group_and_a_directory_have_the_right_type() -> None:
    cfg: Any = OmegaConf.create({"paths": {"data": "d", "runs": 3}, "sampler": "shuffle"})
    assert directory(cfg, "data") == Path("d")
    with pytest.raises(UserError, match=r"^paths\.runs is 3, but a directory is needed$"):
        directory(cfg, "runs")
    with pytest.raises(UserError, match=r"^sampler is 'shuffle', but a mapping is needed$"):
        plain(cfg, "sampler")


def test_a_configuration_composed_again_in_another_directory_names_that_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories = [tmp_path / "first", tmp_path / "second"]
    for current in directories:
        current.mkdir()
        monkeypatch.chdir(current)
        assert compose_with_hydra(["loss=triplet"]).hydra.runtime.cwd == str(current)
        assert compose(["paths.runs=${hydra:runtime.cwd}"]).cfg.paths.runs == str(current)


def test_files_of_a_search_path_are_read_whenever_they_are_composed(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    for label in ("first", "second"):
        (tmp_path / "loss" / "mine.yaml").write_text(f"label: {label}\n")
        assert compose(["loss=mine", f"hydra.searchpath=['file://{tmp_path}']"]).cfg.loss.label == label


def test_a_file_that_the_environment_chooses_is_chosen_whenever_it_is_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("triplet", "arcface"):
        monkeypatch.setenv("CHOSEN_LOSS", name)
        assert compose(["loss=${oc.env:CHOSEN_LOSS}"]).choices["loss"] == name
