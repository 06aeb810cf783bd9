"""A wide table becomes a few tokens that keep what its features share, whatever holes rows have, and come back as full rows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import ValueCodes, fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.table_codec import TableCodecTokenizer
from mmtool.tokenizers.table_rows import centre_and_scale

NAN = np.nan


def fit(rows: np.ndarray, **options: object) -> TableCodecTokenizer:
    return TableCodecTokenizer.fit(list(rows), {"features": [f"f{i}" for i in range(rows.shape[1])], **options}, 0)


def wide_rows(count: int = 400, features: int = 60, factors: int = 3, noise: float = 0.1) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = random.normal(size=(count, factors)) @ random.normal(size=(factors, features)) + noise * random.normal(size=(count, features))
    return (5 + 2 * rows).astype(np.float32)


def r2(true: np.ndarray, found: np.ndarray) -> float:
    return float((1 - ((true - found) ** 2).sum(0) / ((true - true.mean(0)) ** 2).sum(0)).mean())


def test_correlated_features_become_few_tokens() -> None:
    rows = wide_rows()
    tokenizer = fit(rows, components=3, n_bins=32)
    tokens = tokenizer.encode(list(rows))
    assert tokenizer.shape == (3,) and tokens[0].shape == (3,) and tokens[0].dtype == np.uint16
    assert tokenizer.vocabulary_size == 32 and max(int(codes.max()) for codes in tokens) < 32
    decoded = np.stack(tokenizer.decode(tokens))
    assert decoded.shape == rows.shape and r2(rows, decoded) > 0.97
    assert tokenizer.report["reconstruction_r2"] == pytest.approx(r2(rows, decoded), abs=0.02)
    assert tokenizer.report["codebook_usage"] > 0.85 and tokenizer.report["samples"] == 400


def test_the_reported_quality_is_that_of_rows_kept_from_the_fit() -> None:
    noise = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
    tokenizer = fit(noise, components=40)
    assert r2(noise, np.stack(tokenizer.decode(tokenizer.encode(list(noise))))) > 0.7
    assert tokenizer.report["reconstruction_r2"] < 0.3 and (tokenizer.report["samples"], tokenizer.report["judged_samples"]) == (60, 6)


def test_components_that_describe_no_other_rows_are_warned_of() -> None:
    skewed = np.exp(3 * np.random.default_rng(0).normal(size=(60, 40))).astype(np.float32)
    assert fit(skewed, components=30).report["reconstruction_r2_median"] < 0
    assert "--scale log1p" in (fit(skewed, components=30).advice or "") and fit(wide_rows(), components=3).advice is None


def test_more_components_and_more_levels_hold_more() -> None:
    rows = wide_rows(factors=8)
    quality = [fit(rows, components=k, n_bins=b).report["reconstruction_r2"] for k, b in ((2, 32), (8, 4), (8, 16), (8, 64))]
    assert quality == sorted(quality)


@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 30), st.integers(1, 6)), elements=st.floats(-100, 100, width=32) | st.just(NAN)))
@settings(max_examples=60, deadline=None)
def test_any_row_is_encoded_and_comes_back_without_missing_values(rows: np.ndarray) -> None:
    tokenizer = fit(rows, components=3, n_bins=6)
    tokens = tokenizer.encode(list(rows))
    decoded = np.stack(tokenizer.decode(tokens))
    assert np.isfinite(decoded).all() and (decoded >= tokenizer.low).all() and (decoded <= tokenizer.high).all()
    assert all(codes.shape == tokenizer.shape and (codes < 6).all() for codes in tokens)


def test_missing_values_are_imputed_from_the_features_that_are_there() -> None:
    rows = wide_rows()
    tokenizer = fit(rows, components=3, n_bins=64)
    holed = rows.copy()
    holed[np.random.default_rng(1).random(rows.shape) < 0.3] = NAN
    assert r2(rows, np.stack(tokenizer.decode(tokenizer.encode(list(holed))))) > 0.95
    assert r2(rows, np.stack(fit(holed, components=3, n_bins=64).decode(tokenizer.encode(list(rows))))) > -10  # fits at all
    assert fit(holed, components=3).report["reconstruction_r2"] > 0.95


def test_a_row_is_encoded_the_same_in_any_company() -> None:
    rows = wide_rows()
    tokenizer = fit(rows)
    together = np.stack(tokenizer.encode(list(rows)))
    alone = np.stack([tokenizer.encode([row])[0] for row in rows[:50]])
    np.testing.assert_array_equal(together[:50], alone)


def test_one_outlier_does_not_bend_the_axes() -> None:
    rows = wide_rows(count=2000)
    rows[0, 0] = 17_036
    tokenizer = fit(rows, components=3)
    assert r2(rows[1:], np.stack(tokenizer.decode(tokenizer.encode(list(rows[1:]))))) > 0.95


def test_codes_of_a_component_ascend_and_decoding_is_linear_in_their_values() -> None:
    tokenizer = fit(wide_rows(), components=3, n_bins=8)
    assert isinstance(tokenizer, ValueCodes) and tokenizer.ordered_codes == 8
    code_values = tokenizer.code_values()
    assert code_values.values.shape == (3, 8) and (np.diff(code_values.values, axis=1) > 0).all()
    tokens = [np.array([3, 4, 2]), np.array([5, 3, 4])]
    mean = tokenizer.from_code_values(code_values.of(np.stack(tokens)).mean(0)[None])[0]
    np.testing.assert_allclose(mean, np.mean(tokenizer.decode(tokens), 0), rtol=1e-4)


def test_the_residual_is_the_size_of_what_is_lost() -> None:
    rows = wide_rows(noise=0.5)
    tokenizer = fit(rows, components=3, n_bins=64)
    error = rows - np.stack(tokenizer.decode(tokenizer.encode(list(rows))))
    np.testing.assert_allclose(np.median(tokenizer.residual() / error.std(0)), 1, atol=0.15)


def test_the_file_gives_the_same_tokenizer() -> None:
    rows = wide_rows()
    first = fit(rows)
    again = from_bytes(to_bytes(first))
    assert fingerprint(again) == fingerprint(first) == fingerprint(fit(rows)) and again.report == first.report
    np.testing.assert_array_equal(np.stack(again.encode(list(rows))), np.stack(first.encode(list(rows))))


def test_wrong_settings_and_rows_are_named() -> None:
    rows = wide_rows()
    with pytest.raises(UsageError, match=r"'bins'.*components"):
        fit(rows, bins=4)
    with pytest.raises(UsageError, match=r"clip is 0\.7"):
        fit(rows, clip=0.7)
    with pytest.raises(UsageError, match="n_bins is 1"):
        fit(rows, n_bins=1)
    with pytest.raises(DataError, match="tokenizer 60 features"):
        fit(rows).encode([rows[0, :2]])


def test_the_stage_makes_ordered_sets_of_tokens(tmp_path: Path) -> None:
    from mmtool.data.shards import open_token_set

    rows = wide_rows(count=50, features=8)
    lines = ["key,age," + ",".join(f"f{i}" for i in range(8))]
    lines += [f"p{i:02d},{i}," + ",".join(f"{value:.3f}" for value in row) for i, row in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    from mmtool.preprocessing.sources import SourceOptions

    options = SourceOptions(label_columns=("age",))
    done = tokenize(
        "table", [tmp_path / "t.csv"], tmp_path / "t.tar", name="genes", scheme="codec", settings={"components": 4}, options=options
    )
    assert done.scheme == "codec" and done.mean_length == 4
    modality = open_token_set(tmp_path / "t.tar").modalities[0]
    assert (modality.shape, modality.positions, modality.ordered) == ((4,), "set", 32)


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e-6, 1e12])
def test_units_do_not_matter(unit: float) -> None:
    random = np.random.default_rng(0)
    rows = np.exp(0.5 * random.normal(size=(80, 1)) + 0.1 * random.normal(size=(80, 5)))
    tokenizer = fit((rows * unit).astype(np.float32), components=2)
    assert tokenizer.report["reconstruction_r2"] == pytest.approx(
        fit(rows.astype(np.float32), components=2).report["reconstruction_r2"], abs=0.01
    )
    assert r2(rows, np.stack(tokenizer.decode(tokenizer.encode(list((rows * unit).astype(np.float32))))) / unit) > 0.9


def test_equal_numbers_are_constant_whatever_they_are() -> None:
    rows = np.tile(np.array([[0.1, 1e-12, 1e12, 0, -7]]), (50, 1))
    centre, scale = centre_and_scale(rows)
    assert scale.tolist() == [1] * 5 and np.allclose(centre, rows[0])


def test_missing_values_that_the_codec_fills_are_reported_and_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        rows = [f"p{row:02d},{','.join('' if row < 2 + column and column < 2 else f'{x:.3f}' for column, x in enumerate(values))}\n"
                for row, values in enumerate(random.normal(size=(40, 4)))]  # fmt: skip
        (tmp_path / f"{name}.csv").write_text(f"id,{','.join(f'{name}{column}' for column in range(4))}\n" + "".join(rows))
        done = tokenize(
            "table", [tmp_path / f"{name}.csv"], tmp_path / f"{name}.tar", name=name, scheme="codec", settings={"components": 2}
        )
        assert done.filled == {f"{name}0": 2, f"{name}1": 3}
        assert f"warning: 5 missing values in 3 {name} samples have no code in this scheme; " in (said := capsys.readouterr().err)
        assert f"make likely: 3 of {name}1, 2 of {name}0. --scheme bins keeps them missing." in said
    shard([tmp_path / "a.tar", tmp_path / "b.tar"], tmp_path / "all.tar")
    declared = {sample.key: sample.metadata.get("filled_values") for sample in open_token_set(tmp_path / "all.tar")}
    assert {key: counts for key, counts in declared.items() if counts} == {
        "p00": {"a": 2, "b": 2},
        "p01": {"a": 2, "b": 2},
        "p02": {"a": 1, "b": 1},
    }
    plain = tokenize("table", [tmp_path / "a.csv"], tmp_path / "bins.tar", name="a")
    assert plain.filled == {} and "have no code" not in capsys.readouterr().err
