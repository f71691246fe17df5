"""The packages that an installation contains."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_an_installation_has_every_package_of_the_source() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "dmlbench").rglob("__init__.py")}
    assert set(setuptools["packages"]) == found | set(setuptools["package-dir"])
    assert len(setuptools["packages"]) == len(set(setuptools["packages"]))
