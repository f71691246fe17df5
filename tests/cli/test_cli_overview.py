"""The overview, the help of each command, and errors that all commands have in common."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from importlib import import_module

import pytest
from cli_helpers import refused

from dmlbench import __version__
from dmlbench.cli import COMMANDS, run
from dmlbench.cli.arguments import Parser


def parser_of(command: str) -> Parser:
    parser = import_module(f"dmlbench.cli.{command}").make_parser()
    assert isinstance(parser, Parser)
    return parser


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"], ["-h"]], ids=" ".join)
def test_the_overview_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_is_printed_wherever_the_option_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for argv in ([command, "--help"], ["help", command], [command, "x=1", "--nonsense", "-h"]):
        assert run(argv) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0].startswith(f"usage: dmlbench {command} ")
    assert outputs == [outputs[0]] * 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_a_help_is_accepted_by_the_command(command: str) -> None:
    parser = parser_of(command)
    examples = [shlex.split(line, comments=True) for line in parser.examples.strip().splitlines()]
    own = [argv for name, *argv in examples if name == command]  # the help of `tune` also shows a sweep
    assert own
    assert all(isinstance(parser.parse(argv), argparse.Namespace) for argv in own)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_a_help_is_wider_than_110_characters(command: str) -> None:
    assert max(map(len, parser_of(command).format_help().splitlines())) <= 110


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"dmlbench {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["trian"], "dmlbench has no command 'trian'; did you mean 'train'?"),
        (["help", "tabel"], "dmlbench has no command 'tabel'; did you mean 'table'?"),
        (["--verison"], "dmlbench has no option '--verison'; did you mean '--version'?"),
        (["table", "--fromat", "latex"], "dmlbench table does not know '--fromat'; did you mean '--format'?"),
        (["train", "--multirn"], "dmlbench train does not know '--multirn'; did you mean '--multirun'?"),
        (["train", "--epochs", "2"], "does not know '--epochs'; set a value of the configuration without dashes, as KEY=VALUE"),
        (["table", "format=latex"], "dmlbench table does not know 'format=latex'; did you mean '--format latex'?"),
        (["table", "metric=map_at_r"], "does not know 'metric=map_at_r'; did you mean '--metrics map_at_r'?"),
        (["table", "--oracle=yes"], "--oracle takes no value"),
        (["table", "--format", "md"], "--format md is not known; known: csv, html, latex, markdown"),
        (["train", "--config-dir", "nowhere"], "--config-dir nowhere is not a directory"),
        (["train", "--cfg", "all"], "--cfg all is not known; known: job"),
    ],
)
def test_an_unknown_command_option_or_choice_is_refused_with_what_would_work(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["table", "--format"], "--format needs a value: markdown or latex or csv or html"),
        (["table", "--metrics"], "--metrics needs a value, such as --metrics recall_at_1,map_at_r"),
        (["table", "--vary"], "--vary needs a value, such as --vary trunk"),
        (["table", "--runs"], "--runs needs a value: --runs DIR"),
        (["evaluate", "--ks"], "--ks needs a value, such as --ks 1,5,20"),
        (["evaluate", "--name"], '--name needs a value, such as --name "Their method"'),
        (["train", "--config-dir"], "--config-dir needs a value, such as --config-dir my_conf"),
        (["train", "--cfg"], "--cfg needs a value: job"),
    ],
    ids=lambda option: " ".join(option) if isinstance(option, list) else "",
)
def test_an_option_without_a_value_or_with_an_empty_one_is_refused_with_an_example(
    option: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, name = option
    for argv in ([command, name], [command, f"{name}="], [command, name, ""]):
        assert refused(capsys, *argv) == sentence


def test_an_interrupted_command_exits_with_status_130_and_says_whether_it_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for command, sentence in (("train", "interrupted; run the same command again to resume"), ("list", "interrupted")):
        monkeypatch.setattr(f"dmlbench.cli.{command}.main", interrupt)
        assert run([command]) == 130
        assert capsys.readouterr().err == f"dmlbench: {sentence}\n"


def test_python_m_dmlbench_runs_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "dmlbench", "trian"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "dmlbench: dmlbench has no command 'trian'; did you mean 'train'?\n"
    assert done.stdout == ""


def test_output_that_nobody_reads_is_not_an_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m dmlbench list losses | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_can_follow_each_other_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert [run(["list", "losses"]), run(["list", "samplers"])] == [0, 0]
    assert "m_per_class" in capsys.readouterr().out
