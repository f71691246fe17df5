"""Published results are what their sources print, are never taken for ours, and a bad file is told by name."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml

import dmlbench.results.literature
from dmlbench.config.files import conf_dir, entries
from dmlbench.errors import UserError
from dmlbench.results.literature import find_published, read_published
from dmlbench.results.metric_specs import parse_metric

KIT = Path(__file__).resolve().parents[3] / "shared"
SLIDES = "seeds/2-best-practice-dml-slides.md"
# File to the document it was transcribed from, and how many rows each of its tables has, counted there by hand.
TRANSCRIBED = {
    "best_practice_slides": (SLIDES, [25, 11]),
    "clustering_unknown_classes": ("seeds/4-clustering-and-querying-unknown-classes.md", [9]),
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
# A line that the document names otherwise than we do: the word that stands on it there.
NAMED = {"Untrained trunk": "R@1", "A3M": "A^{3}M", "IRT_R": "IRT"}
TRUNKS = {"googlenet": "G", "bn_inception": "BNI", "resnet50": "R50", "VGG": "V"}
OTHER_TRUNKS = {"VGG", "ViT-B/32", "ViT-B/16"}  # those for which there is no configuration


def written(name: str) -> dict:
    """A file as it stands, every scalar as its text."""
    return yaml.load((conf_dir() / "published" / f"{name}.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)


def document(name: str) -> list[str]:
    file = KIT / TRANSCRIBED[name][0]
    if not file.is_file():
        pytest.skip(f"needs {TRANSCRIBED[name][0]} in ../shared")
    return file.read_text(encoding="utf-8").splitlines()


def numbers(text: str) -> list[str]:
    """The words of a line that are numbers, a reference's brackets and a method's name not among them."""
    return [word for word in re.split(r"[\s|]+", text) if re.fullmatch(r"\d*\.?\d+", word)]


def stands(row: list[str], label: str, lines: list[str]) -> bool:
    """Whether some line holds a word of the label, and the row's numbers in their order."""
    words = [NAMED[label]] if label in NAMED else re.findall(r"\w+", label)
    for line in lines:
        rest = iter(numbers(line))
        named = any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line, re.IGNORECASE) for word in words)
        if named and all(number in rest for number in row):
            return True
    return False


# --- what is transcribed


def test_every_file_is_known_with_the_number_of_its_rows() -> None:
    found = {file.stem for file in (conf_dir() / "published").glob("*.yaml")}
    assert found == set(TRANSCRIBED)
    for name, (_, counts) in TRANSCRIBED.items():
        assert [len(table["rows"]) for table in written(name)["tables"]] == counts, name


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_every_number_stands_in_its_document_on_the_line_of_its_method(name: str) -> None:
    lines = document(name)
    for table in written(name)["tables"]:
        for row in table["rows"]:
            for dataset in set(table["columns"]) & set(row):
                row_numbers = numbers(" ".join(row[dataset]))
                assert row_numbers, row
                assert stands(row_numbers, row["label"], lines), f"{row['label']}, {dataset}: {row_numbers}"


def test_that_check_finds_a_slip_of_one_digit() -> None:
    lines = ["SoftTriple Loss ⁵¹² (Qian et al., 2019) ICCV19\tBNI\t65.4\t76.4\t84.5"]
    assert stands(["65.4", "84.5"], "SoftTriple Loss", lines)
    assert not stands(["65.4", "85.4"], "SoftTriple Loss", lines)
    assert not stands(["84.5", "65.4"], "SoftTriple Loss", lines)
    assert not stands(["65.4"], "Margin", lines)


@pytest.mark.parametrize("seed", sorted({file for file, _ in TRANSCRIBED.values() if file.startswith("seeds")}))
def test_no_line_of_a_documents_tables_is_left_out(seed: str) -> None:
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
        for table in written(name)["tables"]
    ]
    left_out = []
    for line in document(names[0]):
        cells = [cell.strip() for cell in line.split("\t")]
        found = {number for cell in cells[1:] if re.fullmatch(r"\d*\.\d+( ± \d*\.\d+)?", cell) for number in numbers(cell)}
        if not any(found <= table for table in tables):
            left_out.append(cells)
    # The slides print Intra-Batch once more, its two lines joined to one.
    assert [cells[0] for cells in left_out] == (["IntraBatch (R50)"] if seed == SLIDES else [])


