"""The files of a run directory, `runs/<dataset>/<loss>/<run_id>/`."""

from __future__ import annotations

ROW = "row.json"  # the result; written last, so its existence means that the run is done
PENDING_ROW = "plan.json"  # the columns that are known before the run ends; removed once the row exists
OVERRIDES = "overrides.json"  # command-line overrides of the run, for people to read
OVERRIDES_SCHEMA_1 = "words.json"  # name of the same file in runs of schema 1
PER_QUERY = "per_query.safetensors"  # ids, labels, and one vector per metric
PER_QUERY_DIGEST = "per_query_sha256"  # the column with its SHA-256
COMPACT_SCORES = "scores.safetensors"  # the same in few bytes, of published entries
IMAGES = "images.json"  # files of the images that have an embedding, by id
CLASSES = "classes.json"  # names of the test classes, by label
CLASS_GROUPS = "class_groups.json"  # groups of the test classes, by label; only of data sets with groups
HISTORY = "history.jsonl"  # one line per epoch
CHECKPOINT = "checkpoint.pt"  # training state for resuming; removed once the row exists
BEST = "best.pt"  # model with the best validation score so far; removed once the row exists
MODEL = "model.pt"  # trained weights
MODEL_SAFETENSORS = "model.safetensors"  # the same, of a run that was made elsewhere and uploaded to `dmlbench serve`
EMBEDDINGS = "embeddings.safetensors"  # of query and gallery images
ERROR = "error.txt"  # traceback of a crash
LOCK = ".lock"  # held by the process that executes the run
# All of these, except for the lock, whose reader refuses everything but a regular file.
NAMES = frozenset(
    {
        *(ROW, PENDING_ROW, OVERRIDES, OVERRIDES_SCHEMA_1, PER_QUERY, IMAGES, CLASSES, CLASS_GROUPS),
        *(HISTORY, CHECKPOINT, BEST, MODEL, EMBEDDINGS, ERROR),
    }
)
