"""Published results: they equal what their sources print, are found for the right tables, and bad files are refused."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml

import dmlbench.results.published_result
from dmlbench.config.files import conf_dir, entries
from dmlbench.errors import UserError
from dmlbench.results.literature import find_published, read_published
from dmlbench.results.metric_specs import parse_metric

SHARED = Path(__file__).resolve().parents[3] / "shared"
SLIDES = "seeds/2-best-practice-dml-slides.md"
# File to the document from which it was transcribed, and the number of rows of each table, counted by hand.
TRANSCRIBED = {
    "best_practice_slides": (SLIDES, [25, 11]),
    "clustering_unknown_classes": ("seeds/4-clustering-and-querying-unknown-classes.md", [3, 6]),
    "deep_metrics_for_visual_retrieval": ("seeds/1-deep-metrics-for-visual-retrieval.md", [7, 7]),
    "group_loss_plus_plus": (SLIDES, [4]),
    "hyperbolic_vision_transformers": (SLIDES, [10]),
    "proxy_nca_plus_plus": (SLIDES, [20, 12]),
    "reality_check": (SLIDES, [15]),
    "reality_check_validation": ("reference/protocols-and-hyperparameters.md", [13, 14]),
    "recall_at_k_surrogate": (SLIDES, [6]),
    "revisiting_training_strategies": (SLIDES, [3]),
    "roadmap": (SLIDES, [2]),
    "semantic_granularity": ("seeds/3-semantic-granularity-metric-learning.md", [12, 3, 2, 4, 10, 3, 2, 4]),
}
# Label to the word by which the document names the method, if it differs.
NAMES_IN_DOCUMENT = {"Untrained trunk": "R@1", "A3M": "A^{3}M", "IRT_R": "IRT"}
TRUNKS = {"googlenet": "G", "bn_inception": "BNI", "resnet50": "R50", "VGG": "V"}
OTHER_TRUNKS = {"VGG", "ViT-B/32", "ViT-B/16"}  # trunks without a configuration file


def transcription(name: str) -> dict:
    """Load a file of published results, with every scalar as its text."""
    return yaml.load((conf_dir() / "published" / f"{name}.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)


def document(name: str) -> list[str]:
    file = SHARED / TRANSCRIBED[name][0]
    if not file.is_file():
        pytest.skip(f"needs {TRANSCRIBED[name][0]} in ../shared")
    return file.read_text(encoding="utf-8").splitlines()


def numbers(text: str) -> list[str]:
    """Return the numbers of a line; references in brackets and numbers within names are not counted."""
    return [word for word in re.split(r"[\s|]+", text) if re.fullmatch(r"\d*\.?\d+", word)]


def is_on_one_line(row: list[str], label: str, lines: list[str]) -> bool:
    """Return whether a line contains a word of the label, and the numbers of the row in their order."""
    words = [NAMES_IN_DOCUMENT[label]] if label in NAMES_IN_DOCUMENT else re.findall(r"\w+", label)
    for line in lines:
        rest = iter(numbers(line))
        named = any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line, re.IGNORECASE) for word in words)
        if named and all(number in rest for number in row):
            return True
    return False


# --- the transcribed files


def test_every_file_is_known_with_the_number_of_its_rows() -> None:
    found = {file.stem for file in (conf_dir() / "published").glob("*.yaml")}
    assert found == set(TRANSCRIBED)
    for name, (_, counts) in TRANSCRIBED.items():
        assert [len(table["rows"]) for table in transcription(name)["tables"]] == counts, name


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_every_number_is_in_its_document_on_the_line_of_its_method(name: str) -> None:
    lines = document(name)
    for table in transcription(name)["tables"]:
        for row in table["rows"]:
            for dataset in set(table["columns"]) & set(row):
                row_numbers = numbers(" ".join(row[dataset]))
                assert row_numbers, row
                assert is_on_one_line(row_numbers, row["label"], lines), f"{row['label']}, {dataset}: {row_numbers}"


def test_the_comparison_with_the_document_detects_a_wrong_digit() -> None:
    lines = ["SoftTriple Loss ⁵¹² (Qian et al., 2019) ICCV19\tBNI\t65.4\t76.4\t84.5"]
    assert is_on_one_line(["65.4", "84.5"], "SoftTriple Loss", lines)
    assert not is_on_one_line(["65.4", "85.4"], "SoftTriple Loss", lines)
    assert not is_on_one_line(["84.5", "65.4"], "SoftTriple Loss", lines)
    assert not is_on_one_line(["65.4"], "Margin", lines)


@pytest.mark.parametrize("seed", sorted({file for file, _ in TRANSCRIBED.values() if file.startswith("seeds")}))
def test_no_line_of_the_tables_in_a_document_is_missing(seed: str) -> None:
    names = [name for name, (file, _) in TRANSCRIBED.items() if file == seed]
    tables = [
        {
            number
            for row in table["rows"]
            for cells in row.values()
            if isinstance(cells, list)
            for number in numbers(" ".join(cells))
        }
        for name in names
        for table in transcription(name)["tables"]
    ]
    missing = []
    for line in document(names[0]):
        cells = [cell.strip() for cell in line.split("\t")]
        found = {number for cell in cells[1:] if re.fullmatch(r"\d*\.\d+( ± \d*\.\d+)?", cell) for number in numbers(cell)}
        if not any(found <= table for table in tables):
            missing.append(cells)
    # The slides repeat Intra-Batch, with its two lines merged into one.
    assert [cells[0] for cells in missing] == (["IntraBatch (R50)"] if seed == SLIDES else [])


def test_trunk_and_embedding_size_in_the_slides_are_those_beside_each_method() -> None:
    lines = document("best_practice_slides")
    superscripts = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    for table in transcription("best_practice_slides")["tables"]:
        for row in table["rows"]:
            cells = next(row[dataset] for dataset in table["columns"])
            size, trunk = row["embedding_dim"].translate(superscripts), TRUNKS[row["trunk"]]
            known = [line for line in lines if row["label"] in line and size in line and f"\t{trunk}\t" in line]
            assert is_on_one_line(numbers(" ".join(cells)), row["label"], known), row["label"]


def test_every_trunk_has_a_configuration_file_or_is_listed_as_one_without() -> None:
    shipped = {name for name, _ in entries("trunk")}
    trunks = {result.trunk for table in read_published() for result in table.lines} - {None}
    assert trunks - shipped == OTHER_TRUNKS


def test_every_data_set_is_shipped() -> None:
    assert {result.dataset for table in read_published() for result in table.lines} <= {name for name, _ in entries("dataset")}


def test_percent_and_fractions_are_both_read_as_fractions() -> None:
    (percent,) = [result for result in find_published("cub", ["nmi"], ["bn_inception"]) if result.label == "SoftTriple Loss"]
    assert percent.values["recall_at_1"] == pytest.approx(0.654)
    (fraction,) = [
        result for result in find_published("cub", ["nmi"], ["inception_v3"]) if result.label == "Hinge Loss, 1 Cluster"
    ]
    assert fraction.values["nmi"] == pytest.approx(0.35)


def test_clustering_metrics_of_another_number_of_clusters_are_left_out() -> None:
    def labels(clusters: int) -> set[str]:
        return {one.label for one in find_published("cub", ["nmi"], ["inception_v3"], clusters_per_class=clusters)}

    assert {"Hinge Loss, 1 Cluster", "Soft Loss, 1 Cluster", "Square Hinge Loss, 1 Cluster"} == labels(1)
    assert len(labels(3)) == 6
    assert all("3 Clusters" in label for label in labels(3))
    with_recall = find_published("cub", ["recall_at_1", "nmi"], ["bn_inception"], clusters_per_class=3)
    assert with_recall
    assert not any("nmi" in one.values for one in with_recall)


def test_recall_in_the_sense_of_information_retrieval_is_not_read_as_recall_at_k() -> None:
    (result,) = [
        result for result in find_published("cub", ["retrieved_at_5"], split="half_per_class") if result.label == "Softtriple"
    ]
    assert result.values["retrieved_at_5"] == pytest.approx(0.0711)
    assert "recall_at_5" not in result.values
    # Consistent with its definition: five times the precision over the images of a class, half of CUB's 11,788 / 200.
    assert 5 * result.values["precision_at_5"] / (11788 / 200 / 2) == pytest.approx(result.values["retrieved_at_5"], abs=0.002)


def test_precision_at_1_and_recall_at_1_are_the_same_value() -> None:
    (arcface,) = [result for result in find_published("cub", ["map_at_r"]) if result.label == "ArcFace"]
    assert arcface.values["recall_at_1"] == arcface.values["precision_at_1"] == pytest.approx(0.6017)
    assert arcface.values["concatenated_recall_at_1"] == pytest.approx(0.6750)


# --- results for a table


def test_validation_numbers_are_never_found() -> None:
    assert any(table.source.kind == "validation" for table in read_published())
    for dataset in ("cub", "cars", "sop"):
        found = find_published(dataset, ["map_at_r"], ablations=True)
        assert all(result.source.kind != "validation" for result in found)


def test_only_results_of_the_same_data_set_split_and_trunk_are_found() -> None:
    found = find_published("cars", ["recall_at_1"], ["resnet50"])
    assert {(result.dataset, result.source.split, result.trunk) for result in found} == {("cars", "zero_shot", "resnet50")}
    assert {result.trunk for result in find_published("cars", ["recall_at_1"])} > {"resnet50", "bn_inception"}
    assert {result.source.split for result in find_published("cub", ["precision_at_5"], split="half_per_class")} == {
        "half_per_class"
    }
    assert find_published("digits", ["recall_at_1"]) == []


def test_a_result_without_any_printed_metric_is_not_found() -> None:
    assert {result.source.cite for result in find_published("cub", ["map_at_r"])} == {transcription("reality_check")["cite"]}
    assert find_published("cub", ["mean_reciprocal_rank"]) == []


def test_ablations_are_found_on_request_after_comparisons() -> None:
    kinds = [result.source.kind for result in find_published("cub", ["recall_at_1"], ablations=True)]
    assert kinds == sorted(kinds, reverse=True)  # "comparison" before "ablation"
    assert "ablation" in kinds
    assert "ablation" not in {result.source.kind for result in find_published("cub", ["recall_at_1"])}


def test_a_result_names_trunk_embedding_and_crop_if_its_source_states_them() -> None:
    sizes = {result.label: result.size for result in find_published("cub", ["recall_at_1"])}
    assert sizes["SoftTriple Loss"] == "BN-Inception, 512-d"
    assert sizes["Proposed SGML"] == "ResNet-101, 2048-d, 224 px"
    assert sizes["HDC"] == "trunk not stated"


# --- the user's own files

GOOD = """\
cite: "Author, Title, 2026"
tables:
  - where: Table 1
    kind: comparison
    unit: percent
    columns: {digits: [recall_at_1, nmi]}
    rows:
      - {label: Mine, trunk: convnet, embedding_dim: 64, digits: [65.4 ± 0.3, ~]}
