"""What `--help` prints; docs/cli.md is made of it."""

from __future__ import annotations

HELP = """\
dmlbench: deep metric learning methods, compared fairly.

  dmlbench train  loss=softtriple dataset=cub         one run, one row
  dmlbench sweep  dataset=cub seed=0,1,2              the seven losses and the untrained trunk, then their table
  dmlbench tune   loss=arcface dataset=cub trials=50  search a loss's own values on training classes, and only there
  dmlbench table  [runs...] --format latex            rows -> fair comparison tables
  dmlbench compare A B                                whether B is better than A, by how much, how sure, where
  dmlbench show   RUN                                 one run
  dmlbench evaluate PLACE [rerank=k_reciprocal]       score a saved run again, or anyone's embeddings
  dmlbench data   prepare NAME                        download, or take your archive; verify, unpack
  dmlbench data   check NAME [dataset.root=...]       count, verify, find unreadable and duplicate images
  dmlbench list   losses | datasets | trunks | protocols | samplers | optimizers | sweeps | launchers

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
  dmlbench sweep hydra/launcher=joblib hydra.launcher.n_jobs=4
                                                      four jobs at a time; or submitit_slurm, submitit_local, ray

Everything `dmlbench train --help` tells holds here too. Without loss= the sweep runs conf/sweep/seven.yaml; the
untrained trunk is always added. The same command again skips what is done, goes on with what broke off, and tries
again what met an accident (a method that failed only with retry=failed); started twice at once, the two share the work.
A line a job says when it starts, and when it ends how many are left and how long they may take. The table is printed, and
written in every format to RUNS/tables/. docs/sweeps.md tells more.
"""

TUNE_HELP = """\
dmlbench tune [KEY=VALUE...]: search a loss's own values, with the same budget for every loss, on training classes alone.

  dmlbench tune loss=arcface dataset=cub trials=50
  dmlbench tune loss=arcface,triplet trials=20        one after the other
  dmlbench train loss=arcface dataset=cub tuning.trials=50      the same, then a run with the best values
  dmlbench sweep +sweep=tuned dataset=cub seed=0,1,2  the seven losses, 20 trials each, then three runs of each

  trials=20            of each loss (tuning.trials); the first is the loss's own values
  tuning.fold=0        this fold of tuning.folds=4 of the training classes validates, the others train; all: each in turn,
                       and the mean counts, for four times the work
  tuning.epochs=null   of a trial; null: the protocol's
  tuning.prune=true    end a trial early that falls behind the median of the others
  tuning.seed=0        of proposals and trainings

What is searched stands in the loss's file (`search`); '+loss.search.make.margin={low: 0, high: 1}' changes it. No test
image is loaded. The same command again goes on where it was killed, and loses no trial; with more trials, it goes on from
those that are there; started twice at once, the processes share the trials. History and best values lie in
RUNS/<dataset>/<loss>/tune-*/ as history.csv, history.svg and best.json. Needs pip install 'dmlbench[tune]'.
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
  --format FORMAT    markdown, latex, csv or html (default: markdown); CSV carries every column, HTML is one file
  --metrics A,B      the metrics to print, such as recall_at_1,map_at_r (default: Recall@k, R-precision and MAP@R)
  --explain          say what the rows have in common, and what sets several tables apart, instead of printing them
  --oracle           also what choosing the epoch on the test set would have claimed (rows made with oracle=true); never bold
  --no-cost          leave out training time, speed, memory and parameters
  --published WHICH  what others published, below a rule (docs/published.md): same (default) of the table's data set, split and
                     trunk; all of every trunk, and ablations; none
  --config-dir DIR   read DIR/published/*.yaml too
  --untested         do not look which methods cannot be told from the best; faster for thousands of rows

Rows stand in one table only where everything but the axis and the seed is equal; what differs makes another table. Bold are the
best and all that are not significantly different from it, where two seeds or more allow a test (docs/significance.md).
A run that failed, met an accident, has not finished or is being run leaves its line without numbers (--), and a footnote says
why; delete its folder to be rid of it. A file that is no row is left out and said. Rows of an earlier version are told as such.
"""

COMPARE_HELP = """\
dmlbench compare A B [--metric NAME] [--format FORMAT]: whether B is better than A, in one screen.

  dmlbench compare triplet arcface
  dmlbench compare digits/triplet digits/arcface --metric recall_at_1
  dmlbench compare before/digits/triplet after/digits/triplet

  A, B               each one method with all its seeds: a folder or a row.json; or names of folders below runs, each whole or
                     as it begins: a method, dataset/method, or a run's id without its seed (1681b04f-ffc8b99b)
  --metric NAME      what the verdict is about (default: map_at_r)
  --format FORMAT    text or json (default: text)
  --runs DIR         where runs are (default: runs)

By how much, with a 95 % interval and p that know the chance of seeds and of classes (docs/significance.md); which classes gain
and lose; what it costs; and all else that differed. Where a test is impossible, it says why.
"""

SHOW_HELP = """\
dmlbench show RUN: one run, finished or not: what it was, its numbers, its training, its cost, its files.

  dmlbench show runs/digits/triplet/1681b04f-ffc8b99b-0
  dmlbench show 1681b04f-ffc8b99b-0

  RUN                a run's folder, its row.json, or its id or how that begins
  --runs DIR         where runs are (default: runs)
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

GROUP is one of losses, datasets, trunks, protocols, samplers, optimizers, sweeps, launchers.
"""

HELPS = {
    "train": TRAIN_HELP,
    "sweep": SWEEP_HELP,
    "tune": TUNE_HELP,
    "table": TABLE_HELP,
    "compare": COMPARE_HELP,
    "show": SHOW_HELP,
    "evaluate": EVALUATE_HELP,
    "data": DATA_HELP,
    "list": LIST_HELP,
}
