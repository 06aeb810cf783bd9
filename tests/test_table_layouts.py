"""Delimited text is read as tables of the field come, whatever the file is called: the content decides what separates the columns."""

import bz2
import gzip
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.labels import read_labels
from mmtool.preprocessing.readers.delimited import choose_delimiter, looks_delimited
from mmtool.preprocessing.readers.raw_files import split_name
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item, SourceOptions, read_items

ROWS = [("sample", "a", "b"), *((f"S{row}", f"{row}.5", str(-row)) for row in range(6))]


def read(path: Path, *, columns: tuple[str, ...] = (), skip_other: bool = False, **table: Any) -> dict[str, Item]:
    options = SourceOptions(columns=columns, skip_other=skip_other, table=TableOptions(**table))
    return {item.key: item for item in read_items("table", [path], options)}


def is_right(items: dict[str, Item]) -> bool:
    """Whether they are those of `ROWS`."""
    values = {key: item.value[0].tolist() for key, item in items.items()}
    return values == {f"S{row}": [row + 0.5, -row] for row in range(6)} and all(item.value[1] == ("a", "b") for item in items.values())


def joined(delimiter: str) -> str:
    return "".join(delimiter.join(row) + "\n" for row in ROWS)


def zstandard(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True)
    return packed


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.tab", "t.txt", "HiSeqV2", "expression.v2"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "   "])
def test_any_delimiter_under_any_name(tmp_path: Path, name: str, delimiter: str) -> None:
    (tmp_path / name).write_text(joined(delimiter))
    assert is_right(read(tmp_path / name))


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t"])
@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstandard)])
def test_compressed_files_with_and_without_an_extension_of_their_own(
    tmp_path: Path, name: str, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(joined("\t").encode())
    (tmp_path / f"{name}.{suffix}").write_bytes(data)
    assert is_right(read(tmp_path / f"{name}.{suffix}"))
    (tmp_path / name).write_bytes(data)  # a file that says nothing of it
    assert is_right(read(tmp_path / name))
    (tmp_path / f"{name}.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged or cut"):
        read(tmp_path / f"{name}.{suffix}")


def test_zstandard_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv.zst").write_bytes(zstandard(joined(",").encode()))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"t\.csv\.zst: reading \.zst needs pyarrow\. Install it with `pip install 'mmtool\[parquet\]'`"):
        read(tmp_path / "t.csv.zst")


def test_names_of_files_without_their_extensions() -> None:
    names = {
        "HiSeqV2.gz": ("HiSeqV2", ""),
        "a/t.csv.zst": ("a/t", "csv"),
        "x.rna_seq.tsv": ("x.rna_seq", "tsv"),
        "t": ("t", ""),
    }
    assert {name: split_name(name) for name in names} == names


def test_the_delimiter_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("sample/a/b\n" + "".join(f"S{row}/{row}.5/-{row}\n" for row in range(6)))
    assert is_right(read(tmp_path / "t.txt", delimiter="/"))
    (tmp_path / "t.csv").write_text(joined(";"))
    assert is_right(read(tmp_path / "t.csv", delimiter="semicolon"))
    with pytest.raises(DataError, match="seem to be separated by semicolons"):
        read(tmp_path / "t.csv", delimiter="tab")
    with pytest.raises(UsageError, match=r"--delimiter: 'dash' is no delimiter\. .*tab, comma, semicolon, bar, blanks"):
        TableOptions(delimiter="dash")


def test_excel_may_be_told_the_delimiter(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\n" + joined(";"))
    assert is_right(read(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("SEP=,\n" + joined(";"))
    assert is_right(read(tmp_path / "t.csv", delimiter="semicolon"))


def test_commas_within_cells_separate_nothing(tmp_path: Path) -> None:
    rows = "".join(f'S{row}\t"Smith, A, B, C"\t{row}\n' for row in range(6))
    (tmp_path / "t.txt").write_text("sample\tname\ta\n" + rows)
    items = list(read_items("table", [tmp_path / "t.txt"], SourceOptions(label_columns=("name",))))
    assert [item.labels for item in items] == [{"name": "Smith, A, B, C"}] * 6
    assert choose_delimiter(["a;b", "1,5;2,5"], "csv") == ";" and choose_delimiter(["a b,c", "x y,1"], "") == ","


def test_lines_with_a_number_sign_in_front_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("# made by a program\n#\n# 2,3 columns\n" + joined("\t"))
    assert is_right(read(tmp_path / "t.txt"))
    (tmp_path / "t.txt").write_text("# gene-model: GENCODE v36\n#" + joined("\t"))  # here the last of them is the header
    assert is_right(read(tmp_path / "t.txt"))
    (tmp_path / "t.txt").write_text("# one\n" + joined("\t") + "S9\tx\t1\n")
    with pytest.raises(DataError, match=r"t\.txt:9: the column 'a' holds 'x'"):
        read(tmp_path / "t.txt")


def test_clinical_data_of_cbioportal_are_labels(tmp_path: Path) -> None:
    comments = "#Patient\tAge\n#Id of it\tIn years\n#STRING\tNUMBER\n#1\t1\n"
    (tmp_path / "data_clinical_patient.txt").write_text(comments + "PATIENT_ID\tAGE\nP1\t61\nP2\t[Not Available]\n")
    labels = read_labels(tmp_path / "data_clinical_patient.txt")
    assert labels.rows == {"P1": {"AGE": 61}, "P2": {"AGE": None}}


@pytest.mark.parametrize("delimiter", [" ", "\t", ","])
def test_row_names_of_r_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    quoted = [[f'"{name}"' for name in ROWS[0][1:]], *([f'"{row[0]}"', *row[1:]] for row in ROWS[1:])]
    (tmp_path / "m.txt").write_text("".join(delimiter.join(row) + "\n" for row in quoted))
    assert is_right(read(tmp_path / "m.txt"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "t.txt").write_bytes(joined("\t").replace("\n", end).encode(encoding))
    assert is_right(read(tmp_path / "t.txt"))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_long_cells(tmp_path: Path, name: str) -> None:
    note = "word " * 60_000  # 300,000 characters, for which Python's reader has 131,072
    delimiter = "," if name == "t.csv" else "\t"
    (tmp_path / name).write_text(delimiter.join(["sample", "note", "a"]) + "\n" + delimiter.join(["S1", f'"{note}."', "2"]) + "\n")
    (item,) = read_items("table", [tmp_path / name], SourceOptions(label_columns=("note",)))
    assert item.labels == {"note": f"{note}."} and item.value[0].tolist() == [2]
    (text,) = read_items("text", [tmp_path / name], SourceOptions(text_column="note", key_column="sample"))
    assert text.value == f"{note}."


def test_folders_and_archives_give_what_looks_like_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "values.txt").write_text(joined("\t"))
    (folder / "notes.txt").write_text("Dear all,\nthese are the values of last year,\nin columns.\n")
    (folder / "MANIFEST.txt").write_text("id\tfilename\nx\tvalues.txt\n")
    (folder / "picture").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"1 without extension .* --skip-other"):
        read(folder)
    capsys.readouterr()
    assert is_right(read(folder, skip_other=True))
    assert "left out: 3 files of other formats: 2 .txt, 1 without extension" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    assert is_right(read(tmp_path / "study.zip", skip_other=True))


def test_no_table_is_refused_with_a_way_on(tmp_path: Path) -> None:
    for name, way in (
        ("a.xls", "save it as CSV"),
        ("a.rds", r"write\.csv"),
        ("a.bin", "such content under any name"),
    ):
        (tmp_path / name).write_bytes(b"\0\1\2")
        with pytest.raises(DataError, match=rf"not a table file by its name\. .*{way}"):
            read(tmp_path / name)
    assert not looks_delimited(b"\x89PNG\r\n\x1a\n" + bytes(20), named=True)


def test_blanks_around_names_are_no_part_of_them(tmp_path: Path) -> None:
    for delimiter in (" | ", ", ", "; "):
        (tmp_path / "t.txt").write_text(joined(delimiter))
        assert is_right(read(tmp_path / "t.txt"))


def test_a_file_without_header_is_seen_by_its_first_row(tmp_path: Path) -> None:
    counts = "ENSG00000000003.15\t5\nENSG00000000005.6\t7\n__no_feature\t9\n"  # of HTSeq
    (tmp_path / "S1.counts.txt").write_text(counts)
    with pytest.raises(DataError, match=r"seems to be a row and no header: it begins with 'ENSG00000000003\.15' and '5'\. .*--columns"):
        read(tmp_path / "S1.counts.txt")
    items = read(tmp_path / "S1.counts.txt", columns=("gene", "count"), value_column="count")
    assert {key: item.value[0].tolist() for key, item in items.items()} == {"S1.counts": [5, 7]}


def test_an_empty_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("")
    with pytest.raises(DataError, match=r"t\.txt: the file is empty"):
        read(tmp_path / "t.txt")


def test_parquet_without_extension(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"sample": ["x", "y"], "a": [1.0, 2.0]}), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").rename(tmp_path / "t.csv")
    assert {key: item.value[0].tolist() for key, item in read(tmp_path / "t.csv").items()} == {"x": [1], "y": [2]}


def test_tables_of_geo(tmp_path: Path) -> None:
    samples = [f"GSM{number}" for number in range(1000, 1004)]
    quoted = "\t".join(f'"{name}"' for name in samples)
    values = np.arange(20).reshape(5, 4)
    rows = "".join(f'"{probe}_at"\t' + "\t".join(map(str, row)) + "\n" for probe, row in enumerate(values))
    meta = f'!Series_title\t"A series"\n!Sample_geo_accession\t{quoted}\n!series_matrix_table_begin\n'
    text = f'{meta}"ID_REF"\t{quoted}\n{rows}!series_matrix_table_end\n'
    (tmp_path / "GSE1_series_matrix.txt.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError, match=r"the first column is called 'ID_REF'\. Add --transpose"):
        read(tmp_path / "GSE1_series_matrix.txt.gz")
    items = read(tmp_path / "GSE1_series_matrix.txt.gz", transpose=True)
    assert list(items) == samples and items["GSM1002"].value[0].tolist() == values[:, 2].tolist()
    (tmp_path / "s.txt").write_text(text.replace('"4_at"\t16', '"4_at"\tx'))
    with pytest.raises(DataError, match=r"column 'GSM1000': the row '4_at' \(line 9\) holds 'x'"):
        read(tmp_path / "s.txt", transpose=True)


def test_gct_of_the_broad_institute(tmp_path: Path) -> None:
    (tmp_path / "m.gct").write_text("#1.2\n2\t2\nName\tDescription\ts1\ts2\nENSG00000000001.2\tone\t1\t2\nENSG00000000002.3\ttwo\t3\t4\n")
    for said in ({}, {"transpose": True}):
        items = read(tmp_path / "m.gct", **said)
        assert {key: item.value[0].tolist() for key, item in items.items()} == {"s1": [1, 3], "s2": [2, 4]}


def test_a_delimiter_at_the_ends_of_lines_makes_no_feature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("".join(f"{line},,\n" for line in joined(",").splitlines()))
    assert is_right(read(tmp_path / "t.csv"))
    assert f"left out of {tmp_path}/t.csv: 2 columns without a name or any value" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text(joined(",").replace("\n", ",\n").replace("S3,3.5,-3,", "S3,3.5,-3,8"))
    with pytest.raises(DataError, match=r"a column without a name holds values \(row 5\)"):
        read(tmp_path / "t.csv")


def test_a_number_behind_a_dot_is_no_extension(tmp_path: Path) -> None:
    (tmp_path / "cohort.2024").write_text("key,a,b\np1,1,2\np2,3,4\n")
    assert [item.key for item in read_items("table", [tmp_path], SourceOptions())] == ["p1", "p2"]
    (tmp_path / "noise.1").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(DataError, match=r"noise\.1"):
        list(read_items("table", [tmp_path], SourceOptions()))


@pytest.mark.parametrize(
    "comments",
    ["#key,a,b\n#unit,mm,kg\n", "# key,a,b\n# measured in Berlin, May, 2020 or so\n", "# key,a,b\n# a remark\n"],
    ids=["units", "prose as wide", "prose"],
)
def test_a_header_in_comments_that_is_not_the_last_one_is_asked_about(comments: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(comments + "p1,1.5,2\np2,2.5,3\n")
    with pytest.raises(DataError, match="which line names the columns"):
        list(read_items("table", [tmp_path / "t.csv"], SourceOptions()))


def test_numbers_in_a_comment_are_no_names_of_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# version 3, 2, 1\nkey,a,b\np1,1.5,2\np2,2.5,3\n")
    assert [item.key for item in read_items("table", [tmp_path / "t.csv"], SourceOptions())] == ["p1", "p2"]
