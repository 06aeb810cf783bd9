"""AnnData and MuData: cells and features under their names, absence kept, and imputed values written back."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import mmtool
from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.readers import annotated
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.tokenizers.base import from_bytes

CELLS, GENES, PROTEINS = 60, 6, 4


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The command line."""
    verb: Callable[..., Any] = request.getfixturevalue("mmtool")
    return verb


def cells(values: Any, start: int = 0, name: str = "g", **parts: Any) -> anndata.AnnData:
    count, width = values.shape
    obs = pd.DataFrame(index=pd.Index([f"cell{start + i:03d}" for i in range(count)], dtype=object))
    for column, column_values in parts.pop("obs", {}).items():
        obs[column] = column_values
    var = pd.DataFrame(index=pd.Index([f"{name}{i}" for i in range(width)], dtype=object))
    return anndata.AnnData(values, obs, var, **parts)


def words(values: Any) -> pd.Categorical:
    """A column of text, None where it is missing."""
    names = sorted({value for value in values if value is not None})
    return pd.Categorical(list(values), categories=pd.Index(names, dtype=object))


def write(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, anndata.AnnData):
        data.write_h5ad(path)
    else:
        data.write_h5mu(path)
    return path


def mosaic(path: Path) -> Path:
    """Cells 0 to 39 have RNA, 20 to 59 proteins; both follow one factor."""
    factor = np.random.default_rng(0).normal(size=(CELLS, 1))
    rna = sparse.csr_matrix(np.maximum(np.round(factor @ np.ones((1, GENES)) * 5), 0).astype(np.float32))
    adt = (factor @ np.ones((1, PROTEINS)) + 10).astype(np.float32)
    kinds = words(np.where(factor[:, 0] > 0, "T", "B"))
    with mudata.set_options(pull_on_update=False):
        data = mudata.MuData({"rna": cells(rna[:40], obs={"kind": kinds[:40]}), "adt": cells(adt[20:], 20, "p")})
    data.obs["batch"] = words(["one"] * 40 + ["two"] * 20)
    return write(path, data)


def read(path: Path, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items("table", [path], SourceOptions(**options))}


def rows(items: dict[str, Item]) -> np.ndarray:
    return np.stack([item.value[0] for item in items.values()])


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_matrices_are_read_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any], dtype: type) -> None:
    monkeypatch.setattr(annotated, "CHUNK_VALUES", 7 * GENES)  # so that the last chunk is shorter
    values = np.random.default_rng(0).integers(0, 3, (CELLS, GENES)).astype(dtype)
    items = read(write(tmp_path / "a.h5ad", cells(kind(values))))
    assert list(items) == [f"cell{i:03d}" for i in range(CELLS)] and items["cell007"].value[1] == tuple(f"g{i}" for i in range(GENES))
    np.testing.assert_array_equal(rows(items), values)
    assert {item.value[0].dtype for item in items.values()} == {np.dtype(np.float32)}


def test_zeros_are_values_and_nan_is_missing(tmp_path: Path) -> None:
    values = np.zeros((4, 3), np.float32)
    values[1, 2] = values[3] = np.nan
    absent: list[str] = []
    path = write(tmp_path / "a.h5ad", cells(sparse.csr_matrix(values)))
    items = {item.key: item for item in read_items("table", [path], SourceOptions(), absent=absent)}
    assert list(items) == ["cell000", "cell001", "cell002"] and absent == ["cell003"]
    assert items["cell000"].value[0].tolist() == [0, 0, 0] and np.isnan(items["cell001"].value[0]).tolist() == [False, False, True]