"""


def config_dir_with(tmp_path: Path, text: str) -> Path:
    """Write a file of published results, and return the directory of the user's configuration files."""
    (tmp_path / "published").mkdir(exist_ok=True)
    (tmp_path / "published" / "mine.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_file_of_the_user_is_read_in_addition_to_the_shipped_ones(tmp_path: Path) -> None:
    (result,) = find_published("digits", ["recall_at_1"], config_dir=config_dir_with(tmp_path, GOOD))
    assert (result.label, result.trunk, result.size) == ("Mine", "convnet", "ConvNet, 64-d")
    assert result.printed == {"recall_at_1": "65.4 ± 0.3"}
    assert result.values == {"recall_at_1": pytest.approx(0.654), "precision_at_1": pytest.approx(0.654)}
    assert result.source.text == "Author, Title, 2026, Table 1"


BAD = {
    "an unknown metric": ("recall_at_1, nmi", "recal_at_1, nmi", "columns of digits: 'recal_at_1' is not a metric of dmlbench"),
    "a misspelt key": ("where:", "were:", "table 1: 'were' is not known; did you mean 'where'?"),
    "a misspelt data set": ("64, digits:", "64, digit:", "'digit' is not known; did you mean 'digits'?"),
    "an unknown kind": ("comparison", "compare", "table 1: kind is 'compare'; did you mean 'comparison'?"),
    "an unknown unit": ("percent", "dB", "table 1: unit is 'dB'; known: fraction, percent"),
    "no unit": ("    unit: percent\n", "", "table 1 has no 'unit'"),
    "no cite": ('cite: "Author, Title, 2026"\n', "", "has no 'cite'"),
    "too few numbers": (", ~]", "]", "row 'Mine', digits has 1 value for 2 columns; write ~ for a missing value"),
    "text instead of a number": (
        "65.4 ± 0.3",
        "n/a",
        "row 'Mine', digits: recall_at_1 is 'n/a'; it needs a number such as 65.4",
    ),
    "a percentage above 100": ("65.4", "654", "row 'Mine', digits: recall_at_1 is 654 ± 0.3, which is not between 0 and 100"),
    "the wrong unit": (
        "percent",
        "fraction",
        "row 'Mine', digits: recall_at_1 is 65.4 ± 0.3, which is not between 0 and 1; check `unit`",
    ),
    "a size that is not a number": ("64", "many", "row 'Mine': embedding_dim is 'many'; it needs a whole number"),
    "no numbers at all": (", digits: [65.4 ± 0.3, ~]", "", "row 'Mine' has no numbers; add those of digits"),
    "a label that is a list": ("Mine, trunk", "[Mine], trunk", "a row: label is not a text; write it in quotes"),
    "rows that are not a list": ("- {label", "{label", "table 1, rows is not a list"),
    "explanations that are not a mapping": ("    unit", "    other: nothing\n    unit", "table 1, other is not a mapping"),
    "invalid YAML": ("tables:", "tables: [", "is not valid YAML"),
}


@pytest.mark.parametrize("error", BAD)
def test_the_error_names_the_file_and_what_is_wrong_in_it(error: str, tmp_path: Path) -> None:
    before, after, expected = BAD[error]
    assert before in GOOD
    with pytest.raises(UserError) as raised:
        read_published(config_dir_with(tmp_path, GOOD.replace(before, after, 1)))
    assert str(raised.value).startswith(str(tmp_path / "published" / "mine.yaml"))
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml is not a mapping; it needs cite, tables"):
        read_published(config_dir_with(tmp_path, ""))


def test_every_column_is_a_metric_or_explained() -> None:
    for table in read_published():
        for name in {name for names in table.columns.values() for name in names}:
            assert (parse_metric(name) is None) == (name in table.other), name


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(dmlbench.results.published_result).failed == 0
