"""How others take part: workflows, templates and docs/submit.md."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads `on` as a boolean
    return dict(found)


def steps(name: str) -> list[dict[str, Any]]:
    (job,) = workflow(name)["jobs"].values()
    return list(job["steps"])


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_has_no_write_token_no_secrets_and_pinned_actions(file: Path) -> None:
    found = workflow(file.name)
    assert found["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in found["jobs"].values())
    assert not {"pull_request_target", "workflow_run"} & set(found["on"])
    text = file.read_text()
    assert "secrets." not in text
    for used in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", used)
    checkouts = [step for step in steps(file.name) if str(step.get("uses")).startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_text_of_a_pull_request_is_part_of_a_shell_command(file: Path) -> None:
    assert not [step["run"] for step in steps(file.name) if "${{" in step.get("run", "")]


def test_entries_are_read_by_the_code_of_the_main_branch_and_nothing_of_theirs_is_installed() -> None:
    trusted, submitted = (step["with"] for step in steps("entries.yml") if "path" in step.get("with", {}))
    assert trusted["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert "repository" not in trusted
    assert submitted["ref"] == "${{ github.sha }}"  # with what was added to the main branch meanwhile
    assert submitted["sparse-checkout"] == "results"
    assert submitted["path"] != trusted["path"]
    commands = [step for step in steps("entries.yml") if "run" in step]
    mentioned = [line for step in commands for line in step["run"].splitlines() if submitted["path"] in line]
    assert mentioned == [f"python -P -m dmlbench publish --check ../{submitted['path']}/results --base results"]
    assert commands[-1]["working-directory"] == trusted["path"]


def test_the_project_is_tested_as_on_this_machine() -> None:
    assert [step["run"] for step in steps("tests.yml") if "run" in step] == ["make check", "make test"]


def test_the_templates_are_yaml_and_ask_for_the_run_id() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/result.yml").read_text())
    assert {"name", "description", "body"} <= form.keys()
    assert [field["id"] for field in form["body"]] == ["kind", "run", "evidence"]


def test_four_commands_lead_from_a_sweep_to_a_pull_request() -> None:
    first, check = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/submit.md").read_text(), re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in first.splitlines()]
    assert [line[:2] for line in lines] == [["dmlbench", "sweep"], ["dmlbench", "publish"], ["git", "switch"], ["git", "push"]]
    for line in [*lines[:2], shlex.split(check)]:
        import_module(f"dmlbench.cli.{line[1]}").make_parser().parse(line[2:])
