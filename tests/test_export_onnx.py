"""The encoder of a run as an ONNX file gives the features that the run gives, whatever samples hold; a file that did not is not written."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Raw, Result

import mmtool as package
from mmtool.common.errors import DataError, UsageError
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.exports import onnx as exports
from mmtool.exports.graph import ABSENT, Representation
from mmtool.imputation.imputer import Imputer

Mmtool = Callable[..., Result]
SMALL = {"preset": "tiny", "steps": 2, "batch_tokens": 256, "compile": "off", "shape": {"depth": 2, "width": 32}, "value_epochs": 0}
METHODS = ("commutative", "causal", "masked", "contrastive", "m3ae")


@pytest.fixture(scope="module")
def world(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, whose length varies, a table and images, as codes and as patches, and runs on them."""
    folder = tmp_path_factory.mktemp("encoders")
    package.tokenize("text", raw.notes, folder / "text.tar", source={"text_column": "text"})
    package.tokenize("table", raw.values, folder / "lab.tar", name="lab")
    package.tokenize("image", raw.images, folder / "image.tar", scheme="patches", patch=4)
    package.shard([folder / "text.tar", folder / "lab.tar"], folder / "shards")
    package.shard([folder / f"{name}.tar" for name in ("text", "lab", "image")], folder / "patches")
    for method in METHODS:
        package.pretrain(folder / ("patches" if method == "m3ae" else "shards"), folder / method, method=method, precision="fp32", **SMALL)
    return folder


def samples_of(world: Path, method: str) -> list[Sample]:
    """Of several lengths: texts are cut, and one is empty."""
    samples = list(open_token_set(world / ("patches" if method == "m3ae" else "shards"), "test"))[:4]
    cut = [{**sample.tokens, "text": sample.tokens["text"][: 3 * i]} for i, sample in enumerate(samples)]
    return [Sample(str(i), tokens) for i, tokens in enumerate(cut)]


def features(imputer: Imputer, samples: Sequence[Sample], names: Sequence[str]) -> np.ndarray:
    """Of each sample alone, from what it holds."""
    return np.concatenate([imputer.features([sample], [name for name in names if name in sample.tokens]) for sample in samples])


@pytest.mark.parametrize("method", METHODS)
def test_the_module_gives_the_features_of_the_run(world: Path, method: str) -> None:
    imputer = Imputer.open(world / method, device="cpu")
    names, samples = imputer.run.layout.names, samples_of(world, method)
    lacking = [
        Sample(each.key, {n: codes for n, codes in each.tokens.items() if n != gone}) for each, gone in zip(samples, names, strict=False)
    ]
    module = Representation(imputer.run.method(), imputer.model.eval(), names)
    for batch in (samples, samples[:1], lacking):
        arrays = exports.feed(batch, imputer.model, names)
        with torch.no_grad():
            given = module(*(torch.from_numpy(array) for array in arrays.values())).numpy()
        np.testing.assert_allclose(given, features(imputer, batch, names), atol=1e-5)


def test_a_sample_that_holds_nothing_has_finite_features(world: Path) -> None:
    imputer = Imputer.open(world / "masked", device="cpu")
    names = imputer.run.layout.names
    arrays = exports.feed([Sample("nothing", {}), *samples_of(world, "masked")], imputer.model, names)
    assert arrays["text.count"][0] == ABSENT
    with torch.no_grad():
        given = Representation(imputer.run.method(), imputer.model.eval(), names)(*map(torch.from_numpy, arrays.values()))
    assert not given[0].any() and given.isfinite().all()


@pytest.fixture(scope="module")
def file(world: Path) -> Path:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra `onnx`")
    done = package.export(world / "masked", world / "masked.onnx")
    assert isinstance(done, exports.OnnxSummary) and done.difference <= 1e-4 and done.width == 32
    return world / "masked.onnx"


def test_the_file_gives_them_in_onnxruntime(world: Path, file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    imputer, samples = Imputer.open(world / "masked", device="cpu"), samples_of(world, "masked")
    names = [item.name for item in session.get_inputs()]
    assert names == ["lab", "lab.count", "text", "text.count"]
    for batch in (samples, samples[2:3]):
        lengths = [len(sample.tokens["text"]) for sample in batch]
        text = np.zeros((len(batch), max(lengths)), np.int64)
        for row, sample in zip(text, batch, strict=True):
            row[: len(sample.tokens["text"])] = sample.tokens["text"]
        lab = np.stack([sample.tokens["lab"] for sample in batch]).astype(np.int64)
        inputs = {"lab": lab, "lab.count": np.full(len(batch), lab.shape[1]), "text": text, "text.count": np.array(lengths)}
        np.testing.assert_allclose(session.run(None, inputs)[0], features(imputer, batch, ["lab", "text"]), atol=1e-4)
        alone = session.run(["features"], {**inputs, "lab.count": np.full(len(batch), ABSENT)})[0]
        np.testing.assert_allclose(alone, imputer.features(batch, ["text"]), atol=1e-4)


def test_the_file_says_what_it_is_and_not_where_it_was_made(file: Path) -> None:
    import onnxruntime

    said = json.loads(onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["mmtool"])
    assert said["method"] == "masked" and [item["name"] for item in said["modalities"]] == ["lab", "text"]
    assert said["modalities"][1]["max_length"] > 0 and said["step"] == 2
    assert str(Path(package.__file__).parent).encode() not in file.read_bytes()


def test_a_file_that_differs_from_torch_is_not_written(world: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    other: Any = onnx.load(file)
    monkeypatch.setattr(exports, "_program", lambda module, modalities: other)
    assert isinstance(package.export(world / "masked", tmp_path / "same.onnx"), exports.OnnxSummary)
    with pytest.raises(DataError, match="features differ by up to"):
        package.export(world / "causal", tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_force_replaces_such_a_file_and_no_other(mmtool: Mmtool, world: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    (tmp_path / "ours.onnx").write_bytes(file.read_bytes())
    assert "exists already" in mmtool("export", world / "nowhere", "-o", tmp_path / "ours.onnx").err
    assert "not a run directory" in mmtool("export", world / "nowhere", "-o", tmp_path / "ours.onnx", "--force").err
    done = mmtool("export", world / "nowhere", "-o", tmp_path / "mine.onnx", "--force")
    assert done.code == 2 and "not written by mmtool" in done.err


def test_without_the_extra_it_says_what_to_install(mmtool: Mmtool, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = mmtool("export", world / "masked", "-o", tmp_path / "run.onnx")
    assert done.code == 2 and "pip install 'mmtool[onnx]'" in done.err and not (tmp_path / "run.onnx").exists()


def test_modalities_belong_to_a_file(mmtool: Mmtool, world: Path, tmp_path: Path) -> None:
    done = mmtool("export", world / "masked", "--have", "text", "-o", tmp_path / "out")
    assert done.code == 2 and "--have has no effect" in done.err


def test_a_modality_that_the_run_does_not_know_is_refused(world: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="speech"):
        package.export(world / "masked", tmp_path / "run.onnx", have="speech")
