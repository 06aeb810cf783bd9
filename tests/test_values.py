"""Networks tell expected values of tables: what was seen together and, where the method is transitive, what never was."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mmtool.common.errors import DataError
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality, Sample
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.model.transformer import Shape, Transformer
from mmtool.model.values import ValueDecoder, code_values
from mmtool.tokenizers.base import Tokenizer
from mmtool.tokenizers.code_values import CodeValues
from mmtool.tokenizers.table_codec import TableCodecTokenizer
from mmtool.training.fit_values import _useful, fit_values

COUNT, EPOCHS, PAIRS = 400, 25, (("a", "b"), ("b", "c"))
FEW = 3  # epochs, where nobody asks how good the networks are


class Samples(list):
    """What a token set gives of its samples."""

    def present(self, i: int) -> tuple[str, ...]:
        return self[i].present


def rows(name: str, count: int, seed: int) -> np.ndarray:
    """Three tables of the same two factors."""
    factors = np.random.default_rng(seed).normal(size=(count, 2))
    mixing = np.random.default_rng(ord(name)).normal(size=(2, 6))
    noise = np.random.default_rng(seed + ord(name)).normal(size=(count, 6))
    return (factors @ mixing + 0.3 * noise).astype(np.float32)


def world() -> tuple[dict[str, Tokenizer], Samples]:
    settings = {"features": [f"f{i}" for i in range(6)], "components": 3, "n_bins": 16}
    tokenizers: dict[str, Tokenizer] = {name: TableCodecTokenizer.fit(list(rows(name, COUNT, 1)), settings, 0) for name in "abc"}
    codes = {name: tokenizer.encode(list(rows(name, COUNT, 1))) for name, tokenizer in tokenizers.items()}
    held = [PAIRS[i % len(PAIRS)] for i in range(COUNT)]
    return tokenizers, Samples(Sample(f"{i:04d}", {name: codes[name][i] for name in held[i]}) for i in range(COUNT))


@pytest.fixture(autouse=True)
def one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of three: seconds of work."""
    monkeypatch.setattr("mmtool.training.fit_values._fit.__defaults__", (1,))


@cache
def learned(name: str, epochs: int = EPOCHS) -> tuple[ValueDecoder, Method, Transformer, dict[str, Tokenizer]]:
    tokenizers, samples = world()
    layout = layout_of([Modality(name, "table", 16, (3,), "set", name * 64, 3, 16) for name in tokenizers])
    method = METHODS[name](layout, CoOccurrence.of(sample.present for sample in samples), METHODS[name].Options())
    model = Transformer(Shape(depth=1, width=32), layout)
    model.init_weights(torch.Generator().manual_seed(0))
    return fit_values(model.eval(), method, tokenizers, samples, epochs, 0), method, model, tokenizers  # type: ignore[arg-type]


def r2(made: tuple, given: Sequence[str], target: str) -> float:
    """Of expected values of samples that training never saw."""
    decoder, method, model, tokenizers = made
    codes = {name: tokenizer.encode(list(rows(name, 200, 2))) for name, tokenizer in tokenizers.items()}
    held_out = [Sample(f"{i}", {name: codes[name][i] for name in codes}) for i in range(200)]
    expected = decoder.expected(given, target, held_out, partial(method.states, model))
    told = tokenizers[target].from_code_values(expected)  # type: ignore[attr-defined]
    true = rows(target, 200, 2)
    return float(1 - ((true - told) ** 2).sum() / ((true - true.mean(0)) ** 2).sum())


@pytest.mark.thorough
def test_what_was_seen_together_is_predicted_by_every_method() -> None:
    for name in ("commutative", "contrastive"):
        made = learned(name)
        assert sorted(made[0].directions) == [(("a",), "b"), (("b",), "a"), (("b",), "c"), (("c",), "b")]
        assert min(r2(made, ["a"], "b"), r2(made, ["b"], "c")) > 0.6


@pytest.mark.thorough
def test_what_never_met_is_predicted_through_the_link() -> None:
    made = learned("loretta")
    assert len(made[0].directions) == 9
    assert min(r2(made, ["a"], "c"), r2(made, ["c"], "a"), r2(made, ["a", "b"], "c"), r2(made, ["a", "c"], "b")) > 0.6


def test_a_file_holds_all_of_it_and_the_same_seed_gives_the_same_file(capsys: pytest.CaptureFixture[str]) -> None:
    decoder, _, _, tokenizers = learned("commutative", FEW)
    data = decoder.to_bytes()
    capsys.readouterr()
    assert data == learned.__wrapped__("commutative", FEW)[0].to_bytes()
    alone = {(given, target): f"{target} given {given[0]}: predicted from the values alone" for given, target in decoder.directions}
    logged = capsys.readouterr().err
    assert [key for key, text in alone.items() if text not in logged] == [key for key in alone if decoder.directions[key].reads_states]
    again = ValueDecoder.from_bytes(data, code_values(tokenizers), "values")
    assert again.to_bytes() == data and sorted(again.moments) == ["a", "b", "c"]
    assert again.knows(["a"], "b") and not again.knows(["a"], "c")


