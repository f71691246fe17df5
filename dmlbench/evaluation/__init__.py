"""Embeddings to metrics: `rank` orders the gallery for each query, metrics are functions of that order."""

from dmlbench.evaluation.metrics import score
from dmlbench.evaluation.ranking import Ranking, rank

__all__ = ["Ranking", "rank", "score"]
