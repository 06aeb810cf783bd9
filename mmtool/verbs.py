"""The verbs of the command line as functions: plain values in, a summary of what was written out.

Paths may be strings. device: cpu, cuda or cuda:1 ("": a GPU where there is one); threads: of the CPU (0: one per core). Settings that
the command line takes with `--set` are keyword arguments here (`shape={"depth": 6}`, `method_options={"warmup": 0.3}`). Everything is
imported when a verb is called, for some need PyTorch and others do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtool.adaptation.evaluate import AdapterEvaluation
    from mmtool.adaptation.train import AdaptSummary
    from mmtool.comparison.adapters import AdapterComparison
    from mmtool.comparison.grid import Comparison
    from mmtool.evaluation.evaluate import EvaluationSummary
    from mmtool.evaluation.peek import PeekSummary
    from mmtool.imputation.files import ImputeSummary
    from mmtool.preprocessing.manifest import ManifestSummary
    from mmtool.preprocessing.shard import ShardSummary
    from mmtool.preprocessing.tokenize import TokenizeSummary
    from mmtool.training.finetune import FinetuneSummary
    from mmtool.training.pretrain import PretrainSummary

PathLike = str | Path
Paths = PathLike | Iterable[PathLike]
Names = str | Sequence[str]


def tokenize(
    kind: str,
    paths: Paths,
    output: PathLike,
    *,
    name: str | None = None,
    tokenizer: PathLike | None = None,
    scheme: str | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_label: str | None = None,
    augment: int = 0,
    guide: PathLike | None = None,
    source: Mapping[str, Any] | None = None,
    workers: int = 0,
    timeout_s: float = 60.0,
    seed: int = 0,
    force: bool = False,
    **settings: Any,
) -> TokenizeSummary:
    """Turn raw files of one kind into tokens of one modality.

    name: of the modality (default: the kind). tokenizer: one fitted before, or what holds one; None fits one to the training samples with
    these settings (`size=64`), or takes one from elsewhere (`scheme="hf:encodec/"`). source: how raw files are read, by the fields of
    `SourceOptions` and, for tables, of `TableOptions` (`{"key_column": "patient", "unseen": "missing"}`). workers: processes that read and
    decode (0: this one), for at most `timeout_s` each sample. Raises DataError for files that cannot be read, UsageError for settings that
    do not exist.

        mmtool.tokenize("text", "notes.csv", "tokens/text.tar", source={"text_column": "note"})
    """
    from mmtool.preprocessing.tokenize import tokenize as write_tokens

    return write_tokens(
        kind,
        _paths(paths),
        Path(output),
        name=name or kind,
        scheme=scheme,
        settings=settings,
        augment=augment,
        guide=_optional(guide),
        **_stage(tokenizer, fractions, split_label, source, seed, force, workers, timeout_s),
    )


def tokenize_manifest(
    manifest: PathLike,
    output: PathLike,
    columns: Mapping[str, str],
    *,
    tokenizer: PathLike | None = None,
    schemes: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_label: str | None = None,
    source: Mapping[str, Any] | None = None,
    workers: int = 0,
    timeout_s: float = 60.0,
    seed: int = 0,
    force: bool = False,
) -> ManifestSummary:
    """Turn several columns of one table into tokens of one modality each, in a folder of token sets NAME.tar.

    columns: name of each modality (or NAME:KIND) -> its column, of paths, files or texts; an empty cell is an absent modality. tokenizer: a
    run, or an earlier output; None fits new ones. schemes, settings: by modality. source, workers, timeout_s: as for `tokenize`.

        mmtool.tokenize_manifest("data.csv", "tokens/", {"image": "image_path", "text": "caption"}, settings={"image": {"size": 32}})
    """
    from mmtool.preprocessing.manifest import tokenize_manifest as write_token_sets

    stage = _stage(tokenizer, fractions, split_label, source, seed, force, workers, timeout_s)
    return write_token_sets(Path(manifest), Path(output), columns, schemes=schemes, settings=settings, **stage)


def shard(inputs: Paths, output: PathLike, *, labels: PathLike | None = None, force: bool = False, **options: Any) -> ShardSummary:
    """Join token sets on keys into one set of train, validation and test shards.

    labels: CSV or TSV of further labels by key. options: those of `mmtool.preprocessing.shard.shard` (`protocol`, `split`, `alignment`,
    `unpaired` ...). Raises DataError where no keys meet.

        mmtool.shard(["tokens/image.tar", "tokens/text.tar"], "shards/")
    """
    from mmtool.preprocessing.shard import shard as write_shards

    return write_shards(_paths(inputs), Path(output), labels=_optional(labels), force=force, **options)


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
    **settings: Any,
) -> PretrainSummary:
    """Train a transformer on whatever combinations of modalities the shards hold; the same call continues an interrupted run, one with more
    steps a finished one.

    init_from: a run of the same modalities, or of fewer, with whose weights it begins. workers: processes that make batches (None: beside a
    GPU up to four). track: tensorboard, wandb or trackio. settings: the fields of `PretrainConfig`. Raises UsageError for settings that do
    not exist or do not suit the data.

        mmtool.pretrain("shards/", "run/", method="loretta", preset="tiny", steps=500)
    """
    from mmtool.training.config import resolve
    from mmtool.training.hardware import using
    from mmtool.training.pretrain import pretrain as train

    from_run = _optional(init_from)
    with using(device, threads):
        return train(resolve(None, settings), Path(data), Path(output), init_from=from_run, force=force, workers=workers, track=track)


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
        return train(config, _sources(encoders), Path(data), Path(output), force=force)


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

    chosen = assemble(ImputeOptions, {"have": _names(have), "want": _names(want), **options})
    with using(device, threads):
        return impute_files(Path(run), stored_samples(Path(run), Path(data), split), Path(output), chosen, force=force, inputs=[Path(data)])


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

    paths = _paths(trained)
    if paths and all(map(is_adapter, paths)):
        from mmtool.adaptation.evaluate import evaluate_adapters

        with using(device, threads):
            return evaluate_adapters(paths, Path(data), Path(output), force=force, **options)
    from mmtool.evaluation.config import EvaluationConfig
    from mmtool.evaluation.evaluate import evaluate as measure

    with using(device, threads):
        return measure(paths, Path(data), Path(output), EvaluationConfig.of(**options), train=_optional(train), force=force)


def peek(
    data: PathLike, output: PathLike, *, split: str | None = None, samples: int = 12, seed: int = 0, force: bool = False
) -> PeekSummary:
    """Write some samples of a token set as files and as one picture, to look at before anything is trained.

    mmtool.peek("shards/", "look/", samples=20)
    """
    from mmtool.evaluation.peek import peek as write_samples

    return write_samples(Path(data), Path(output), split=split, samples=samples, seed=seed, force=force)


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
    columns = {name: {"method": name} for name in _names(methods)} if not isinstance(methods, Mapping) else methods
    if encoders:
        from mmtool.adaptation.config import AdaptConfig
        from mmtool.comparison.adapters import compare_adapters
        from mmtool.training.config import resolve_as

        adapters = {name: resolve_as(AdaptConfig, None, {**settings, **column}) for name, column in columns.items()}
        options = evaluation or {}
        return compare_adapters(adapters, seeds, _sources(encoders), Path(data), Path(output), jobs=jobs, force=force, **options)
    from mmtool.comparison.grid import compare as train_and_evaluate
    from mmtool.evaluation.config import EvaluationConfig
    from mmtool.training.config import resolve

    variants = {name: resolve(None, {**settings, **column}) for name, column in columns.items()}
    config = EvaluationConfig.of(**(evaluation or {}))
    return train_and_evaluate(variants, seeds, Path(data), Path(output), config, jobs=jobs, force=force)


def _stage(
    tokenizer: PathLike | None,
    fractions: tuple[float, float, float],
    split_label: str | None,
    source: Mapping[str, Any] | None,
    seed: int,
    force: bool,
    workers: int,
    timeout_s: float,
) -> dict[str, Any]:
    """What tokenizing one modality and several have in common, as the library takes it."""
    from mmtool.preprocessing.decoding import Decoding
    from mmtool.preprocessing.readers.entries import SourceOptions
    from mmtool.preprocessing.splits import Split

    return {
        "tokenizer": _optional(tokenizer),
        "options": SourceOptions.of(source or {}),
        "split": Split(fractions, seed),
        "split_label": split_label,
        "seed": seed,
        "force": force,
        "decoding": Decoding(workers, timeout_s),
    }


def _paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]


def _optional(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _sources(encoders: Mapping[str, PathLike]) -> dict[str, Path]:
    return {name: Path(path) for name, path in encoders.items()}