def test_a_damaged_file_is_named() -> None:
    decoder, _, _, tokenizers = learned("commutative", FEW)
    with pytest.raises(DataError, match="damaged"):
        ValueDecoder.from_bytes(decoder.to_bytes()[:-100], code_values(tokenizers), Path("run/values.safetensors"))


def test_a_missing_value_counts_as_the_mean_of_its_place() -> None:
    table = np.array([[1.0, 3.0, np.nan], [5.0, 7.0, np.nan]])
    found = ValueDecoder({"a": CodeValues.of_indices(table)}).values("a", [np.array([2, 1], np.uint16)])
    np.testing.assert_allclose(found, [[2.0, 7.0]])


def test_hidden_states_are_read_only_where_they_help() -> None:
    random = np.random.default_rng(0)
    given, telling = random.normal(size=(300, 2)).astype(np.float32), random.normal(size=(300, 2)).astype(np.float32)
    target = given + 2 * telling
    assert _useful(given, telling, target, np.ones(target.shape[1]), EPOCHS, 0)[1].shape == (300, 2)
    assert _useful(given, random.normal(size=(300, 30)).astype(np.float32), given, np.ones(given.shape[1]), EPOCHS, 0)[1].shape == (300, 0)


@pytest.mark.thorough
def test_the_right_donor_is_among_the_first_also_of_what_never_met() -> None:
    decoder, method, model, tokenizers = learned("loretta")
    codes = {name: tokenizer.encode(list(rows(name, 200, 2))) for name, tokenizer in tokenizers.items()}
    held_out = [Sample(f"{i}", {"a": codes["a"][i]}) for i in range(200)]
    scores = decoder.match(held_out, ["a"], "c", codes["c"], partial(method.states, model))
    own = (scores > np.diag(scores)[:, None]).sum(1)
    assert np.median(own) < 20, "of 200, of which a random one has 100 before it"


class Told:
    """A direction that says what it was told to say."""

    reads_states = False

    def __init__(self, said: np.ndarray, told: np.ndarray) -> None:
        self.said, self.scales = said, {"told_variance": told}

    def __call__(self, given: np.ndarray, states: np.ndarray) -> np.ndarray:
        return self.said[: len(given)]


def matched(rows_a: np.ndarray, rows_c: np.ndarray, said: np.ndarray, told: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Scores of donors c for samples a, where only a is told from c; codes count in hundredths, the last one is missing."""
    table = np.append(np.arange(0, 1000) / 100, np.nan)[None].repeat(rows_a.shape[1], 0)
    decoder = ValueDecoder(dict.fromkeys("ac", CodeValues.of_indices(table)))
    decoder.directions[("c",), "a"] = Told(said, told)  # type: ignore[assignment]
    decoder.moments = {"a": moments}
    samples = [Sample(str(i), {"a": codes}) for i, codes in enumerate(rows_a)]
    return decoder.match(samples, ["a"], "c", list(rows_c), lambda *_: np.zeros((0, 0), np.float32))


def test_donors_are_scored_by_the_densities_of_what_is_given_and_missing_values_have_no_weight() -> None:
    random = np.random.default_rng(0)
    codes, donors = random.integers(0, 1000, (5, 3)), random.integers(0, 1000, (4, 3))
    said, told = random.uniform(0, 10, (4, 3)), np.array([2.0, 1.0, 5.0])
    moments = np.stack((np.array([4.0, 5.0, 6.0]), np.array([6.0, 8.0, 7.0])))
    codes[1, 2] = 1000
    gain = np.zeros((5, 4))
    for i, j, k in np.ndindex(5, 4, 3):
        value = codes[i, k] / 100
        if codes[i, k] < 1000:
            gain[i, j] += norm.logpdf(value, said[j, k], np.sqrt(moments[1, k] - told[k])) - norm.logpdf(
                value, moments[0, k], moments[1, k] ** 0.5
            )
    found = matched(codes, donors, said, told, moments)
    np.testing.assert_allclose(found - found[:, :1], gain - gain[:, :1], rtol=1e-5, atol=1e-5)


def test_a_constant_column_with_predicted_noise_changes_no_choice() -> None:
    random = np.random.default_rng(1)
    codes, donors = random.integers(0, 1000, (5, 3)), random.integers(0, 1000, (4, 3))
    said, told = random.uniform(0, 10, (4, 3)), np.array([2.0, 1.0, 0.5])
    moments = np.stack((np.full(3, 5.0), np.array([6.0, 8.0, 0.0])))
    codes[:, 2] = 500
    without = matched(codes[:, :2], donors[:, :2], said[:, :2], told[:2], moments[:, :2])
    np.testing.assert_allclose(matched(codes, donors, said, told, moments), without)


def test_moments_are_of_the_data_not_of_the_code_book() -> None:
    decoder = ValueDecoder({"a": CodeValues.of_indices(np.array([[0.0, 1.0, 100.0, np.nan]]))})
    decoder.note_moments("a", [np.array([code]) for code in (0, 1, 1, 0, 3)])
    np.testing.assert_allclose(decoder.moments["a"], [[0.5], [0.25]])
