"""Settings that hold for all tests."""

from __future__ import annotations

import builtins
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Servers of the tests run on this machine: requests to them must not go through a proxy.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))

# Tests create millions of objects beside those of torch, which Python would search for unreachable ones all the time.
gc.set_threshold(100_000, 10, 10)


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for `paths.data`, in which generated data sets stay for further tests."""
    return tmp_path_factory.mktemp("generated")


@pytest.fixture
def without_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that lets imports of a package fail for the rest of a test, as if it were not installed."""

    def remove(missing: str) -> None:
        genuine = builtins.__import__

        def without(name: str, *arguments: Any, **options: Any) -> Any:
            if name.partition(".")[0] == missing:
                raise ModuleNotFoundError(f"No module named '{missing}'")
            return genuine(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", without)

    return remove
