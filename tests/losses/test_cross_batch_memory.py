"""The memory is a queue of the latest embeddings, and part of the state of the loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from dmlbench.losses.cross_batch_memory import CrossBatchMemoryLoss


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


def test_a_memory_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_size is 0; it must be at least 1"):
        CrossBatchMemoryLoss(3, memory_size=0)
