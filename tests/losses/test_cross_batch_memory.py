"""The memory is a queue of the latest embeddings, and part of the state of the loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from dmlbench.cli import run
from dmlbench.losses.cross_batch_memory import CrossBatchMemoryLoss
from dmlbench.results.row_files import find_rows, read_row


def batches(count: int, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (normalize(torch.randn(size, 3, generator=generator)), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


def test_the_memory_holds_the_latest_embeddings() -> None:
    loss = CrossBatchMemoryLoss(3, memory_size=10, start_step=0)
    made = batches(6)
    for embeddings, labels in made:
        loss(embeddings, labels)
    kept = torch.cat([embeddings for embeddings, _ in made])[-10:]
    assert sorted(loss.embeddings.tolist()) == sorted(kept.tolist())
    assert sorted(loss.labels.tolist()) == sorted(torch.cat([labels for _, labels in made])[-10:].tolist())


def test_a_batch_larger_than_the_memory_leaves_its_last_embeddings() -> None:
    loss = CrossBatchMemoryLoss(3, memory_size=3, start_step=0)
    for embeddings, labels in batches(3):
        loss(embeddings, labels)
    assert sorted(loss.embeddings.tolist()) == sorted(embeddings[-3:].tolist())


def test_the_memory_is_neither_filled_nor_used_before_its_first_step() -> None:
    late, never = CrossBatchMemoryLoss(3, 10, start_step=2), CrossBatchMemoryLoss(3, 10, start_step=100)
    values = [(late(*batch).item(), never(*batch).item()) for batch in batches(4)]
    assert [with_memory == without for with_memory, without in values] == [True, True, False, False]
    assert (never.labels == -1).all()
    assert int((late.labels >= 0).sum()) == 8


def test_a_loss_restored_from_its_state_continues_as_if_not_interrupted() -> None:
    made = batches(8)
    whole = CrossBatchMemoryLoss(3, 10, start_step=2)
    expected = [whole(*batch).item() for batch in made]
    first, second = CrossBatchMemoryLoss(3, 10, start_step=2), CrossBatchMemoryLoss(3, 10, start_step=2)
    before = [first(*batch).item() for batch in made[:5]]
    second.load_state_dict(first.state_dict())
    assert before + [second(*batch).item() for batch in made[5:]] == expected


def test_the_memory_has_no_gradient() -> None:
    loss = CrossBatchMemoryLoss(3, 10, start_step=0)
    for embeddings, labels in batches(3):
        loss(embeddings.requires_grad_(), labels).backward()
    assert not loss.embeddings.requires_grad


SMALL = [
    *("loss=cross_batch_memory", "dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=4"),
    *("dataset.make.image_px=16", "trunk=convnet", "trunk.make.channels=[4]", "protocol=quick", "protocol.epochs=2"),
    *("protocol.batch_size=8", "protocol.embedding_dim=4", "protocol.image_px=16", "protocol.resize_px=16"),
]


@pytest.mark.parametrize(
    ("overrides", "steps", "used"),
    [
        ([], 4, 0),
        (["loss.make.start_step=4"], 4, 0),
        (["loss.make.start_step=3"], 4, 1),
        (["protocol.steps_per_epoch=5", "loss.make.start_step=3"], 10, 7),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_run_that_is_too_short_for_the_memory_says_so_before_training_and_its_row_counts_the_steps_with_it(
    overrides: list[str], steps: int, used: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", *SMALL, *overrides, f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]) == 0
    [row] = [read_row(path) for path in find_rows(tmp_path / "runs")]
    assert row["n_memory_steps"] == used
    start = row["loss_make_start_step"]
    note = f"note      loss.make.start_step is {start:,}, but training has {steps} steps, so the loss never uses its memory"
    assert (note in capsys.readouterr().out) == (used == 0)


def test_rows_of_losses_without_a_memory_have_no_column_about_it(tmp_path: Path) -> None:
    assert run(["train", *SMALL, "loss=contrastive", f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]) == 0
    [row] = [read_row(path) for path in find_rows(tmp_path / "runs")]
    assert "n_memory_steps" not in row.columns
