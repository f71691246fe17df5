"""Wrong overrides of `train`, `sweep` and `tune`: one sentence with what would have worked, and status 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_helpers import refused, write_config

from dmlbench.cli import run
from dmlbench.cli.errors import translate_error
from dmlbench.cli.progress import outcome_printer
from dmlbench.cli.unknown_keys import describe_unknown_key
from dmlbench.config.compose import compose, resolve
from dmlbench.config.requirements import check_requirements
from dmlbench.runs.runner import Outcome


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "loss=softripple"], "loss=softripple is not known; did you mean 'softtriple'?"),
        (["sweep", "loss=triplet,contrastiv"], "loss=contrastiv is not known; did you mean 'contrastive'?"),
        (["train", "dataset=digit"], "dataset=digit is not known; did you mean 'digits'?"),
        (["train", "hydra/launcher=jobib"], "hydra/launcher=jobib is not known; did you mean 'joblib'?"),
        (["sweep", "sweep=sevn"], "sweep=sevn is not known; did you mean 'seven'?"),
        (["tune", "+sweep=sevn"], "sweep=sevn is not known; did you mean 'seven'?"),
        (["train", "sweep=seven"], "sweep=seven stands for several runs; use `dmlbench sweep sweep=seven`"),
        (["train", "preset=papr"], "preset=papr is not known; did you mean 'paper'?"),
        (["sweep", "preset=paper"], "preset=paper has no file for dataset=omniglot; it is for dataset=cars, cub, inshop, sop"),
        (["train", "loss=3"], "loss=3 is not known; known: arcface, "),
        (["train", "protocol=null"], "protocol=null is not known; known: best_practice, quick, "),
        (
            ["train", "loss={a:1}"],
            "loss needs the name of a file, which `dmlbench list` prints; set single values with loss.KEY=",
        ),
    ],
    ids=lambda argv: " ".join(argv) if isinstance(argv, list) else "",
)
def test_an_unknown_file_is_refused_with_a_similar_name(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *argv).startswith(sentence)


def test_a_file_of_the_user_that_was_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, "train", "loss=zebra").endswith("; your own files need --config-dir DIR")
    write_config("my_conf/loss/zebra.yaml", "label: Zebra\n")
    sentence = refused(capsys, "train", "loss=zebra")
    assert sentence.endswith("; my_conf/loss/zebra.yaml is not read without --config-dir my_conf")
    assert "--config-dir" not in refused(capsys, "train", "loss=zebras", "--config-dir", "my_conf")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["losss=arcface"], "loss"),
        (["protocol.epoch=3"], "protocol.epochs"),
        (["+protocol.epoch=3"], "protocol.epochs"),
        (["+sead=3"], "seed"),
        (["tuning.trails=3"], "tuning.trials"),
        (["epochs=2"], "protocol.epochs"),
        (["+epochs=2"], "protocol.epochs"),
        (["lr=0.1"], "protocol.lr"),
        (["trials=3"], "tuning.trials"),
        (["root=photos"], "dataset.root"),
        (["loss=triplet", "margin=0.1"], "loss.make.margin"),
        (["loss=triplet", "loss.margin=0.1"], "loss.make.margin"),
        (["loss=triplet", "loss.make.margn=0.1"], "loss.make.margin"),
        (["loss=triplet", "+loss.margin=0.1"], "loss.make.margin"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_an_unknown_key_is_refused_with_the_full_key_that_was_meant(
    overrides: list[str], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = overrides[-1].lstrip("+").partition("=")[0]
    assert refused(capsys, "train", *overrides) == f"{typed} is not known; did you mean '{key}'?"


def test_an_unknown_key_without_a_similar_one_is_refused_with_all_known_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "train", "zebra=1").startswith(
        "zebra is not known; known: compile, dataset, device, loss, optimizer, "
    )
    sentence = refused(capsys, "train", "optimizer.zebra=1")
    assert sentence == (
        "optimizer.zebra is not known; known: _target_, betas, eps, weight_decay "
        "(to add an argument that its file leaves out, use +optimizer.zebra=...)"
    )


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["train", "-m", "loss=multi_similarity,triplet,proxy_anchor", "loss.make.alpha=3", "--config-dir", "."],
            "loss.make.alpha is not known to loss=triplet; known: _target_, distance, margin (to add an argument that its file",
        ),
        (
            ["train", "-m", "loss=triplet,margin", "loss.make.margn=0.3"],
            "loss.make.margn is not known to loss=triplet, loss=margin; did you mean 'loss.make.margin'?",
        ),
        (["tune", "sweep=seven", "loss.make.pos_margn=0"], "loss=cosface, loss=arcface; did you mean 'loss.make.pos_margin'?"),
    ],
    ids=["known to two", "known to none", "of a sweep file"],
)
def test_a_key_that_some_losses_of_a_sweep_lack_is_refused_with_their_names(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["+optimizer.lr=0.01"],
            "optimizer.lr has no effect: protocol and method set all learning rates; use protocol.lr or loss.lr",
        ),
        (
            ["optimizer.lr=0.01"],
            "optimizer.lr has no effect: protocol and method set all learning rates; use protocol.lr or loss.lr",
        ),
        (
            ["+sampler.batch_size=8"],
            "sampler.batch_size has no effect: the protocol sets the batch size; use protocol.batch_size",
        ),
        (["+sampler.generator=1"], "sampler.generator has no effect: training passes a generator"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_training_sets_itself_is_refused(
    overrides: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "train", *overrides).startswith(sentence)


def test_a_learning_rate_in_an_optimizer_file_of_the_user_is_refused_too(capsys: pytest.CaptureFixture[str]) -> None:
    write_config("mine/optimizer/fast.yaml", "_target_: torch.optim.SGD\nlr: 0.1\n")
    assert "optimizer.lr has no effect" in refused(capsys, "train", "optimizer=fast", "--config-dir", "mine")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "protocol.epochs=many"], "protocol.epochs is 'many', but a whole number is needed"),
        (["train", "seed=-1"], "seed is -1, but a whole number from 0 on is needed"),
        (["train", "seed="], "seed is '', but a whole number from 0 on is needed"),
        (["train", "loss=triplet", "loss.make.margin=wide"], "loss.make.margin is 'wide', but"),
        (["train", "loss.lr_scale=fast"], "loss.lr_scale is 'fast', but a number is needed"),
        (["train", "optimizer.weight_decay=little"], "optimizer.weight_decay is 'little', but"),
        (["train", "device=tpu"], "device is 'tpu'"),
        (["train", "retry=faild"], "retry is 'faild'"),
        (["train", "loss=triplet", "+loss.make.margn=0.1"], "loss.make.margn is not an argument of"),
        (["train", "paths.runs="], "'paths.runs=' is not a directory; write paths.data=DIR or paths.runs=DIR"),
        (["train", "paths=x"], "'paths=x' is not a directory; write paths.data=DIR or paths.runs=DIR"),
        (["train", "seed=${x}"], "Interpolation key 'x' not found"),
    ],
    ids=lambda argv: argv[-1] if isinstance(argv, list) else "",
)
def test_a_wrong_value_is_refused_with_what_is_needed(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "seed"], "seed needs a value: seed=..."),
        (["train", "protocol.epochs"], "protocol.epochs needs a value: protocol.epochs=..."),
        (["train", "triplet"], "'triplet' is not KEY=VALUE; did you mean 'loss=triplet'?"),
        (["sweep", "seven"], "'seven' is not KEY=VALUE; did you mean 'sweep=seven'?"),
        (["train", "loss.make.margin=a", "b"], "'b' is not KEY=VALUE, such as loss=triplet; quote a value with spaces"),
        (["train", "=3"], "'=3' has no key; write KEY=VALUE"),
        (["train", "a=b=c"], "'a=b=c' cannot be parsed; write KEY=VALUE, and quote a value with spaces or brackets"),
        (["train", "seed=0,1"], "'seed=0,1' names several values; `dmlbench sweep` and `dmlbench train -m` run all of them"),
        (["sweep", "seed=interval(0,1)"], "'seed=interval(0,1)' does not list values; write KEY=VALUE,VALUE"),
    ],
    ids=lambda argv: " ".join(argv) if isinstance(argv, list) else "",
)
def test_an_override_that_cannot_be_parsed_is_refused_with_its_form(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *argv).startswith(sentence)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("~loss", "loss cannot be removed, because every run needs it; change it with loss=..."),
        ("~paths.runs", "paths.runs cannot be removed, because every run needs it; change it with paths.runs=..."),
        ("~protocol.epochs", "protocol.epochs is missing; it needs a whole number"),
        ("~loss.make.zebra", "loss.make.zebra is not known, so ~loss.make.zebra cannot remove it"),
    ],
)
def test_a_key_that_is_needed_or_unknown_cannot_be_removed(
    override: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "train", override) == sentence


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["protocol.batch_size=62"], "samples_per_class 4; use 60 or 64"),
        (["protocol.batch_size=480"], "needs 120 classes, but the training split has 115"),
        (["dataset=digits", "dataset.train_images=1201"], "train_images is declared as 1,201 but the files under"),
        (["trunk=resnet18", "trunk.weights=IMAGENET1K_V9"], "neither a file nor a published name"),
        (["dataset=digits", "dataset.recall_at=[9999999]"], "dataset.recall_at is [9999999], but the gallery has 1,200 images"),
        (
            ["dataset=digits", "dataset.recall_at=[1,1200]"],
            "dataset.recall_at is [1, 1200], but the gallery has 1,200 images, so any method has a Recall@1200 of 100 %; use "
            "values below 1,200",
        ),
        (["dataset=folder"], "dataset.root"),
        (["dataset=folder", "dataset.root=nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_contradicts_the_data_is_refused_before_training(
    overrides: list[str], sentence: str, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, "train", *overrides, f"paths.data={generated}")


def test_a_tilde_in_a_path_is_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"'{tmp_path}/nowhere', which does not exist" in refused(capsys, "train", "dataset=folder", "dataset.root=~/nowhere")
    assert refused(capsys, "train", "--config-dir=~/conf") == f"--config-dir {tmp_path}/conf is not a directory"
    assert f"there is no run below {tmp_path}/results" in refused(capsys, "show", "x", "--runs=~/results")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["dataset=cub"],
            "dataset.root is 'data/cub', which does not exist; get the data set with `dmlbench data prepare cub`, or set its "
            "directory with dataset.root=DIRECTORY",
        ),
        (["dataset=sop", "dataset.root=file"], "dataset.root is 'file', which is not a directory; get the data set with"),
        (
            ["dataset=folder", "dataset.root=gone"],
            "dataset.root is 'gone', which does not exist; set the directory of the images",
        ),
        (["protocol.fold=9"], "protocol.fold is 9, but there are 4 folds, 0 to 3; `all` trains one model per fold"),
        (["protocol.fold=-1"], "protocol.fold is -1, but there are 4 folds, 0 to 3; `all` trains one model per fold"),
        (
            ["protocol.batch_size=63"],
            "protocol.batch_size is 63, which is not a multiple of samples_per_class 4; use 60 or 64",
        ),
        (
            ["sampler=by_kind", "protocol.batch_size=3"],
            "protocol.batch_size is 3, which is not a multiple of samples_per_class 4",
        ),
        (
            ["trunk=resnet18", "trunk.weights=gone.pth"],
            "trunk/resnet18: trunk.weights is 'gone.pth', which is not a file; name an existing file, or start",
        ),
        (
            ["trunk=bn_inception", "trunk.weights=imagenett"],
            "trunk/bn_inception: trunk.weights is 'imagenett', neither a file nor a published name; did you mean 'imagenet'?",
        ),
        (["trunk.weights=imagenet"], "trunk/convnet: trunk.weights is 'imagenet', neither a file nor a published name; known:"),
        (["trunk.weights=gone/weights"], "trunk/convnet: trunk.weights is 'gone/weights', which is not a file"),
        (["paths.runs=file"], "paths.runs is 'file', but file is not a directory; set another one with paths.runs=DIRECTORY"),
        (["paths.data=file/data"], "paths.data is 'file/data', but file is not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_neither_torch_nor_the_data_is_checked_first(
    overrides: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("not a directory")
    monkeypatch.setitem(sys.modules, "dmlbench.runs.checks", None)  # it imports torch, and must not be reached
    assert refused(capsys, "train", *overrides).startswith(sentence)


def test_a_configuration_can_be_printed_without_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "dataset=cub", "--cfg", "job"]) == 0
    assert "root: ${paths.data}/cub" in capsys.readouterr().out


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=untrained", "protocol.batch_size=63"],
        ["sampler=by_kind", "loss=arcface", "protocol.batch_size=63"],
        ["sampler=shuffle", "protocol.batch_size=63"],
        ["trunk=bn_inception", "trunk.weights=imagenet"],
        ["dataset=digits", "dataset.root=nowhere"],
    ],
    ids=" ".join,
)
def test_a_value_that_the_run_does_not_use_or_that_only_torch_knows_passes_the_first_check(overrides: list[str]) -> None:
    check_requirements(resolve(compose(overrides)))


def test_an_error_that_ends_several_jobs_is_printed_once_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    on_end = outcome_printer(5)
    for number in range(3):
        folder = Path(f"runs/{number}")
        on_end(Outcome("user_error", f"seed={number}", folder, error=f"{folder} cannot be used: Permission denied"))
    on_end(Outcome("crash", "seed=3", error="ValueError: rare"))
    assert capsys.readouterr().err == (
        "dmlbench: seed=0: runs/0 cannot be used: Permission denied\ndmlbench: seed=3: ValueError: rare\n"
    )
    on_end(Outcome("locked", "seed=4"))
    captured = capsys.readouterr()
    assert captured.out == "[5 of 5] seed=4: another process is executing it\n"
    assert captured.err == "dmlbench: 2 more jobs ended with the same error as seed=0\n"


def test_the_error_of_a_single_job_has_no_name_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    outcome_printer(1)(Outcome("user_error", "loss=triplet seed=0", error="the data set is empty"))
    assert capsys.readouterr().err == "dmlbench: the data set is empty\n"


def test_an_error_that_is_not_known_keeps_its_own_text_on_one_line() -> None:
    assert str(translate_error(ValueError("first\n  second"), [])) == "the overrides do not compose: first second"


def test_a_key_of_the_same_group_is_suggested_before_one_of_another_group() -> None:
    assert describe_unknown_key("dataset.patienc", [], None) == "dataset.patienc is not known; did you mean 'dataset.patience'?"