def test_the_great_tables_trunk_and_size_are_those_beside_each_method() -> None:
    lines = document("best_practice_slides")
    superscripts = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    for table in written("best_practice_slides")["tables"]:
        for row in table["rows"]:
            cells = next(row[dataset] for dataset in table["columns"])
            size, trunk = row["embedding_dim"].translate(superscripts), TRUNKS[row["trunk"]]
            known = [line for line in lines if row["label"] in line and size in line and f"\t{trunk}\t" in line]
            assert stands(numbers(" ".join(cells)), row["label"], known), row["label"]


def test_every_trunk_has_a_configuration_or_is_known_to_have_none() -> None:
    shipped = {name for name, _ in entries("trunk")}
    named = {line.trunk for table in read_published() for line in table.lines} - {None}
    assert named - shipped == OTHER_TRUNKS


def test_every_data_set_is_a_shipped_one() -> None:
    assert {line.dataset for table in read_published() for line in table.lines} <= {name for name, _ in entries("dataset")}


def test_numbers_become_fractions_once() -> None:
    (percent,) = [line for line in find_published("cub", ["nmi"], ["bn_inception"]) if line.label == "SoftTriple Loss"]
    assert percent.values["recall_at_1"] == pytest.approx(0.654)
    (fraction,) = [line for line in find_published("cub", ["nmi"], ["inception_v3"]) if line.label == "Hinge Loss, 1 Cluster"]
    assert fraction.values["nmi"] == pytest.approx(0.35)


def test_what_the_visual_retrieval_report_calls_recall_is_not_taken_for_recall_at_k() -> None:
    (line,) = [line for line in find_published("cub", ["retrieved_at_5"], split="half_per_class") if line.label == "Softtriple"]
    assert line.values["retrieved_at_5"] == pytest.approx(0.0711)
    assert "recall_at_5" not in line.values
    # Its own arithmetic: five times the precision over the images of a class, half of CUB's 11,788 / 200.
    assert 5 * line.values["precision_at_5"] / (11788 / 200 / 2) == pytest.approx(line.values["retrieved_at_5"], abs=0.002)


def test_a_clustering_into_three_clusters_a_class_is_not_taken_for_ours() -> None:
    for line in (line for table in read_published() for line in table.lines if "3 Clusters" in line.label):
        assert line.values == {}
        assert len(line.printed) == 2


def test_the_first_item_is_relevant_under_two_names() -> None:
    (arcface,) = [line for line in find_published("cub", ["map_at_r"]) if line.label == "ArcFace"]
    assert arcface.values["recall_at_1"] == arcface.values["precision_at_1"] == pytest.approx(0.6017)
    assert arcface.values["concatenated_recall_at_1"] == pytest.approx(0.6750)


# --- what stands below a table


def test_validation_numbers_stand_below_no_table() -> None:
    assert any(table.source.kind == "validation" for table in read_published())
    for dataset in ("cub", "cars", "sop"):
        found = find_published(dataset, ["map_at_r"], ablations=True)
        assert all(line.source.kind != "validation" for line in found)


def test_only_results_of_the_same_data_set_split_and_trunk_are_found() -> None:
    found = find_published("cars", ["recall_at_1"], ["resnet50"])
    assert {(line.dataset, line.source.split, line.trunk) for line in found} == {("cars", "zero_shot", "resnet50")}
    assert {line.trunk for line in find_published("cars", ["recall_at_1"])} > {"resnet50", "bn_inception"}
    assert {line.source.split for line in find_published("cub", ["precision_at_5"], split="half_per_class")} == {
        "half_per_class"
    }
    assert find_published("digits", ["recall_at_1"]) == []


def test_a_result_without_any_of_the_printed_metrics_is_left_out() -> None:
    assert {line.source.cite for line in find_published("cub", ["map_at_r"])} == {written("reality_check")["cite"]}
    assert find_published("cub", ["mean_reciprocal_rank"]) == []


def test_ablations_are_found_on_request_and_stand_last() -> None:
    kinds = [line.source.kind for line in find_published("cub", ["recall_at_1"], ablations=True)]
    assert kinds == sorted(kinds, reverse=True)  # by letter, "comparison" comes after "ablation"
    assert "ablation" in kinds
    assert "ablation" not in {line.source.kind for line in find_published("cub", ["recall_at_1"])}


