"""Which edits of the user's own code make a new run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.config.own_source import digest_of

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
        found = digest_of(f"{module}.{name}", getattr(importlib.import_module(module), name))
        assert found is not None
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


BEFORE = """\
import dataclasses
import functools
from abc import ABC

SETTINGS = {"w": 1}


class Base:
    def __init__(self, margin=0, w=1):
        self.margin = margin * SETTINGS["w"]


"""
# What a module may do on import to decide a value that a loss uses: a title, and code in which VALUE is edited.
ON_IMPORT = """\
## partial
Loss = functools.partial(Base, margin=VALUE)
## a factory
def make(m):
    class Inner(Base):
        margin = m
    return Inner


Loss = make(VALUE)
## a factory of functions
def make(m):
    def inner():
        return m
    return inner


Loss = make(VALUE)
## a class made by type
Loss = type('Loss', (Base,), {'margin': VALUE})
## a bound method
class F:
    def __init__(self, m):
        self.m = m
    def go(self):
        return Base(self.m)


Loss = F(VALUE).go
## an object
class F:
    def __init__(self, m):
        self.m = m
    def __call__(self):
        return Base(self.m)


Loss = F(VALUE)
## a cached lambda
Loss = functools.lru_cache(lambda: Base(VALUE))
## a static method by another name
class F:
    @staticmethod
    def go():
        return Base(V)


V = VALUE
Loss = F.go
## an assignment expression
A = (B := VALUE)


class Loss(Base):
    margin = B
## a call
_ = SETTINGS.update(w=VALUE)


class Loss(Base):
    pass
## a global statement
def _init():
    global W
    W = VALUE


_ = _init()


class Loss(Base):
    def margin(self):
        return W
## a decorator
def register(f):
    SETTINGS['w'] = f()
    return f


@register
def m():
    return VALUE


class Loss(Base):
    pass
## a decorator with the name of another
def dataclass(c):
    SETTINGS['w'] = c.w
    return c


@dataclass
class Z:
    w = VALUE


class Loss(Base):
    pass
## a decorator of a method
def register(f):
    SETTINGS['w'] = f(0)
    return f


class Z:
    @register
    def m(self):
        return VALUE


class Loss(Base):
    pass
## an argument of a class
class Hook:
    def __init_subclass__(cls, m=None):
        Base.MM = m


class Z(Hook, m=VALUE):
    pass


class Loss(Base):
    pass
## a hook of subclasses
class Hook:
    def __init_subclass__(cls):
        Base.MM = cls.m


class Z(Hook):
    m = VALUE


class Loss(Base):
    pass
## a hook of attributes
class Hook:
    def __set_name__(self, owner, name):
        Base.MM = owner.m


hook = Hook


class Z:
    m = VALUE
    hook = hook


class Loss(Base):
    pass
## a metaclass
class Meta(type):
    def __init__(cls, *a):
        Base.MM = cls.m


class Z(metaclass=Meta):
    m = VALUE


class Loss(Base):
    pass
## a metaclass of a base
class Meta(type):
    def __init__(cls, *a):
        Base.MM = cls.__dict__.get('m')


class Y(metaclass=Meta):
    pass


class Z(Y):
    m = VALUE


class Loss(Base):
    pass
## the body of a class
class Z:
    _ = SETTINGS.update(w=VALUE)


class Loss(Base):
    pass
## a default
def z(_=SETTINGS.update(w=VALUE)):
    pass


class Loss(Base):
    pass
## an annotation
Z: SETTINGS.update(w=VALUE) = 1


class Loss(Base):
    pass
## a comprehension
Z = [SETTINGS.update(w=VALUE) for _ in '1']


class Loss(Base):
    pass
## an item
SETTINGS['w'] = VALUE


class Loss(Base):
    pass
## another name of a dictionary
ALIAS = SETTINGS
ALIAS |= {'w': VALUE}


class Loss(Base):
    pass
## a loop
for SETTINGS['w'] in [VALUE]:
    pass


class Loss(Base):
    pass
## a class that is replaced
def change(cls):
    cls.margin = VALUE
    return cls


class Loss(Base):
    pass


Other = Loss
Loss = change(Loss)
## subclasses
class Z(Base):
    m = VALUE


class Loss(Base):
    def margin(self):
        return [c.m for c in Base.__subclasses__()]
