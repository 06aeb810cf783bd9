"""The verbs of the command line as functions: plain values in, a summary of what was written out.

Paths may be strings, and URLs (`s3://bucket/shards`). device: cpu, cuda or cuda:1 ("": a GPU where there is one); threads: of the CPU
(0: one per core). Settings that the command line takes with `--set` are keyword arguments here (`shape={"depth": 6}`,
`method_options={"warmup": 0.3}`). Everything is imported when a verb is called, for some need PyTorch and others do not.
"""

from mmtool.verbs.data import lint, peek, shard, tokenize, tokenize_manifest
from mmtool.verbs.inference import evaluate, impute
from mmtool.verbs.training import adapt, compare, finetune, pretrain

__all__ = ["adapt", "compare", "evaluate", "finetune", "impute", "lint", "peek", "pretrain", "shard", "tokenize", "tokenize_manifest"]