def test_labels_groups_and_keys_come_from_obs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    obs = {
        "cell_type": words(["T", None, "B", "T"]),
        "age": pd.array([61, 40, None, 7], dtype="Int64"),
        "donor": words(["x", "x", "y", "y"]),
        "barcode": words(["aa", "bb", "cc", "dd"]),
        "depth": [1.0, 2.0, 3.0, 4.0],
    }
    path = write(tmp_path / "a.h5ad", cells(np.ones((4, 2), np.float32), obs=obs, obsm={"X_pca": np.zeros((4, 2))}))
    items = read(path, label_columns=("cell_type", "years=age"), group_column="donor")
    assert [item.labels for item in items.values()] == [
        {"cell_type": "T", "years": 61},
        {"years": 40},
        {"cell_type": "B"},
        {"cell_type": "T", "years": 7},
    ]
    assert [item.group for item in items.values()] == ["x", "x", "y", "y"]
    err = capfd.readouterr().err
    assert (
        f"values: X of {path}; keys: names of observations" in err and "left out of" in err and "obs/barcode, obs/depth, obsm/X_pca" in err
    )
    assert list(read(path, key_column="barcode")) == ["aa", "bb", "cc", "dd"]
    assert [(item.key, item.rows) for item in read(path, key_column="none").values()][1] == ("a-000001", 4)
    with pytest.raises(DataError, match=r"no column 'patient'.*--key-column"):
        read(path, key_column="patient")


def test_layers_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = cells(np.ones((3, 2), np.float32), layers={"counts": sparse.csr_matrix(np.full((3, 2), 5.0))})
    data.raw = cells(np.full((3, 4), 7.0, np.float32))
    path = write(tmp_path / "a.h5ad", data)
    assert (rows(read(path)) == 1).all() and "layers/counts, raw/X (known: X, another layer with --layer" in capfd.readouterr().err
    assert (rows(read(path, layer="counts")) == 5).all() and rows(read(path, layer="raw")).shape == (3, 4)
    with pytest.raises(UsageError, match=r"no layer 'spliced'.*Choose from counts, raw with --layer"):
        read(path, layer="spliced")
    (tmp_path / "a.csv").write_text("key,a\nx,1\n")
    with pytest.raises(UsageError, match=r"--layer.*a\.csv: only AnnData and MuData"):
        read(tmp_path / "a.csv", layer="counts")


