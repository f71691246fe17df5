"""Floor 4: from embeddings to numbers; `rank` orders the gallery for each query, `score` reads the order."""

from dmlbench.evaluate.metrics import score
from dmlbench.evaluate.ranking import Ranking, rank

__all__ = ["Ranking", "rank", "score"]
