"""Verbs that train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtool.common.bounds import plain
from mmtool.verbs.arguments import Names, PathLike, as_names, as_sources, optional_path, takes_urls

if TYPE_CHECKING:
    from mmtool.adaptation.train import AdaptSummary
    from mmtool.comparison.adapters import AdapterComparison
    from mmtool.comparison.grid import Comparison
    from mmtool.training.finetune import FinetuneSummary
    from mmtool.training.pretrain import PretrainSummary


@takes_urls
def pretrain(
    data: PathLike,
    output: PathLike,
    *,
    init_from: PathLike | None = None,
    device: str = "",
    threads: int = 0,
    force: bool = False,
    workers: int | None = None,
    track: str | None = None,
    shard_model: bool = False,
    **settings: Any,
) -> PretrainSummary:
    """Train a transformer on whatever combinations of modalities the shards hold; the same call continues an interrupted run, one with more
    steps a finished one.

    init_from: a run of the same modalities, or of fewer, with whose weights it begins. workers: processes that make batches (None: beside a
    GPU up to four). track: tensorboard, wandb or trackio. shard_model: under `torchrun`, over its processes. settings: the fields of
    `PretrainConfig`. Raises UsageError for settings that do not exist or do not suit the data.

        mmtool.pretrain("shards/", "run/", method="loretta", preset="tiny", steps=500)
    """
    from mmtool.training.config import resolve
    from mmtool.training.hardware import using
    from mmtool.training.pretrain import pretrain as train

    config, from_run = resolve(None, settings), optional_path(init_from)
    with using(device, threads):
        return train(
            config, Path(data), Path(output), init_from=from_run, force=force, workers=workers, track=track, shard_model=shard_model
        )


@takes_urls
def finetune(
    run: PathLike, data: PathLike, output: PathLike, *, device: str = "", threads: int = 0, force: bool = False, **settings: Any
) -> FinetuneSummary:
    """Train a pretrained run further under a head that predicts a label.

    settings: the fields of `FinetuneConfig`. Raises UsageError for a label that the data does not have.

        mmtool.finetune("run/", "shards/", "digits/", label="digit")
    """
    from mmtool.training.config import FinetuneConfig, resolve_as
    from mmtool.training.finetune import finetune as train
    from mmtool.training.hardware import using

    with using(device, threads):
        return train(resolve_as(FinetuneConfig, None, settings), Path(run), Path(data), Path(output), force=force)


@takes_urls
def adapt(
    data: PathLike,
    output: PathLike,
    *,
    encoders: Mapping[str, PathLike],
    label: str,
    device: str = "",
    threads: int = 0,
    force: bool = False,
    **settings: Any,
) -> AdaptSummary:
    """Adapt frozen encoders of one modality each to a labelled task in which modalities are missing.

    encoders: modality -> a run, or a local Hugging Face directory. settings: the fields of `AdaptConfig`.

        mmtool.adapt("shards/", "adapter/", encoders={"image": "run-image/", "text": "run-text/"}, label="digit")
    """
    from mmtool.adaptation.config import AdaptConfig
    from mmtool.adaptation.train import adapt as train
    from mmtool.training.config import resolve_as
    from mmtool.training.hardware import using

    config = resolve_as(AdaptConfig, None, {"label": label, **settings})
    with using(device, threads):
        return train(config, as_sources(encoders), Path(data), Path(output), force=force)


@takes_urls
def compare(
    data: PathLike,
    output: PathLike,
    methods: Names | Mapping[str, Mapping[str, Any]],
    *,
    seeds: Sequence[int] = (0,),
    encoders: Mapping[str, PathLike] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    jobs: int = 1,
    force: bool = False,
    **settings: Any,
) -> Comparison | AdapterComparison:
    """Train methods with several seeds and compare them on held-out samples; the same call continues an interrupted comparison.

    methods: names, or {column: settings}, of pretraining, or with encoders of adaptation. evaluation: its options. settings: of every
    training.

        mmtool.compare("shards/", "comparison/", ["masked", "commutative"], seeds=[0, 1, 2], steps=500)
    """
    seeds = plain(list(seeds))
    columns = {name: {"method": name} for name in as_names(methods)} if not isinstance(methods, Mapping) else methods
    if encoders:
        from mmtool.adaptation.config import AdaptConfig
        from mmtool.comparison.adapters import compare_adapters
        from mmtool.training.config import resolve_as

        adapters = {name: resolve_as(AdaptConfig, None, {**settings, **column}) for name, column in columns.items()}
        options = evaluation or {}
        return compare_adapters(adapters, seeds, as_sources(encoders), Path(data), Path(output), jobs=jobs, force=force, **options)
    from mmtool.comparison.grid import compare as train_and_evaluate
    from mmtool.evaluation.config import EvaluationConfig
    from mmtool.training.config import resolve

    variants = {name: resolve(None, {**settings, **column}) for name, column in columns.items()}
    config = EvaluationConfig.of(**(evaluation or {}))
    return train_and_evaluate(variants, seeds, Path(data), Path(output), config, jobs=jobs, force=force)
