"""Imputation: absent modalities of a sample from present ones, in batches of hundreds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtool.common.errors import UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.identity import TrainingItems
from mmtool.data.loader import sample_seed
from mmtool.data.sample import Modality, Sample
from mmtool.imputation.sampling_params import PLAIN, SamplingParams
from mmtool.methods.protocols import (
    ImputationRequest,
    Matching,
    Reconstructing,
    Retrieving,
    Scoring,
    imputing,
    matching,
    reconstructing,
    representing,
    scoring,
)
from mmtool.model.transformer import Transformer
from mmtool.tokenizers.base import Tokenizer, ValueCodes
from mmtool.training.hardware import pick_device, pick_precision
from mmtool.training.run import Run, open_run
from mmtool.training.target import predict

REFERENCES = 64  # samples that show how likely a donor is whatever is given
BATCH_ROWS = 512  # rows decoded together at most, half as many with guidance


def refuse_repeated(have: Sequence[str]) -> None:
    """Raise UsageError for a modality that is given twice: models read each once."""
    if len(set(have)) < len(have):
        twice = next(name for name in have if list(have).count(name) > 1)
        raise UsageError(f"{twice!r} is named more than once.", where="--have", fix="Name each modality once.")


@dataclass(frozen=True)
class Imputation:
    """Draws of one absent modality of one sample.

    tokens: codes or patches, one array per draw. log_likelihood: mean nats per token of each draw under p(draw | given).
    consistency: mean nats per token of the real given modalities under p(given | draw), None unless asked for.
    expected: (L,) expected code values: predicted directly, or their mean over draws; None for modalities whose codes have no values.
    donors: keys of the real samples that the draws are taken from, None where they were generated; log_likelihood is then how probable
    each of them is among all donors.
    through: modalities that were drawn on the way (see `ChainedImputer`).
    """

    tokens: list[np.ndarray]
    log_likelihood: list[float]
    consistency: list[float] | None = None
    expected: np.ndarray | None = None
    donors: list[str] | None = None
    through: tuple[str, ...] = ()

    def best_first(self) -> list[int]:
        """Draws by their score."""
        _, scores = self.score()
        return sorted(range(len(scores)), key=lambda i: -scores[i])

    def score(self) -> tuple[str, list[float]]:
        """What draws are ranked by, and that of each: the consistency where it was measured, else the likelihood (methods that learned both
        directions give both)."""
        return ("log_likelihood", self.log_likelihood) if self.consistency is None else ("consistency", self.consistency)


class Imputer:
    """A trained run, ready to impute. trained_on: the fingerprint of its training samples. step: of the checkpoint, where it has one.
    weights: the sha256 of its weights, "" where they are of no checkpoint."""

    def __init__(self, run: Run, model: Transformer, step: int | None = None, weights: str = "") -> None:
        self.run, self.model, self.step, self.weights, self._method = run, model, step, weights, run.method()
        self.method, self.seed, self.trained_on = run.config.method, run.config.seed, str(run.record["data"])
        self.modalities: tuple[Modality, ...] = run.layout.modalities
        self.tokenizers: dict[str, Tokenizer] = run.tokenizers()
        self.graph: CoOccurrence = run.graph
        self.target, self.poolings = run.target, representing(self._method).poolings
        self._values = run.values()

    @classmethod
    def open(cls, path: Path, *, checkpoint: str | None = None, device: str | None = None) -> "Imputer":
        """Open a run directory with its newest (or the named) checkpoint. Raises DataError where there is none, UsageError for a
        device that there is not."""
        run = open_run(path)
        where = pick_device(str(device or ""))
        model = run.model(torch.device("cpu"))
        opened = run.checkpoint(checkpoint)
        model.load_state_dict(opened.model)
        model.to(where).eval().compute_dtype = pick_precision(run.config.precision, where)
        return cls(run, model, opened.state["step"], opened.weights)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where it comes from, as JSON values: version, step, parameters, fingerprint of the training samples, settings."""
        version, config = self.run.record.get("version"), self.run.record["config"]
        return {"version": version, "step": self.step, "parameters": self.model.num_parameters(), "data": self.trained_on, "config": config}

    def impute(
        self,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        *,
        seed: int = 0,
        params: SamplingParams = PLAIN,
        draws: int = 1,
        consistency: bool = False,
    ) -> list[Imputation]:
        """Draw modality `want` of every sample from its modalities `have`. Raises UsageError where no path links them."""
        self.check(have, want)
        params.check(self.tokenizers)
        generator = torch.Generator(device=self.model.head.device).manual_seed(seed)
        tokenizer = self.tokenizers[want]
        sampling = params.of(want, tokenizer.code_values() if isinstance(tokenizer, ValueCodes) else None)
        request = ImputationRequest(have, want, sampling, draws)
        rows = max(1, BATCH_ROWS // draws // (2 if sampling.guidance else 1))
        imputations: list[Imputation] = []
        for start in range(0, len(samples), rows):
            imputations += self._impute(samples[start : start + rows], request, generator, consistency)
        return imputations

    def _impute(
        self, samples: Sequence[Sample], request: ImputationRequest, generator: torch.Generator, consistency: bool
    ) -> list[Imputation]:
        """One batch."""
        generated, draws = imputing(self._method).impute(self.model, samples, request, generator), request.draws
        log_likelihoods = (generated.log_likelihood / generated.num_tokens).reshape(len(samples), draws).tolist()
        codes = [generated.codes[i * draws : (i + 1) * draws] for i in range(len(samples))]
        scored = [name for name in request.have if self.can_score(name)] if consistency else []
        scores = self._consistency(samples, replace(request, have=scored), codes) if scored else [None] * len(samples)
        means = self._expected(samples, request, generated.expected)
        return [Imputation(*fields) for fields in zip(codes, log_likelihoods, scores, means, strict=True)]

    def choose(
        self,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        donors: Sequence[Sample],
        draws: int = 1,
        *,
        limit: int | None = None,
        seed: int = 0,
    ) -> list[Imputation]:
        """Impute `want` of every sample by real data, that of its most probable donors, the best first (hot-deck imputation).

        limit: choose among at most so many random ones of the donors that hold `want`; the rest still show what is usual. A sample is
        not its donor. Raises UsageError for fewer donors than draws, where no path links the modalities, and where what is given has no
        likelihood.
        """
        self.check(have, want)
        if not have:
            raise UsageError("nothing is given that donors could fit.", where="--have", fix="Name a modality that the samples hold.")
        holding = [donor for donor in donors if want in donor.tokens]
        pool = [holding[i] for i in np.sort(np.random.default_rng(seed).permutation(len(holding))[:limit])]
        if len(pool) <= draws:
            what = f"{len(pool)} donors hold {want}; to choose {draws} takes {draws + 1} or more, as no sample is its own donor."
            raise UsageError(what, where="--donors", fix="Give more data that has it, raise --max-donors, or ask for fewer with --draws.")
        scores = self.match(samples, have, want, [donor.tokens[want] for donor in pool], donors)
        keys = np.array([donor.key for donor in pool], dtype=object)
        scores[keys == np.array([sample.key for sample in samples], dtype=object)[:, None]] = -np.inf
        log_p = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        best = np.argsort(-log_p, axis=1, kind="stable")[:, :draws]
        likely = np.take_along_axis(log_p, best, 1).tolist()
        return [
            Imputation([pool[i].tokens[want] for i in chosen], values, donors=keys[chosen].tolist())
            for chosen, values in zip(best, likely, strict=True)
        ]

    def can_match(self, have: Sequence[str], want: str) -> bool:
        """Whether `match` is defined for this direction."""
        return self._predicts_values(have, want) or (isinstance(self._method, Matching) and self._method.can_match(have))

    def match_passes(self, samples: Sequence[Sample], have: Sequence[str], want: str, donors: Sequence[np.ndarray]) -> int:
        """How many documents `match` reads for pairs of a sample and a donor."""
        if self._predicts_values(have, want):
            return 0
        lengths = [max(map(len, donors)), *(max(len(sample.tokens[name]) for sample in samples) for name in have)]
        return matching(self._method).match_passes((len(samples) + REFERENCES) * len(donors), lengths)

    def _predicts_values(self, have: Sequence[str], want: str) -> bool:
        """Whether the expected values of all of `have` can be predicted from `want`."""
        return self._values is not None and all(self._values.knows([want], name) for name in have)

    def match(
        self, samples: Sequence[Sample], have: Sequence[str], want: str, donors: Sequence[np.ndarray], around: Sequence[Sample] = ()
    ) -> np.ndarray:
        """(N, M) log of how probable each of M donors, codes of `want`, is for each sample given its modalities `have`, up to a constant
        per sample: their mutual information, of tables by expected values where the run learned them. around: any other samples; some
        that hold any of `have` show how likely a donor is anyway (see `Matching.match`)."""
        if self._values is not None and self._predicts_values(have, want):
            return self._values.match(samples, have, want, donors, self._states)
        holding = [sample for sample in around if set(have) & set(sample.tokens)]
        chosen = np.unique(np.linspace(0, len(holding) - 1, min(REFERENCES, len(holding))).astype(int))
        return matching(self._method).match(self.model, samples, have, want, donors, [holding[i] for i in chosen])

    def score(self, samples: Sequence[Sample], have: Sequence[str], target: str) -> list[tuple[float, int]]:
        """Teacher-forced (sum of negative log-likelihood in nats, number of target tokens) of `target` given `have`, per sample."""
        scored, method = list[tuple[float, int]](), scoring(self._method)
        for start in range(0, len(samples), BATCH_ROWS // 2):
            nll, counts = method.score(self.model, samples[start : start + BATCH_ROWS // 2], have, target)
            scored += zip(nll.tolist(), counts.tolist(), strict=True)
        return scored

    def features(self, samples: Sequence[Sample], have: Sequence[str], pooling: str | None = None) -> np.ndarray:
        """(N, D) representations of samples from their modalities `have` alone, for probes and retrieval; `poolings` are the
        ways, the usual one first."""
        method = representing(self._method)
        parts = [samples[start : start + BATCH_ROWS] for start in range(0, len(samples), BATCH_ROWS)]
        return np.concatenate([method.features(self.model, part, have, pooling) for part in parts])

    @property
    def reconstructs(self) -> bool:
        """Whether the run predicts hidden tokens from visible ones."""
        return isinstance(self._method, Reconstructing)

    def hide(self, samples: Sequence[Sample], ratio: float | None = None, seed: int = 0) -> list[dict[str, np.ndarray]]:
        """(L,) bool for each modality of each sample: tokens to hide, as many as in training or a share of `ratio`; a function of the seed
        and the sample's key."""
        method = reconstructing(self._method)
        return [method.hidden(sample, ratio, np.random.default_rng(sample_seed(seed, 0, sample.key))) for sample in samples]

    def reconstruct(
        self, samples: Sequence[Sample], have: Sequence[str], hidden: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """Tokens of the modalities `have` of each sample, the hidden ones as predicted from all visible ones in one pass."""
        return reconstructing(self._method).reconstruct(self.model, samples, have, hidden)

    def predict(self, samples: Sequence[Sample], have: Sequence[str] | None = None) -> np.ndarray:
        """(N, outputs) of the head of a finetuned run, from the modalities `have` (None: all it knows and they hold) alone; `target.decode`
        makes classes or numbers of them."""
        if self.target is None:
            raise UsageError("the run has no head.", where=self.run.path, fix="Finetune it with `mmtool finetune`.")
        return predict(self.model, representing(self._method), replace(self.target, have=tuple(have or self.target.have)), samples)

    @property
    def training_items(self) -> TrainingItems:
        """What the run was trained on, item by item."""
        return self.run.training_items()

    @property
    def has_likelihood(self) -> bool:
        """Whether `score` is defined (a contrastive run retrieves and has none)."""
        return isinstance(self._method, Scoring)

    @property
    def retrieves(self) -> bool:
        """Whether the run imputes by choosing among training samples, and draws no codes."""
        return isinstance(self._method, Retrieving)

    def can_score(self, name: str) -> bool:
        """Whether `score` is defined for this modality: patches of continuous ones have no likelihood."""
        return isinstance(self._method, Scoring) and self._method.can_score(name)

    @property
    def scores_by_token(self) -> bool:
        """Whether `score` takes one pass per token (masked modelling), not one per sample."""
        return isinstance(self._method, Scoring) and self._method.score_passes(2) > 1

    def check(self, have: Sequence[str], want: str) -> None:
        """Raise UsageError for what `check_names` refuses, and where no path of co-occurring modalities leads from `have` to `want`."""
        self.check_names(have, want)
        if have and self.graph.path(set(have), want) is None:
            raise UsageError(
                f"no chain of modalities that occurred together in training leads from {', '.join(have)} to {want}.",
                where="--have/--want",
                fix="Train on data that links them, for example with a modality that occurs with both.",
            )

    def check_names(self, have: Sequence[str], want: str) -> None:
        """Raise UsageError for unknown modalities, and for one that is named twice, or is both given and wanted."""
        for name in (*have, want):
            self._index(name)
        if want in have:
            raise UsageError(f"{want!r} is both given and wanted.", where="--want", fix="Ask for a modality that is absent.")
        refuse_repeated(have)

    def _consistency(
        self, samples: Sequence[Sample], request: ImputationRequest, codes: Sequence[Sequence[np.ndarray]]
    ) -> list[list[float]]:
        """Of each sample and draw, see `Scoring.consistency`."""
        rows = max(1, BATCH_ROWS // 2 // len(codes[0]))
        parts = [slice(start, start + rows) for start in range(0, len(samples), rows)]
        scores = [scoring(self._method).consistency(self.model, samples[part], request.have, request.want, codes[part]) for part in parts]
        return np.concatenate(scores).tolist()

    def _expected(self, samples: Sequence[Sample], request: ImputationRequest, drawn: np.ndarray | None) -> list[np.ndarray | None]:
        """Mean code values of each sample: predicted directly where the run learned that, else the mean over its draws."""
        if self._values is not None and self._values.knows(request.have, request.want):
            return list(self._values.expected(request.have, request.want, samples, self._states))
        return [None] * len(samples) if drawn is None else list(drawn.reshape(len(samples), -1, drawn.shape[1]).mean(1))

    def _states(self, have: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """(N, D) hidden states, as the value networks read them."""
        return representing(self._method).states(self.model, have, samples)

    def _index(self, name: str) -> int:
        return self.run.layout.index(name)
