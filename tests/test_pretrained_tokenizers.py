"""Tokenizers from elsewhere, taken as they are: codecs of sound and pictures, `tokenizer.json`, sentencepiece, made tiny here."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import soundfile
import torch
from conftest import SAMPLE_RATE_HZ, Raw, Result
from PIL import Image
from safetensors.torch import load_file, save_file

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.tokenizers.hugging_face_audio import HuggingFaceAudioTokenizer
from mmtool.tokenizers.hugging_face_image import HuggingFaceImageTokenizer
from mmtool.tokenizers.hugging_face_text import HuggingFaceTextTokenizer

Mmtool = Callable[..., Result]
SIZE, HOP = 16, 80  # codes of a codebook, samples of a time step
RATIOS = [10, 8]
SEANET = {"num_filters": 2, "num_residual_layers": 1, "upsampling_ratios": RATIOS, "sampling_rate": SAMPLE_RATE_HZ, "codebook_size": SIZE}
MIMI = {"vector_quantization_hidden_dimension": 8, "upsample_groups": 16, "num_hidden_layers": 1, "intermediate_size": 16, "head_dim": 8}
MIMI |= {"num_attention_heads": 2, "num_key_value_heads": 2, "num_quantizers": 4, "hidden_size": 16, "codebook_dim": 8}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "encodec": ("Encodec", {**SEANET, "hidden_size": 8, "codebook_dim": 8, "num_lstm_layers": 1, "target_bandwidths": [1.6]}),
    "dac": ("Dac", {"encoder_hidden_size": 4, "downsampling_ratios": RATIOS[::-1], "decoder_hidden_size": 16, "n_codebooks": 4,
                    "codebook_size": SIZE, "codebook_dim": 4, "sampling_rate": SAMPLE_RATE_HZ}),
    "mimi": ("Mimi", {**SEANET, **MIMI}),
}  # fmt: skip


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of each architecture, with random weights."""
    transformers = pytest.importorskip("transformers", reason="the extra `hf`")
    folder = tmp_path_factory.mktemp("codecs")
    for kind, (name, options) in CONFIGS.items():
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options))
        for parameter in [*model.parameters(), *(buffer for key, buffer in model.named_buffers() if key.endswith(("embed", "embed_sum")))]:
            parameter.data.normal_(std=0.1)
        model.save_pretrained(folder / kind)
    return folder


