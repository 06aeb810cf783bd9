"""Modalities that never meet are refused, and those that hardly do are named, with what would make their keys alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_protocol import item, write

from mmtool.common.errors import DataError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.alignment import Alignment
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.tokenize import tokenize


def tokens(folder: Path, name: str, keys: Sequence[str], file: str | None = None) -> Path:
    return write(folder / f"{file or name}.tar", name, [item(name, key, {"digit": ord(key[-1]) % 3}) for key in keys])


PLAIN = [f"case{number}" for number in range(60)]


@pytest.mark.parametrize(
    ("here", "there", "hint"),
    [
        ("case{}", "other{}", None),
        ("case{}", "CASE{}", "in one case"),
        ("TCGA-A1-{:04d}-01", "TCGA.A1.{:04d}.01", "with the same signs for '.', '_' and '-'"),
        ("TCGA-A1-{:04d}", "TCGA-A1-{:04d}-01A-11R-A115-07", r"cut to 12 characters (--label-pattern '^(?P<key>.{12})')"),
        ("TCGA.A1.{:04d}", "TCGA-A1-{:04d}-01A", "cut to 12 characters, with the same signs"),
        ("{:03d}", "{:03d}.jpg", "without file extensions (--label-pattern"),
        ("scans/{:03d}", "{:03d}", "without folders (--label-pattern"),
        ("{}", "{:012d}", "without leading zeros (--label-pattern"),
        ("{}", "sample_{}", "reading sample_KEY as KEY (--label-pattern '^sample_(?P<key>.+)$')"),
        ("P{:03d}_rna", "P{:03d}_protein", "reading PKEY_rna and PKEY_protein as KEY"),
        ("TCGA-A1-{:04d}-01A-11R-A115-07", "TCGA-A1-{:04d}-01A-21-A13A-20", "cut to 16 characters (--label-pattern '^(?P<key>.{16})')"),
        ("TCGA-A1-{:04d}-01A-11R-A115-07", "TCGA-A1-{:04d}-10B-01D-A110-09", "cut to 12 characters (--label-pattern '^(?P<key>.{12})')"),
    ],
)
def test_modalities_that_never_meet_are_refused_with_what_would_help(tmp_path: Path, here: str, there: str, hint: str | None) -> None:
    paths = [
        tokens(tmp_path, name, [pattern.format(number) for number in range(10, 70)]) for name, pattern in (("image", here), ("text", there))
    ]
    with pytest.raises(DataError) as error:
        shard(paths, tmp_path / "out")
    message = str(error.value)
    assert "no key of image occurs in another modality" in message and "--unpaired" in message
    assert all(repr(pattern.format(number)) in message for pattern in (here, there) for number in (10, 11, 12))
    assert (hint in message) if hint else ("They would meet" not in message)
    assert not (tmp_path / "out").exists()
    shard(paths, tmp_path / "out", unpaired=True)
    assert {sample.present for sample in open_token_set(tmp_path / "out")} == {("image",), ("text",)}


def test_a_chain_of_modalities_in_several_inputs_is_what_the_tool_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        tokens(tmp_path, "image", PLAIN[:10], "first"),
        tokens(tmp_path, "image", PLAIN[10:40], "second"),
        tokens(tmp_path, "text", PLAIN[20:]),
        tokens(tmp_path, "speech", PLAIN[:20]),
    ]
    summary = shard(paths, tmp_path / "out")
    assert summary.together["speech+text"] == 0 and summary.together["image+text"] > 0
    assert "warning" not in capsys.readouterr().err


def test_modalities_that_hardly_meet_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tokens(tmp_path, "image", [*PLAIN[:5], *(f"{key}.png" for key in PLAIN[5:30])])
    text = tokens(tmp_path, "text", PLAIN[:30])
    shard([image, text], tmp_path / "out")
    said = capsys.readouterr().err
    assert "warning: only 5 of 30 keys of image occur in another modality: image has 'case10.png', 'case11.png', 'case12.png', ...;" in said
    assert "text has 'case10', 'case11', 'case12', ... They would meet those of text without file extensions" in said.replace("....", "...")
    shard([image, text], tmp_path / "quiet", unpaired=True)
    assert "warning: only" not in capsys.readouterr().err


def test_a_lone_modality_and_aligned_ones_need_not_meet(tmp_path: Path) -> None:
    shard([tokens(tmp_path, "image", PLAIN)], tmp_path / "alone")
    text = tokens(tmp_path, "text", [f"other{number}" for number in range(60)])
    shard([tmp_path / "image.tar", text], tmp_path / "aligned", alignment=Alignment("digit"))
    assert {sample.present for sample in open_token_set(tmp_path / "aligned")} == {("image", "text")}


def test_augmented_variants_count_as_their_originals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variants = [item("speech", f"{key}~{number}", variant_of=key, group=key) for key in PLAIN[:30] for number in range(1, 9)]
    speech = write(tmp_path / "speech.tar", "speech", [*(item("speech", key) for key in PLAIN[:30]), *variants])
    shard([speech, tokens(tmp_path, "text", PLAIN[:30])], tmp_path / "out")
    assert "warning" not in capsys.readouterr().err


def test_a_label_that_is_missing_in_one_input_is_taken_from_another(tmp_path: Path) -> None:
    image = write(tmp_path / "image.tar", "image", [item("image", key, {"age": 61}) for key in PLAIN[:20]])
    (tmp_path / "ages.csv").write_text("key,age\n" + "".join(f"{key},{'' if place % 2 else 61}\n" for place, key in enumerate(PLAIN[:20])))
    shard([image], tmp_path / "out", labels=tmp_path / "ages.csv")
    assert {sample.labels["age"] for sample in open_token_set(tmp_path / "out")} == {61}
    assert np.isfinite([sample.number("age") for sample in open_token_set(tmp_path / "out")]).all()


def test_a_table_that_lies_the_wrong_way_is_seen_by_the_columns_of_others(tmp_path: Path) -> None:
    genes, patients = [f"gene{number}" for number in range(20)], [f"P{number}" for number in range(30)]
    for name, keys, columns in (("mrna", genes, patients), ("rppa", patients, genes)):
        rows = "".join(f"{key},{','.join(str(place * len(key) % 7) for place in range(len(columns)))}\n" for key in keys)
        (tmp_path / f"{name}.csv").write_text(f"x,{','.join(columns)}\n{rows}")
        tokenize("table", [tmp_path / f"{name}.csv"], tmp_path / f"{name}.tar", name=name)
    with pytest.raises(
        DataError, match=r"They are features of rppa: one of both has its features in rows \(tokenize it with --transpose\)"
    ):
        shard([tmp_path / "mrna.tar", tmp_path / "rppa.tar"], tmp_path / "out")


def test_keys_that_nearly_meet_are_named_though_half_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = [f"{number}" for number in range(1, 21)], [f"{number:02d}" for number in range(1, 21)]
    shard([tokens(tmp_path, "image", here), tokens(tmp_path, "text", there)], tmp_path / "out")
    assert "only 11 of 20 keys of image occur in another modality" in (err := capsys.readouterr().err) and "without leading zeros" in err
    shard([tokens(tmp_path, "image", here), tokens(tmp_path, "text", [*here[:15], "x", "y", "z"])], tmp_path / "more")
    assert "warning" not in capsys.readouterr().err, "some keys of their own are usual"
