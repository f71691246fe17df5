"""Real images, trained on for minutes: the demo, and the kit of Omniglot characters where it lies beside the project."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from dmlbench.launch import compose

from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT.parent / "shared" / "data"
LOSSES = ("contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
# MAP@R on the unseen characters after six epochs of a plain hand-written loop, one random shift a batch; the kit's README.
HAND = {
    "contrastive": 0.289,
    "triplet": 0.314,
    "proxy_nca": 0.294,
    "softtriple": 0.294,
    "multi_similarity": 0.321,
    "cosface": 0.298,
    "arcface": 0.285,
}


def sweeps_of_the_page() -> list[list[str]]:
    """The sweeps on the page of results, each as its words."""
    page = (ROOT / "docs" / "results.md").read_text()
    joined = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line)[2:] for line in joined.splitlines() if line.startswith("dmlbench sweep")]


def rows_of(words: list[str], place: Path, only: str) -> dict[str, Row]:
    """Sweep in a process of its own and read its rows by loss."""
    done = subprocess.run(
        [sys.executable, "-m", "dmlbench", "sweep", *words, f"loss={only}", "seed=0", f"paths.runs={place / 'runs'}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {str(row["loss"]): row for path in find_rows(place / "runs") if (row := read_row(path))}


@pytest.mark.parametrize("words", sweeps_of_the_page(), ids=lambda words: f"{words[1]}-{words[-1]}")
def test_the_sweeps_on_the_page_of_results_compose(words: list[str]) -> None:
    cfg, choices = compose([word for word in words if not word.startswith("seed=")])
    assert choices["dataset"] == "folder"
    small = choices["protocol"] == "quick"
    assert (choices["trunk"], cfg.protocol.embedding_dim) == (("convnet", 64) if small else ("mobilenet_v2", 128))
    assert choices["protocol"] in ("quick", "standard", "reality_check")


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_the_demo_ends_above_the_untrained_trunk(loss: str, tmp_path: Path) -> None:
    rows = rows_of([f"paths.data={tmp_path / 'data'}"], tmp_path, loss)
    assert rows[loss]["map_at_r"] > rows["untrained"]["map_at_r"]  # type: ignore[operator]


@pytest.fixture(scope="session")
def omniglot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = KIT / "omniglot242.zip"
    if not archive.is_file():
        pytest.skip("needs omniglot242.zip in ../shared/data")
    place = tmp_path_factory.mktemp("omniglot242")
    with zipfile.ZipFile(archive) as file:
        file.extractall(place)
    return place / "omniglot242"


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_omniglot_as_well_as_a_hand_written_loop(loss: str, omniglot: Path, tmp_path: Path) -> None:
    [words] = [words for words in sweeps_of_the_page() if "dataset.name=omniglot" in words and "protocol=standard" in words]
    words = [word for word in words if not word.startswith(("dataset.root=", "seed=", "paths."))]
    rows = rows_of([*words, f"dataset.root={omniglot}", f"paths.data={tmp_path / 'data'}"], tmp_path, loss)
    assert rows[loss]["map_at_r"] > rows["untrained"]["map_at_r"]  # type: ignore[operator]
    assert rows[loss]["map_at_r"] > HAND[loss] - 0.02  # type: ignore[operator]


@pytest.mark.slow
def test_the_reality_check_on_omniglot_ends_above_the_untrained_trunk_and_higher_still_when_joined(
    omniglot: Path, tmp_path: Path
) -> None:
    [words] = [words for words in sweeps_of_the_page() if "protocol=reality_check" in words]
    words = [word for word in words if not word.startswith(("dataset.root=", "seed=", "paths.", "loss=", "protocol.epochs="))]
    words += [f"dataset.root={omniglot}", f"paths.data={tmp_path / 'data'}", "protocol.epochs=1"]
    rows = rows_of(words, tmp_path, "multi_similarity")
    row = rows["multi_similarity"]
    assert row["n_models"] == 4
    assert rows["untrained"]["map_at_r"] < row["separated_map_at_r"] < row["concatenated_map_at_r"]  # type: ignore[operator]
    assert row["selected_score"] > row["untrained_score"]  # type: ignore[operator]
