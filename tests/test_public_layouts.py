"""Public layouts from raw files to imputed ones, by the command line alone: the values come back, and the holes are filled, no more."""

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from conftest import Result
from PIL import Image

from mmtool.data.sample import SPLITS
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.tokenizers.base import from_bytes

Mmtool = Callable[..., Result]
Values = Mapping[str, Any]  # key -> value
COUNT = 30
SMALL = ["--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=32", "--set", "value_epochs=1", "--steps", 4,
         "--batch-tokens", 1024, "--no-compile", "--checkpoint-every", 0]  # fmt: skip
CODEC = ["--codebook", 64, "--set", "steps=40"]
RANDOM = np.random.default_rng(0)


@dataclass
class Layout:
    """kinds: of the modalities. commands: what `mmtool tokenize` is told, one call each. truth: their values, of the samples that have
    them. sharding: what `mmtool shard` is told besides. tolerance: how far values that come back may lie off."""

    kinds: dict[str, str]
    commands: list[list[Any]]
    truth: dict[str, Values]
    sharding: list[Any] = field(default_factory=list)
    tolerance: float = 1e-3


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 1), 8 * number, np.uint8)


def png(number: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(number)[..., 0]).save(data, "PNG")
    return data.getvalue()


def sound(number: int) -> np.ndarray:
    return (0.03 * number * np.sin(np.arange(1600) * 0.1)).astype(np.float32)


def flac(number: int) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, sound(number), 16000, format="FLAC", subtype="PCM_16")
    return data.getvalue()


def texts(numbers: list[int]) -> list[str]:
    return [f"a picture of number {number}" for number in numbers]


def table(path: Path, rows: list[list[Any]]) -> Path:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def measured(names: list[str], features: int) -> dict[str, np.ndarray]:
    return {name: RANDOM.normal(size=features).round(3).astype(np.float32) for name in names}


def cbioportal(folder: Path) -> Layout:
    patients = [f"TCGA-A1-{number:04d}" for number in range(COUNT)]
    mrna, rppa = measured(patients[:24], 6), measured(patients[8:], 4)
    genes = ("TP53", "EGFR", "KRAS", "MYC", "PTEN", "RB1")
    header = ["Hugo_Symbol", "Entrez_Gene_Id", *mrna]
    table(folder / "data_mrna.txt", [header, *([gene, 7 * i, *(row[i] for row in mrna.values())] for i, gene in enumerate(genes))])
    header = ["Composite.Element.REF", *rppa]
    table(folder / "data_rppa.txt", [header, *([f"P{i}|p{i}", *(row[i] for row in rppa.values())] for i in range(4))])
    clinical = {patient: np.array([40 + number, 50 + number / 4], np.float32) for number, patient in enumerate(patients)}
    comments = "#Patient Identifier\tAge\tWeight\n#Identifier\tAge\tWeight\n#STRING\tNUMBER\tNUMBER\n#1\t1\t1\n"
    path = table(folder / "data_clinical_patient.txt", [["PATIENT_ID", "AGE", "WEIGHT"], *([key, *row] for key, row in clinical.items())])
    path.write_text(comments + path.read_text())
    commands = [
        ["table", folder / "data_mrna.txt", "--transpose", "--name", "mrna"],
        ["table", folder / "data_rppa.txt", "--transpose", "--name", "rppa"],
        ["table", path, "--name", "clinical"],
    ]
    kinds = dict.fromkeys(("mrna", "rppa", "clinical"), "table")
    return Layout(kinds, commands, {"mrna": mrna, "rppa": rppa, "clinical": clinical}, tolerance=2.0)


def h5mu(folder: Path) -> Layout:
    anndata, mudata = pytest.importorskip("anndata", reason="the extra `omics`"), pytest.importorskip("mudata")
    pandas = pytest.importorskip("pandas")
    cells = [f"cell{number}" for number in range(COUNT)]
    values = {"rna": measured(cells[:22], 5), "adt": measured(cells[10:], 3)}
    parts = {}
    for name, rows in values.items():
        parts[name] = anndata.AnnData(np.stack(list(rows.values())))
        parts[name].obs_names, width = list(rows), parts[name].shape[1]
        parts[name].var_names = pandas.Index([f"{name}{number}" for number in range(width)], dtype=object)
    mudata.MuData(parts).write(folder / "cells.h5mu")
    commands = [["table", folder / "cells.h5mu", "--name", name] for name in values]
    return Layout(dict.fromkeys(values, "table"), commands, values, tolerance=2.0)


