"""In which order a launcher receives the jobs of a sweep file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from dmlbench.config.jobs import all_jobs
from dmlbench.runs.remote_job import launch_with_hydra

SWEEP_FILE = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      loss: {losses}\n      seed: 0,1\n"


@pytest.mark.parametrize(
    ("losses", "started"),
    [
        ("raw_pixels,contrastive, untrained ,triplet", ["contrastive", "triplet", "raw_pixels", "untrained"]),
        ("triplet,contrastive", ["triplet", "contrastive"]),
        ("choice(contrastive,untrained,triplet)", ["contrastive", "untrained", "triplet"]),  # as Hydra expands it
    ],
)
def test_baselines_of_a_sweep_file_are_started_last(
    losses: str, started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(SWEEP_FILE.format(losses=losses))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    jobs = all_jobs(["sweep=mine", "dataset=synthetic"], str(tmp_path))
    found: list[str] = []
    launch_with_hydra(lambda cfg: found.append(HydraConfig.get().runtime.choices["loss"]), jobs)
    assert sorted(found) == sorted(job.composed.choices["loss"] for job in jobs.jobs)
    assert list(dict.fromkeys(found)) == started
