"""Tables with features in rows: matrices of genes by samples, files of one sample, and features of one name, in rows or columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items

Mmtool = Callable[..., Result]
GENES = ("TP53", "EGFR", "KRAS", "MYC", "PTEN")


def read(path: Path, rejects: list[Reject] | None = None, *, on_error: Any = "raise", **table: Any) -> dict[str, Item]:
    options = SourceOptions(table=TableOptions(**table), on_error=on_error)
    return {item.key: item for item in read_items("table", [path], options, rejects)}


def values(items: dict[str, Item]) -> dict[str, list[float]]:
    return {key: item.value[0].tolist() for key, item in items.items()}


def write(path: Path, rows: list[list[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def matrix(path: Path, corner: list[str], samples: list[str], genes: tuple[str, ...] = GENES, annotation: str | None = None) -> np.ndarray:
    """Write a matrix of genes by samples; gives its values (samples, genes)."""
    cells = np.random.default_rng(len(samples)).normal(size=(len(genes), len(samples))).round(3)
    describing = [] if annotation is None else [annotation]
    write(path, [[*corner, *samples], *([gene, *describing, *row] for gene, row in zip(genes, cells.tolist(), strict=True))])
    return cells.T


def test_cbioportal_studies_join_on_patients(tmp_path: Path, mmtool: Mmtool) -> None:
    patients = [f"TCGA-A1-{number:04d}-01" for number in range(40)]
    mrna = matrix(tmp_path / "data_mrna.txt", ["Hugo_Symbol", "Entrez_Gene_Id"], patients, annotation="7157")
    matrix(tmp_path / "data_cna.txt", ["Hugo_Symbol", "Entrez_Gene_Id"], patients[30:5:-1], annotation="7157")
    for name in ("mrna", "cna"):
        arguments = ("tokenize", "table", tmp_path / f"data_{name}.txt", "--fit", "--name", name, "-o", tmp_path / f"{name}.tar")
        refused = mmtool(*arguments)
        assert refused.code == 1 and not (tmp_path / f"{name}.tar").exists()
        assert "the first column is called 'Hugo_Symbol'. Add --transpose if so, or --no-transpose" in " ".join(refused.err.split())
        done = mmtool(*arguments, "--transpose")
        assert done.code == 0 and "features: its rows; left out: column 'Entrez_Gene_Id'" in done.err
    items = read(tmp_path / "data_mrna.txt", transpose=True)
    assert items["TCGA-A1-0003-01"].value[1] == GENES and np.allclose(items["TCGA-A1-0003-01"].value[0], mrna[3])
    assert mmtool("shard", tmp_path / "mrna.tar", tmp_path / "cna.tar", "-o", tmp_path / "shards").code == 0
    samples = [sample for split in ("train", "validation", "test") for sample in open_token_set(tmp_path / "shards", split)]
    assert {sample.key for sample in samples} == set(patients)
    assert {sample.key for sample in samples if len(sample.present) == 2} == set(patients[6:31])


SIGNS = {
    "probes": (["probe"], ["a", "b", "c"], ("1007_s_at", "1053_at", "117_at")),
    "ensembl": (["x"], ["a", "b", "c"], ("ENSG00000141510.18", "ENSG00000146648", "ENSG00000133703")),
    "xena": (["sample"], ["TCGA-BA-4074-01", "TCGA-BA-4075-01"], ("G1", "G2")),
    "dots of R": ([""], ["TCGA.BA.4074.01", "TCGA.BA.4075.01"], ("G1", "G2")),
    "geo": (["x"], ["GSM1", "GSM2"], ("G1", "G2")),
    "micro RNA": (["x"], ["a", "b"], ("hsa-let-7a-1", "hsa-mir-100")),
    "well-known genes": ([""], ["ctrl1", "ctrl2", "treated1"], ("Actb", "Gapdh", "Trp53", "Myc")),
    "entrez": (["Entrez_Gene_Id"], ["a", "b"], ("7157", "1956")),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_what_looks_like_features_in_rows_is_asked_about(tmp_path: Path, sign: str) -> None:
    corner, samples, genes = SIGNS[sign]
    cells = matrix(tmp_path / "m.tsv", corner, samples, genes)
    with pytest.raises(DataError, match=r"m\.tsv: the rows seem to be features.* Add --transpose if so, or --no-transpose"):
        read(tmp_path / "m.tsv", on_error="skip")
    items = read(tmp_path / "m.tsv", transpose=True)
    assert list(items) == samples and all(item.value[1] == genes for item in items.values())
    assert np.allclose([item.value[0] for item in items.values()], cells)
    assert list(read(tmp_path / "m.tsv", transpose=False)) == list(genes)


@pytest.mark.parametrize(
    ("corner", "columns", "keys"),
    [
        (["sample"], list(GENES), ("S1", "S2", "S3")),
        (["patient"], ["ENSG00000141510", "ENSG00000146648"], ("TCGA-BA-4074", "TCGA-BA-4075")),
        (["id"], ["age", "protein", "gene"], tuple(f"P{number}" for number in range(400))),
        (["TP53"], ["EGFR", "KRAS"], ("a", "b")),
    ],
)
def test_samples_in_rows_are_not_asked_about(tmp_path: Path, corner: list[str], columns: list[str], keys: tuple[str, ...]) -> None:
    matrix(tmp_path / "t.tsv", corner, columns, keys)
    assert tuple(read(tmp_path / "t.tsv")) == keys


def test_a_fitted_tokenizer_knows_which_way_a_table_lies(tmp_path: Path, mmtool: Mmtool) -> None:
    samples = [f"S{number}" for number in range(30)]
    matrix(tmp_path / "m.tsv", ["gene"], samples)
    assert mmtool("tokenize", "table", tmp_path / "m.tsv", "--fit", "--transpose", "-o", tmp_path / "a.tar").code == 0
    rows = [line.split("\t") for line in (tmp_path / "m.tsv").read_text().splitlines()]
    write(tmp_path / "t.tsv", [["sample", *GENES], *([*row] for row in list(zip(*rows, strict=True))[1:])])
    for name in ("m.tsv", "t.tsv"):
        done = mmtool("tokenize", "table", tmp_path / name, "--tokenizer", tmp_path / "a.tar", "--force", "-o", tmp_path / "b.tar")
        assert done.code == 0, done.err
        pairs = zip(open_token_set(tmp_path / "a.tar"), open_token_set(tmp_path / "b.tar"), strict=True)
        assert all(a.key == b.key and (a.tokens["table"] == b.tokens["table"]).all() for a, b in pairs)


def test_columns_that_describe_features_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["gene_id", "gene_name", "long name", "chrom", "a", "b", "gene_type"]]
    rows += [[f"ENSG{number:011d}", f"G{number}", "a gene", "1", number, -number, "coding"] for number in range(4)]
    rows += [["N_unmapped", "", "", "", 100, 200, ""], ["", "", "", "", 1, 2, ""]]
    items = read(write(tmp_path / "m.tsv", rows), transpose=True)
    assert values(items) == {"a": [0, 1, 2, 3], "b": [0, -1, -2, -3]}
    said = (
        "left out: column 'gene_name', column 'long name', column 'chrom', column 'gene_type', 1 rows of summaries, 1 rows without a name"
    )
    assert said in capsys.readouterr().err
    items = read(tmp_path / "m.tsv", transpose=True, feature_column="gene_name")
    assert items["a"].value[1] == ("G0", "G1", "G2", "G3")
    with pytest.raises(DataError, match=r"no column 'symbol'\. Name another with --feature-column\. The first columns are: 'gene_id'"):
        read(tmp_path / "m.tsv", transpose=True, feature_column="symbol")


def test_a_bad_cell_costs_its_sample_and_a_bad_row_the_table(tmp_path: Path) -> None:
    rows = [["gene", "a", "b", "c"], ["g1", 1, "x", 3], ["g2", "NA", "y", 6]]
    rejects: list[Reject] = []
    items = read(write(tmp_path / "m.tsv", rows), rejects, transpose=True, on_error="skip")
    assert list(items) == ["a", "c"] and [reject.key for reject in rejects] == ["b"]
    with pytest.raises(DataError, match=r"m\.tsv, column 'b': the row 'g1' \(line 2\) holds 'x', which is no finite number"):
        read(tmp_path / "m.tsv", transpose=True)
    with pytest.raises(DataError, match=r"m\.tsv:3: 2 cells where the header has 4"):
        read(write(tmp_path / "m.tsv", [*rows[:2], ["g2", 5]]), transpose=True)


def test_parquet_with_features_in_its_index(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(np.arange(10.0).reshape(5, 2), index=list(GENES), columns=["P1", "P2"])
    frame.to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="rows are called 'TP53', 'EGFR', 'KRAS'"):
        read(tmp_path / "m.parquet")
    items = read(tmp_path / "m.parquet", transpose=True)
    assert values(items) == {"P1": [0, 2, 4, 6, 8], "P2": [1, 3, 5, 7, 9]} and items["P1"].value[1] == GENES


def star_counts(folder: Path) -> list[str]:
    """Files as the GDC serves them, one per sample in a folder of its own; gives their names."""
    names = [f"{number:04x}.rna_seq.augmented_star_gene_counts.tsv" for number in range(4)]
    for number, name in enumerate(names):
        genes = [[f"ENSG{gene:011d}.{gene}", f"G{gene}", "coding", 100 * number + gene, number + gene / 10] for gene in range(5)]
        summaries = [["N_unmapped", "", "", 12345, ""], ["N_multimapping", "", "", 2345, ""]]
        header = [["# gene-model: GENCODE v36"], ["gene_id", "gene_name", "gene_type", "unstranded", "tpm_unstranded"]]
        write(folder / f"{number:08d}-aaaa" / name, [*header, *summaries, *(reversed(genes) if number % 2 else genes)])
    (folder / "MANIFEST.txt").write_text("id\tfilename\tmd5\n" + "".join(f"x\t{name}\t0\n" for name in names))
    return names


def test_star_counts_of_the_gdc_are_one_row_per_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    star_counts(tmp_path / "gdc")
    for options in ({}, {"transpose": True}):
        with pytest.raises(
            DataError, match=r"'unstranded', 'tpm_unstranded'\. Name that of the values to `mmtool tokenize` \(--value-column unstranded\)"
        ):
            read(tmp_path / "gdc", **options)
    with pytest.raises(DataError, match=r"no column 'tpm'; the columns are: 'gene_id', .*--value-column"):
        read(tmp_path / "gdc", value_column="tpm")
    capsys.readouterr()
    items = read(tmp_path / "gdc", value_column="unstranded")
    assert len(items) == 4 and "00000001-aaaa/0001.rna_seq.augmented_star_gene_counts" in items
    for number, item in enumerate(items.values()):
        found = dict(zip(item.value[1], item.value[0].tolist(), strict=True))
        assert found == {f"ENSG{gene:011d}.{gene}": 100 * number + gene for gene in range(5)}
    said = capsys.readouterr().err
    assert said.count("samples: files, with the column 'unstranded' of each") == 1 and "left out: 2 rows of summaries" in said


def test_a_sample_sheet_names_the_samples_of_files(tmp_path: Path, mmtool: Mmtool) -> None:
    names = star_counts(tmp_path / "gdc")
    rows = [["f", name, f"TCGA-{number}", f"TCGA-{number}-01A"] for number, name in enumerate(names)]
    sheet = write(tmp_path / "gdc/gdc_sample_sheet.2026-11-27.tsv", [["File ID", "File Name", "Case ID", "Sample ID"], *rows])
    items = read(tmp_path / "gdc", value_column="tpm_unstranded", sample_sheet=sheet)
    assert list(items) == [f"TCGA-{number}-01A" for number in range(4)]
    done = mmtool(
        "tokenize", "table", tmp_path / "gdc", "--fit", "--value-column", "tpm_unstranded", "--sample-sheet", sheet,
        "--key-column", "Case ID", "--fractions", 1, 0, 0, "-o", tmp_path / "t.tar",
    )  # fmt: skip
    assert done.code == 0 and open_token_set(tmp_path / "t.tar").keys == [f"TCGA-{number}" for number in range(4)]
    short = write(tmp_path / "short.tsv", [["file_name", "sample"], [names[0], "A"]])
    with pytest.raises(DataError, match=rf"{names[1]}: the sample sheet has no row for this file"):
        read(tmp_path / "gdc", value_column="tpm_unstranded", sample_sheet=short)
    with pytest.raises(UsageError, match="the sample sheet has the columns 'a', 'b'"):
        read(tmp_path / "gdc", value_column="tpm_unstranded", sample_sheet=write(tmp_path / "odd.tsv", [["a", "b"], ["1", "2"]]))
    twice = write(tmp_path / "twice.tsv", [["File Name", "Sample ID"], ["x.tsv", "A"], ["x.tsv", "B"]])
    with pytest.raises(DataError, match=r"twice\.tsv:3: the sample sheet gives x\.tsv to 'A' and to 'B'"):
        read(tmp_path / "gdc", value_column="tpm_unstranded", sample_sheet=twice)


DUPLICATES = {"first": [1, 2, 4], "mean": [1, 2.5, 4]}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "m.tsv"])
def test_features_of_one_name(tmp_path: Path, name: str) -> None:
    header, rows = ["sample", "TP53", "MATR3", "MATR3", "EGFR"], [["S1", 1, 2, 3, 4], ["S2", 1, "", 5, 4]]
    if name == "t.csv":
        (tmp_path / name).write_text("".join(",".join(map(str, row)) + "\n" for row in [header, *rows]))
    elif name == "m.tsv":
        write(tmp_path / name, [list(row) for row in zip(header, *rows, strict=True)])
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = [pyarrow.array([None if cell == "" else cell for cell in column]) for column in zip(*rows, strict=True)]
        parquet.write_table(pyarrow.table(columns, names=header), tmp_path / name)
    transpose = True if name == "m.tsv" else None
    with pytest.raises(
        DataError, match=r"1 of 3 features have a name that others have as well: 'MATR3' \(2 times\)\. Add --duplicates mean"
    ):
        read(tmp_path / name, transpose=transpose)
    for duplicates, expected in DUPLICATES.items():
        items = read(tmp_path / name, transpose=transpose, duplicates=duplicates)
        assert items["S1"].value[1] == ("TP53", "MATR3", "EGFR") and items["S1"].value[0].tolist() == expected
    assert items["S2"].value[0].tolist() == [1, 5, 4]  # the mean of those that are there


def test_many_features_of_one_name_are_counted(tmp_path: Path) -> None:
    header = ["sample", *(f"g{number // 2}" for number in range(20))]
    write(tmp_path / "t.tsv", [header, ["S1", *range(20)]])
    with pytest.raises(DataError, match=r"10 of 10 features .*: 'g0' \(2 times\), 'g1' \(2 times\), 'g2' \(2 times\), \.\.\.\."):
        read(tmp_path / "t.tsv")


def test_a_key_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the column 'sample' stands twice in the header"):
        read(write(tmp_path / "t.tsv", [["sample", "a", "sample"], ["S1", 1, "S2"]]))


def test_columns_called_like_files_lose_the_extension_as_files_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "m.tsv", [["gene", "s1.png", "s2.png"], ["g1", 1, 2], ["g2", 3, 4]])
    assert values(read(path, transpose=True)) == {"s1": [1, 3], "s2": [2, 4]}
    assert "without the extensions of file names" in capsys.readouterr().err
    path = write(tmp_path / "m.tsv", [["gene", "s1.png", "s1.wav"], ["g1", 1, 2], ["g2", 3, 4]])
    assert list(read(path, transpose=True)) == ["s1.png", "s1.wav"], "they would be one"


@pytest.mark.parametrize(("header", "before"), [
    (["idx", "gene", "a", "b"], lambda row: [row, f"g{row}"]),
    (["Unnamed: 0", "gene", "a", "b"], lambda row: [row, f"g{row}"]),
    (["n", "gene", "a", "b"], lambda row: [row + 1, f"g{row}"]),
    (["gene", "idx", "a", "b"], lambda row: [f"g{row}", 7 * row + 3]),
    (["idx", "gene", "a", "b"], lambda row: [7 * row + 3, f"g{row}"]),
])  # fmt: skip
def test_a_column_of_row_numbers_is_no_sample(tmp_path: Path, header: list[str], before: Callable[[int], list[Any]]) -> None:
    path = write(tmp_path / "m.tsv", [header, *([*before(row), 2 * row, row / 2] for row in range(4))])
    items = read(path, transpose=True)
    assert values(items) == {"a": [0, 2, 4, 6], "b": [0, 0.5, 1, 1.5]}
    assert items["a"].value[1] == ("g0", "g1", "g2", "g3")


def test_row_numbers_name_the_features_where_nothing_else_does(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", [["idx", "a", "b"], *([row, row + 0.5, 2 * row] for row in range(4))])
    items = read(path, transpose=True)
    assert values(items) == {"a": [0.5, 1.5, 2.5, 3.5], "b": [0, 2, 4, 6]} and items["a"].value[1] == ("0", "1", "2", "3")
