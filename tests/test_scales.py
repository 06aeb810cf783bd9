"""Numbers are tokenized on the scale that is asked for, and come back in their units; counts are noticed; units do not matter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.imputation.tables import quantile_rows
from mmtool.model.values import Direction
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.tokenizers.column_types import Category
from mmtool.tokenizers.scalings import look_like_counts
from mmtool.tokenizers.table import TableTokenizer
from mmtool.tokenizers.table_codec import TableCodecTokenizer

Fit = Callable[..., Any]
FEATURES, COUNT = 8, 400
EVERYTHING = Split((1.0, 0.0, 0.0))


def counts() -> np.ndarray:
    """(N, F) counts of genes that go along with each other, some expressed a hundred times as much as others."""
    random = np.random.default_rng(0)
    size = random.normal(size=(COUNT, 1)) * random.normal(size=(1, FEATURES))
    return random.poisson(np.exp(np.linspace(0, 6, FEATURES) + size)).astype(np.float32)


def fit(scheme: Any, rows: np.ndarray, **options: Any) -> Any:
    names = [f"g{i}" for i in range(rows.shape[1])]
    return scheme.fit(list(rows), {"features": names, **options}, 0)


def decoded(tokenizer: Any, rows: np.ndarray) -> np.ndarray:
    return np.stack(tokenizer.decode(tokenizer.encode(list(rows))))


@pytest.mark.parametrize("scheme", [TableTokenizer, TableCodecTokenizer])
@pytest.mark.parametrize("scale", ["log1p", "rank"])
def test_values_come_back_in_their_units(scheme: Any, scale: str) -> None:
    tokenizer = fit(scheme, counts(), scale=scale, n_bins=64)
    out = decoded(tokenizer, counts())
    assert (out >= 0).all()
    errors = np.abs(np.log1p(out) - np.log1p(counts()))
    assert np.median(errors) < (0.05 if scheme is TableTokenizer else 0.2)
    again = from_bytes(to_bytes(tokenizer))
    np.testing.assert_array_equal(decoded(again, counts()), out)
    assert again.scaling.name == scale  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", [TableTokenizer, TableCodecTokenizer])
def test_means_are_taken_on_the_scale(scheme: Any) -> None:
    tokenizer = fit(scheme, counts(), scale="log1p", n_bins=64)
    codes = np.stack(tokenizer.encode(list(counts()[:2])))
    mean = tokenizer.from_code_values(tokenizer.code_values().of(codes).mean(0, keepdims=True))[0]
    np.testing.assert_allclose(np.log1p(mean), np.log1p(np.stack(tokenizer.decode(list(codes)))).mean(0), rtol=0.02, atol=0.05)


def test_bounds_of_components_lie_in_the_range_of_counts() -> None:
    tokenizer = fit(TableCodecTokenizer, counts(), scale="log1p", components=2)
    bounds = quantile_rows(tokenizer, [[codes] for codes in tokenizer.encode(list(counts()[:20]))])
    assert (bounds >= 0).all() and (np.diff(bounds, axis=0) >= -1e-4).all()


def test_logarithms_serve_components_of_counts() -> None:
    plain, logarithms = (decoded(fit(TableCodecTokenizer, counts(), components=2, **scale), counts()) for scale in ({}, {"scale": "log1p"}))
    of_small = [np.square(np.log1p(np.maximum(out, 0)) - np.log1p(counts())).mean() for out in (plain, logarithms)]
    assert of_small[1] < of_small[0]


def test_without_a_scale_files_are_what_they_were() -> None:
    for scheme in (TableTokenizer, TableCodecTokenizer):
        assert to_bytes(fit(scheme, counts())) == to_bytes(fit(scheme, counts(), scale="linear"))
        assert b'scale\\":' not in to_bytes(fit(scheme, counts()))


def test_only_numbers_are_scaled() -> None:
    rows = np.stack([counts()[:, 5], np.arange(COUNT) % 3], 1).astype(np.float32)
    tokenizer = fit(TableTokenizer, rows, scale="rank", types={"g1": Category(("a", "b", "c"))}, n_bins=16)
    np.testing.assert_array_equal(decoded(tokenizer, rows)[:, 1], rows[:, 1])


def test_what_has_no_logarithm_is_named() -> None:
    rows = counts()
    rows[3, 2] = -1
    with pytest.raises(DataError, match="'g2' holds -1, and the scale log1p") as refused:
        fit(TableTokenizer, rows, scale="log1p")
    assert "--scale rank" in str(refused.value)
    with pytest.raises(DataError, match="'g2' holds -1"):
        fit(TableTokenizer, counts(), scale="log1p").encode([rows[3]])
    with pytest.raises(UsageError, match="no scale 'log'"):
        fit(TableTokenizer, counts(), scale="log")


def test_what_looks_like_counts_is_said_once_and_not_where_a_scale_was_chosen() -> None:
    assert look_like_counts(counts()) and not look_like_counts(counts() + 0.5) and not look_like_counts(counts() - 1)
    ages = np.random.default_rng(0).integers(20, 90, (COUNT, FEATURES)).astype(np.float32)
    assert not look_like_counts(ages) and not look_like_counts(counts()[:, :2])
    for scheme in (TableTokenizer, TableCodecTokenizer):
        assert "--scale log1p" in fit(scheme, counts()).advice
        assert fit(scheme, counts(), scale="linear").advice is None and fit(scheme, ages).advice is None


def test_a_scale_from_raw_files_to_tokens(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [",".join(["key", *(f"g{i}" for i in range(FEATURES))])]
    lines += [",".join([f"s{i}", *(str(int(value)) for value in row)]) for i, row in enumerate(counts())]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "a.tar", name="a", split=EVERYTHING)
    assert "look like counts" in capfd.readouterr().err
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "b.tar", name="b", split=EVERYTHING, settings={"scale": "log1p"})
    assert "look like counts" not in capfd.readouterr().err


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e12])
@pytest.mark.parametrize("scale", ["linear", "rank"])
def test_units_do_not_matter(unit: float, scale: str) -> None:
    rows = np.random.default_rng(0).normal(size=(COUNT, 3)).astype(np.float32)
    small = (rows * np.float32(unit)).astype(np.float32)
    tokenizer = fit(TableTokenizer, small, scale=scale)
    assert tokenizer.report["constant_features"] == 0 and tokenizer.report["reconstruction_r2"] > 0.98
    np.testing.assert_array_equal(
        np.stack(tokenizer.encode(list(small))), np.stack(fit(TableTokenizer, rows, scale=scale).encode(list(rows)))
    )


def test_value_networks_see_small_units_and_weigh_features_alike() -> None:
    random = np.random.default_rng(0)
    given = random.normal(size=(200, 2)).astype(np.float32) * np.array([1e-12, 1], np.float32)
    target = given * np.array([1, 1e6], np.float32)
    direction = Direction.begin(given, given[:, :0], target, np.array([1e-12, 1e6], np.float32), [0])
    for name, values in (("given", given), ("target", target)):
        np.testing.assert_allclose(direction.standard(name, values).std(0), 1, rtol=0.1)