def coco(folder: Path) -> Layout:
    (folder / "val2017").mkdir()
    names = [f"{number:012d}" for number in range(COUNT)]
    for number, name in enumerate(names[:20]):
        (folder / f"val2017/{name}.png").write_bytes(png(number))
    captioned = list(range(8, COUNT))
    images = [{"id": 7 * number, "file_name": f"{names[number]}.png"} for number in captioned]
    captions = [
        {"id": i, "image_id": 7 * number, "caption": text} for i, (number, text) in enumerate(zip(captioned, texts(captioned), strict=True))
    ]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    truth: dict[str, Values] = {
        "image": {name: picture(number) for number, name in enumerate(names[:20])},
        "text": dict(zip(names[8:], texts(captioned), strict=True)),
    }
    commands = [["image", folder / "val2017", *CODEC, "--size", 8, "--patch", 4], ["text", folder / "captions.json"]]
    return Layout({"image": "image", "text": "text"}, commands, truth)


def librispeech(folder: Path) -> Layout:
    chapter = folder / "84/121123"
    chapter.mkdir(parents=True)
    keys = [f"84/121123/84-121123-{number:04d}" for number in range(COUNT)]
    for number in range(22):
        (folder / f"{keys[number]}.flac").write_bytes(flac(number))
    spoken = {key: f"NUMBER {number} IS SPOKEN" for number, key in enumerate(keys) if number >= 8}
    (chapter / "84-121123.trans.txt").write_text("".join(f"{key.rpartition('/')[2]} {text}\n" for key, text in spoken.items()))
    commands = [
        ["audio", folder, "--name", "speech", *CODEC, "--set", "width=32", "--set", "depth=1", "--set", "normalise=false"],
        ["text", folder],
    ]
    truth: dict[str, Values] = {"speech": {key: sound(number) for number, key in enumerate(keys[:22])}, "text": spoken}
    return Layout({"speech": "audio", "text": "text"}, commands, truth)


def img2dataset(folder: Path) -> Layout:
    images: dict[str, Any] = {}
    captions: dict[str, Any] = {}
    (folder / "laion").mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"laion/{shard:05d}.tar", "w") as archive:
            for number in range(15):
                key, place = f"{shard:05d}/{number:09d}", 15 * shard + number
                if number % 4:
                    add(archive, f"{number:09d}.png", png(place))
                    images[key] = picture(place)
                if number % 3:
                    add(archive, f"{number:09d}.txt", f"caption {place}".encode())
                    captions[key] = f"caption {place}"
                add(archive, f"{number:09d}.json", json.dumps({"url": f"http://a.org/{place}", "caption": "c"}).encode())
    commands = [["image", folder / "laion", *CODEC, "--size", 8, "--patch", 4], ["text", folder / "laion"]]
    return Layout({"image": "image", "text": "text"}, commands, {"image": images, "text": captions})


def hugging_face(folder: Path) -> Layout:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet`")
    from pyarrow import parquet

    keys = [f"k{number}" for number in range(COUNT)]
    image = [{"bytes": png(number), "path": f"{number}.png"} if number % 4 else None for number in range(COUNT)]
    caption = [text if number % 3 else None for number, text in enumerate(texts(list(range(COUNT))))]
    path = folder / "train-00000-of-00001.parquet"
    parquet.write_table(pyarrow.table({"id": keys, "image": image, "caption": caption}), path)
    sizes = ["--set", "image.size=8", "--set", "image.patch=4", "--set", "image.codebook=64", "--set", "image.steps=40"]
    columns = ["--column", "image=image", "--column", "text=caption", *sizes]
    truth: dict[str, Values] = {
        "image": {key: picture(number) for number, key in enumerate(keys) if number % 4},
        "text": {key: caption[number] for number, key in enumerate(keys) if number % 3},
    }
    return Layout({"image": "image", "text": "text"}, [["--manifest", path, *columns]], truth)


def lerobot(folder: Path) -> Layout:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet`")
    from pyarrow import parquet

    steps, path = 6, folder / "set/data/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    state, action = RANDOM.normal(size=(COUNT * steps, 2)).round(2), RANDOM.integers(0, 4, COUNT * steps)
    columns = {"observation.state": state.tolist(), "action": action.tolist(), "episode_index": np.repeat(range(COUNT), steps).tolist()}
    parquet.write_table(pyarrow.table(columns), path)
    keys = [f"data/chunk-000/file-000-{number:06d}" for number in range(COUNT)]
    streams = {"state": ("observations", state), "actions": ("actions", action)}
    commands = [["trajectory", folder / "set", "--name", name, "--set", f"streams={stream}"] for name, (stream, _) in streams.items()]
    truth: dict[str, Values] = {
        name: {key: {stream: values[number * steps :][:steps]} for number, key in enumerate(keys)}
        for name, (stream, values) in streams.items()
    }
    return Layout(dict.fromkeys(streams, "trajectory"), commands, truth, ["--missing-rate", 0.5], tolerance=0.5)


