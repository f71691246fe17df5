"""`dmlbench list`: the configuration files of a group, shipped and of the user."""

from __future__ import annotations

import pytest
from cli_helpers import refused, write_config

from dmlbench.cli import run
from dmlbench.config.files import GROUPS, entries


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_of_a_group_is_listed_with_the_opening_of_its_comment(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", group]) == 0
    output = capsys.readouterr().out
    for name, opening in entries(GROUPS[group]):
        assert opening, f"{group}/{name} has no comment at its start"
        assert f"{name} " in output


def test_a_group_may_be_named_by_its_directory(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for name in ("losses", "loss"):
        assert run(["list", name]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_files_of_the_user_are_listed_beside_the_shipped_ones(capsys: pytest.CaptureFixture[str]) -> None:
    write_config("mine/loss/pull.yaml", "# Pull. Nobody, 2026.\nlabel: Pull\n")
    assert run(["list", "losses", "--config-dir", "mine"]) == 0
    output = capsys.readouterr().out
    assert "Pull. Nobody, 2026." in output
    assert "SoftTriple. Qian et al." in output


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["loses"], "dmlbench list does not know 'loses'; did you mean 'losses'?"),
        ([], "dmlbench list needs one group, not 0: losses, datasets, trunks, "),
        (["losses", "datasets"], "dmlbench list needs one group, not 2: losses, datasets, trunks, "),
        (["losses", "--config-dir", "nowhere"], "--config-dir nowhere is not a directory"),
    ],
    ids=lambda argv: " ".join(argv) if isinstance(argv, list) else "",
)
def test_an_unknown_group_is_refused_with_the_known_ones(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "list", *argv).startswith(sentence)