def test_modalities_of_mudata(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = mosaic(tmp_path / "a.h5mu")
    rna, adt = read(path, name="rna", label_columns=("kind",)), read(path, mod="adt", name="rna", label_columns=("batch",))
    assert list(rna) == [f"cell{i:03d}" for i in range(40)] and list(adt) == [f"cell{i:03d}" for i in range(20, 60)]
    assert set(adt["cell030"].value[1]) == {"p0", "p1", "p2", "p3"} and (rows(adt) > 5).all()
    assert adt["cell039"].labels == {"batch": "one"} and adt["cell040"].labels == {"batch": "two"}  # of all modalities
    assert {item.labels["kind"] for item in rna.values()} == {"T", "B"} and "mod/adt" in capfd.readouterr().err
    with pytest.raises(UsageError, match=r"holds the modalities adt, rna\. .*--name"):
        read(path, name="table")
    with pytest.raises(UsageError, match="and no 'atac'"):
        read(path, mod="atac", name="rna")
    with mudata.set_options(pull_on_update=False):
        alone = write(tmp_path / "b.h5mu", mudata.MuData({"rna": cells(np.ones((3, 2), np.float32))}))
    assert len(read(alone, name="genes")) == 3


def test_compressed_and_packed_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5ad", cells(np.ones((3, 2), np.float32)))
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.h5ad.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(read(tmp_path / "more")) == ["cell000", "cell001", "cell002"]


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.ones((3, 2), np.float32)
    values[1, 1] = np.inf
    with pytest.raises(DataError, match=r"a\.h5ad, cell001: the value of 'g1' is infinite"):
        read(write(tmp_path / "a.h5ad", cells(values)))
    twice = cells(np.ones((3, 2), np.float32))
    twice.var_names = pd.Index(["g", "g"], dtype=object)
    with pytest.raises(DataError, match=r"names of variables stand twice.*var_names_make_unique"):
        read(write(tmp_path / "b.h5ad", twice))
    path = write(tmp_path / "c.h5ad", cells(np.ones((3, 2), np.float32)))
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("/etc/passwd", "x")
    with pytest.raises(DataError, match="'X' is a link to another file"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = np.ones((4, 2))
    with pytest.raises(DataError, match=r"X has the shape \(4, 2\) for 3 observations and 2 variables"):
        read(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"c\.h5ad: the HDF5 file is damaged"):
        read(path)
    monkeypatch.setitem(__import__("sys").modules, "anndata.io", None)
    with pytest.raises(UsageError, match=r"needs anndata.*mmtool\[omics\]"):
        read(tmp_path / "a.h5ad")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mosaic of cells, tokenized, joined and trained on."""
    folder = tmp_path_factory.mktemp("cells")
    path = mosaic(folder / "cells.h5mu")
    for name in ("rna", "adt"):
        mmtool.tokenize("table", path, folder / f"{name}.tar", name=name, n_bins=8)
    mmtool.shard([folder / "rna.tar", folder / "adt.tar"], folder / "shards")
    small = {"preset": "tiny", "steps": 3, "batch_tokens": 256, "compile": "off", "value_epochs": 1, "shape": {"depth": 1, "width": 32}}
    mmtool.pretrain(folder / "shards", folder / "run", **small)
    return folder


def test_shards_say_which_cell_holds_what(study: Path) -> None:
    held = {
        sample.key: set(sample.tokens)
        for sample in (sample for split in ("train", "validation", "test") for sample in open_token_set(study / "shards", split))
    }
    assert len(held) == CELLS and held["cell000"] == {"rna"} and held["cell030"] == {"rna", "adt"} and held["cell059"] == {"adt"}


def test_tokens_decode_to_the_values(study: Path) -> None:
    truth, tokens = mudata.read_h5mu(study / "cells.h5mu")["adt"].to_df(), open_token_set(study / "adt.tar")
    tokenizer = from_bytes(tokens.tokenizers["adt"])
    decoded = {sample.key: tokenizer.decode([sample.tokens["adt"]])[0] for sample in tokens}
    error = np.abs(np.stack(list(decoded.values())) - truth.loc[list(decoded), list(tokenizer.features)].to_numpy())
    assert len(decoded) == 40 and error.max() < np.ptp(truth.to_numpy()) / 4


def test_imputed_mudata_has_the_names_that_were_read(study: Path, run: Callable[..., Any]) -> None:
    command = ("impute", study / "run", study / "shards", "--draws", 4, "--seed", 3)
    assert run(*command, "--format", "h5mu", "-o", study / "imputed").code == 0
    assert run(*command, "-o", study / "as_csv").code == 0
    raw, imputed = mudata.read_h5mu(study / "cells.h5mu"), mudata.read_h5mu(study / "imputed/imputed.h5mu")
    assert set(imputed.mod) == {"rna", "adt"} and sorted(path.name for path in (study / "imputed").iterdir()) == [
        "imputed.h5mu",
        "imputed.jsonl",
    ]
    for name, others in (("rna", "adt"), ("adt", "rna")):
        part = imputed[name]
        assert set(part.obs_names) == set(raw[others].obs_names) - set(raw[name].obs_names) and len(part) == 20
        assert list(part.var_names) == list(raw[name].var_names) and set(part.obs["imputed_from"]) == {others}
        assert part.obs["log_likelihood"].notna().all() and part.obs["consistency"].notna().all()
        for layer, suffix in ((None, ""), *((q, f".{q}") for q in ("q05", "q25", "q50", "q75", "q95"))):
            table = pd.read_csv(study / f"as_csv/{name}{suffix}.csv", index_col="key")
            np.testing.assert_allclose(part.to_df(layer).loc[table.index].to_numpy(), table.to_numpy(), rtol=1e-5)
        assert (
            part.uns["mmtool"]["run"] == str(study / "run") and part.uns["mmtool"]["modality"] == name and part.uns["mmtool"]["draws"] == 4
        )
    lines = [json.loads(line) for line in (study / "imputed/imputed.jsonl").read_text().splitlines()]
    assert len(lines) == 40 and {name for line in lines for name in line["files"]} == {"imputed.h5mu"}
    both = anndata.concat({"measured": raw["rna"], "imputed": imputed["rna"]}, label="source")
    assert len(both) == CELLS and both.obs_names.is_unique


def test_raw_cells_and_donors_as_anndata(study: Path, run: Callable[..., Any]) -> None:
    done = run("impute", study / "run", "--raw", f"rna={study / 'cells.h5mu'}", "--want", "adt", "--format", "h5ad", "-o", study / "new")
    assert done.code == 0, done.err
    new = anndata.read_h5ad(study / "new/adt.h5ad")
    assert new.shape == (40, PROTEINS) and not new.layers and set(new.obs_names) == {f"cell{i:03d}" for i in range(40)}
    layered = anndata.AnnData(np.full((3, GENES), np.nan), layers={"counts": mudata.read_h5mu(study / "cells.h5mu")["rna"].X[:3]})
    layered.var_names = pd.Index([f"g{i}" for i in range(GENES)], dtype=object)
    command = ("impute", study / "run", "--raw", f"rna={write(study / 'layered.h5ad', layered)}", "--want", "adt")
    done = run(*command, "--layer", "counts", "-o", study / "layered")
    assert done.code == 0 and len((study / "layered/adt.csv").read_text().splitlines()) == 4, done.err
    command = ("impute", study / "run", study / "shards", "--want", "adt", "--donors", study / "shards", "--draws", 2)
    assert run(*command, "--format", "h5ad", "-o", study / "donated").code == 0
    donated = anndata.read_h5ad(study / "donated/adt.h5ad")
    assert list(donated.layers) == ["draw_1"] and set(donated.obs["donor"]) <= {f"cell{i:03d}" for i in range(20, 60)}


def test_formats_that_do_not_suit_are_refused(project: Path, study: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("impute", study / "run", study / "shards", "--format", "npz", "-o", tmp_path / "a")
    assert done.code == 2 and "--format has no effect without --space embedding" in done.err
    done = run("impute", project / "run", project / "shards", "--want", "text", "--format", "h5ad", "-o", tmp_path / "a")
    assert done.code == 2 and "nothing that is imputed is a table" in done.err
    assert not (tmp_path / "a").exists()


@pytest.mark.data
def test_a_real_mosaic_of_cells(tmp_path: Path) -> None:
    data = Path(os.environ.get("MMTOOL_DATA", Path(__file__).parents[2] / "shared/data"))
    path = data / "pbmc/quickstart_pbmc_mosaic.h5mu"
    if not path.is_file():
        pytest.skip(f"the mosaic is not at {path}; set MMTOOL_DATA")
    options = {"label_columns": ("celltype", "batch")}
    parts = {name: mmtool.tokenize("table", path, tmp_path / f"{name}.tar", name=name, source=options) for name in ("rna", "adt")}
    assert {name: part.samples for name, part in parts.items()} == {"rna": 1200, "adt": 1200}
    summary = mmtool.shard([tmp_path / "rna.tar", tmp_path / "adt.tar"], tmp_path / "shards")
    assert sum(summary.samples.values()) == 1600
    held: dict[str, set[str]] = {}
    for sample in (sample for split in ("train", "validation", "test") for sample in open_token_set(tmp_path / "shards", split)):
        held.setdefault(sample.labels["batch"][:2], set()).add("+".join(sorted(sample.tokens)))
    assert held == {"p1": {"rna"}, "p2": {"adt"}, "p3": {"adt+rna"}, "p4": {"adt+rna"}}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_zarr_stores_are_read_as_the_same_hdf5_files(kind: Callable[..., Any], version: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).poisson(1, (CELLS, GENES)).astype(np.float32)
    data = cells(kind(values), obs={"kind": words(["T", "B"] * (CELLS // 2))}, layers={"half": kind(values / 2)})
    data.write_h5ad(tmp_path / "cells.h5ad")
    with anndata.settings.override(zarr_write_format=version):
        data.write_zarr(tmp_path / "cells.zarr")
    for options in ({"label_columns": ("kind",)}, {"layer": "half"}):
        store, file = read(tmp_path / "cells.zarr", **options), read(tmp_path / "cells.h5ad", **options)
        np.testing.assert_array_equal(rows(store), rows(file))
        assert [(item.key, item.labels) for item in store.values()] == [(item.key, item.labels) for item in file.values()]


def test_a_mudata_store_lies_in_a_folder_among_files_as_one_of_them(tmp_path: Path) -> None:
    mudata.read_h5mu(mosaic(tmp_path / "mosaic.h5mu")).write_zarr(tmp_path / "folder/mosaic.zarr")
    (tmp_path / "folder/more.csv").write_text("key," + ",".join(f"p{i}" for i in range(PROTEINS)) + "\nextra,1,2,3,4\n")
    proteins = read(tmp_path / "folder/mosaic.zarr", mod="adt")
    np.testing.assert_array_equal(rows(proteins), rows(read(tmp_path / "mosaic.h5mu", mod="adt")))
    assert next(iter(proteins)) == "cell020"
    with pytest.raises(DataError, match=r"no image file here, but 2 files of other formats: 1 \.csv, 1 \.zarr"):
        list(read_items("image", [tmp_path / "folder"], SourceOptions()))


def test_what_is_no_table_in_zarr_is_refused(tmp_path: Path) -> None:
    import zarr

    values = sparse.csr_matrix(np.ones((CELLS, GENES), np.float32))
    zarr.open_group(tmp_path / "outer.zarr", mode="w", zarr_format=2).create_group("tables")  # as SpatialData lays it
    with anndata.settings.override(zarr_write_format=2):
        cells(values).write_zarr(tmp_path / "outer.zarr/tables/table")
    with pytest.raises(DataError, match=r"neither AnnData nor MuData.*Give one of those in it: .*outer\.zarr/tables/table"):
        read(tmp_path / "outer.zarr")
    assert len(read(tmp_path / "outer.zarr/tables/table")) == CELLS
    (tmp_path / "tables.zarr").mkdir()
    (tmp_path / "tables.zarr/a.csv").write_text("key,x\na,1\nb,2\n")
    assert set(read(tmp_path / "tables.zarr")) == {"a", "b"}, "a folder of that name which is no store"
    (tmp_path / "file.zarr").write_bytes(b"x")
    with pytest.raises(DataError, match="a Zarr store is read from its folder"):
        read(tmp_path / "file.zarr")


def test_chunks_of_zarr_that_are_not_there_are_no_zeros(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ones = np.ones((CELLS, GENES), np.float32)
    for name, values in (("sparse", sparse.csr_matrix(ones)), ("none", ones), ("dense", ones)):
        with anndata.settings.override(zarr_write_format=2):
            cells(values).write_zarr(tmp_path / f"{name}.zarr", chunks=(CELLS // 2, GENES) if name == "dense" else None)
    for chunk in [*(tmp_path / "sparse.zarr/X/data").glob("[0-9]*"), *(tmp_path / "none.zarr/X").glob("[0-9]*")]:
        chunk.unlink()
    sorted((tmp_path / "dense.zarr/X").glob("[0-9]*"))[-1].unlink()
    for name in ("sparse", "none"):
        with pytest.raises(DataError, match="1 of the 1 chunks of X are not there"):
            read(tmp_path / f"{name}.zarr")
    values = rows(read(tmp_path / "dense.zarr"))
    assert values[: CELLS // 2].all() and not values[CELLS // 2 :].any()
    assert "1 of the 2 chunks of X are not stored, and read as zeros" in capsys.readouterr().err
