"""Verbs that put what was trained to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtool.verbs.arguments import Names, PathLike, Paths, as_names, as_paths, optional_path, takes_urls

if TYPE_CHECKING:
    from mmtool.adaptation.evaluate import AdapterEvaluation
    from mmtool.evaluation.evaluate import EvaluationSummary
    from mmtool.imputation.files import ImputeSummary


@takes_urls
def impute(
    run: PathLike,
    data: PathLike,
    output: PathLike,
    *,
    have: Names = (),
    want: Names = (),
    split: str | None = None,
    device: str = "",
    threads: int = 0,
    force: bool = False,
    **options: Any,
) -> ImputeSummary:
    """Impute what samples of a token set lack, into real files.

    have, want: modalities (none named: all that a sample holds; all that it lacks). options: the fields of `ImputeOptions` and
    of `SamplingParams` (`draws`, `seed`, `temperature` ...). Raises UsageError where nothing can be imputed.

        mmtool.impute("run/", "shards/", "imputed/", split="test", have="text", want="image", draws=4)
    """
    from mmtool.common.options import assemble
    from mmtool.imputation.config import ImputeOptions
    from mmtool.imputation.files import impute_files
    from mmtool.imputation.inputs import stored_samples
    from mmtool.training.hardware import using

    chosen = assemble(ImputeOptions, {"have": as_names(have), "want": as_names(want), **options})
    with using(device, threads):
        return impute_files(Path(run), stored_samples(Path(run), Path(data), split), Path(output), chosen, force=force, inputs=[Path(data)])


@takes_urls
def evaluate(
    trained: Paths,
    data: PathLike,
    output: PathLike,
    *,
    train: PathLike | None = None,
    device: str = "",
    threads: int = 0,
    force: bool = False,
    **options: Any,
) -> EvaluationSummary | AdapterEvaluation:
    """Measure runs, or adapters, on held-out samples, and write one report that compares them.

    train: the training samples (default: beside the data). options: the fields of `EvaluationConfig` and of its tasks' options
    (`label`, `tasks`, `draws`, `candidates` ...); of adapters those of `mmtool.adaptation.evaluate.evaluate_adapters`. Raises
    UsageError for samples that any of these was trained on.

        mmtool.evaluate(["run-a/", "run-b/"], "shards/test", "report/", label="digit")
    """
    from mmtool.adaptation.adapter import is_adapter
    from mmtool.training.hardware import using

    paths = as_paths(trained)
    if paths and all(map(is_adapter, paths)):
        from mmtool.adaptation.evaluate import evaluate_adapters

        with using(device, threads):
            return evaluate_adapters(paths, Path(data), Path(output), force=force, **options)
    from mmtool.evaluation.config import EvaluationConfig
    from mmtool.evaluation.evaluate import evaluate as measure

    with using(device, threads):
        return measure(paths, Path(data), Path(output), EvaluationConfig.of(**options), train=optional_path(train), force=force)
