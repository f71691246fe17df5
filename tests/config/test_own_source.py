"""Which edits of the user's own code make a new run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.config.own_source import digest_of, own_file

MODULE = """\
import math
import numpy as np

SCALE = 2.0
OFFSET = {"a": 1}


def helper(x):
    return SCALE * inner(x)


def inner(x):
    return x + 1


class Base:
    power = 2


class Loss(Base):
    \"\"\"A loss.\"\"\"

    def forward(self, x):
        # a comment
        return helper(x) ** self.power + math.pi


class Trunk:
    def forward(self, x):
        return np.tanh(x) + OFFSET["a"]
"""
Digest = Callable[[str, str], str]


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """A function that digests a name of a module with the given text, as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)
    count = 0

    def of(text: str, name: str) -> str:
        nonlocal count
        count += 1
        module = f"own_source_{count}"
        (tmp_path / f"{module}.py").write_text(text)
        importlib.invalidate_caches()
        found = digest_of(getattr(importlib.import_module(module), name))
        del sys.modules[module]
        return found

    return of


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a comment", "# another comment"),
        ("A loss.", "Another text."),
        ('    """A loss."""\n\n', ""),
        ("return x + 1", "return (x  +  1)"),
        ("np.tanh(x)", "np.sinh(x)"),
        ('OFFSET = {"a": 1}', 'OFFSET = {"a": 2}'),
        ("import numpy as np", "import numpy as np\nimport json"),
        ("class Trunk:", "def more():\n    return inner(1)\n\n\nclass Trunk:"),
        ("import math\n", '"""A module."""\nimport math\n'),
        ('OFFSET["a"]\n', 'OFFSET["a"]\n\n\nif __name__ == "__main__":\n    print(1)\n'),
    ],
)
def test_a_loss_keeps_its_digest_if_something_else_is_edited(before: str, after: str, digest: Digest) -> None:
    assert before in MODULE
    assert digest(MODULE.replace(before, after), "Loss") == digest(MODULE, "Loss")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("math.pi", "math.e"),
        ("helper(x) **", "inner(x) **"),
        ("return SCALE *", "return SCALE +"),
        ("SCALE = 2.0", "SCALE = 2"),
        ("return x + 1", "return x + 2"),
        ("power = 2", "power = 3"),
        ("class Loss(Base):", "class Loss:"),
        ("import math", "import cmath as math"),
        ("class Trunk:", "Base.power = 4\n\n\nclass Trunk:"),
        ("class Trunk:", "setattr(Base, 'power', 4)\n\n\nclass Trunk:"),
        ("class Trunk:", "if SCALE > 1:\n    Base.power = 4\n\n\nclass Trunk:"),
        ("class Trunk:", "SCALE += 1\n\n\nclass Trunk:"),
        ("class Loss(Base):", "@repr\nclass _R: pass\n\n\nclass Loss(Base):\n    other = _R\n"),
    ],
)
def test_a_loss_has_another_digest_if_something_that_it_uses_is_edited(before: str, after: str, digest: Digest) -> None:
    assert before in MODULE
    assert digest(MODULE.replace(before, after), "Loss") != digest(MODULE, "Loss")


@pytest.mark.parametrize("dynamic", ["globals()['inner']", "__import__('sys').modules[__name__].inner", "eval('inner')"])
def test_the_whole_file_counts_for_code_that_looks_up_names_itself(dynamic: str, digest: Digest) -> None:
    module = MODULE.replace("SCALE * inner(x)", f"SCALE * {dynamic}(x)")
    assert digest(module.replace("np.tanh", "np.sinh"), "Loss") != digest(module, "Loss")
    assert digest(module.replace("# a comment", "# another"), "Loss") == digest(module, "Loss")


def test_the_whole_file_counts_for_a_definition_within_another_statement(digest: Digest) -> None:
    module = "try:\n    class Loss:\n        margin = 1\nexcept ImportError:\n    pass\n\n\nOTHER = 1\n"
    assert digest(module.replace("OTHER = 1", "OTHER = 2"), "Loss") != digest(module, "Loss")


def test_installed_code_has_no_file_of_the_user() -> None:
    from torch import nn

    for target in (nn.Linear, own_file, Path, len):
        assert own_file(target) is None
