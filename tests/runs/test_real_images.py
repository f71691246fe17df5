"""Training on real images for minutes: the demo, and Omniglot characters if their archive is beside the project."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dmlbench.config.compose import compose
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = ROOT.parent / "shared" / "data"
LOSSES = ("contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
# MAP@R on the test characters after six epochs of a plain hand-written loop with one random shift per batch, from the README of
# the archive.
HAND_WRITTEN = {
    "contrastive": 0.289,
    "triplet": 0.314,
    "proxy_nca": 0.294,
    "softtriple": 0.294,
    "multi_similarity": 0.321,
    "cosface": 0.298,
    "arcface": 0.285,
}


def documented_sweeps() -> list[list[str]]:
    """The overrides of each sweep in docs/results.md."""
    page = (ROOT / "docs" / "results.md").read_text()
    joined = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line)[2:] for line in joined.splitlines() if line.startswith("dmlbench sweep")]


def without(overrides: list[str], *prefixes: str) -> list[str]:
    return [one for one in overrides if not one.startswith(prefixes)]


def swept_rows(overrides: list[str], directory: Path, loss: str) -> dict[str, Row]:
    """Sweep over one loss with one seed in a new process, and return its rows by loss."""
    argv = [
        "sweep",
        *overrides,
        f"loss={loss}",
        "seed=0",
        f"paths.runs={directory / 'runs'}",
        f"paths.data={directory / 'data'}",
    ]
    command = [sys.executable, "-m", "dmlbench", *argv]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return {str(row["loss"]): row for path in find_rows(directory / "runs") if (row := read_row(path))}


@pytest.mark.parametrize("overrides", documented_sweeps(), ids=lambda overrides: f"{overrides[1]}-{overrides[-1]}")
def test_the_sweeps_in_the_documentation_of_results_compose(overrides: list[str]) -> None:
    composed = compose(without(overrides, "seed=", "loss="))
    choices, protocol = composed.choices, composed.cfg.protocol
    assert choices["dataset"] == "folder"
    small = choices["protocol"] == "quick"
    assert (choices["trunk"], protocol.embedding_dim) == (("convnet", 64) if small else ("mobilenet_v2", 128))
    assert choices["protocol"] in ("quick", "standard", "reality_check", "staysafe")


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_the_demo_is_better_than_the_untrained_trunk(loss: str, tmp_path: Path) -> None:
    rows = swept_rows([], tmp_path, loss)
    assert rows[loss]["map_at_r"] > rows["untrained"]["map_at_r"]  # type: ignore[operator]


@pytest.fixture(scope="session")
def omniglot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the Omniglot images."""
    archive = ARCHIVES / "omniglot242.zip"
    if not archive.is_file():
        pytest.skip("needs omniglot242.zip in ../shared/data")
    directory = tmp_path_factory.mktemp("omniglot242")
    with zipfile.ZipFile(archive) as file:
        file.extractall(directory)
    return directory / "omniglot242"


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_omniglot_as_well_as_a_hand_written_loop(loss: str, omniglot: Path, tmp_path: Path) -> None:
    [sweep] = [one for one in documented_sweeps() if "dataset.name=omniglot" in one and "protocol=standard" in one]
    overrides = without(sweep, "dataset.root=", "seed=", "paths.")
    rows = swept_rows([*overrides, f"dataset.root={omniglot}"], tmp_path, loss)
    assert rows[loss]["map_at_r"] > rows["untrained"]["map_at_r"]  # type: ignore[operator]
    assert rows[loss]["map_at_r"] > HAND_WRITTEN[loss] - 0.02  # type: ignore[operator]


@pytest.mark.slow
def test_the_reality_check_on_omniglot_is_better_than_the_untrained_trunk_and_better_still_when_concatenated(
    omniglot: Path, tmp_path: Path
) -> None:
    [sweep] = [one for one in documented_sweeps() if "protocol=reality_check" in one]
    overrides = without(sweep, "dataset.root=", "seed=", "paths.", "loss=", "protocol.epochs=")
    rows = swept_rows([*overrides, f"dataset.root={omniglot}", "protocol.epochs=1"], tmp_path, "multi_similarity")
    row = rows["multi_similarity"]
    assert row["n_models"] == 4
    assert rows["untrained"]["map_at_r"] < row["separated_map_at_r"] < row["concatenated_map_at_r"]  # type: ignore[operator]
    assert row["selected_score"] > row["untrained_score"]  # type: ignore[operator]
