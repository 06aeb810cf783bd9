"""Samples tokenized in parts, as batch systems do, are those of the whole."""

from pathlib import Path

import pytest
from conftest import Raw

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.decoding import Decoding
from mmtool.preprocessing.parts import Part, missing
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("kind", "workers"), [("table", 0), ("image", 0), ("image", 2)])
def test_parts_that_are_joined_give_the_shards_of_the_whole(kind: str, workers: int, raw: Raw, tmp_path: Path) -> None:
    source, scheme = (raw.values, "bins") if kind == "table" else (raw.images, "patches")
    first = tokenize(kind, [source], tmp_path / "1.tar", name="a", scheme=scheme, options=SourceOptions(part="1/3"))
    parts = [tmp_path / f"{number}.tar" for number in (1, 2, 3)]
    for number, path in enumerate(parts[1:], start=2):
        options = SourceOptions(part=f"{number}/3")
        tokenize(kind, [source], path, name="a", tokenizer=parts[0], options=options, decoding=Decoding(workers))
    whole = tokenize(kind, [source], tmp_path / "whole.tar", name="a", tokenizer=parts[0])
    held = [sample.key for path in parts for sample in open_token_set(path)]
    assert 0 < first.samples < whole.samples == len(held) == len(set(held))
    shard(parts[::-1], tmp_path / "of-parts")
    shard([tmp_path / "whole.tar"], tmp_path / "of-whole")
    assert contents(tmp_path / "of-parts") == contents(tmp_path / "of-whole")


def test_missing_parts_are_refused_unless_they_are_allowed(raw: Raw, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in (1, 3):
        fitted = tmp_path / "1.tar" if number > 1 else None
        options = SourceOptions(part=f"{number}/4")
        tokenize("table", [raw.values], tmp_path / f"{number}.tar", name="a", tokenizer=fitted, options=options)
    with pytest.raises(DataError, match=r"parts of a are not among the inputs: 2/4, 4/4\. .* --allow-missing-parts"):
        shard([tmp_path / "1.tar", tmp_path / "3.tar"], tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    shard([tmp_path / "1.tar", tmp_path / "3.tar"], tmp_path / "shards", allow_missing_parts=True)
    assert "parts of a are not among the inputs: 2/4, 4/4" in capfd.readouterr().err
    with pytest.raises(UsageError, match="different divisions"):
        missing(["1/2", "2/3"])


def test_a_part_may_be_empty(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("id,v\n" + "".join(f"p{i},{i / 7:.3f}\n" for i in range(12)))
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "whole.tar", name="t")
    parts = [tmp_path / f"{number}.tar" for number in range(1, 41)]
    sizes = []
    for number, path in enumerate(parts, 1):
        options = SourceOptions(part=f"{number}/40")
        sizes.append(tokenize("table", [tmp_path / "t.csv"], path, name="t", tokenizer=tmp_path / "whole.tar", options=options).samples)
    assert min(sizes) == 0 and sum(sizes) == 12
    assert "of t is empty" in capfd.readouterr().err
    shard(parts, tmp_path / "of-parts")
    shard([tmp_path / "whole.tar"], tmp_path / "of-whole")
    assert contents(tmp_path / "of-parts") == contents(tmp_path / "of-whole")


def test_labels_are_judged_where_the_parts_are_joined(tmp_path: Path) -> None:
    """A column that is mostly numbers in one part need not be so in all."""
    rows = "".join(f"p{i:02d},{i / 7:.3f},{('1', '2', '3a', '3b', 'x')[i % 5]}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("id,v,stage\n" + rows)
    for number in range(1, 13):
        options = SourceOptions(part=f"{number}/12", label_columns=("stage",))
        fitted = tmp_path / "1.tar" if number > 1 else None
        tokenize("table", [tmp_path / "t.csv"], tmp_path / f"{number}.tar", name="t", tokenizer=fitted, options=options)
    shard([tmp_path / f"{number}.tar" for number in range(1, 13)], tmp_path / "of-parts")
    whole = SourceOptions(label_columns=("stage",))
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "whole.tar", name="t", tokenizer=tmp_path / "1.tar", options=whole)
    shard([tmp_path / "whole.tar"], tmp_path / "of-whole")
    assert contents(tmp_path / "of-parts") == contents(tmp_path / "of-whole")


def test_a_part_that_is_given_twice_is_noticed(raw: Raw, tmp_path: Path) -> None:
    tokenize("table", [raw.values], tmp_path / "a.tar", name="a", options=SourceOptions(part="1/2"))
    tokenize("table", [raw.values], tmp_path / "b.tar", name="a", tokenizer=tmp_path / "a.tar", options=SourceOptions(part="1/2"))
    with pytest.raises(DataError, match="given twice for a"):
        shard([tmp_path / "a.tar", tmp_path / "b.tar"], tmp_path / "shards")


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/3", "1/3/5", "a/b", "\u0661/\u0663", ""])
def test_what_states_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="states no part"):
        SourceOptions(part=text)


def test_every_key_belongs_to_one_part() -> None:
    keys = [*map(str, range(200)), "\ud83d", "ü"]
    assert all(sum(Part(number, 7).holds(key) for number in range(1, 8)) == 1 for key in keys)