## an import of itself
W = VALUE


class Loss(Base):
    def margin(self):
        import {module} as me
        return me.W
"""
IN_MODULES = {title: code for title, _, code in (part.partition("\n") for part in ON_IMPORT.split("## ")[1:])}


@pytest.mark.parametrize("pattern", IN_MODULES)
def test_an_edited_value_changes_the_digest_however_the_module_hands_it_on(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = set()
    for value in ("1", "2"):
        module = f"pattern_{list(IN_MODULES).index(pattern)}_{value}"
        own_name = module if pattern == "an import of itself" else ""
        text = (BEFORE + IN_MODULES[pattern]).replace("VALUE", value)
        (tmp_path / f"{module}.py").write_text(text.replace("{module}", own_name))
        importlib.invalidate_caches()
        digests.add(digest_of(f"{module}.Loss", importlib.import_module(module).Loss))
        del sys.modules[module]
    assert len(digests) == 2
    assert None not in digests


@pytest.mark.parametrize(
    "plain",
    [
        "def other():\n    return 1\n\n\n",
        "OTHER = -1.5 * SCALE + math.pi\n\n\n",
        "OTHER: tuple[int, ...] = (1, 2)\n\n\n",
        "class Other(Base):\n    margin: float = 0.5\n\n    @staticmethod\n    def f(x, y=SCALE):\n        print(x)\n\n\n",
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Other:\n    margin: float = 0.5\n\n\n",
        "import functools\n\n\n@functools.lru_cache(maxsize=None)\ndef other(x):\n    return x\n\n\n",
        "class Other:\n    @property\n    def f(self):\n        return 1\n\n    @f.setter\n    def f(self, x):\n        ...\n",
    ],
)
def test_a_module_with_only_definitions_and_constants_is_digested_by_definition(plain: str, digest: Digest) -> None:
    changed = MODULE.replace("class Trunk:", f"{plain}class Trunk:")
    assert digest(changed, "Loss") == digest(MODULE, "Loss")


def test_a_re_exported_loss_is_digested_in_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)

    def of(number: int, losses: str, exports: str) -> str | None:
        (tmp_path / f"losses_{number}.py").write_text(losses)
        (tmp_path / f"exports_{number}.py").write_text(f"from losses_{number} import Loss\n{exports}")
        importlib.invalidate_caches()
        return digest_of(f"exports_{number}.Loss", importlib.import_module(f"exports_{number}").Loss)

    text = "class Loss:\n    margin = 1\n\n\ndef other():\n    return 1\n"
    first = of(0, text, "")
    edits = [of(1, text.replace("margin = 1", "margin = 2"), ""), of(2, text, "Loss.margin = 2\n")]
    assert len({first, *edits}) == 3


def test_a_method_of_a_class_is_digested_with_its_class(digest: Digest, tmp_path: Path) -> None:
    text = "class Loss:\n    margin = 1\n\n    @classmethod\n    def make(cls):\n        return cls()\n\n\nOTHER = 1\n"
    (tmp_path / "methods.py").write_text(text)
    first = digest_of("methods.Loss.make", importlib.import_module("methods").Loss.make)
    del sys.modules["methods"]
    (tmp_path / "methods.py").write_text(text.replace("OTHER = 1", "OTHER = 22"))
    importlib.invalidate_caches()
    assert digest_of("methods.Loss.make", importlib.import_module("methods").Loss.make) == first
    del sys.modules["methods"]
    (tmp_path / "methods.py").write_text(text.replace("margin = 1", "margin = 333"))
    importlib.invalidate_caches()
    assert digest_of("methods.Loss.make", importlib.import_module("methods").Loss.make) != first


def test_the_whole_file_counts_for_a_definition_within_another_statement(digest: Digest) -> None:
    module = "try:\n    class Loss:\n        margin = 1\nexcept ImportError:\n    pass\n\n\nOTHER = 1\n"
    assert digest(module.replace("OTHER = 1", "OTHER = 2"), "Loss") != digest(module, "Loss")


def test_installed_code_has_no_digest() -> None:
    from torch import nn

    own = "dmlbench.config.own_source.digest_of"
    targets = {"torch.nn.Linear": nn.Linear, own: digest_of, "pathlib.Path": Path, "builtins.len": len}
    for name, target in targets.items():
        assert digest_of(name, target) is None
