"""The metrics of an entry in the form of the Hugging Face Hub: a file for the directory `.eval_results/` of a model.

The Hub shows such results on the page of the model, and on the leaderboard of the data set if that is a registered benchmark.

Source: https://huggingface.co/docs/hub/eval-results ("work in progress"), and
    https://github.com/huggingface/hub-docs/blob/main/eval_results.yaml.
"""

from __future__ import annotations

import json

from dmlbench.publication.claim import Claim
from dmlbench.publication.layout import entry_path
from dmlbench.results.formatting import metric_label
from dmlbench.results.row import Row

METRICS = ("recall_at_1", "r_precision", "map_at_r")
NAMESPACE = "dmlbench"  # owner of the data sets on the Hub


def eval_results_text(row: Row, claim: Claim) -> str:
    """Return the contents of `eval_results.yaml`. They follow from the row and the claim, and say nothing more.

    Args:
        row: Row of the entry.
        claim: Claim of the entry.
    """
    if not row.ok:
        return "[]\n"
    dataset, protocol, *_ = entry_path(row).parts
    settings = (row.get("loss_label") or row["loss"], row.get("trunk_label") or row["trunk"], f"seed {row.seed}")
    url = claim.paper_url or claim.code
    lines = []
    for metric, value in ((metric, row.number(metric)) for metric in METRICS):
        if value is None:
            continue
        notes = ", ".join(map(str, [metric_label(metric), *settings, f"fingerprint {row['fingerprint']}"]))
        lines += ["- dataset:", f"    id: {NAMESPACE}/{dataset}", f"    task_id: {_quoted(f'{protocol}.{metric}')}"]
        lines += [f"  value: {value!r}", f"  date: {_quoted(claim.published)}"]
        if url is not None:
            lines += ["  source:", f"    url: {_quoted(url)}", f"    name: {_quoted(claim.paper or claim.who)}"]
        lines.append(f"  notes: {_quoted(notes)}")
    return "".join(f"{line}\n" for line in lines) or "[]\n"


def _quoted(text: str) -> str:
    """Return text in double quotes: JSON is YAML."""
    return json.dumps(text, ensure_ascii=False)
