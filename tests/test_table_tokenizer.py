"""Table tokenizers keep values as well as their bins can, keep what is missing missing, and refuse other columns."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.table import TableTokenizer

NAN = np.nan


def fit(rows: np.ndarray, **options: object) -> TableTokenizer:
    return TableTokenizer.fit(list(rows), {"features": [f"f{i}" for i in range(rows.shape[1])], **options}, 0)


def normal_rows(count: int = 500, features: int = 4) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, features)).astype(np.float32)
    rows[::7, 1] = NAN
    return rows


def test_quantile_bins_reconstruct_normal_values() -> None:
    rows = normal_rows()
    tokenizer = fit(rows)
    tokens = tokenizer.encode(list(rows))
    decoded = np.stack(tokenizer.decode(tokens))
    assert tokens[0].dtype == np.uint16 and tokenizer.vocabulary_size == 33 and tokenizer.shape == (4,)
    assert (np.isnan(decoded) == np.isnan(rows)).all()
    assert tokenizer.report["reconstruction_r2"] > 0.98 and tokenizer.report["codebook_usage"] == 1.0
    assert np.nanmean((decoded - rows) ** 2) < 0.02
    assert tokenizer.report["missing_share"] == pytest.approx(np.isnan(rows).mean(), abs=1e-4)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.floats(-100, 100, width=32) | st.just(NAN)))
@settings(max_examples=100, deadline=None)
def test_encoding_what_was_decoded_changes_nothing(rows: np.ndarray) -> None:
    tokenizer = fit(rows, n_bins=6)
    decoded = tokenizer.decode(tokenizer.encode(list(rows)))
    assert (np.isnan(np.stack(decoded)) == np.isnan(rows)).all()
    again = tokenizer.decode(tokenizer.encode(decoded))
    np.testing.assert_allclose(np.stack(again), np.stack(decoded), rtol=1e-5)


def test_few_distinct_values_come_back_exactly() -> None:
    rows = np.array([[0, 5], [0, 5], [0, 5], [0, 5], [1, 5], [3, 5]], np.float32)
    tokenizer = fit(rows, n_bins=8)
    np.testing.assert_array_equal(np.stack(tokenizer.decode(tokenizer.encode(list(rows)))), rows)
    assert tokenizer.report["constant_features"] == 1 and tokenizer.report["bins_used"] == 2.0


def test_a_mass_of_ties_does_not_blur_its_neighbours() -> None:
    rows = np.concatenate([np.zeros(600), np.linspace(1, 2, 400)]).astype(np.float32)[:, None]
    decoded = np.stack(fit(rows).decode(fit(rows).encode(list(rows))))
    assert (decoded[:600] == 0).all() and np.abs(decoded[600:] - rows[600:]).max() < 0.05


def test_heavy_tails_leave_the_bulk_sharp() -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    rows[0] = 17_036
    decoded = np.stack(fit(rows).decode(fit(rows).encode(list(rows))))
    assert np.median(np.abs(decoded - rows)) < 0.05


def test_every_code_decodes_even_where_a_feature_has_fewer_bins_or_no_value() -> None:
    tokenizer = fit(np.array([[1, NAN], [2, NAN]], np.float32), n_bins=5)
    decoded = np.stack(tokenizer.decode([np.full(2, code) for code in range(6)]))
    np.testing.assert_array_equal(decoded[:, 0], np.array([1, 2, 2, 2, 2, NAN], np.float32))
    assert np.isnan(decoded[:, 1]).all()


def test_features_are_chosen_by_presence_and_variation() -> None:
    rows = normal_rows() * np.array([1, 1, 9, 3], np.float32)
    rows[0, 0] = 1e6
    assert fit(rows, min_present=0.9).features == ("f0", "f2", "f3")
    chosen = fit(rows, max_features=2)
    assert chosen.features == ("f2", "f3") and chosen.dropped == ("f0", "f1")
    np.testing.assert_array_equal(chosen.align(["f3", "f1", "f0", "f2"]), [3, 0])


def test_rows_are_matched_by_column_name() -> None:
    rows = normal_rows()
    tokenizer = fit(rows)
    header = ["f2", "f0", "f3", "f1"]
    shuffled = rows[:, [2, 0, 3, 1]]
    np.testing.assert_array_equal(shuffled[0][tokenizer.align(header)], rows[0])
    with pytest.raises(DataError, match=r"t\.csv.*lacks 'f1'"):
        tokenizer.align(["f0", "f2", "f3"], where="t.csv")
    with pytest.raises(DataError, match="unknown 'age'"):
        tokenizer.align([*header, "age"])
    with pytest.raises(DataError, match="tokenizer 4 features"):
        tokenizer.encode([rows[0, :2]])


def test_the_file_gives_the_same_tokenizer() -> None:
    rows = normal_rows()
    again = from_bytes(to_bytes(fit(rows)))
    assert fingerprint(again) == fingerprint(fit(rows)) and again.report == fit(rows).report
    np.testing.assert_array_equal(np.stack(again.encode(list(rows))), np.stack(fit(rows).encode(list(rows))))


def test_rows_are_written_as_one_csv(tmp_path: Path) -> None:
    rows = np.array([[0.1, NAN], [2, 3]], np.float32)
    tokenizer = fit(rows)
    path = tokenizer.write_rows(["a,b", "c"], tokenizer.decode(tokenizer.encode(list(rows))), tmp_path / "t.csv")
    assert list(csv.reader(path.open())) == [["key", "f0", "f1"], ["a,b", "0.1", ""], ["c", "2.0", "3.0"]]
    assert tokenizer.write(np.array([1, NAN]), tmp_path / "patient.1").read_text() == "key,f0,f1\npatient.1,1.0,\n"


def test_wrong_settings_are_named() -> None:
    rows = normal_rows()
    with pytest.raises(UsageError, match=r"'bins'.*n_bins"):
        fit(rows, bins=4)
    with pytest.raises(UsageError, match="n_bins is 1"):
        fit(rows, n_bins=1)
    with pytest.raises(UsageError, match="no feature is left"):
        fit(rows[:, 1:2], min_present=0.99)


@pytest.mark.parametrize("scheme", ["bins", "codec"])
def test_counts_with_a_long_tail_are_not_said_to_lie_beyond_their_own_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    counts = np.random.default_rng(0).negative_binomial(0.2, 0.002, (400, 12))
    header = ",".join(f"g{gene}" for gene in range(12))
    rows = "".join(f"c{cell},{','.join(map(str, row))}\n" for cell, row in enumerate(counts.tolist()))
    (tmp_path / "t.csv").write_text(f"id,{header}\n{rows}")
    done = tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", name="rna", scheme=scheme, split=Split((1.0, 0.0, 0.0), 0))
    assert done.clipped == {} and "beyond the data" not in capsys.readouterr().err
    (tmp_path / "new.csv").write_text(f"id,{header}\n" + "n," + ",".join(["1000000", *["1"] * 11]) + "\n")
    done = tokenize("table", [tmp_path / "new.csv"], tmp_path / "n.tar", name="rna", tokenizer=tmp_path / "t.tar")
    assert done.clipped == {"g0": {"values": 1, "samples": 1}}
    assert "1 numbers of g0 in 1 rna samples lie beyond the data that the tokenizer was fitted to" in capsys.readouterr().err
