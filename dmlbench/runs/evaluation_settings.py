"""How a run is evaluated when it ends, and how a saved run is evaluated again."""

from __future__ import annotations

from dataclasses import replace

from dmlbench.config.plan import Plan
from dmlbench.evaluation.evaluator import EvaluationConfig
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import Row


def evaluation_config(plan: Plan) -> EvaluationConfig:
    """Return how the embeddings of a run are evaluated.

    Args:
        plan: The plan of the run.
    """
    protocol = plan.protocol
    return EvaluationConfig(
        ks=plan.dataset.recall_at,
        clusters_per_class=None if protocol.clusters_per_class == 1 else protocol.clusters_per_class,
        queries=protocol.evaluation_queries,
        query_seed=plan.dataset.split_seed,
        full_gallery=protocol.full_gallery,
        all_ks=protocol.all_ks,
    )


def config_for_run(config: EvaluationConfig, parent: Row) -> EvaluationConfig:
    """Return how a saved run is evaluated: as requested, and otherwise as the run was evaluated.

    Args:
        config: What was requested; values that are not set are those of the run. 0 queries stand for all.
        parent: Row of the run. It is not trusted.
    """
    clusters, queries = config.clusters_per_class, config.queries
    if clusters is None and (of_run := _whole_number(parent, "protocol_clusters_per_class")) != 1:
        clusters = of_run
    if queries is None:
        queries = _whole_number(parent, "protocol_evaluation_queries")
    full = config.full_gallery or parent.get("protocol_full_gallery") is True
    return replace(
        config,
        ks=config.ks or _ks_of(parent),
        clusters_per_class=clusters,
        queries=queries or None,
        query_seed=_whole_number(parent, "split_seed") or 0,
        full_gallery=full,
        all_ks=config.all_ks or full or bool(queries),
    )


def _whole_number(row: Row, name: str) -> int | None:
    value = row.get(name)
    return value if type(value) is int and value >= 0 else None


def _ks_of(row: Row) -> tuple[int, ...]:
    """The values of k of a run's Recall@k."""
    found = [parse_metric(name) for name in row.metrics]
    plain = [one for one in found if one and not (one.macro or one.concatenated or one.full)]
    return tuple(one.k for one in plain if one.k and one.spec.name == "recall_at_<k>")
