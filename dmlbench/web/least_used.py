"""A bounded store of values that are expensive to make, such as models; the least recently used value leaves first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LeastUsed(Generic[K, V]):
    """A bounded store, for several threads. A value that several threads ask for at once is made once.

    Args:
        capacity: Largest sum of the sizes of the values. The newest value is always kept.
        size: Size of a value; each counts as 1 by default.
    """

    def __init__(self, capacity: float, size: Callable[[V], float] = lambda _: 1) -> None:
        self.capacity = capacity
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._total = 0.0
        self._lock = threading.Lock()
        self._making: dict[K, threading.Lock] = {}

    def __len__(self) -> int:
        return len(self._values)

    def find(self, key: K) -> V | None:
        """Return a stored value, or None.

        Args:
            key: Key of the value.
        """
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: K, value: V) -> None:
        """Store a value.

        Args:
            key: Key of the value.
            value: The value; not None.
        """
        with self._lock:
            if key in self._values:
                self._total -= self._size(self._values.pop(key))
            self._values[key] = value
            self._total += self._size(value)
            while self._total > self.capacity and len(self._values) > 1:
                self._total -= self._size(self._values.popitem(last=False)[1])

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return a stored value, or make and store it.

        Args:
            key: Key of the value.
            make: Makes the value. If it raises an error, nothing is stored.
        """
        found = self.find(key)
        if found is not None:
            return found
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                found = self.find(key)
                if found is None:
                    found = make()
                    self.put(key, found)
                return found
        finally:
            with self._lock:
                self._making.pop(key, None)
