"""Continuous modalities through every stage: patches of images and of sound travel beside codes, train, and come back as real files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmtool.data.shards import open_token_set
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.imputation.files import ImputeOptions, impute_files
from mmtool.imputation.imputer import Imputer
from mmtool.preprocessing.protocol import MissingnessProtocol
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.audio_patches import AudioPatchTokenizer
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.training.config import resolve
from mmtool.training.pretrain import pretrain

RATE_HZ = 8000
SMALL = {"method": "m3ae", "preset": "tiny", "batch_tokens": 512, "compile": "off", "shape": {"depth": 1, "width": 32}, "warmup_steps": 2}


@pytest.fixture(scope="module")
def mixed(raw, tmp_path_factory):
    """Shards of image patches, sound patches and text, and a run on them."""
    folder = tmp_path_factory.mktemp("mixed")
    tokenize("image", [raw.images], folder / "image.tar", name="image", scheme="patches", settings={"patch": 4})
    tokenize("audio", [raw.clips], folder / "sound.tar", name="sound", scheme="patches", settings={"patch": 5})
    tokenize("text", [raw.notes], folder / "text.tar", name="text", options=SourceOptions(label_columns=("colour",)))
    pairs = MissingnessProtocol(pairs=(("image", "text"), ("sound", "text")))
    shard([folder / f"{name}.tar" for name in ("image", "sound", "text")], folder / "shards", protocol=pairs)
    pretrain(resolve(None, {**SMALL, "steps": 150, "learning_rate": 0.01}), folder / "shards", folder / "run")
    return folder


def tone(seconds, hertz=440):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def test_sound_comes_back_from_uint8_patches():
    sounds = [tone(0.1 + 0.03 * i, 200 + 60 * i) for i in range(12)]
    tokenizer = AudioPatchTokenizer.fit(sounds, {"sample_rate_hz": RATE_HZ}, 0)
    patches = tokenizer.encode(sounds)
    assert all(rows.dtype == np.uint8 and rows.shape == (-(-len(s) // 320), 160) for rows, s in zip(patches, sounds, strict=True))
    assert max(rows.max() for rows in patches) == 255 and tokenizer.vocabulary_size == 0
    decoded = tokenizer.decode(patches)
    originals = [tokenizer.features(sound) for sound in sounds]
    again = [tokenizer.features(sound[: len(each)]) for sound, each in zip(decoded, sounds, strict=True)]
    errors = [np.abs(a[: len(b)] - b[: len(a)]).mean() for a, b in zip(originals, again, strict=True)]
    assert np.mean(errors) < 1.0, "nepers"
    copy = from_bytes(to_bytes(tokenizer))
    assert to_bytes(copy) == to_bytes(tokenizer)
    assert all(map(np.array_equal, copy.encode(sounds), patches))
    assert len(tokenizer.decode([patches[0][:0]])[0]) == 0


def test_continuous_and_discrete_segments_share_shards(mixed):
    opened = open_token_set(mixed / "shards", "train")
    held = {modality.name: modality for modality in opened.modalities}
    assert held["image"].shape == (2, 2, 48) and held["image"].continuous
    assert held["sound"].shape is None and held["sound"].values == held["sound"].patch_width == 200
    assert held["text"].values == 0 and "values" not in held["text"].to_json()
    for sample in opened:
        for name, tokens in sample.tokens.items():
            assert tokens.dtype == (np.uint8 if held[name].continuous else np.uint16)
            assert tokens.ndim == 1 + held[name].continuous


def test_lint_and_info_know_patches(mixed, mmtool):
    assert mmtool("lint", mixed / "shards").code == 0
    told = json.loads(mmtool("info", mixed / "shards", "--json").out)
    assert told["modalities"]["sound"]["values"] == 200
    assert mmtool("lint", mixed / "run").code == 0


def test_it_learns_and_says_what_it_measured(mixed):
    records = [json.loads(line) for line in (mixed / "run/metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1]["image"] < 0.5 * losses[0]["image"] < 1
    assert set(losses[-1]) == {"image", "sound", "text", "sound length", "text length"}
    assert set(records[-1]["validation"]) == set(losses[-1])


def test_imputed_patches_are_real_files_and_better_than_the_mean(mixed):
    held_out = open_token_set(mixed / "shards", "test")
    options = ImputeOptions(want=("image", "sound"), have=("text",), draws=2)
    impute_files(mixed / "run", list(held_out), mixed / "filled", options)
    pictures = sorted((mixed / "filled/image").glob("*.png"))
    assert pictures and sorted((mixed / "filled/sound").glob("*.wav"))
    assert Image.open(pictures[0]).size == (8, 8)
    imputer = Imputer.open(mixed / "run")
    train = [sample for sample in open_token_set(mixed / "shards", "train") if "image" in sample.tokens]
    made = imputer.impute(train, ["image"], "text", consistency=True)
    assert made[0].consistency is None, "patches have no likelihood"
    back = imputer.impute(train, ["text"], "image", consistency=True)
    assert len(back[0].consistency) == 1, "the text can be told from the picture"
    true, said = (np.stack([tokens.astype(float) for tokens in each]) for each in _pictures(train, back))
    assert np.square(said - true).mean() < np.square(true - true.mean(0)).mean(), "better than the mean picture"


def _pictures(samples, imputed):
    return [sample.tokens["image"] for sample in samples], [each.tokens[0] for each in imputed]


@pytest.mark.thorough
def test_evaluation_classifies_decoded_patches(mixed):
    config = EvaluationConfig(tasks=("impute", "retrieval", "probe"), limit=8, contact_samples=2)
    summary = evaluate([mixed / "run"], mixed / "shards/test", mixed / "report", config)
    rows = [row for row in summary.rows if row["run"] == "m3ae"]
    assert {row["target"] for row in rows if row["metric"] == "accuracy"} == {"image", "sound", "text"}
    assert {row["target"] for row in rows if row["metric"] == "perplexity"} == {"text"}
    assert any(row["metric"] == "probe accuracy" for row in rows)


def test_resumed_training_of_patches_ends_in_the_same_bits(mixed, tmp_path):
    from test_training import same, weights

    config = resolve(None, {**SMALL, "steps": 6, "checkpoint_every": 3})
    pretrain(config, mixed / "shards", tmp_path / "whole")
    pretrain(config, mixed / "shards", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/checkpoints/00000006")
    pretrain(config, mixed / "shards", tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_other_methods_refuse_patches_and_name_the_one_that_takes_them(mixed, mmtool, tmp_path):
    done = mmtool("pretrain", "--method", "causal", "--preset", "tiny", mixed / "shards", "-o", tmp_path / "run")
    assert done.code == 1 and "m3ae" in done.err