def test_a_line_tells_trunk_embedding_and_crop_as_far_as_its_source_does() -> None:
    sizes = {line.label: line.size for line in find_published("cub", ["recall_at_1"])}
    assert sizes["SoftTriple Loss"] == "BN-Inception, 512-d"
    assert sizes["Proposed SGML"] == "ResNet-101, 2048-d, 224 px"
    assert sizes["HDC"] == "trunk not told"


# --- files of one's own

GOOD = """\
cite: "Me, Mine, 2026"
tables:
  - where: Table 1
    kind: comparison
    unit: percent
    columns: {digits: [recall_at_1, nmi]}
    rows:
      - {label: Mine, trunk: convnet, embedding_dim: 64, digits: [65.4 ± 0.3, ~]}
"""


def own(tmp_path: Path, text: str) -> Path:
    (tmp_path / "published").mkdir(exist_ok=True)
    (tmp_path / "published" / "mine.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_users_own_file_is_read_beside_ours(tmp_path: Path) -> None:
    (line,) = find_published("digits", ["recall_at_1"], config_dir=own(tmp_path, GOOD))
    assert (line.label, line.trunk, line.size) == ("Mine", "convnet", "ConvNet, 64-d")
    assert line.printed == {"recall_at_1": "65.4 ± 0.3"}
    assert line.values == {"recall_at_1": pytest.approx(0.654), "precision_at_1": pytest.approx(0.654)}
    assert line.source.text == "Me, Mine, 2026, Table 1"


BAD = {
    "an unknown metric": ("recall_at_1, nmi", "recal_at_1, nmi", "columns of digits: 'recal_at_1' is no column of dmlbench"),
    "a misspelt key": ("where:", "were:", "table 1: 'were' is not known here; did you mean 'where'?"),
    "a misspelt data set": ("64, digits:", "64, digit:", "'digit' is not known here; did you mean 'digits'?"),
    "an unknown kind": ("comparison", "compare", "table 1: kind is 'compare'; did you mean 'comparison'?"),
    "an unknown unit": ("percent", "dB", "table 1: unit is 'dB'; known: fraction, percent"),
    "no unit": ("    unit: percent\n", "", "table 1 has no 'unit'"),
    "no cite": ('cite: "Me, Mine, 2026"\n', "", "has no 'cite'"),
    "a number too few": (", ~]", "]", "row 'Mine', digits: 1 numbers for 2 columns; write ~ for a hole"),
    "no number": ("65.4 ± 0.3", "n/a", "row 'Mine', digits: recall_at_1 is 'n/a', which is no number"),
    "a percentage above 100": ("65.4", "654", "row 'Mine', digits: recall_at_1 is 654 ± 0.3, outside 0 to 100"),
    "the wrong unit": (
        "percent",
        "fraction",
        "row 'Mine', digits: recall_at_1 is 65.4 ± 0.3, outside 0 to 1; is `unit` right?",
    ),
    "a size in words": ("64", "many", "row 'Mine': embedding_dim is 'many'; it needs a whole number"),
    "no numbers at all": (", digits: [65.4 ± 0.3, ~]", "", "row 'Mine' has no numbers; give those of digits"),
    "a label that is a list": ("Mine, trunk", "[Mine], trunk", "a row: label is no text"),
    "rows that are no list": ("- {label", "{label", "table 1, rows is no list"),
    "an explanation that is none": ("    unit", "    other: nothing\n    unit", "table 1, other is no mapping"),
    "no YAML": ("tables:", "tables: [", "is no YAML"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_file_is_told_by_its_name_and_the_place_in_it(mistake: str, tmp_path: Path) -> None:
    before, after, expected = BAD[mistake]
    assert before in GOOD
    with pytest.raises(UserError) as told:
        read_published(own(tmp_path, GOOD.replace(before, after, 1)))
    assert str(told.value).startswith(str(tmp_path / "published" / "mine.yaml"))
    assert expected in str(told.value)
    assert "\n" not in str(told.value)


def test_an_empty_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml is no mapping; it needs cite, tables"):
        read_published(own(tmp_path, ""))


def test_every_column_is_known_or_explained() -> None:
    for table in read_published():
        for name in {name for names in table.columns.values() for name in names}:
            assert (parse_metric(name) is None) == (name in table.other), name


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(dmlbench.results.literature).failed == 0