def assert_equal(found: Any, truth: Any, tolerance: float) -> None:
    """The same text; arrays that differ by no more than `tolerance`; streams by stream."""
    if isinstance(truth, Mapping):
        assert found.keys() == truth.keys()
        for name, values in truth.items():
            assert_equal(np.squeeze(found[name]), values, tolerance)
    elif isinstance(truth, str):
        assert found == truth
    else:
        assert np.shape(found) == truth.shape and np.abs(np.asarray(found, np.float64) - truth).max() <= tolerance


def assert_alike(found: list[Any], truth: list[Any]) -> None:
    """What learned codecs keep after a few steps: which picture is bright, and which recording loud."""
    strength = [[float(np.sqrt(np.mean(np.square(np.asarray(value, np.float64))))) for value in values] for values in (found, truth)]
    assert np.corrcoef(strength)[0, 1] > 0.8


@pytest.mark.thorough
@pytest.mark.parametrize("build", [cbioportal, h5mu, coco, librispeech, img2dataset, hugging_face, lerobot])
def test_raw_files_become_tokens_a_run_and_imputed_files(tmp_path: Path, mmtool: Mmtool, build: Callable[[Path], Layout]) -> None:
    raw, tokens = tmp_path / "raw", tmp_path / "tokens"
    raw.mkdir()
    layout = build(raw)
    tokens.mkdir()
    for command in layout.commands:
        names = dict(itertools.pairwise(command))
        several = command[0] == "--manifest"
        output = tmp_path / "sets" if several else tokens / f"{names.get('--name', command[0])}.tar"
        done = mmtool("tokenize", *command, "--fit", "-o", output)
        assert done.code == 0, done.err
        tokens = output if several else tokens
    for name, truth in layout.truth.items():
        token_set = open_token_set(tokens / f"{name}.tar")
        tokenizer = from_bytes(token_set.tokenizers[name])
        assert set(token_set.keys) == set(truth), "who holds what is as it was"
        decoded = {sample.key: tokenizer.decode([sample.tokens[name]])[0] for sample in token_set}
        if layout.kinds[name] in ("image", "audio"):
            assert_alike(list(decoded.values()), [truth[key] for key in decoded])
        else:
            for key, value in decoded.items():
                assert_equal(value, truth[key], layout.tolerance)
    done = mmtool("shard", *(tokens / f"{name}.tar" for name in layout.truth), *layout.sharding, "-o", tmp_path / "shards")
    assert done.code == 0, done.err
    held = {sample.key: set(sample.tokens) for split in SPLITS if (tmp_path / "shards" / split).is_dir()
            for sample in open_token_set(tmp_path / "shards", split)}  # fmt: skip
    assert mmtool("pretrain", tmp_path / "shards", "--method", "commutative", *SMALL, "-o", tmp_path / "run").code == 0
    done = mmtool("impute", tmp_path / "run", tmp_path / "shards", "-o", tmp_path / "imputed")
    assert done.code == 0, done.err
    assert any(len(names) < len(layout.kinds) for names in held.values())
    for name, kind in layout.kinds.items():
        holes = {key for key, names in held.items() if name not in names}
        if not holes:
            continue
        folder = tmp_path / "imputed" / name
        found = folder if folder.is_dir() else tmp_path / f"imputed/{name}.csv"
        imputed = {unquote(item.key): item.value for item in read_items(kind, [found], SourceOptions(on_error="skip"))}
        assert set(imputed) == holes, name
