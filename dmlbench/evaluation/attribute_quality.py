"""How well a model predicts the attributes of images: mean average precision and F1 over attributes."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, f1_score

from dmlbench.config.schema import Scalar


def attribute_quality(logits: np.ndarray, values: np.ndarray, trained: np.ndarray) -> dict[str, Scalar]:
    """Compare predicted attributes with the annotated ones. Each attribute is evaluated on the images for which it is known.

    Args:
        logits: Predicted logits, float `(N, K)`. An attribute is predicted if its probability is at least one half.
        values: Annotated attributes, float `(N, K)`: 0, 1, or NaN for a missing value.
        trained: Whether a training image has the attribute, bool `(K,)`. The prediction of others cannot have been learned, but
            they are evaluated, because the means would otherwise depend on the training images.

    Returns:
        `attribute_map` and `attribute_f1`, means over the attributes that an image has, in [0, 1]; `attribute_prevalence`, the
        mean share of images that have them, which is about the mean average precision of a random order; and the numbers of
        attributes that were evaluated, that no image has, and that were evaluated although no training image has them. Means
        are None if no image has any attribute.
    """
    scores, n_untrained = [], 0
    for predicted, annotated, was_trained in zip(logits.T, values.T, trained, strict=True):
        known = np.isfinite(annotated)
        has = annotated[known] == 1
        if has.any():
            precision = average_precision_score(has, predicted[known])
            f1 = f1_score(has, predicted[known] >= 0, zero_division=0.0)
            scores.append((precision, f1, has.mean()))
            n_untrained += not was_trained
    means = [float(mean) for mean in np.mean(scores, axis=0)] if scores else [None] * 3
    names = ("attribute_map", "attribute_f1", "attribute_prevalence")
    counts = {
        "n_evaluated_attributes": len(scores),
        "n_attributes_without_positives": values.shape[1] - len(scores),
        "n_attributes_without_training": n_untrained,
    }
    return {**dict(zip(names, means, strict=True)), **counts}
