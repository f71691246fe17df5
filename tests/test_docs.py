"""The documentation is correct: generated pages are up to date, links lead to files, and the commands of every page work.

Commands run in this process, as printed, in a new directory per page. Expensive work is replaced in two places: in
`Simulation`, jobs that need a downloaded data set, another process or more than `MAX_IMAGES` training images are composed and
checked, and get a made-up row; in `with_small_data`, the embedded data set replaces downloaded ones, and of large data sets
some images are used.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import importlib.util
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from PIL import Image
from rows_factory import make_row, make_study

from dmlbench.cli import COMMANDS, run
from dmlbench.config import jobs as config_jobs
from dmlbench.config import requirements
from dmlbench.config.compose import Composed, Settings, compose, dataset_settings, resolve
from dmlbench.config.jobs import BASIC_LAUNCHER, Job, JobList
from dmlbench.config.schema import Dataset, Protocol, row_fields
from dmlbench.data.datasets import image_folder
from dmlbench.data.split import Split
from dmlbench.results.row_files import write_row
from dmlbench.runs import job_checks, launcher, prepare
from dmlbench.runs.remote_job import OnEnd
from dmlbench.runs.runner import Outcome, Report

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "runs" / "README.md", *DOCS.glob("*.md")])
MAX_IMAGES = 5_000  # per command as printed, over all epochs, folds, trials and jobs
SMALL = {"classes": 64, "images_per_class": 4}  # of the training images, and of the test images
UNDECLARED_IMAGES = 300  # training images of a data set that does not declare their number


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


def files(page: Path) -> dict[str, str]:
    """The files that a page defines: each is a block, and the last file name in the paragraph before the block."""
    found, text = {}, page.read_text()
    for block in re.finditer(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL):
        paragraph = text[: block.start()].rstrip().rpartition("\n\n")[2]
        names = re.findall(r"`([\w/]+\.(?:py|yaml))`", paragraph)
        if names:
            found[names[-1]] = block[1]
    return found


def write_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_up_to_date(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    assert write_docs().main(check=True) == 0, capsys.readouterr().out


def test_an_outdated_page_is_reported_and_rewritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    module = write_docs()
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "PAGES", {"columns.md": module.columns_page})
    (tmp_path / "columns.md").write_text("outdated")
    assert module.main(check=True) == 1
    assert capsys.readouterr().out == "docs/columns.md is out of date; run `make docs`\n"
    assert (tmp_path / "columns.md").read_text() == "outdated"
    assert module.main(check=False) == 0
    assert module.main(check=True) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_a_command_of_dmlbench_a_target_of_the_makefile_or_a_script_of_the_page(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {"dmlbench": set(COMMANDS), "make": targets, "python": set(files(page))}
    for line in commands(page):
        program, first, *_ = shlex.split(line)
        assert first in known[program], line


# Running the commands of a page.


def needs_simulation(settings: Sequence[Settings]) -> bool:
    """Whether jobs need a downloaded data set or would train for long."""
    return any(map(is_downloaded, settings)) or sum(map(training_images, settings)) > MAX_IMAGES


def is_downloaded(settings: Settings) -> bool:
    return bool(settings.dataset.downloads or settings.dataset.ask)


def training_images(settings: Settings) -> int:
    if settings.method.make is None:
        return 0
    protocol, tuning = settings.protocol, settings.tuning
    models = protocol.folds if protocol.fold == "all" else 1
    return (models + tuning.trials) * protocol.epochs * (settings.dataset.train_images or UNDECLARED_IMAGES)


def made_up_row(job: Job, settings: Settings) -> Path:
    """Write a row as the job would, except for its numbers; return its directory."""
    dataset, method, trunk = settings.dataset, settings.method, settings.trunk
    shared = f"{dataset.name}-{trunk.name}-{settings.protocol.name}-{job.composed.preset}"
    score = int(hashlib.sha256(job.name.encode()).hexdigest()[:4], 16) / 0xFFFF
    row = make_row(
        score,
        dataset=dataset.name,
        dataset_label=dataset.label,
        trunk=trunk.name,
        trunk_label=trunk.label,
        loss=method.name,
        loss_label=method.label,
        protocol=settings.protocol.name,
        preset=job.composed.preset,
        fingerprint=hashlib.sha256(shared.encode()).hexdigest()[:8],
        seed=settings.seed,
    )
    folder = settings.runs_dir / dataset.name / method.name / f"{row['fingerprint']}-{row['method_digest']}-{row['seed']}"
    write_row(folder, row)
    return folder


def simulated(job: Job, settings: Settings) -> Outcome:
    if settings.tuning.only:
        found = {"tuned_score": 0.5, "tuned_trial": 1, "n_tuning_trials": 1, "tuned_values": "margin=0.1"}
        return Outcome("tuned", job.name, tuned=found)
    return Outcome("done", job.name, made_up_row(job, settings))


class Simulation:
    """Replaces `run_jobs`. A command is simulated as a whole if its jobs together are expensive.

    Args:
        monkeypatch: Undoes the replacement after the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job_lists: list[JobList] = []  # of the current command, which composes all of them before it runs the first
        self._run_jobs = launcher.run_jobs
        for name in ("one_job", "all_jobs"):
            monkeypatch.setattr(config_jobs, name, partial(self.compose, getattr(config_jobs, name)))
        monkeypatch.setattr(launcher, "run_jobs", self.run_jobs)

    def compose(self, make_jobs: Callable[..., JobList], *arguments: Any) -> JobList:
        self.job_lists.append(make_jobs(*arguments))
        return self.job_lists[-1]

    def run_jobs(self, jobs: JobList, wait: bool, report: Report, on_end: OnEnd, only: Any = None) -> list[Outcome]:
        local = all(one.launcher == BASIC_LAUNCHER for one in self.job_lists)
        if local and not needs_simulation([resolve(job.composed) for one in self.job_lists for job in one.jobs]):
            return self._run_jobs(jobs, wait, report, on_end, only)
        return [simulated(job, resolve(job.composed)) for job in jobs.jobs]

    def run(self, line: str) -> int:
        """Run a command of a page; return its exit status."""
        self.job_lists.clear()
        program, *arguments = [one for word in shlex.split(line) for one in (sorted(glob.glob(word)) or [word])]
        if program == "dmlbench":
            return run(arguments)
        if program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        return 0


