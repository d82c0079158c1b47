"""Counting and encoding of a corpus on many machines: two steps for the pipelines of datatrove (extra `cluster`).

    from bpe.cluster import CountPretokens
    from datatrove.executor import LocalPipelineExecutor

    step = CountPretokens("s3://corpus/texts", "s3://corpus/counts")
    LocalPipelineExecutor([step], tasks=8, logging_dir="s3://corpus/counts/logs").run()

`python -m bpe cluster` does the same. It also records the settings of a run, checks that its parts belong together, and
learns the merges.
"""

from __future__ import annotations

from bpe.cluster.runs import load_counts as load_counts
from bpe.cluster.runs import make_executor as make_executor
from bpe.cluster.runs import run as run
from bpe.cluster.shards import open_folder as open_folder
from bpe.cluster.shards import written_to as written_to
from bpe.cluster.steps import CountPretokens as CountPretokens
from bpe.cluster.steps import EncodeShards as EncodeShards
from bpe.cluster.steps import add_up as add_up
