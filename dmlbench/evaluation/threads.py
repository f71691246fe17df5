"""Independent parts of a computation in several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], n_threads: int) -> Iterator[Result]:
    """Call a function for each item, in several threads that divide the threads of PyTorch between them.

    Args:
        function: Function of an item; it may be called in several threads at a time.
        items: Items.
        n_threads: Largest number of threads.

    Yields:
        The results, in the order of the items.
    """
    total = torch.get_num_threads()
    n_threads = min(n_threads, total, len(items))
    if n_threads <= 1:
        yield from map(function, items)
        return
    torch.set_num_threads(total // n_threads)  # new threads start with this number
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(total)
