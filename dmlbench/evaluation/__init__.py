"""Compute metrics from embeddings: `rank` ranks the gallery for each query, and metrics are functions of the ranking."""

from dmlbench.evaluation.metrics import score
from dmlbench.evaluation.ranking import Ranking, rank

__all__ = ["Ranking", "rank", "score"]