def tones() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [(0.3 * random.normal(size=length)).astype(np.float32) for length in (800, 810, 81)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_codec_gives_the_codes_of_its_library(codecs: Path, kind: str) -> None:
    import transformers

    tokenizer = HuggingFaceAudioTokenizer.open(codecs / kind, {"codebooks": 3})
    hop = tokenizer.hop
    assert (
        tokenizer.vocabulary_size == 3 * SIZE and hop == (2 * HOP if kind == "mimi" else HOP) and tokenizer.sample_rate_hz == SAMPLE_RATE_HZ
    )
    model = getattr(transformers, f"{CONFIGS[kind][0]}Model").from_pretrained(codecs / kind).eval()
    for value, codes in zip(tones(), tokenizer.encode(tones()), strict=True):
        steps = -(-len(value) // hop)
        sound = torch.from_numpy(np.pad(value, (0, steps * hop - len(value))))[None, None]
        with torch.no_grad():
            encoded = model.encode(sound).audio_codes
            expected = (encoded[0] if kind == "encodec" else encoded)[0, :3]
            decoded = (
                model.decode(expected[None, None], [None]) if kind == "encodec" else model.decode(audio_codes=expected[None])
            ).audio_values
        rows = codes.reshape(steps, 3).T.astype(int)
        assert np.array_equal(rows - np.array([[0], [SIZE], [2 * SIZE]]), expected.numpy()) and len(set(rows.flatten())) > 1
        given = tokenizer.decode([codes])[0]
        assert len(given) == steps * hop
        compared = min(len(given), decoded.shape[-1])
        np.testing.assert_allclose(given[:compared], decoded.flatten()[:compared].clamp(-1, 1), atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_its_file_is_complete_in_itself(codecs: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(codecs / kind, tmp_path / "codec"))
    tokenizer = HuggingFaceAudioTokenizer.open(folder, {})
    data = to_bytes(tokenizer)
    assert str(folder).encode() not in data and to_bytes(HuggingFaceAudioTokenizer.open(codecs / kind, {})) == data
    shutil.rmtree(folder)
    again = from_bytes(data)
    assert to_bytes(again) == data and again.vocabulary_size == 2 * SIZE and len(again.fitted_on) == 0
    assert all(np.array_equal(*pair) for pair in zip(again.encode(tones()), tokenizer.encode(tones()), strict=True))
    assert all(
        np.array_equal(*pair) for pair in zip(again.decode(again.encode(tones())), tokenizer.decode(tokenizer.encode(tones())), strict=True)
    )


def test_any_codes_are_decoded(codecs: Path) -> None:
    tokenizer = HuggingFaceAudioTokenizer.open(codecs / "encodec", {})
    random = np.random.default_rng(0).integers(tokenizer.vocabulary_size, size=9)
    lengths = [len(sound) for sound in tokenizer.decode([random, random[:1], random[:0]])]
    assert lengths == [4 * HOP, 0, 0]
    with pytest.raises(DataError, match="the recording is empty"):
        tokenizer.encode([np.zeros(0, np.float32)])


def test_from_a_directory_to_imputed_sound(mmtool: Mmtool, codecs: Path, raw: Raw, tmp_path: Path) -> None:
    """A tiny directory in EnCodec's format tokenizes, trains and decodes."""
    command = ("tokenize", "audio", raw.clips, "--scheme", f"hf:{codecs / 'encodec'}", "--set", "codebooks=3", "--name", "speech")
    done = mmtool(*command, "-o", tmp_path / "speech.tar", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out.splitlines()[-1])
    assert said["scheme"] == "hf" and said["samples"] == 40 and said["reconstruction"]["codebooks"] == 3
    samples = open_token_set(tmp_path / "speech.tar")
    assert samples[0].tokens["speech"].shape == (3 * SAMPLE_RATE_HZ // 4 // HOP,)
    assert mmtool("tokenize", "text", raw.notes, "--text-column", "text", "--fit", "-o", tmp_path / "text.tar").code == 0
    assert mmtool("shard", tmp_path / "speech.tar", tmp_path / "text.tar", "-o", tmp_path / "shards").code == 0
    small = ("--preset", "tiny", "--steps", 2, "--set", "shape.depth=1", "--set", "shape.width=32", "--no-compile", "--batch-tokens", 512)
    assert mmtool("pretrain", tmp_path / "shards", "--method", "commutative", *small, "-o", tmp_path / "run").code == 0
    assert mmtool("lint", tmp_path / "speech.tar", tmp_path / "shards", tmp_path / "run").code == 0
    words = ("--split", "test", "--have", "text", "--want", "speech", "-o", tmp_path / "imputed")
    done = mmtool("impute", tmp_path / "run", tmp_path / "shards", *words)
    assert done.code == 0, done.err
    sounds = [soundfile.read(file) for file in (tmp_path / "imputed").rglob("*.wav")]
    assert sounds and all(rate_hz == SAMPLE_RATE_HZ and np.isfinite(sound).all() for sound, rate_hz in sounds)
    again = ("tokenize", "audio", raw.clips, "--tokenizer", tmp_path / "run", "--name", "speech", "-o", tmp_path / "again.tar")
    assert mmtool(*again).code == 0 and (tmp_path / "again.tar").read_bytes() == (tmp_path / "speech.tar").read_bytes()
    refused = mmtool(*command, "-o", tmp_path / "speech.tar")
    assert refused.code == 2


def test_what_is_no_such_codec_is_refused(mmtool: Mmtool, codecs: Path, raw: Raw, tmp_path: Path) -> None:
    def said(path: object, *words: object) -> str:
        done = mmtool("tokenize", "audio", raw.clips, "--scheme", f"hf:{path}", *words, "-o", tmp_path / "out.tar")
        assert done.code in (1, 2) and not (tmp_path / "out.tar").exists() and done.err.startswith("error: ")
        return done.err

    assert "the codec has 4 codebooks, not 9" in said(codecs / "dac", "--set", "codebooks=9")
    assert "which tokenizer?" in said(codecs / "dac", "--fit")
    assert "there is no such file or directory" in said(tmp_path / "nowhere")
    assert "unknown tokenizer setting 'size'" in said(codecs / "dac", "--size", 3)
    assert "cannot be opened" in said(raw.clips)
    pickled = Path(shutil.copytree(codecs / "dac", tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "pickled weights" in said(pickled)
    stereo = Path(shutil.copytree(codecs / "encodec", tmp_path / "stereo"))
    config = json.loads((stereo / "config.json").read_text())
    (stereo / "config.json").write_text(json.dumps({**config, "normalize": True}))
    assert "mono" in said(stereo)
    (stereo / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    assert "a model of the type 'llama' is no codec" in said(stereo)
    done = mmtool("tokenize", "table", raw.values, "--scheme", f"hf:{codecs / 'dac'}", "-o", tmp_path / "out.tar")
    assert done.code == 2 and "there are no pretrained tokenizers for table" in done.err


def test_without_the_extra_it_says_what_to_install(codecs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_bytes(HuggingFaceAudioTokenizer.open(codecs / "dac", {}))
    monkeypatch.setitem(sys.modules, "transformers", None)
    for attempt in (lambda: HuggingFaceAudioTokenizer.open(codecs / "dac", {}), lambda: from_bytes(data)):
        with pytest.raises(UsageError, match=r"pip install 'mmtool\[hf\]'"):
            attempt()


VQ = {"embed_dim": 4, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "latent_channels": 4}
JANUS = {**VQ, "num_embeddings": SIZE, "num_patches": 8, "projection_dim": 8, "image_token_embed_dim": 8}
EMU3 = {**VQ, "codebook_size": SIZE, "attn_resolutions": [1], "hidden_size": 32, "temporal_downsample_factor": 2}
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
WORDS = {**SMALL, "vocab_size": 16, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WHOLE = {
    "janus": ("Janus", {"vq_config": JANUS, "text_config": WORDS, "vision_config": {**SMALL, "image_size": 16, "patch_size": 2}}),
    "emu3": ("Emu3", {"vq_config": EMU3, "text_config": WORDS, "vocabulary_map": {"<image>": 5}}),
}
PICTURES = {"janus_vqgan": ("JanusVQVAE", JANUS), "emu3_vqgan": ("Emu3VQVAE", EMU3)}
SCALE = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]}
SIDE = 16  # of the pictures: 8 x 8 codes


@pytest.fixture(scope="module")
def vqs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of each codec of pictures, and of each whole model that holds one, with random weights."""
    transformers = pytest.importorskip("transformers", reason="the extra `hf`")
    folder = tmp_path_factory.mktemp("vqs")
    for kind, (name, options) in PICTURES.items():
        torch.manual_seed(0)
        getattr(transformers, name)(getattr(transformers, f"{name}Config")(**options)).save_pretrained(folder / kind)
    for kind, (name, options) in WHOLE.items():
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**options)
        getattr(transformers, f"{name}ForConditionalGeneration")(config).save_pretrained(folder / kind)
        (folder / kind / "preprocessor_config.json").write_text(json.dumps(SCALE))
    return folder


def scenes() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8))


@pytest.mark.parametrize("kind", [*PICTURES, *WHOLE])
def test_a_codec_of_pictures_gives_what_its_library_gives(vqs: Path, kind: str) -> None:
    import transformers

    tokenizer = HuggingFaceImageTokenizer.open(vqs / kind, {"size": SIDE})
    assert (tokenizer.vocabulary_size, tokenizer.shape, tokenizer.positions) == (SIZE, (SIDE // 2, SIDE // 2), "grid")
    if kind in WHOLE:
        model = getattr(transformers, f"{WHOLE[kind][0]}ForConditionalGeneration").from_pretrained(vqs / kind).eval().model.vqmodel
        mean, std = (torch.tensor(SCALE[name])[:, None, None] for name in ("image_mean", "image_std"))
    else:
        model = getattr(transformers, PICTURES[kind][0]).from_pretrained(vqs / kind).eval()
        mean = std = torch.tensor(0.5)
    signal = (torch.from_numpy(np.stack(scenes())).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        if "emu3" in kind:
            expected = torch.stack(model.encode(signal, torch.tensor([[SIDE, SIDE]] * 3)).image_tokens)
        else:  # by the angle between vectors, for `decode` takes no notice of their lengths
            vectors, latents = model.quantize.embedding.weight, model.quant_conv(model.encoder(signal))
            vectors.copy_(torch.nn.functional.normalize(vectors))
            expected = model.quantize(torch.nn.functional.normalize(latents, dim=1))[2].view(3, -1)
        decoded = model.decode(expected)
    codes, expected = tokenizer.encode(scenes()), expected.reshape(3, -1)
    assert np.array_equal(np.stack(codes), expected.numpy()) and len(np.unique(codes)) > 1
    pixels = ((decoded * std + mean) * 255).round().clamp(0, 255)
    given = np.stack(tokenizer.decode(codes))
    assert given.shape == (3, SIDE, SIDE, 3) and given.dtype == np.uint8
    assert np.abs(given - pixels.permute(0, 2, 3, 1).numpy()).max() <= 1


@pytest.mark.parametrize("kind", PICTURES)
def test_a_codec_of_pictures_is_complete_in_its_file(vqs: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(vqs / kind, tmp_path / "codec"))
    tokenizer = HuggingFaceImageTokenizer.open(folder, {"size": SIDE})
    data, codes = to_bytes(tokenizer), tokenizer.encode(scenes())
    shutil.rmtree(folder)
    again = from_bytes(data)
    assert str(folder).encode() not in data and to_bytes(again) == data and again.shape == (SIDE // 2, SIDE // 2)
    assert np.array_equal(again.encode(scenes()), codes) and np.array_equal(again.decode(codes), tokenizer.decode(codes))
    assert np.array_equal(again.encode(scenes()[1:2])[0], codes[1]), "a picture's codes do not depend on its neighbours"


@pytest.mark.parametrize("kind", ["janus", "emu3_vqgan"])
def test_from_a_directory_to_imputed_pictures(mmtool: Mmtool, vqs: Path, raw: Raw, tmp_path: Path, kind: str) -> None:
    size = () if kind == "janus" else ("--size", SIDE)
    command = ("tokenize", "image", raw.images, "--scheme", f"hf:{vqs / kind}", *size)
    done = mmtool(*command, "-o", tmp_path / "image.tar", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out.splitlines()[-1])
    assert said["scheme"] == "hf" and said["samples"] == 40 and said["reconstruction"]["tokens"] == 64
    assert "8 x 8 tokens of 16 codes for 16 x 16 pixels" in done.err
    assert mmtool("tokenize", "text", raw.notes, "--text-column", "text", "--fit", "-o", tmp_path / "text.tar").code == 0
    assert mmtool("shard", tmp_path / "image.tar", tmp_path / "text.tar", "-o", tmp_path / "shards").code == 0
    small = ("--preset", "tiny", "--steps", 2, "--set", "shape.depth=1", "--set", "shape.width=32", "--no-compile", "--batch-tokens", 512)
    assert mmtool("pretrain", tmp_path / "shards", "--method", "commutative", *small, "-o", tmp_path / "run").code == 0
    assert mmtool("lint", tmp_path / "image.tar", tmp_path / "shards", tmp_path / "run").code == 0
    words = ("--split", "test", "--have", "text", "--want", "image", "-o", tmp_path / "imputed")
    done = mmtool("impute", tmp_path / "run", tmp_path / "shards", *words)
    assert done.code == 0, done.err
    sizes = {Image.open(file).size for file in (tmp_path / "imputed").rglob("*.png")}
    assert sizes == {(SIDE, SIDE)}
    again = ("tokenize", "image", raw.images, "--tokenizer", tmp_path / "run", "-o", tmp_path / "again.tar")
    assert mmtool(*again).code == 0 and (tmp_path / "again.tar").read_bytes() == (tmp_path / "image.tar").read_bytes()


def test_what_is_no_codec_of_pictures_is_refused(mmtool: Mmtool, codecs: Path, vqs: Path, raw: Raw, tmp_path: Path) -> None:
    def said(path: object, *words: object) -> str:
        done = mmtool("tokenize", "image", raw.images, "--scheme", f"hf:{path}", *words, "-o", tmp_path / "out.tar")
        assert done.code in (1, 2) and not (tmp_path / "out.tar").exists() and done.err.startswith("error: "), done.err
        return done.err

    assert "a model of the type 'dac' is no codec of pictures with a decoder" in said(codecs / "dac")
    assert "takes pictures of any size" in said(vqs / "emu3_vqgan")
    assert "a code stands for 2 x 2 pixels, which do not tile 15 x 15" in said(vqs / "emu3_vqgan", "--size", 15)
    assert "takes pictures of 16 x 16 pixels, not 32 x 32" in said(vqs / "janus_vqgan", "--size", 32)
    assert "unknown tokenizer setting 'codebook'" in said(vqs / "janus_vqgan", "--codebook", 64)
    assert "there is no such file or directory" in said(tmp_path / "nowhere")
    assert "cannot be opened" in said(raw.images)
    partial = Path(shutil.copytree(vqs / "janus_vqgan", tmp_path / "partial"))
    tensors = load_file(partial / "model.safetensors")
    save_file(
        {key: value for key, value in tensors.items() if not key.startswith("decoder.")}, partial / "model.safetensors", {"format": "pt"}
    )
    assert "weights are missing, the first is decoder." in said(partial)
    (partial / "model.safetensors").unlink()
    assert "there are no weights here" in said(partial)
    config = json.loads((partial / "config.json").read_text())
    (partial / "config.json").write_text(json.dumps({**config, "model_type": "chameleon_vqgan"}))
    assert "'chameleon_vqgan' is no codec of pictures with a decoder" in said(partial)


TEXTS = ["a red thing, seen on day 1", "a blue thing", "Grün wie Gras", ""]


def tokenizer_json(path: Path, lower: bool = False) -> Path:
    """A byte-level BPE, with special tokens, padding and truncation of its own, as models carry it."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `hf`")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.normalizer = tokenizers.normalizers.Lowercase() if lower else None
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS, tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    made.enable_truncation(4)
    made.enable_padding(length=8)
    made.save(str(path))
    return path


def sentencepiece_model(path: Path) -> Path:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=300, byte_fallback=True, hard_vocab_limit=False, minloglevel=2
    )
    path.write_bytes(model.getvalue())
    return path


def test_a_tokenizer_json_and_a_sentencepiece_model_give_their_ids(tmp_path: Path) -> None:
    file, model = tokenizer_json(tmp_path / "tokenizer.json"), sentencepiece_model(tmp_path / "spiece.model")
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(str(file))
    library.no_truncation()
    library.no_padding()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    (tmp_path / "folder").mkdir()
    shutil.copy(model, tmp_path / "folder")
    for path, ids in ((file, lambda text: library.encode(text, add_special_tokens=False).ids), (tmp_path / "folder", processor.encode)):
        tokenizer: Any = HuggingFaceTextTokenizer.open(path, {})
        assert [row.tolist() for row in tokenizer.encode(TEXTS)] == [ids(text) for text in TEXTS]
        assert tokenizer.decode(tokenizer.encode(TEXTS)) == TEXTS
        again = from_bytes(to_bytes(tokenizer))
        assert to_bytes(again) == to_bytes(tokenizer) and again.decode(tokenizer.encode(TEXTS)) == TEXTS
        everything = np.arange(tokenizer.vocabulary_size)
        assert isinstance(tokenizer.decode([everything])[0], str)


def test_texts_that_do_not_come_back_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lossy = HuggingFaceTextTokenizer.open(tokenizer_json(tmp_path / "tokenizer.json", lower=True), {})
    lossy.encode(["a red thing", "A Red Thing", "RED"])
    lossy.encode(["Blue"])
    said = capfd.readouterr().err
    assert said == "warning: texts lose something in this tokenizer: 'A Red Thing' comes back as 'a red thing'\n"


def test_text_from_a_file_through_the_stages(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    file = tokenizer_json(tmp_path / "tokenizer.json")
    done = mmtool("tokenize", "text", raw.notes, "--text-column", "text", "--scheme", f"hf:{file}", "-o", tmp_path / "text.tar", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["scheme"] == "hf" and "warning" not in done.err
    looked = mmtool("peek", tmp_path / "text.tar", "--samples", 1, "-o", tmp_path / "look")
    assert looked.code == 0 and "thing, seen on day" in next((tmp_path / "look").rglob("*.txt")).read_text()
    columns = ("--column", "note:text=text", "--as", f"note=hf:{file}", "--fit")
    assert mmtool("tokenize", "--manifest", raw.notes, *columns, "-o", tmp_path / "tokens").code == 0
    assert (
        open_token_set(tmp_path / "tokens/note.tar").modalities[0].tokenizer
        == open_token_set(tmp_path / "text.tar").modalities[0].tokenizer
    )
    (tmp_path / "broken.json").write_text("{}")
    for path, said in ((tmp_path / "broken.json", "damaged"), (raw.notes, "there is no tokenizer here")):
        done = mmtool("tokenize", "text", raw.notes, "--text-column", "text", "--scheme", f"hf:{path}", "-o", tmp_path / "out.tar")
        assert done.code == 1 and said in done.err and not (tmp_path / "out.tar").exists()
