"""Texts of the pages that `write_docs.py` generates."""

from __future__ import annotations

ABOUT_ROWS = """\
A run writes one result row, the file `row.json` of its directory: a flat JSON object from column to text, number, boolean or
null. Metrics are fractions in [0, 1], times are in seconds and memory is in GiB; percent is used only in print.
`dmlbench.load_results("runs")` reads all rows into a pandas DataFrame with these columns.

Every column has a role. Two rows are compared in one table only if all `shared` columns are equal; the `fingerprint` is a
digest of these columns. A name with `*` stands for several columns: for example, `optimizer_*` includes `optimizer_eps`.

*since* is the version of the row schema in which a column was added; the current version is {schema_version}. Rows from
older versions do not have the column. They are read as if they had the value that is given after "older rows".
"""
# Comments in docs/protocols.md before and after the generated table.
PROTOCOL_FIELDS = (
    "<!-- Generated from `dmlbench/config/schema.py` by `make docs`. -->\n",
    "<!-- End of the generated table. -->",
)
ABOUT_METRICS = """\
[metrics.md](metrics.md) defines them. `<k>` is a number of ranks, as in `recall_at_1`. Three prefixes are possible: `macro_`
is the mean over classes (retrieval metrics only), `concatenated_` was computed on the concatenated embeddings of several
models, and `separated_` is the mean over several models.
"""
PUBLISHED = """\
These are published results on data sets that dmlbench supports, each with its source. `dmlbench table` prints those of the
same data set, split and trunk below a line. `--published all` adds other trunks and ablations, and `--published none` omits
all of them. **None of them is comparable with results of dmlbench, or with each other**: trunk, crops, hyper-parameter tuning
and model selection differ. They therefore have no interval, are never bold, and are not part of any significance test.
Validation scores are listed only on this page. CSV tables contain no published results, so that a program cannot mistake them
for rows; read `conf/published/` instead.

To print other published results, add a file of the same form to `published/` in the directory given by `--config-dir`. The
form is documented in `dmlbench/results/literature_files.py`.
"""
RULES = """\
## Rules

- **Query.** A query is excluded from its own results by its id, not by its position and not because it ranks first.
- **R** is the number of relevant items of a query. It is computed from the labels and may differ between queries.
- **Queries without a relevant item** are excluded from every mean and counted (`n_excluded`).
- **Labels** are integers and are compared as integers.
- **NaN and infinity** are refused, with the rows that contain them.
- **Score.** The score of two embeddings is the inner product of their float32 vectors, correctly rounded to float64. It
  depends only on the pair. The order of the rows, the chunk size and the number of threads do not affect results.
- **Ties.** Items with equal scores are tied. Every metric is its expected value over random orders of tied items, in closed
  form (following McSherry & Najork, ECIR 2008). For MAP@R: in a group of n tied items, r of them relevant, with c relevant
  items ranked above the group, the item at position t of the group and rank i adds (r/n) (c + 1 + (t-1)(r-1)/(n-1)) / i to
  the sum. A collapsed embedding (all vectors equal) therefore scores at chance level.
"""
METRIC_SECTIONS = {
    "retrieval": (
        "Retrieval",
        "Each metric is the mean over all queries; `macro_<column>` is the mean over classes of the means within each class. "
        "The ranking keeps max(R, 10) items per query, and `precision_at_<k>` and `retrieved_at_<k>` are reported for values "
        "of k within it. The scores of each query are in `per_query.safetensors`, next to the row.\n\n"
        "With `protocol.full_gallery=true`, as in `protocol=staysafe`, or `dmlbench evaluate --gallery full`, the same queries "
        "are also evaluated in a gallery of training and test images, as `full_<column>`, and every k is computed. With "
        "`protocol.evaluation_queries=N` or `--queries N`, N queries are drawn, and the intervals of tables are over seeds and "
        "queries.\n\n"
        "**Accuracy@k** (Shah, Clustering and querying images from unknown classes) is the share of the first k results that "
        "are of the class of the query, averaged over queries: Precision@k. `--metrics accuracy_at_5` prints `precision_at_5`. "
        "Recall@k asks whether one of them is relevant, so it rises with k, while accuracy usually falls. Shah queries a few "
        "random images of each test class against the remaining test images; here, every test image is a query, or "
        "`protocol.evaluation_queries` of them.",
    ),
    "clustering": (
        "Clustering",
        "Queries and gallery are clustered together by k-means, with `protocol.clusters_per_class` clusters per class (1 by "
        "default), or `--clusters N` of `dmlbench evaluate`. Each metric is the mean over five runs with different seeds, and "
        "`<column>_std` is the standard deviation over the runs; `cluster_init` and `cluster_seed` record initialisation and "
        "seed. Above 1,000 classes there is no clustering unless `--clusters`, or several clusters per class, request it. "
        "Models can be selected on these metrics: `protocol.selection=validation protocol.selection_metric=purity "
        "protocol.clusters_per_class=3`.",
    ),
    "attributes": (
        "Attributes",
        "Only methods that predict attributes have them, such as `loss=sgml`. They are computed on all test images. An "
        "attribute that no test image has is left out and counted in `n_attributes_without_positives`; missing annotations are "
        "left out too. `attribute_prevalence` is the mean share of images that have an attribute, which is about the mean "
        "average precision of a random order. `dmlbench table --metrics recall_at_1,attribute_map` prints them; they have no "
        "scores of queries, so their significance is not tested.",
    ),
    "diagnostic": (
        "Diagnostics",
        "They describe the geometry of the embedding; they are not performance metrics, and tables do not compare them.",
    ),
}
CONFORMANCE = (
    "`tests/conformance` checks any implementation with the cases below; its README explains how to check your own. The "
    "expected numbers come from an oracle that shares no code with any implementation. pytorch-metric-learning is its "
    "`AccuracyCalculator` with faiss. drop-first is common in research code: it sorts all items by score and drops the first."
)
