"""Promise: MultimodalImputer says what does not go in its own words, warns of bounds it cannot correct, and keeps threads apart."""

import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmtool import UsageError
from mmtool.common.lock import _refusal
from mmtool.common.log import log
from mmtool.imputation.conformal import offsets, samples_needed
from mmtool.sklearn import MultimodalImputer
from mmtool.sklearn.errors import in_words_of_the_estimator
from mmtool.sklearn.fitting import quietly

Frames = dict[str, pd.DataFrame]
TRAINING = {"compile": "off", "batch_tokens": 256, "value_epochs": 0, "validation_samples": 8, "shape": {"depth": 1, "width": 32}}
TINY: dict[str, Any] = {"preset": "tiny", "steps": 2, "bins": 8, "draws": 4, "settings": TRAINING}


def tables() -> Frames:
    random = np.random.default_rng(0)
    factor, people = random.normal(size=(60, 1)), [f"p{number:02d}" for number in range(60)]
    return {name: pd.DataFrame(factor + random.normal(0, 0.1, (60, 2)), people, [f"{name}0", f"{name}1"]) for name in ("mrna", "rppa")}


@pytest.fixture(scope="module")
def fitted() -> MultimodalImputer:
    return MultimodalImputer(**TINY).fit(tables())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scheme": {"rpa": "codec"}}, "scheme: there is no modality 'rpa'. Did you mean 'rppa'? There are mrna, rppa."),
        ({"bins": {"RPPA": 3}}, "bins: there is no modality 'RPPA'."),
        ({"scale": {"mrna": "linear", "dna": "rank"}}, "scale: there is no modality 'dna'."),
        ({"column_types": {"rppa00": "low<high"}}, "column_types: there is no column 'rppa00'. Did you mean 'rppa0'?"),
    ],
)
def test_names_that_there_are_not_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        MultimodalImputer(**{**TINY, **params}).fit(tables())
    assert str(raised.value).startswith(message)


def test_errors_of_filling_name_parameters(fitted: MultimodalImputer) -> None:
    new = {"mrna": tables()["mrna"].iloc[:3]}
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: fitted.sample(new, n=0), "n: n is 0"),
        (lambda: fitted.donors(new, n=0), "n: n is 0"),
        (lambda: fitted.donors(new, n=500), "donors: "),
        (lambda: fitted.predict_quantiles(new, draws=0), "draws: "),
        (lambda: MultimodalImputer.transform(fitted.set_params(draws=0), new), "draws: "),
    ]
    for call, begins in calls:
        with pytest.raises(UsageError) as raised:
            call()
        assert str(raised.value).startswith(begins) and "--" not in str(raised.value)
    fitted.set_params(draws=4)


def test_a_folder_that_another_process_writes_is_said_to_be_for_one_estimator(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"another process .* A work_dir is for one estimator"), in_words_of_the_estimator({}):
        raise _refusal({}, tmp_path / "lock", tmp_path / "run")


def test_bounds_that_too_few_samples_correct_are_said(fitted: MultimodalImputer) -> None:
    known = fitted.run_.imputer.training_items
    held = sum(not known.holds(sample) for sample in fitted.run_.encode(tables()))
    assert 1 <= held < 19
    new = {"mrna": tables()["mrna"].iloc[:3]}
    what = rf"rppa from mrna \(0\.05, 0\.95\): {held} samples that .* it takes 19 with a value in each column"
    with pytest.raises(UsageError, match=f"too few samples for the bounds of {what}"):
        fitted.predict_quantiles(new, (0.05, 0.95), draws=12, calibrate_on=tables())
    with pytest.raises(UsageError, match=f"too few samples for the bounds of {what}"):
        fitted.run_.calibrate(tables(), want="rppa", draws=12, quantiles=(0.05, 0.95))
    with pytest.raises(UsageError, match="0 samples that the run was not trained on hold all of them"):
        fitted.predict_quantiles(new, (0.05, 0.95), draws=12, calibrate_on={"mrna": tables()["mrna"]})
    with pytest.warns(UserWarning, match=what):
        corrected = fitted.predict_quantiles(new, (0.05, 0.5, 0.95), draws=12, calibrate_on=tables())
    drawn = fitted.predict_quantiles(new, (0.05, 0.5, 0.95), draws=12)
    assert not corrected[0.5]["rppa"].equals(drawn[0.5]["rppa"])


@pytest.mark.parametrize("share", [0.025, 0.05, 0.1, 0.3, 0.5, 0.75, 0.95, 0.99])
def test_as_many_samples_are_asked_for_as_correct_a_bound(share: float) -> None:
    for count in (samples_needed(share), samples_needed(share) - 1):
        moved = offsets(np.zeros((count, 1)), np.zeros((1, count, 1)), (share,))
        assert np.isnan(moved).all() == (count < samples_needed(share))


def test_threads_hear_what_they_say_themselves() -> None:
    """The first begins first and ends first, which a redirected stream does not survive."""
    before, steps = sys.stderr, [threading.Event() for _ in range(3)]

    def first() -> None:
        with quietly(verbose=False):
            steps[0].set()
            steps[1].wait(20)
            log("warning: of the first")
        steps[2].set()

    def second() -> None:
        steps[0].wait(20)
        with quietly(verbose=False):
            steps[1].set()
            steps[2].wait(20)
            log("warning: of the second")
            log("no warning")

    threads = [threading.Thread(target=work) for work in (first, second)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert [str(warning.message) for warning in said] == ["of the first", "of the second"]
    assert sys.stderr is before
