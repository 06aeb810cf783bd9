"""Confidence: ranking draws by what a run knows of them, and whether its draws agree as often as they are right."""

import numpy as np
import pytest
from test_training import CLASSES, sample
from toy_study import CodesAsFeatures, found, toy_study

from mmtool.evaluation.tasks import confidence
from mmtool.imputation.imputer import Imputation


class KnowsWhenRight(CodesAsFeatures):
    """Draws of random classes whose consistency is high where the class is right; its likelihood says nothing."""

    has_likelihood = True

    def impute(self, samples, have, want, *, seed, params, draws, consistency):
        random = np.random.default_rng(seed)
        made = []
        for each in samples:
            classes = random.integers(CLASSES, size=draws)
            codes = [sample(f"{each.key}-{i}", label, want).tokens[want] for i, label in enumerate(classes)]
            right = classes == each.labels["class"]
            made.append(Imputation(codes, [0.0] * draws, (right + random.random(draws) / 2).tolist()))
        return made


def test_the_best_draw_is_the_most_consistent_one() -> None:
    rows = list(confidence.measure(toy_study(imputer=KnowsWhenRight)))
    values = {metric: found(rows, given="a", target="c", metric=metric)["value"] for metric in confidence.RANKINGS}
    assert values[confidence.CONSISTENCY] == values[confidence.ANY] > 0.75
    assert abs(values[confidence.CHANCE] - 0.25) < 0.1 and values[confidence.LIKELIHOOD] < 0.5
    by_rank = [found(rows, given="a", target="c", metric=confidence.BY_RANK, at=rank)["value"] for rank in range(1, 9)]
    assert by_rank == sorted(by_rank, reverse=True)


def test_plurality_and_its_calibration() -> None:
    said = np.array([["x", "x", "x", "y"], ["x", "y", "x", "y"], ["y", "y", "y", "y"]])
    agreement, right = confidence.plurality(said, np.array(["x", "y", "x"]))
    assert agreement.tolist() == [0.75, 0.5, 1.0] and right.tolist() == [1, 0.5, 0]
    assert confidence.calibration_error(agreement, right) == pytest.approx((0.25 + 0 + 1) / 3)
