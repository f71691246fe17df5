"""Checks of the counts of a row against each other and against its protocol."""

from __future__ import annotations

from collections.abc import Iterator

from dmlbench.config.schema import Scalar
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.verification.field_checks import is_number
from dmlbench.verification.verdict import Finding

# Split rules whose training and test classes are disjoint. Others, such as the manifest of a user, may share classes.
DISJOINT_RULES = ("zero_shot", "alphabets", "random", "random_classes", "random_groups")
DISJOINT_DATASETS = ("digits", "synthetic")  # without a rule
# Columns of which the first is at most the second.
_AT_MOST = (
    ("n_train_classes", "n_train_images"),
    ("n_train_images", "n_images"),
    ("n_query_images", "n_images"),
    ("n_gallery_images", "n_images"),
    ("n_gallery", "full_n_gallery"),
    ("n_tied_queries", "n_queries"),
    ("n_shared_classes", "n_test_classes"),
    ("n_shared_groups", "n_test_groups"),
    ("n_test_groups", "n_test_classes"),
    ("n_dead_proxies", "n_proxies"),
    ("n_tuning_failed", "n_tuning_trials"),
    ("selected_epoch", "protocol_epochs"),
    ("oracle_epoch", "protocol_epochs"),
    ("effective_rank", "embedding_dim"),
)
_SELECTED = "selected_on"


def count_findings(row: Row) -> Iterator[Finding]:
    """Yield counts of a row that do not fit together, and a model selection that is not that of the protocol.

    Args:
        row: Row.
    """
    for low, high in _AT_MOST:
        few, many = row.columns.get(low), row.columns.get(high)
        if is_number(few) and is_number(many) and few > many + 1e-6 * abs(many):
            yield Finding(low, f"{low} is {few}, but {high} is {many}")
    shared, rule = row.get("n_shared_classes"), row.get("split_rule")
    is_disjoint = rule in DISJOINT_RULES or (rule is None and row["dataset"] in DISJOINT_DATASETS)
    if is_disjoint and is_number(shared) and shared > 0:
        yield Finding("n_shared_classes", f"{shared} test classes are training classes, which the split excludes")
    if row.get("n_test_groups") is not None and row.get("class_group_kind") is None:
        yield Finding("n_test_groups", f"n_test_groups is {row['n_test_groups']!r:.80}, but classes have no groups")
    if row["protocol"] != EXTERNAL and row.ok:
        for what, count, name in _equal(row):
            total = row.get(name)
            if is_number(count) and is_number(total) and count != total:
                yield Finding(name, f"{what} is {count}, but {name} is {total}")
    yield from _selection(row)


def _equal(row: Row) -> Iterator[tuple[str, Scalar, str]]:
    """Yield what a column has to equal: its description, its value, and the name of the column."""
    yield "n_gallery", row.get("n_gallery"), "n_gallery_images"
    drawn, queries, excluded = (row.get(name) for name in ("protocol_evaluation_queries", "n_queries", "n_excluded"))
    drawn = row.get("evaluation_queries", drawn)
    if is_number(drawn):  # from queries with a relevant item
        yield "the number of drawn queries", drawn, "n_queries"
        yield "the number of drawn queries without a relevant item", 0, "n_excluded"
    elif is_number(queries) and is_number(excluded):
        yield "n_queries plus n_excluded", queries + excluded, "n_query_images"
    fold = row.get("protocol_fold")
    if fold is not None:  # rows of the first version have no folds
        yield "the number of models", row.get("protocol_folds") if fold == "all" else 1, "n_models"
    clusters = row.get("evaluation_clusters", row.get("protocol_clusters_per_class", 1))
    if is_number(clusters) and is_number(n_classes := row.get("n_test_classes")):
        yield "n_test_classes times the clusters per class", n_classes * clusters, "n_clusters"
    if row.get("loss_kind") != "none" and row.get("loss_layer", "embedding") == "embedding" and row.get("parent") is None:
        yield "protocol_embedding_dim", row.get("protocol_embedding_dim"), "embedding_dim"


def _selection(row: Row) -> Iterator[Finding]:
    """Without training, nothing is chosen."""
    selected, wanted = row.get(_SELECTED), row.get("protocol_selection")
    expected = "none" if row.get("loss_kind") == "none" else wanted
    if selected is not None and wanted is not None and selected != expected:
        yield Finding(_SELECTED, f"{_SELECTED} is {selected!r:.80}, but the protocol has {expected}")
    score = row.get("selected_score")
    if score is not None and not (is_number(score) and -1 <= score <= 1):
        yield Finding("selected_score", f"selected_score is {score!r:.80}, which is not a fraction")
    if int(row["schema_version"] or 0) < 1:
        yield Finding("schema_version", f"schema_version is {row['schema_version']}")
