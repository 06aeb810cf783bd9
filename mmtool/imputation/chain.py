"""A run asked link by link: for a target that training never saw with what is given, draw the link first, then the target from the link.

The path is the shortest one of the run's co-occurrence graph, a -> b -> ... -> c. Every arrow is a direction that training did see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.imputation.imputer import Imputation, Imputer
from mmtool.imputation.sampling_params import PLAIN, SamplingParams
from mmtool.tokenizers.base import ValueCodes

NUM_LINKS = 8  # draws of the link for each sample


class ChainedImputer:
    """Answers as the run `imputer` does, by chains alone: see `path` for the directions.

    num_links: draws of the link for each sample; they estimate likelihoods and the expected values of tables. link_seed: of the links of
    `score`. Raises UsageError for a run that retrieves, as it draws no codes.
    """

    def __init__(self, imputer: Imputer, num_links: int = NUM_LINKS, link_seed: int = 0) -> None:
        check_chained([imputer.method], {imputer.method: imputer.retrieves})
        self._imputer, self.num_links, self._link_seed = imputer, num_links, link_seed
        self.method, self.seed, self.graph = imputer.method, imputer.seed, imputer.graph
        self.has_likelihood, self.scores_by_token = imputer.has_likelihood, imputer.scores_by_token

    def path(self, have: Sequence[str], want: str) -> list[str] | None:
        """The chain from the one of `have` that is nearest to `want`, both included; None where there is no link in between, or one that
        is not drawn as codes (a run predicts patches, it does not draw them)."""
        path = self.graph.path(set(have), want)
        continuous = {modality.name for modality in self._imputer.modalities if modality.continuous}
        return path if path and len(path) > 2 and not continuous & set(path[1:-1]) else None

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
        """Draw `want` of every sample, each draw through its own draw of the links; `params` hold for links and target alike.

        log_likelihood is that of a draw given its link, consistency the sum over the chain of how well each of its ends tells its start.
        Expected values of tables are means over `num_links` draws of the link, or `draws` where that is more.
        """
        path = self._path(have, want)
        count = max(draws, self.num_links) if isinstance(self._imputer.tokenizers[want], ValueCodes) else draws
        linked, told = self._walk(samples, path, count, seed, params, consistency)
        last = _seed_of(seed, len(path) - 2)
        answers = self._imputer.impute(linked, path[-2:-1], want, seed=last, params=params, consistency=consistency)
        told = [before + _told(answer)[0] for before, answer in zip(told, answers, strict=True)]
        groups = [slice(start, start + count) for start in range(0, len(answers), count)]
        return [_merged(answers[group], told[group] if consistency else None, draws, tuple(path[1:-1])) for group in groups]

    def score(self, samples: Sequence[Sample], have: Sequence[str], target: str) -> list[tuple[float, int]]:
        """The negative log-likelihood of `target`, -log mean_k p(target | link_k) in nats, and its number of tokens, per sample.

        A Monte Carlo estimate of the target's likelihood under the chain. The links are drawn at temperature 1, without top-k and
        guidance, whatever samples are imputed with: only then is their mean the likelihood of the model. (A logarithm of a mean over few
        draws is too low on average, so that the perplexity is an upper bound that falls with `num_links`. A method that decodes by
        confidence draws from its own model only approximately.)
        """
        path = self._path(have, target)
        linked = self.links(samples, path, self.num_links, seed=self._link_seed)
        true = [sample.tokens[target] for sample in samples for _ in range(self.num_links)]
        asked = [replace(link, tokens={**link.tokens, target: codes}) for link, codes in zip(linked, true, strict=True)]
        scores = np.array(self._imputer.score(asked, path[-2:-1], target), dtype=np.float64).reshape(len(samples), self.num_links, 2)
        nll = np.log(self.num_links) - np.logaddexp.reduce(-scores[..., 0], axis=1)
        return list(zip(nll.tolist(), scores[:, 0, 1].astype(int).tolist(), strict=True))

    def links(
        self, samples: Sequence[Sample], path: Sequence[str], count: int, *, seed: int, params: SamplingParams = PLAIN
    ) -> list[Sample]:
        """`count` draws of the last link of the path for each sample, all of the first sample first: samples that hold nothing else."""
        return self._walk(samples, path, count, seed, params)[0]

    def _walk(
        self, samples: Sequence[Sample], path: Sequence[str], count: int, seed: int, params: SamplingParams, consistency: bool = False
    ) -> tuple[list[Sample], list[float]]:
        """The links, and where consistency is asked for, that of each walk."""
        linked, told = list(samples), [0.0] * len(samples)
        for step, (start, end) in enumerate(pairwise(path[:-1])):
            repeats, seed_of_step = 1 if step else count, _seed_of(seed, step)
            drawn = self._imputer.impute(linked, [start], end, seed=seed_of_step, params=params, draws=repeats, consistency=consistency)
            pairs = [(sample, tokens) for sample, answer in zip(linked, drawn, strict=True) for tokens in answer.tokens]
            linked = [Sample(sample.key, {end: tokens}) for sample, tokens in pairs]
            told = [before + of_draw for before, answer in zip(told, drawn, strict=True) for of_draw in _told(answer)]
        return linked, told

    def _path(self, have: Sequence[str], want: str) -> list[str]:
        path = self.path(have, want)
        if path is None:
            what = f"no chain of drawn modalities leads from {' and '.join(have)} to {want}."
            raise UsageError(what, where="--chain", fix="Ask the run itself.")
        return path


def check_chained(names: Sequence[str], runs: Mapping[str, bool], tasks: Sequence[str] = ("impute",)) -> None:
    """Raise UsageError where one of `names` is not among `runs` (name -> whether it retrieves), or retrieves, and where no task of an
    evaluation asks them."""
    if names and not {"impute", "all"} & set(tasks):
        raise UsageError("only the task impute asks runs link by link.", where="--chain", fix="Add --task impute, or leave --chain out.")
    for name in names:
        if name not in runs:
            raise UsageError(f"there is no run {name!r}.", where="--chain", fix=f"Runs: {', '.join(runs)}.")
        if runs[name]:
            what = f"{name} retrieves training samples and cannot be chained: it draws no codes."
            raise UsageError(what, where="--chain", fix="Name runs that generate.")


def refuse_calibrated(chain: bool, calibration: object) -> None:
    """Raise UsageError for a chain that is to be calibrated."""
    if chain and calibration is not None:
        what = "reports calibrate what a run says directly, not by a chain."
        raise UsageError(what, where="--chain/--calibration", fix="Leave one of the two out.")


def chained(name: str) -> str:
    """What the run `name` is called in a report where it answers by the chain."""
    return f"{name}, chained"


def _seed_of(seed: int, step: int) -> int:
    """Of one step along the path: with the same for all, the draws of one step would depend on those before."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _told(answer: Imputation) -> list[float]:
    """The consistency of each draw, 0 where none was measured."""
    return answer.consistency or [0.0] * len(answer.tokens)


def _merged(answers: Sequence[Imputation], told: Sequence[float] | None, draws: int, through: tuple[str, ...]) -> Imputation:
    """The draws of one sample, the first so many of which are kept; expected values are the mean over all."""
    expected = [answer.expected for answer in answers if answer.expected is not None]
    kept = answers[:draws]
    return Imputation(
        [answer.tokens[0] for answer in kept],
        [answer.log_likelihood[0] for answer in kept],
        list(told[:draws]) if told is not None else None,
        expected=np.mean(expected, axis=0) if expected else None,
        through=through,
    )