def small(split: Split) -> Split:
    """The first images of the first training and test classes: as many as the largest batch of a page needs."""
    frame = split.frame
    kept = np.zeros(len(frame), dtype=bool)
    for roles in (["train", "val"], ["query", "gallery"]):
        chosen = frame[frame[roles].any(axis=1)]
        number = chosen.groupby("label").cumcount()
        classes = np.unique(chosen["label"])[: SMALL["classes"]]
        kept[chosen.index[(number < SMALL["images_per_class"]) & chosen["label"].isin(classes)]] = True
    return replace(split.without(np.flatnonzero(~kept)), n_skipped=split.n_skipped)


def with_small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Download nothing, read the embedded data set in place of a downloaded one, and use some images of each."""
    real, check_with_data, listed_split = prepare.load_split, job_checks.check_with_data, prepare.listed_split

    def check_available(jobs: Sequence[Job]) -> None:
        check_with_data([job for job in jobs if not is_downloaded(resolve(job.composed))])

    def load_split(dataset: Dataset, data_dir: Path, training_only: bool = False) -> Split:
        downloaded = bool(dataset.downloads or dataset.ask)
        return real(dataset_settings(compose(["dataset=digits"])) if downloaded else dataset, data_dir, training_only)

    def download_data(composed: Composed) -> Iterator[str]:
        yield f"would download {dataset_settings(composed).name}"

    importlib.import_module("dmlbench.data.datasets.annotation_files")  # which would otherwise import the replaced function
    monkeypatch.setattr(requirements, "require_directory", lambda root, reader: None)
    monkeypatch.setattr(job_checks, "check_with_data", check_available)  # the weights of the trunk are not there either
    monkeypatch.setattr(prepare, "listed_split", lambda dataset: small(listed_split(dataset)))
    monkeypatch.setattr(prepare, "load_split", load_split)
    monkeypatch.setattr(prepare, "download_data", download_data)


def write_photos(root: Path) -> None:
    """Write 12 classes with eight images each: the photos of the reader, for which README.md sets the size of a batch."""
    generator = np.random.default_rng(0)
    for label in range(12):
        (root / f"class_{label:02}").mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"class_{label:02}" / f"{number}.png")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What data sets and caches write, shared by all pages."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def simulation(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """Commands run in an empty directory, `tmp_path`, and expensive work is simulated."""
    (tmp_path / "data").symlink_to(data_dir)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with_small_data(monkeypatch)
    yield Simulation(monkeypatch)
    own = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", None)).startswith(str(tmp_path))]
    for name in own:
        del sys.modules[name]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_work_as_printed(
    page: Path, simulation: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "my_photos")
    for name, text in files(page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for line in commands(page):
        status = simulation.run(line)
        assert status == 0, f"{line}\n{capsys.readouterr()}"


def test_the_python_examples_of_the_readme_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for row in make_study():
        write_row(tmp_path / "runs" / str(row["loss"]) / str(row["run_id"]), row)
    generator = np.random.default_rng(0)
    names = {"embeddings": generator.normal(size=(40, 8)).astype(np.float32), "labels": np.arange(40) % 4}
    examples = [block for block in blocks(ROOT / "README.md", "python") if "import dmlbench" in block]
    assert examples
    for example in examples:
        exec(example, names)


def test_every_benchmark_is_a_module_that_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    benchmarks = runpy.run_path(str(ROOT / "scripts" / "bench.py"))["BENCHMARKS"]
    for name in [*benchmarks, "evaluate_side", "frozen_pass"]:
        module = importlib.import_module(f"benchmarks.{name}")
        assert callable(getattr(module, "measure" if name in benchmarks else "main"))


def test_a_short_command_of_a_page_really_trains(simulation: Simulation, tmp_path: Path) -> None:
    assert simulation.run("dmlbench train dataset=digits loss=contrastive protocol.epochs=0") == 0
    assert len(list(tmp_path.glob("runs/digits/contrastive/*/model.pt"))) == 1


def test_a_long_command_of_a_page_is_simulated_with_all_its_jobs(simulation: Simulation, tmp_path: Path) -> None:
    assert simulation.run("dmlbench sweep dataset=digits loss=contrastive,triplet seed=0,1") == 0
    assert len(list(tmp_path.glob("runs/digits/*/*/row.json"))) == 8
    assert not list(tmp_path.glob("runs/digits/*/*/model.pt"))


def test_a_wrong_value_in_a_long_command_is_refused(simulation: Simulation, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulation.run("dmlbench sweep dataset=cub protocol.epochs=-1") == 2
    assert "protocol.epochs is -1" in capsys.readouterr().err


def test_without_cub_the_error_names_the_command_that_downloads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run(["data", "check", "cub"]) == 2
    error = capsys.readouterr().err
    assert "dataset.root is 'data/cub', which does not exist" in error
    assert "`dmlbench data prepare cub`" in error


# Pages that list what the code declares.


def table_under(page: Path, heading: str) -> list[list[str]]:
    """The cells of all tables of a section, without headings and rules."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert section, heading
    lines = [line.strip("|").split("|") for line in section[1].splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in cells] for cells in lines]


def literals(annotation: Any) -> Sequence[str]:
    """The texts that a type accepts."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [value for part in get_args(annotation) for value in literals(part)]


def test_the_page_about_protocols_lists_every_field_with_its_values() -> None:
    listed = {
        name: values for fields, values, *_ in table_under(DOCS / "protocols.md", "Fields") for name in fields.split(", ")
    }
    types = get_type_hints(Protocol)
    names = [one.name for one in row_fields(Protocol)]
    assert set(listed) == {"field"} | {f"`{name}`" for name in names}
    for name in names:
        for value in literals(types[name]):
            assert f"`{value}`" in listed[f"`{name}`"], f"{name}={value}"


def test_the_page_about_data_sets_lists_every_accepted_name_of_a_column_and_of_a_role() -> None:
    page = (DOCS / "add-your-own.md").read_text()
    columns = [name for names in image_folder.COLUMNS.values() for name in names]
    for name in [*columns, *image_folder.MANIFEST_ROLES]:
        assert f"`{name}`" in page, name
