"""What `--help` prints; docs/cli.md is made of it."""

from __future__ import annotations

HELP = """\
dmlbench: deep metric learning methods, compared fairly.

  dmlbench train  loss=softtriple dataset=cub         one run, one row
  dmlbench sweep  dataset=cub seed=0,1,2              the seven losses and the untrained trunk, then their table
  dmlbench table  [runs...] --format latex            rows -> fair comparison tables
  dmlbench evaluate PLACE [rerank=k_reciprocal]       score a saved run again, or anyone's embeddings
  dmlbench data   prepare NAME                        download, or take your archive; verify, unpack
  dmlbench data   check NAME [dataset.root=...]       count, verify, find unreadable and duplicate images
  dmlbench list   losses | datasets | trunks | protocols | samplers | optimizers | sweeps

dmlbench COMMAND --help tells more of one.
"""

TRAIN_HELP = """\
dmlbench train [KEY=VALUE...]: one run, one row.

  dmlbench train loss=softtriple dataset=cub
  dmlbench train loss=triplet loss.make.margin=0.1 protocol.epochs=20 seed=1
  dmlbench train loss=mine --config-dir my_conf       your own loss/mine.yaml, with your own code
  dmlbench train -m loss=triplet,arcface seed=0,1     several runs, one after the other

  dataset= trunk= loss= protocol= sampler= optimizer=   choose a file of conf/ (`dmlbench list` shows them)
  dataset.KEY= trunk.KEY= loss.KEY= protocol.KEY=       change a value in it; unknown keys are refused
  preset=paper|reality_check   the values that a loss's authors, or the reality check, publish for the data set
  seed=0  device=auto|cpu|cuda  workers=auto|N  paths.data=data  paths.runs=runs

  --cfg job          print the composed configuration and stop
  --config-dir DIR   look for configuration files in DIR too
  -m, --multirun     run every combination of comma-separated values

A finished run is skipped; one that was killed goes on from its last checkpoint.
"""

SWEEP_HELP = """\
dmlbench sweep [KEY=VALUE,VALUE...]: every combination of comma-separated values, then their table.

  dmlbench sweep                                      the seven losses and the untrained trunk on the embedded data set
  dmlbench sweep dataset=cub seed=0,1,2               three seeds of each
  dmlbench sweep loss=mine,arcface --config-dir my_conf
  dmlbench sweep retry=failed                         run methods again whose rows say that they failed

Everything `dmlbench train --help` tells holds here too. Without loss= the sweep runs conf/sweep/seven.yaml; the
untrained trunk is always added. The same command again skips what is done, goes on with what broke off, and tries
again what met an accident (a method that failed only with retry=failed); started twice at once, the two share the work.
Each job that ends says how many are left. The table is printed and written as markdown, LaTeX and CSV to RUNS/tables/.
"""

TABLE_HELP = """\
dmlbench table [PLACE...] [vary=loss] [--format FORMAT]: rows -> fair comparison tables.

  dmlbench table                                      every row under runs/
  dmlbench table runs/cub --format latex
  dmlbench table --format csv > results.csv

  PLACE              a folder that holds runs, or a row.json (default: runs)
  vary=AXIS          what may differ between two lines of a table: loss (default); trunk, sampler, optimizer, protocol, or one
                     value such as loss.make.margin or protocol.embedding_dim, each for one loss at a time; or preset: the
                     same loss under a fixed protocol and under its paper's recipe, each line told for what it is
  --format FORMAT    markdown, latex or csv (default: markdown)
  --published WHICH  what others published, below a rule (docs/published.md): same (default) of the table's data set, split and
                     trunk; all of every trunk, and ablations; none
  --config-dir DIR   read DIR/published/*.yaml too
  --untested         do not look which methods cannot be told from the best; faster for thousands of rows

Rows stand in one table only where everything but the axis and the seed is equal; what differs makes another table. Bold are the
best and all that are not significantly different from it, where two seeds or more allow a test (docs/significance.md).
"""

EVALUATE_HELP = """\
dmlbench evaluate PLACE... [KEY=VALUE...]: score a saved run again, without training, or anyone's embeddings.

  dmlbench evaluate runs/digits ks=1,5,20             every run below, at other ks
  dmlbench evaluate runs/digits rerank=k_reciprocal   with k-reciprocal re-ranking
  dmlbench evaluate theirs.npz --name "Their method"  a row that tables can hold

  PLACE              a folder that holds runs; or a file: .safetensors or .npz with the keys embeddings, labels and, if wanted,
                     ids, is_query, is_gallery; or .npy with a CSV that has a column labels
  ks=1,2,4,8         of Recall@k (default: the run's own)
  clusters=N         N clusters a class for k-means, 0 for none (default: 1, where there are at most 1,000 classes)
  distance=NAME      inner_product (of a run: the cosine), cosine (default for a file), euclidean (default with beta)
  rerank=k_reciprocal  rerank.k1=20 rerank.k2=6 rerank.lambda=0.3
  whiten=D           PCA whitening to D dimensions, fitted on training images (of a file: rows neither query nor gallery)
  beta=B             beta-normalisation: x / |x| + B x
  layer=NAME         of a run: embedding (default), fully_connected (the head's last hidden layer), pooled (the trunk)
  --name NAME        of a file's method, in print      dataset=NAME trunk=NAME seed=0   what it says of them
  --runs DIR         where a file's row goes (default: runs)
  --config-dir DIR   where the configurations of a run with own code are

The row names its parent, or its protocol is `external`; either way it stands in a table of its own, never among rows made
otherwise. Scores of each query are written beside it, as per_query.safetensors.
"""

DATA_HELP = """\
dmlbench data prepare NAME [KEY=VALUE...]: download or take the user's archive, verify, unpack; then check.
dmlbench data check NAME [KEY=VALUE...]: count, verify, find unreadable and duplicate images.

  dmlbench data prepare cub                               a download that broke off goes on
  dmlbench data prepare cub dataset.archive=CUB_200_2011.tgz
  dmlbench data check cub
  dmlbench data check folder dataset.root=photos dataset.split=half_per_class

  --config-dir DIR   look for configuration files in DIR too
"""

LIST_HELP = """\
dmlbench list GROUP: what can be named on the command line.

  dmlbench list losses
  dmlbench list trunks --config-dir my_conf

GROUP is one of losses, datasets, trunks, protocols, samplers, optimizers, sweeps.
"""

HELPS = {
    "train": TRAIN_HELP,
    "sweep": SWEEP_HELP,
    "table": TABLE_HELP,
    "evaluate": EVALUATE_HELP,
    "data": DATA_HELP,
    "list": LIST_HELP,
}
