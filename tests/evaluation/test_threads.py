"""Independent parts of a computation in several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from dmlbench.evaluation import rank
from dmlbench.evaluation.threads import map_in_threads


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_results_come_in_the_order_of_the_items():
    assert list(map_in_threads(lambda number: number**2, range(20), 3)) == [number**2 for number in range(20)]


@pytest.mark.usefixtures("four_threads")
def test_two_items_are_computed_at_the_same_time_with_half_of_the_threads_each():
    both = threading.Barrier(2, timeout=20)

    def threads_when_both_run(_: int) -> int:
        both.wait()
        return torch.get_num_threads()

    assert list(map_in_threads(threads_when_both_run, range(4), 2)) == [2, 2, 2, 2]
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_no_more_threads_are_started_than_pytorch_may_use():
    names = set(map_in_threads(lambda _: threading.current_thread().name, range(50), 100))
    assert 1 <= len(names) <= 4


@pytest.mark.usefixtures("four_threads")
def test_an_error_in_a_thread_is_raised_and_the_number_of_threads_restored():
    def refuse(number: int) -> int:
        raise ValueError(f"item {number}")

    with pytest.raises(ValueError, match="item 0"):
        list(map_in_threads(refuse, range(8), 2))
    assert torch.get_num_threads() == 4


def test_a_single_thread_of_pytorch_computes_in_the_calling_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    names = list(map_in_threads(lambda _: threading.current_thread().name, range(3), 8))
    torch.set_num_threads(before)
    assert names == [threading.current_thread().name] * 3


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_the_ranking_is_the_same_with_any_number_of_threads(n_threads: int):
    x = torch.nn.functional.normalize(torch.randn(700, 16, generator=torch.Generator().manual_seed(0)).round(decimals=1), dim=1)
    x[50:60] = x[0]
    labels, ids, before = torch.arange(700) % 90, torch.arange(700), torch.get_num_threads()
    torch.set_num_threads(1)
    expected = rank(x, x, labels, labels, ids, ids, depth=12)
    torch.set_num_threads(n_threads)
    found = rank(x, x, labels, labels, ids, ids, depth=12, chunk_size=41)
    torch.set_num_threads(before)
    for name in ("group_start", "group_size", "group_relevant", "best_above", "best_tied", "best_tied_relevant"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
