"""Imputation: absent modalities of a sample from present ones, in batches of hundreds."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtool.console import track
from mmtool.data.graph import CoOccurrence
from mmtool.data.loader import sample_seed
from mmtool.data.sample import Modality, Sample
from mmtool.data.shard_format import encode_key
from mmtool.errors import UsageError
from mmtool.impute_tables import write_table
from mmtool.model.decode import Sampling, Temperature, check_temperature, temperature_of
from mmtool.model.transformer import Transformer
from mmtool.storage import atomic_directory, canonical_json, refuse_overwrite, write_bytes
from mmtool.tokenizers.base import RowWriter, Tokenizer, ValueCodes
from mmtool.training.hardware import pick_device, pick_precision
from mmtool.training.run import Run, open_run
from mmtool.training.target import Target, predict

BATCH_ROWS = 512  # rows decoded together; the cache of the base preset takes about 2 GB at 256 tokens


@dataclass(frozen=True)
class Imputation:
    """Draws of one absent modality of one sample.

    tokens: codes or patches, one array per draw. log_likelihood: mean nats per token of each draw under p(draw | given).
    consistency: mean nats per token of the real given modalities under p(given | draw), None unless asked for.
    expected: (L,) expected code values: told directly, or their mean over draws; None for modalities whose codes have no values.
    """

    tokens: list[np.ndarray]
    log_likelihood: list[float]
    consistency: list[float] | None = None
    expected: np.ndarray | None = None

    def best_first(self) -> list[int]:
        """Draws by consistency where it was measured, else by likelihood (methods that learned both directions give both)."""
        scores = self.consistency if self.consistency is not None else self.log_likelihood
        return sorted(range(len(scores)), key=lambda i: -scores[i])


class Imputer:
    """A trained run, ready to fill holes."""

    def __init__(self, run: Run, model: Transformer) -> None:
        self.run, self.model, self._method = run, model, run.method()
        self.method, self.seed = run.config.method, run.config.seed
        self.modalities: tuple[Modality, ...] = run.layout.modalities
        self.tokenizers: dict[str, Tokenizer] = run.tokenizers()
        self.graph: CoOccurrence = run.graph
        self.target, self.poolings = run.target, self._method.poolings
        self._values = run.values()

    @classmethod
    def open(cls, path: Path, *, checkpoint: str | None = None, device: str | None = None) -> "Imputer":
        """Open a run directory with its newest (or the named) checkpoint. Raises DataError where there is none."""
        run = open_run(path)
        place = torch.device(device) if device else pick_device()
        model = run.model(torch.device("cpu"))
        model.load_state_dict(run.checkpoint(checkpoint).model)
        model.to(place).eval().compute_dtype = pick_precision(run.config.precision, place)
        return cls(run, model)

    def impute(
        self,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        *,
        seed: int = 0,
        temperature: Temperature = 1.0,
        top_k: int | None = None,
        draws: int = 1,
        consistency: bool = False,
    ) -> list[Imputation]:
        """Draw modality `want` of every sample from its modalities `have`. Raises UsageError where no path links them."""
        self.check(have, want)
        check_temperature(temperature, self.tokenizers)
        generator = torch.Generator(device=self.model.head.device).manual_seed(seed)
        rows, tokenizer = max(1, BATCH_ROWS // draws), self.tokenizers[want]
        values = tokenizer.code_values() if isinstance(tokenizer, ValueCodes) else None
        sampling = Sampling(temperature_of(temperature, want), top_k, values)
        done: list[Imputation] = []
        for start in range(0, len(samples), rows):
            part = samples[start : start + rows]
            made = self._method.impute(self.model, part, have, want, sampling, generator, draws)
            likely = (made.log_likelihood / made.num_tokens).reshape(len(part), draws).tolist()
            codes = [made.codes[i * draws : (i + 1) * draws] for i in range(len(part))]
            likely_given = [name for name in have if self.can_score(name)] if consistency else []
            back = self._consistency(part, likely_given, want, codes) if likely_given else [None] * len(part)
            means = self._expected(part, have, want, made.expected)
            done += [Imputation(*fields) for fields in zip(codes, likely, back, means, strict=True)]
        return done

    def score(self, samples: Sequence[Sample], have: Sequence[str], target: str) -> list[tuple[float, int]]:
        """Teacher-forced (sum of negative log-likelihood in nats, number of target tokens) of `target` given `have`, per sample."""
        scored: list[tuple[float, int]] = []
        for start in range(0, len(samples), BATCH_ROWS // 2):
            nll, counts = self._method.score(self.model, samples[start : start + BATCH_ROWS // 2], have, target)
            scored += zip(nll.tolist(), counts.tolist(), strict=True)
        return scored

    def features(self, samples: Sequence[Sample], have: Sequence[str], pooling: str | None = None) -> np.ndarray:
        """(N, D) representations of samples from their modalities `have` alone, for probes and retrieval; `poolings` says how they can
        be made, the usual way first."""
        parts = [samples[start : start + BATCH_ROWS] for start in range(0, len(samples), BATCH_ROWS)]
        return np.concatenate([self._method.features(self.model, part, have, pooling) for part in parts])

    @property
    def reconstructs(self) -> bool:
        """Whether the run tells hidden tokens from visible ones."""
        return self._method.reconstructs

    def hide(self, samples: Sequence[Sample], ratio: float | None = None, seed: int = 0) -> list[dict[str, np.ndarray]]:
        """(L,) bool for each modality of each sample: tokens to hide, as many as in training or a share of `ratio`; a function of the seed
        and the sample's key."""
        return [self._method.hidden(each, ratio, np.random.default_rng(sample_seed(seed, 0, each.key))) for each in samples]

    def reconstruct(
        self, samples: Sequence[Sample], have: Sequence[str], hidden: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """Tokens of the modalities `have` of each sample, the hidden ones as told from all visible ones in one pass."""
        return self._method.reconstruct(self.model, samples, have, hidden)

    def predict(self, samples: Sequence[Sample], have: Sequence[str] | None = None) -> np.ndarray:
        """(N, outputs) what the head of a finetuned run says of samples, from `have` (None: all it knows and they hold) alone; `target`
        tells what that means."""
        if self.target is None:
            raise UsageError("the run has no head.", where=self.run.path, fix="Finetune it with `mmtool finetune`.")
        return predict(self.model, self._method, replace(self.target, have=tuple(have or self.target.have)), samples)

    @property
    def has_likelihood(self) -> bool:
        """Whether `score` is defined (a contrastive run retrieves and has none)."""
        return self._method.has_likelihood

    def can_score(self, name: str) -> bool:
        """Whether `score` is defined for this modality: patches of continuous ones have no likelihood."""
        return self._method.can_score(name)

    @property
    def scores_by_token(self) -> bool:
        """Whether `score` takes one pass per token (masked modelling), not one per sample."""
        return self._method.scores_by_token

    def check(self, have: Sequence[str], want: str) -> None:
        """Raise UsageError for unknown modalities and where no path of co-occurring modalities leads from `have` to `want`."""
        for name in (*have, want):
            self._index(name)
        if want in have:
            raise UsageError(f"{want!r} is both given and wanted.", where="--want", fix="Ask for a modality that is absent.")
        if have and self.graph.path(set(have), want) is None:
            raise UsageError(
                f"no chain of modalities that occurred together in training leads from {', '.join(have)} to {want}.",
                where="--have/--want",
                fix="Train on data that links them, for example with a modality that occurs with both.",
            )

    def _consistency(
        self, samples: Sequence[Sample], have: Sequence[str], want: str, codes: Sequence[Sequence[np.ndarray]]
    ) -> list[list[float]]:
        """Of each sample and draw, see `Method.consistency`."""
        rows = max(1, BATCH_ROWS // 2 // len(codes[0]))
        parts = [slice(start, start + rows) for start in range(0, len(samples), rows)]
        scores = [self._method.consistency(self.model, samples[part], have, want, codes[part]) for part in parts]
        return np.concatenate(scores).tolist()

    def _expected(self, samples: Sequence[Sample], have: Sequence[str], want: str, drawn: np.ndarray | None) -> list[np.ndarray | None]:
        """Mean code values of each sample: told directly where the run learned that, else the mean over its draws."""
        if self._values is not None and self._values.knows(have, want):
            return list(self._values.expected(have, want, samples, partial(self._method.states, self.model)))
        return [None] * len(samples) if drawn is None else list(drawn.reshape(len(samples), -1, drawn.shape[1]).mean(1))

    def _index(self, name: str) -> int:
        return self.run.layout.index(name)


@dataclass(frozen=True)
class ImputeOptions:
    """have: given modalities (empty: all that each sample holds). want: modalities to fill (empty: all that each sample lacks).
    draws: imputations per hole. temperature (0: the most likely code; of all modalities, or by modality), top_k (None: all codes).
    consistency: rank draws by how well the given modalities can be told from them. limit: at most so many samples. seed: of the draws."""

    have: tuple[str, ...] = ()
    want: tuple[str, ...] = ()
    draws: int = 1
    temperature: Temperature = 1.0
    top_k: int | None = None
    consistency: bool = True
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ImputeSummary:
    output: str
    samples: int
    skipped: int
    imputed: dict[str, int]


def impute_files(run: Path, data: Sequence[Sample], output: Path, options: ImputeOptions, *, force: bool = False) -> ImputeSummary:
    """Fill holes and write them as real files: `MODALITY/KEY.png|wav|txt|npz` and `imputed.jsonl`.

    Tables are one `MODALITY.csv` of expected values; with several draws also `MODALITY.q05.csv` (and q25, q50, q75, q95), the bounds
    below which a value lies with that probability.

    Of a finetuned run, what may also be wanted is its label: `LABEL.csv` tells it for every sample, with the probability of each class.

    Each line of imputed.jsonl names key, modality, what it was made from, file, and per draw the log-likelihood and consistency (mean
    nats per token), the best draw first. Raises UsageError where nothing can be imputed.
    """
    refuse_overwrite(output, force)
    imputer = Imputer.open(run)
    chosen = data[: options.limit] if options.limit else data
    if imputer.target and options.want == (imputer.target.label,):
        return _predict_label(imputer, imputer.target, chosen, output, options, force)
    jobs = _jobs(imputer, chosen, options)
    if not jobs:
        raise UsageError(
            f"none of the {len(chosen)} samples has what is asked for.",
            where="--have/--want",
            fix=f"Samples hold {', '.join(sorted({name for sample in chosen for name in sample.tokens})) or 'nothing'}.",
        )
    filled: dict[str, list[Filled]] = defaultdict(list)
    for (have, want), samples in track(sorted(jobs.items()), "imputing"):
        made = imputer.impute(
            samples,
            have,
            want,
            seed=options.seed,
            temperature=options.temperature,
            top_k=options.top_k,
            draws=options.draws,
            consistency=options.consistency,
        )
        filled[want] += [Filled(sample.key, have, imputation) for sample, imputation in zip(samples, made, strict=True)]
    with atomic_directory(output, force) as partial, open(partial / "imputed.jsonl", "w") as lines:
        for want, holes in filled.items():
            for hole, files in zip(
                holes, track(_write_values(imputer.tokenizers[want], partial, want, holes), want, len(holes)), strict=True
            ):
                lines.write(canonical_json({"modality": want, **hole.to_json(), "files": files}) + "\n")
    used = {hole.key for holes in filled.values() for hole in holes}
    return ImputeSummary(str(output), len(used), len(chosen) - len(used), {want: len(holes) for want, holes in filled.items()})


def _predict_label(
    imputer: Imputer, target: Target, samples: Sequence[Sample], output: Path, options: ImputeOptions, force: bool
) -> ImputeSummary:
    have = options.have or target.have
    seen = [sample for sample in samples if set(have) & set(sample.tokens)]
    if not seen:
        raise UsageError(f"none of the {len(samples)} samples holds {' or '.join(have)}.", where="--have", fix="Give what they hold.")
    table = f"{encode_key(target.label)}.csv"
    lines = [
        {"modality": target.label, "key": sample.key, "given": [name for name in have if name in sample.tokens], "files": [table]}
        for sample in seen
    ]
    with atomic_directory(output, force) as partial:
        write_bytes(partial / table, target.csv(seen, imputer.predict(seen, have)))
        write_bytes(partial / "imputed.jsonl", "".join(canonical_json(line) + "\n" for line in lines).encode())
    return ImputeSummary(str(output), len(seen), len(samples) - len(seen), {target.label: len(seen)})


@dataclass(frozen=True)
class Filled:
    """One hole, filled: the sample's key, what it was filled from, and the draws."""

    key: str
    given: tuple[str, ...]
    imputation: Imputation

    def ranked(self) -> list[np.ndarray]:
        """The draws, the most trusted first."""
        return [self.imputation.tokens[draw] for draw in self.imputation.best_first()]

    def to_json(self) -> dict[str, Any]:
        order, back = self.imputation.best_first(), self.imputation.consistency
        likely = [self.imputation.log_likelihood[draw] for draw in order]
        return {
            "key": self.key,
            "given": list(self.given),
            "log_likelihood": likely,
            "consistency": [back[draw] for draw in order] if back else None,
        }


def _jobs(imputer: Imputer, samples: Sequence[Sample], options: ImputeOptions) -> dict[tuple[tuple[str, ...], str], list[Sample]]:
    """(have, want) -> samples: one decode for all samples with the same holes."""
    for want in options.want:
        imputer.check(options.have, want)
    names = [modality.name for modality in imputer.modalities]
    jobs: dict[tuple[tuple[str, ...], str], list[Sample]] = defaultdict(list)
    for sample in samples:
        have = options.have or tuple(name for name in names if name in sample.tokens)
        if not have or not set(have) <= set(sample.tokens):
            continue
        for want in options.want or tuple(name for name in names if name not in sample.tokens):
            given = tuple(name for name in have if name != want)
            if given:
                jobs[given, want].append(sample)
    for have, want in jobs:
        imputer.check(have, want)
    return jobs


def _write_values(tokenizer: Tokenizer, folder: Path, want: str, holes: Sequence[Filled]) -> Iterator[list[str]]:
    """Decode and write all draws, batch by batch; gives the files of each hole, the most trusted draw first.

    Tables go into one CSV of means (and some of quantiles), everything else into one file per draw.
    """
    if isinstance(tokenizer, ValueCodes) and isinstance(tokenizer, RowWriter):
        draws, means = [hole.imputation.tokens for hole in holes], [hole.imputation.expected for hole in holes]
        paths = write_table(tokenizer, [hole.key for hole in holes], draws, means, folder / want)
        yield from ([path.name for path in paths] for _ in holes)
        return
    if isinstance(tokenizer, RowWriter):
        ranks = zip(*(tokenizer.decode(hole.ranked()) for hole in holes), strict=True)
        paths = [
            tokenizer.write_rows([hole.key for hole in holes], rows, folder / _named(want, rank, ".csv")) for rank, rows in enumerate(ranks)
        ]
        yield from ([path.name for path in paths] for _ in holes)
        return
    for start in range(0, len(holes), BATCH_ROWS):
        batch = holes[start : start + BATCH_ROWS]
        values = iter(tokenizer.decode([codes for hole in batch for codes in hole.ranked()]))
        for hole in batch:
            stems = [folder / want / _named(encode_key(hole.key), rank) for rank in range(len(hole.imputation.tokens))]
            yield [str(tokenizer.write(next(values), stem).relative_to(folder)) for stem in stems]


def _named(stem: str, rank: int, suffix: str = "") -> str:
    """The best draw has the plain name, the others carry their rank."""
    return f"{stem}.{rank}{suffix}" if rank else f"{stem}{suffix}"
