"""mmtool: tokenize, pretrain on and impute incomplete multimodal data.

    import mmtool

    mmtool.pretrain("shards/", "run/", steps=500)
    run = mmtool.load("run/")
    imputed = run.impute(mmtool.open_shards("shards/", split="test"), have="text", want="image")

Importing it is cheap: PyTorch and all else is loaded when one of these names is first used.
"""

import os
from typing import TYPE_CHECKING, Any

from mmtool.common.heap import keep_freed_memory
from mmtool.common.threads import affinity_cpus, set_thread_defaults

if TYPE_CHECKING:
    from mmtool.api import Adapter, Imputed, Run, load, open_shards
    from mmtool.common.errors import DataError, MmtoolError, UsageError
    from mmtool.data.torch_datasets import collate, torch_dataset, webdataset_pipeline
    from mmtool.exports.export import export
    from mmtool.verbs import adapt, compare, evaluate, finetune, impute, lint, peek, pretrain, shard, tokenize, tokenize_manifest

__version__ = "0.7.0"
__all__ = [
    "Adapter",
    "DataError",
    "Imputed",
    "MmtoolError",
    "Run",
    "UsageError",
    "__version__",
    "adapt",
    "collate",
    "compare",
    "evaluate",
    "export",
    "finetune",
    "impute",
    "lint",
    "load",
    "open_shards",
    "peek",
    "pretrain",
    "shard",
    "tokenize",
    "tokenize_manifest",
    "torch_dataset",
    "webdataset_pipeline",
]

_VERBS = ("tokenize", "tokenize_manifest", "shard", "pretrain", "finetune", "adapt", "impute", "evaluate", "compare", "peek", "lint")
_ROOMS = {"load": "api", "open_shards": "api", "Run": "api", "Imputed": "api", "Adapter": "api"}
_ROOMS |= {**dict.fromkeys(_VERBS, "verbs"), "export": "exports.export"}
_ROOMS |= dict.fromkeys(("collate", "torch_dataset", "webdataset_pipeline"), "data.torch_datasets")
_ROOMS |= dict.fromkeys(("MmtoolError", "UsageError", "DataError"), "common.errors")

set_thread_defaults(os.environ, affinity_cpus())
keep_freed_memory(os.environ)


def __getattr__(name: str) -> Any:
    """The names of the front door, imported when they are first used."""
    from importlib import import_module

    if name == "sklearn":
        return import_module(f"{__name__}.{name}")
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
