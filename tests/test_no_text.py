"""Files that are no text under the name of a table say what they seem to be, and text in any encoding with a mark is read."""

import io
from pathlib import Path

import pytest

from mmtool.common.errors import DataError
from mmtool.preprocessing.sources import SourceOptions, read_items

TEXT = "id,b\n1,0.5\n2,0.25\n3,2\n"


@pytest.mark.parametrize("kind", ["table", "signal", "text"])
@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
def test_encodings_without_a_mark_are_named(kind: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    with pytest.raises(DataError, match=f"seems to be {encoding}.*iconv -f {encoding}"):
        list(read_items(kind, [tmp_path / "a.csv"], SourceOptions(text_column="b", source_rate_hz=10)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_encodings_with_a_mark_are_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    items = list(read_items("table", [tmp_path / "a.csv"], SourceOptions()))
    assert [item.key for item in items] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", ["table", "signal", "text"])
def test_a_workbook_under_the_name_of_a_table_is_named(kind: str, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    data, book = io.BytesIO(), openpyxl.Workbook()
    book.active.append(["id", "b"])
    book.save(data)
    (tmp_path / "a.csv").write_bytes(data.getvalue())
    with pytest.raises(DataError, match=r"seems to be an Excel workbook.*\.xlsx"):
        list(read_items(kind, [tmp_path / "a.csv"], SourceOptions(text_column="b", source_rate_hz=10)))
