"""The docs cannot drift: generated pages are current, links lead somewhere, and every command on a page runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlbench.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "runs" / "README.md", *(ROOT / "docs").glob("*.md")])
# A real training on a page is shortened here; what it is about stays as it is printed.
SHORT = ["protocol.epochs=1", "protocol.batch_size=8", "paths.runs=runs"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


def test_the_generated_pages_are_current() -> None:
    script = ROOT / "scripts" / "write_docs.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_one_of_ours_or_a_target_of_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands(page):
        program, word, *_ = shlex.split(line)
        assert word in {"dmlbench": COMMANDS, "make": targets}[program], line


def run(line: str, place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", *shlex.split(line), *more]
    return subprocess.run(words, check=False, capture_output=True, text=True, cwd=place, env=dict(os.environ))


def shorten(line: str) -> list[str]:
    if not line.startswith(("dmlbench train", "dmlbench sweep", "dmlbench tune")):
        return []
    typed = {word.partition("=")[0] for word in line.split()}
    return [word for word in SHORT if word.partition("=")[0] not in typed]


def test_the_commands_of_the_readme_that_need_no_download_run_as_they_stand(tmp_path: Path) -> None:
    lines = [line for line in commands(ROOT / "README.md") if line.startswith("dmlbench") and "cub" not in line]
    assert len(lines) >= 4
    for line in lines:
        done = run(line, tmp_path, *shorten(line))
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", ["protocols.md", "sweeps.md"])
def test_the_commands_of_the_pages_about_protocols_and_sweeps_run_as_they_stand(page: str, tmp_path: Path) -> None:
    for line in commands(ROOT / "docs" / page):
        done = run(line, tmp_path, *shorten(line))
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_a_user_without_cub_is_told_how_to_get_it(tmp_path: Path) -> None:
    done = run("dmlbench data check cub", tmp_path)
    assert done.returncode == 2
    assert "dataset.root is 'data/cub', which does not exist; get it with `dmlbench data prepare cub`" in done.stderr


def test_everything_on_the_page_about_adding_ones_own_runs_as_it_stands(tmp_path: Path) -> None:
    page = ROOT / "docs" / "add-your-own.md"
    (tmp_path / "mine.py").write_text("\n\n".join(blocks(page, "python")))
    named = re.findall(r"`(my_conf/\w+/\w+\.yaml)`", page.read_text())
    for name, text in zip(named, blocks(page, "yaml"), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    generator = np.random.default_rng(0)
    for label in range(8):
        folder = tmp_path / "photos" / f"{label}"
        folder.mkdir(parents=True)
        for k in range(5):
            Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    assert commands(page)
    for line in commands(page):
        done = run(line, tmp_path, *shorten(line))
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    rows = {path.parts[-3] for path in tmp_path.glob("runs/*/*/*/row.json")}
    assert {"softmin", "contrastive", "proxy_nca", "untrained"} <= rows
