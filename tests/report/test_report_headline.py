"""What a report says about its tables in sentences is true."""

from __future__ import annotations

import json

import pytest
from report_pages import N_CLASSES, Node, report, write_run, write_study


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Table 1: a baseline is best. Table 2: a seed of a method failed. Table 3: an own loss, and classes without a query."""
    directory = tmp_path_factory.mktemp("headline")
    runs = directory / "runs"
    write_study(runs, ("contrastive", "triplet", "untrained"), dataset="aircraft", dataset_label="A")
    write_study(runs, ("contrastive", "triplet"), dataset="birds", dataset_label="B")
    for seed in range(3):
        write_run(runs, "arcface", seed, 0.9, dataset="birds", dataset_label="B", status="failed" if seed else "ok")
    own = {"dataset": "cub", "dataset_label": "C", "lr_from": "method", "n_test_classes": N_CLASSES + 3}
    files = json.dumps({"loss/triplet": "0" * 64, "loss/mine": "1" * 64, "../../etc/passwd": "2" * 64})
    for loss in ("triplet", "mine"):
        write_run(runs, loss, 0, **own, config_files=files if loss == "mine" else "{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return report("runs", "--no-images")


def summary(page: Node, number: int) -> str:
    return page.one("section", id=f"table-{number}").one("p", class_="summary").text


def test_the_best_method_is_the_best_trained_one_and_a_better_baseline_is_named(page: Node) -> None:
    found = summary(page, 1)
    assert found.startswith("Highest MAP@R of a trained method: Triplet with ")
    assert "No trained method exceeds Untrained trunk (" in found


def test_only_tested_methods_are_called_significantly_worse(page: Node) -> None:
    found = summary(page, 2)
    assert "Every other tested method is significantly worse." in found
    assert found.endswith("Not tested: ArcFace (missing results).")


def test_the_command_of_an_own_loss_says_which_file_it_needs(page: Node) -> None:
    section = page.one("section", id="table-3")
    [block] = [pre for pre in section.all("pre") if "data-source" not in pre.attributes]
    assert block.raw.splitlines() == ["dmlbench sweep loss=triplet,mine seed=0 --config-dir DIR"]
    assert "Replace DIR by the directory that contains loss/mine.yaml; dmlbench does not ship" in section.text


def test_classes_without_a_query_are_counted(page: Node) -> None:
    wins = page.one("section", id="table-3").one("figure", class_="wins").text
    assert f"in how many of {N_CLASSES} test classes" in wins
    assert f"3 of the {N_CLASSES + 3} test classes have no query." in wins


def test_differences_between_tables_have_the_names_of_columns_in_print(page: Node) -> None:
    items = [item.text for item in page.one("section", class_="differences").all("li")]
    assert any(item.startswith("source of the learning rates: ") for item in items)
    assert not any(item.startswith("lr_from") for item in items)


def test_print_says_what_only_the_file_has(page: Node) -> None:
    assert "also has the scores of every seed" in page.all("p", class_="in-print")[0].text
