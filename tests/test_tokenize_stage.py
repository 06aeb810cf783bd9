"""`tokenize` turns raw files into one verified token tar: fitted on training samples only, same input, same bytes."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

import mmtool.preprocessing.fit as fitting
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import sha256_file
from mmtool.data.sample import SPLITS
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.kinds import KINDS
from mmtool.preprocessing.augment import audio_variant, image_variant
from mmtool.preprocessing.fit import find_tokenizer
from mmtool.preprocessing.prepare import preparer_of, resample
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.splits import Split, split_of
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import from_bytes, load_tokenizer

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    rows = [f"n{i:03d}\tperson{i % 20}\tplease write the number {WORDS[i % 10]} for me\t{i % 10}" for i in range(200)]
    path = tmp_path / "notes.tsv"
    path.write_text("key\tperson\ttext\tdigit\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(60, 3)).round(3)
    path = tmp_path / "table.csv"
    path.write_text("id,a,b,c\n" + "".join(f"p{i},{x},{y},{z}\n" for i, (x, y, z) in enumerate(values)))
    return path


TEXT = SourceOptions(label_columns=("digit",), group_column="person")


def texts(token_set: TokenSet, name: str = "text") -> list[str]:
    tokenizer = from_bytes(token_set.tokenizers[name])
    return tokenizer.decode([sample.tokens[name] for sample in token_set])


def test_texts_go_in_and_come_out_with_labels_and_splits(notes: Path, tmp_path: Path) -> None:
    summary = tokenize("text", [notes], tmp_path / "text.tar", name="text", options=TEXT)
    token_set = open_token_set(tmp_path / "text.tar")
    assert summary.samples == len(token_set) == 200 and summary.rejected == 0
    assert summary.tokens == sum(len(sample.tokens["text"]) for sample in token_set)
    assert summary.reconstruction["exact_round_trips"] == 1.0 and summary.tokenizer == token_set.modalities[0].tokenizer
    assert texts(token_set)[3] == "please write the number three for me"
    assert token_set[3].labels == {"digit": 3} and token_set[3].metadata.items() > {"group": "person3"}.items()
    splits = {(sample.metadata["group"], sample.split) for sample in token_set}
    assert len(splits) == 20 and {split for _, split in splits} <= set(SPLITS)
    assert summary.splits == Counter(sample.split for sample in token_set)


def test_the_same_input_gives_the_same_bytes_whatever_the_order_of_files(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text(f"note number {WORDS[number % 10]}\n")
    files = sorted(tmp_path.glob("*.txt"))
    tokenize("text", files, tmp_path / "a.tar", name="text")
    tokenize("text", files[::-1], tmp_path / "b.tar", name="text")
    assert sha256_file(tmp_path / "a.tar") == sha256_file(tmp_path / "b.tar")


def test_fitting_sees_training_samples_only(table: Path, tmp_path: Path) -> None:
    tokenize("table", [table], tmp_path / "a.tar", name="omics")
    rows = table.read_text().splitlines()
    held_out = next(i for i in range(60) if split_of(f"p{i}", (0.8, 0.1, 0.1), 0) == "test")
    rows[held_out + 1] = f"p{held_out},1e6,-1e6,1e6"
    table.write_text("\n".join(rows))
    tokenize("table", [table], tmp_path / "b.tar", name="omics")
    first, second = (open_token_set(tmp_path / name).tokenizers["omics"] for name in ("a.tar", "b.tar"))
    assert first == second


def test_fitting_is_capped_by_the_hash_of_the_keys(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MAX_FITTING_SAMPLES", 10)
    summary = tokenize("table", [table], tmp_path / "a.tar", name="omics", settings={"n_bins": 4})
    assert summary.reconstruction["samples"] == 10 and summary.samples == 60 and summary.vocabulary_size == 5


def test_a_fitted_tokenizer_goes_on_with_other_data(table: Path, tmp_path: Path) -> None:
    tokenize("table", [table], tmp_path / "a.tar", name="omics", save_tokenizer=tmp_path / "t.safetensors")
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("".join(",".join(row.split(",")[i] for i in (0, 3, 1, 2)) + "\n" for row in table.read_text().splitlines()))
    run = tmp_path / "run" / "tokenizers"
    run.mkdir(parents=True)
    (run / "omics.safetensors").write_bytes((tmp_path / "t.safetensors").read_bytes())
    whole = sha256_file(tmp_path / "a.tar")
    for number, source in enumerate((tmp_path / "t.safetensors", tmp_path / "a.tar", tmp_path / "run")):
        tokenize("table", [shuffled], tmp_path / f"{number}.tar", name="omics", tokenizer=source)
        assert sha256_file(tmp_path / f"{number}.tar") == whole
    values = load_tokenizer(tmp_path / "t.safetensors")
    assert preparer_of(values)((np.array([1, 2, 3], np.float32), ("c", "a", "b"))).tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("kind", "scheme"), [(kind, scheme) for kind, entry in KINDS.items() for scheme in entry.schemes if scheme != "hf"]
)
def test_settings_are_checked_before_files_are_read(kind: str, scheme: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{kind} {scheme}: unknown tokenizer setting 'stepz'"):
        tokenize(kind, [tmp_path / "absent"], tmp_path / "new.tar", name="a", scheme=scheme, settings={"stepz": 3})


def test_wrong_use_is_refused_before_any_work(notes: Path, table: Path, tmp_path: Path) -> None:
    tokenize("text", [notes], tmp_path / "text.tar", name="text")
    refused: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UsageError, "exists already.*--force", {"output": tmp_path / "text.tar"}),
        (UsageError, "no name for a modality", {"name": "my.text"}),
        (UsageError, r"no scheme 'pieces' for table.*bins", {"scheme": "pieces"}),
        (UsageError, r"unknown tokenizer setting 'bins'.*n_bins", {"settings": {"bins": 3}}),
        (UsageError, "is for text, not table", {"tokenizer": tmp_path / "text.tar", "name": "text"}),
        (DataError, r"no tokenizer for 'omics'.*text", {"tokenizer": tmp_path / "text.tar"}),
        (DataError, "cannot read the tokenizer", {"tokenizer": tmp_path / "absent"}),
        (UsageError, "variants of table", {"augment": 2}),
        (DataError, "train split", {"split": Split((0.0, 0.5, 0.5))}),
    ]
    for error, message, change in refused:
        arguments: dict[str, Any] = {"output": tmp_path / "new.tar", "name": "omics"} | change
        output = arguments.pop("output")
        with pytest.raises(error, match=message):
            tokenize("table", [table], output, **arguments)
    assert not (tmp_path / "new.tar").exists()
    with pytest.raises(UsageError, match="keeps its own"):
        tokenize("text", [notes], None, name="text", tokenizer=tmp_path / "text.tar", settings={"vocabulary_size": 300})


def test_rejected_samples_are_listed_beside_the_output(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,a\nx,1\ny,one\nz,3\n")
    options = SourceOptions(on_error="skip")
    summary = tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", name="omics", options=options, split=Split((1, 0, 0)))
    assert summary.rejected == 1 and open_token_set(tmp_path / "t.tar").keys == ["x", "z"]
    (line,) = (tmp_path / "t.tar.rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "y" and "'one'" in json.loads(line)["reason"]
    (tmp_path / "t.csv").write_text("id,a\nx,1\nz,3\n")
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", name="omics", options=options, split=Split((1, 0, 0)), force=True)
    assert not (tmp_path / "t.tar.rejects.jsonl").exists()


def test_standard_output_holds_the_tar_and_nothing_else(notes: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from mmtool.preprocessing.tokenize import tokenize as run;"
    code += "run('text', [Path(sys.argv[1])], None, name='text')"
    done = subprocess.run([sys.executable, "-c", code, str(notes)], check=True, capture_output=True)
    tokenize("text", [notes], tmp_path / "text.tar", name="text")
    assert done.stdout == (tmp_path / "text.tar").read_bytes()


class Loudness:
    """A stand-in for a learned audio tokenizer: one code per 100 samples, its level."""

    kind: ClassVar[str] = "audio"
    scheme: ClassVar[str] = "codec"
    vocabulary_size, shape, positions = 64, None, "line"

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> "Loudness":
        fitted = cls(settings["sample_rate_hz"])
        fitted.report = {"samples": len(values), "lengths": [len(value) for value in values]}
        return fitted

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [(63 * np.abs(value[: len(value) // 100 * 100].reshape(-1, 100)).max(1)).astype(np.uint16) for value in values]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"none": np.zeros(1)}, {"sample_rate_hz": self.sample_rate_hz}


def test_recordings_get_variants_in_training_only_and_meet_at_one_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["audio"].schemes, "codec", f"{__name__}:Loudness")
    folder = tmp_path / "wav"
    folder.mkdir()
    for number in range(20):
        rate = 16_000 if number == 3 else 8000
        soundfile.write(folder / f"{number}.wav", np.sin(np.arange(rate // 4) / 5) / 2, rate)
    summary = tokenize("audio", [folder], tmp_path / "a.tar", name="speech", augment=2, seed=1)
    token_set = open_token_set(tmp_path / "a.tar")
    train = [sample for sample in token_set if "variant_of" not in sample.metadata and sample.split == "train"]
    variants = [sample for sample in token_set if "variant_of" in sample.metadata]
    assert len(variants) == summary.variants == 2 * len(train) and len(token_set) == 20 + len(variants)
    assert {sample.key for sample in variants} == {f"{sample.key}~{n}" for sample in train for n in (1, 2)}
    assert all(sample.split == "train" and sample.metadata["group"] == sample.metadata["variant_of"] for sample in variants)
    assert summary.reconstruction == {"samples": len(train), "lengths": [2000] * len(train)}
    tokenize("audio", [folder], tmp_path / "b.tar", name="speech", augment=2, seed=1)
    assert sha256_file(tmp_path / "a.tar") == sha256_file(tmp_path / "b.tar")


def test_variants_are_light_and_decided_by_seed_and_key() -> None:
    wave = np.sin(np.arange(8000) / 5).astype(np.float32)
    variant = audio_variant(wave, 8000, "a~1", 0)
    np.testing.assert_array_equal(variant, audio_variant(wave, 8000, "a~1", 0))
    others = [audio_variant(wave, 8000, key, seed) for key, seed in (("a~2", 0), ("a~1", 1))]
    assert all(other.shape != variant.shape or not np.allclose(other, variant) for other in others)
    for number in range(50):
        variant = audio_variant(wave, 8000, f"a~{number}", 0)
        assert variant.dtype == np.float32 and 7200 <= len(variant) <= 9300 and 0.4 < np.abs(variant).max() <= 1


def test_resampling_keeps_the_tone() -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    half = resample(wave, 16_000, 8000)
    assert len(half) == 8000 and np.abs(np.fft.rfft(half)).argmax() == 440


def test_splits_are_stable_and_fair() -> None:
    groups = [f"patient-{i}" for i in range(4000)]
    counts = Counter(map(Split((0.7, 0.2, 0.1), seed=3).of, groups))
    assert abs(counts["train"] / 4000 - 0.7) < 0.03 and abs(counts["validation"] / 4000 - 0.2) < 0.03
    stable = [split_of(name, (0.4, 0.3, 0.3), 0) for name in "abcdefgh"]
    assert stable == ["train", "validation", "train", "train", "train", "train", "validation", "train"]
    assert Split(seed=1).of("a") in SPLITS and any(Split(seed=1).of(g) != Split(seed=2).of(g) for g in groups)
    for fractions in ((0.5, 0.5, 0.5), (1.2, -0.1, -0.1)):
        with pytest.raises(UsageError, match="sum to 1"):
            Split(fractions)


def corpora() -> Path:
    folder = Path(os.environ.get("MMTOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real corpora are absent: set MMTOOL_DATA")
    return folder


@pytest.mark.data
def test_protein_tables_with_clinical_labels(tmp_path: Path) -> None:
    folder = corpora() / "tcga"
    options = SourceOptions(labels_path=folder / "clinical.csv", label_columns=("cancer", "time_days", "event"))
    summary = tokenize("table", [folder / "rppa.csv.gz"], tmp_path / "rppa.tar", name="rppa", options=options)
    assert summary.samples == 6004 and summary.mean_length == 191 and summary.reconstruction["reconstruction_r2"] > 0.95
    assert open_token_set(tmp_path / "rppa.tar")[0].labels == {"cancer": "GBM", "time_days": 144.0, "event": 1}


@pytest.mark.data
def test_queries_without_a_header(tmp_path: Path) -> None:
    options = SourceOptions(key_column="none", columns=("domain_id", "domain", "intent", "text"), label_columns=("digit=domain_id",))
    path = corpora() / "clinc150" / "val.tsv"
    summary = tokenize("text", [path], tmp_path / "text.tar", name="text", options=options)
    lines = [line.split("\t")[3] for line in path.read_text().splitlines()]
    assert summary.samples == 3000 and texts(open_token_set(tmp_path / "text.tar")) == lines
    assert find_tokenizer(tmp_path / "text.tar", "text").vocabulary_size == summary.vocabulary_size <= 1024


def test_image_variants_are_light_and_decided_by_seed_and_key() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[5:11, 5:11] = (200, 100, 50)
    variant = image_variant(image, "a~1", 0)
    np.testing.assert_array_equal(variant, image_variant(image, "a~1", 0))
    for number in range(20):
        other = image_variant(image, f"b~{number}", 0).astype(float)
        assert other.shape == image.shape and not np.array_equal(other, variant)
        centre = np.argwhere(other[..., 0] > 50).mean(0)
        assert np.abs(centre - 7.5).max() < 2 and 0.6 < other.sum() / image.sum() < 1.5


def test_a_wide_table_is_pointed_to_fewer_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count, scheme in ((2001, "bins"), (2000, "bins"), (2001, "codec")):
        rows = "".join(f"S{row},{','.join(str((row * place) % 7) for place in range(count))}\n" for row in range(12))
        (tmp_path / "t.csv").write_text(f"sample,{','.join(f'g{place}' for place in range(count))}\n{rows}")
        tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", name="rna", scheme=scheme, settings={"n_bins": 4}, force=True)
        advice = "2,001 features are 2,001 tokens of each sample, too many to train on within reason: --scheme codec"
        assert (advice in capsys.readouterr().err) is (count > 2000 and scheme == "bins")
