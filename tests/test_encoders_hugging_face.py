"""Promises of encoders from Hugging Face directories: the library's own features, prompts that only read, no network, no pickle."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Raw
from encoder_checks import check_prompts, difference, prompts_of
from PIL import Image

from mmtool import shard, tokenize
from mmtool.common.errors import DataError, UsageError
from mmtool.data.sample import Sample
from mmtool.encoders import open_encoder
from mmtool.preprocessing.prepare import resample
from mmtool.tokenizers.base import to_bytes
from mmtool.tokenizers.image import ImagePatchTokenizer
from mmtool.tokenizers.text import TextTokenizer

transformers = pytest.importorskip("transformers")

TINY = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40, "hidden_act": "gelu"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "green", "thing"]
CONVOLUTIONS = {"conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_conv_pos_embeddings": 8}
CONVOLUTIONS |= {"num_conv_pos_embedding_groups": 2}
IMAGES = ("vit", "clip", "siglip", "dinov2", "dinov2_with_registers")
TEXTS = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert")
MODELS = (*IMAGES, *TEXTS, "wav2vec2", "wav2vec2-stable", "ast", "whisper")
NAMES = {"xlm-roberta": "XLMRoberta"} | {name: name.capitalize() for name in ("roberta", "camembert", "electra")}
NAMES |= {"modernbert": "ModernBert", "distilbert": "DistilBert"}
MEAN_STD = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
CROP = {"do_center_crop": True, "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3}
PREPARATIONS = {
    "vit": {**MEAN_STD, "size": {"height": 16, "width": 16}, "resample": 3},
    "clip": {**MEAN_STD, **CROP, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}},
    "siglip": {**MEAN_STD, "size": {"height": 16, "width": 16}, "resample": 3},
    "dinov2": {**MEAN_STD, **CROP, "size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}},  # trained at 16
}
PREPARATIONS["dinov2_with_registers"] = {**PREPARATIONS["dinov2"], "image_processor_type": "BitImageProcessor"}
VISION = {"vit": "ViT", "clip": "CLIPVision", "siglip": "SiglipVision", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}


def make_model(name: str, folder: Path) -> None:
    """A tiny random model, saved as the library saves it, with the files its inputs are prepared by."""
    torch.manual_seed(0)
    if name in IMAGES:
        model = image_model(name)
        folder.mkdir(parents=True)
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATIONS[name]))
    elif name == "bert":
        model = transformers.BertModel(transformers.BertConfig(**TINY, vocab_size=len(WORDS), max_position_embeddings=64))
        transformers.BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    elif name in TEXTS:
        sizes: dict[str, Any] = {**TINY, "vocab_size": 300, "max_position_embeddings": 66, "pad_token_id": 1}
        if name == "modernbert":
            sizes = {**sizes, "local_attention": 8, "cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}
        if name == "distilbert":
            sizes = {**sizes, "dim": 24, "n_layers": 3, "n_heads": 2, "hidden_dim": 40}
        config = getattr(transformers, f"{NAMES[name]}Config")(**{**sizes, "embedding_size": 12})
        model = getattr(transformers, f"{NAMES[name]}Model")(config)
        byte_level_tokenizer().save_pretrained(folder)
    elif name == "whisper":
        sides = {
            f"{side}_{part}": size
            for side in ("encoder", "decoder")
            for part, size in (("layers", 3), ("attention_heads", 2), ("ffn_dim", 40))
        }
        config = transformers.WhisperConfig(
            d_model=24, **sides, vocab_size=60, max_source_positions=50, num_mel_bins=32, pad_token_id=0, bos_token_id=1, eos_token_id=2
        )
        model = transformers.WhisperForConditionalGeneration(config)
        transformers.WhisperFeatureExtractor(feature_size=32, chunk_length=1).save_pretrained(folder)
    elif name == "ast":
        model = transformers.ASTModel(transformers.ASTConfig(**TINY, max_length=48, num_mel_bins=32, patch_size=16))
        transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=48).save_pretrained(folder)
    else:
        stable = name == "wav2vec2-stable"
        norm = "layer" if stable else "group"
        config = transformers.Wav2Vec2Config(**TINY, **CONVOLUTIONS, do_stable_layer_norm=stable, feat_extract_norm=norm)
        model = transformers.Wav2Vec2Model(config)
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=stable).save_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    model.save_pretrained(folder)


def image_model(name: str) -> Any:
    sizes = {**TINY, "image_size": 16, "patch_size": 8}
    if name not in ("clip", "siglip"):
        return getattr(transformers, f"{VISION[name]}Model")(getattr(transformers, f"{VISION[name]}Config")(**sizes))
    words = {**TINY, "vocab_size": 50, "max_position_embeddings": 10}
    family = {"clip": "CLIP", "siglip": "Siglip"}[name]
    return getattr(transformers, f"{family}Model")(getattr(transformers, f"{family}Config")(vision_config=sizes, text_config=words))


def byte_level_tokenizer() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return transformers.RobertaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("hugging-face")

    def directory(name: str) -> Path:
        if not (folder / name).exists():
            make_model(name, folder / name)
        return folder / name

    return directory


@pytest.fixture(params=MODELS)
def source(request: pytest.FixtureRequest, directories: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    path = directories(request.param)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return path


def values_for(source: Path, count: int = 4) -> list[Any]:
    random = np.random.default_rng(0)
    if source.name in IMAGES:
        return list(random.integers(0, 256, (count, 20, 12, 3), np.uint8))
    if source.name in TEXTS:
        return ["a red thing", "a", "green green thing a red", ""][:count]
    return [(random.normal(0, 0.1, 1200 + 900 * i).astype(np.float32), 8000) for i in range(count)]


def library_output(source: Path, values: list[Any]) -> torch.Tensor:
    """States (B, L, W) by the library alone, after their norm: its own processors and attention."""
    if source.name in IMAGES:
        return library_image(source, values)[0]
    model = transformers.AutoModel.from_pretrained(source, attn_implementation="eager").eval()
    if source.name == "ast":
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
        waves = [resample(*value, 16000) for value in values]
        return model(extractor(waves, sampling_rate=16000, return_tensors="pt")["input_values"]).last_hidden_state
    if source.name == "whisper":
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
        waves = [resample(*value, 16000) for value in values]
        return model.encoder(extractor(waves, sampling_rate=16000, return_tensors="pt")["input_features"]).last_hidden_state
    if source.name in TEXTS:
        batch = transformers.AutoTokenizer.from_pretrained(source)(values, padding=True, return_tensors="pt")
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    # one by one: where it gives no mask, the extractor of a batch takes the padding into the mean and variance of a recording
    waves = [extractor(resample(*value, 16000), sampling_rate=16000)["input_values"][0] for value in values]
    mask = torch.stack([torch.arange(8000) < len(wave) for wave in waves]).long() if extractor.return_attention_mask else None
    batch = torch.stack([torch.from_numpy(np.pad(wave, (0, 8000 - len(wave)))) for wave in waves])
    return model(batch, attention_mask=mask).last_hidden_state


def library_image(source: Path, values: list[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """States after their norm, and what the library pools of them."""
    model = getattr(transformers, f"{VISION[source.name]}Model").from_pretrained(source, attn_implementation="eager").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    out = model(processor(values, return_tensors="pt")["pixel_values"])
    states = out.last_hidden_state
    return model.post_layernorm(states) if source.name == "clip" else states, out.pooler_output


def test_the_embedding_is_what_the_library_gives(source: Path) -> None:
    values = values_for(source)
    encoder = open_encoder(source)
    embedding, states = encoder(encoder.prepare_raw(values)).embedding, library_output(source, values)
    if source.name in IMAGES and source.name != "vit":
        assert difference(embedding, library_image(source, values)[1]) < 1e-5
        assert difference(open_encoder(source, pool="mean")(encoder.prepare_raw(values)).embedding, states.mean(1)) < 1e-5
    elif encoder.architecture.class_tokens:
        assert difference(embedding, states[:, : encoder.architecture.class_tokens].mean(1)) < 1e-5
    else:
        frames = [1 + ((len(wave) * 2 - 10) // 5 + 1 - 8) // 4 for wave, _ in values]
        frames = [-(-len(wave) * 2 // 320) for wave, _ in values] if source.name == "whisper" else frames
        expected = torch.stack([row[:count].mean(0) for row, count in zip(states, frames, strict=True)])
        assert difference(embedding, expected) < 1e-5


@pytest.mark.parametrize("deep", [False, True])
def test_prompts_read_and_are_read_by_nobody(source: Path, deep: bool) -> None:
    encoder = open_encoder(source)
    check_prompts(encoder, encoder.prepare_raw(values_for(source)), deep, (0, 2))


def test_prompts_do_not_read_padding(directories: Callable[[str], Path]) -> None:
    for name in (*TEXTS, "wav2vec2-stable"):
        encoder = open_encoder(directories(name))
        prompts, values = prompts_of(encoder), values_for(directories(name), 1)
        short = encoder.prepare_raw(values)
        encoder.min_length = encoder.length_of(short) + 1
        long = encoder.prepare_raw(values)
        assert long["values"].shape[1] > short["values"].shape[1]
        assert difference(encoder(short, prompts).prompts, encoder(long, prompts).prompts) < 1e-5
        assert difference(encoder(short, prompts).embedding, encoder(long, prompts).embedding) < 1e-5


@pytest.mark.parametrize("how", ["bitfit", "lora", "adapter"])
def test_tuning_starts_at_the_frozen_function_and_trains_what_it_names(source: Path, how: str) -> None:
    frozen, encoder = open_encoder(source), open_encoder(source)
    inputs = encoder.prepare_raw(values_for(source))
    count = encoder.tune(how, rank=2, adapter_width=3)
    trained = encoder.trained()
    projections = 24 + 3 * 24 if source.name == "modernbert" else 2 * (24 + 24)
    sites = {"lora": 3 * 2 * projections, "adapter": 3 * (2 * 3 * 24 + 3 + 24)}
    assert count == sites.get(how, sum(value.numel() for value in trained.values())) > 0
    assert difference(frozen(inputs).embedding, encoder(inputs).embedding) < 1e-6
    prompts = prompts_of(encoder)
    encoded = encoder(inputs, prompts)
    weights = torch.randn(24, generator=torch.Generator().manual_seed(2))
    (encoded.prompts @ weights).square().sum().add((encoded.embedding @ weights).square().sum()).backward()
    reached = {name for name, value in encoder.named_parameters() if value.grad is not None}
    assert reached == set(trained) and prompts.grad is not None
    words = {"bitfit": "bias", "lora": ("up", "down"), "adapter": ("up", "down", "up_bias", "down_bias")}[how]
    assert all(name.rpartition(".")[2] in words for name in trained)
    for value in trained.values():
        value.data.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(3)))
    assert difference(frozen(inputs).embedding, encoder(inputs).embedding) > 1e-4
    other = open_encoder(source)
    other.tune(how, rank=2, adapter_width=3)
    other.load_trained({name: value.detach() for name, value in trained.items()})
    assert difference(other(inputs).embedding, encoder(inputs).embedding) == 0


def test_prompts_start_near_the_class_token(source: Path) -> None:
    encoder = open_encoder(source)
    prompts = encoder.prompt_init(300, torch.Generator().manual_seed(0))
    assert difference(prompts.mean(0), encoder.class_token()) < 0.05 and abs(float(prompts.std(0).mean()) - 0.1) < 0.01


def test_weights_of_a_larger_model_are_found_under_its_head(directories: Callable[[str], Path], tmp_path: Path) -> None:
    encoder = open_encoder(directories("bert"))
    whole = transformers.BertForMaskedLM.from_pretrained(directories("bert"))
    whole.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(directories("bert") / name, tmp_path)
    inputs = encoder.prepare_raw(["a red thing"])
    assert difference(encoder(inputs).embedding, open_encoder(tmp_path)(inputs).embedding) < 1e-6


def test_shards_are_decoded_for_the_model(directories: Callable[[str], Path]) -> None:
    texts, images = ["a red thing", "green thing"], list(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8))
    made = TextTokenizer.fit(texts * 20, {"vocabulary_size": 300}, 0), ImagePatchTokenizer.fit(images, {"patch": 4}, 0)
    for name, values, tokenizer in (("bert", texts, made[0]), ("vit", images, made[1])):
        encoder = open_encoder(directories(name), "mine", to_bytes(tokenizer))
        samples = [Sample(str(i), {"mine": codes}) for i, codes in enumerate(tokenizer.encode(values))]
        assert difference(encoder(encoder.prepare(samples)).embedding, encoder(encoder.prepare_raw(values)).embedding) == 0
    with pytest.raises(DataError, match="reads text, but mine is image"):
        open_encoder(directories("bert"), "mine", to_bytes(made[1]))
    with pytest.raises(UsageError, match="reads raw values"):
        open_encoder(directories("vit"), "mine").prepare(samples)


def test_grey_pictures_and_crops(directories: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    shutil.copytree(directories("vit"), folder)
    settings = {"size": {"shortest_edge": 18}, "do_center_crop": True, "crop_size": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    grey = np.random.default_rng(0).integers(0, 256, (20, 30, 1), np.uint8)
    encoder = open_encoder(folder)
    values = encoder.prepare_raw([grey, np.repeat(grey, 3, 2)])["values"]
    assert values.shape == (2, 3, 16, 16) and (values[0] == values[1]).all()
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 18}))
    with pytest.raises(DataError, match="gives pictures of 18 x 18, the model takes 16 x 16"):
        open_encoder(folder).prepare_raw([grey])


def test_a_side_is_resized_to_the_pixel(directories: Callable[[str], Path], tmp_path: Path) -> None:
    """By a factor that is rounded, 49 pixels would become 15, and the crop a column of black."""
    folder = Path(shutil.copytree(directories("clip"), tmp_path / "clip"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 16, "crop_size": 16, "do_center_crop": True}))  # as of old
    white = [np.full((height, width, 3), 255, np.uint8) for side in (48, 49, 98) for height, width in ((side, 110), (110, side))]
    assert open_encoder(folder).prepare_raw(white)["values"].min() == 255
    wide = np.random.default_rng(0).integers(0, 256, (16, 48, 3), np.uint8)
    assert np.array_equal(open_encoder(folder).prepare_raw([wide])["values"][0].permute(1, 2, 0), wide[:, 16:32])


def test_pictures_are_prepared_as_a_processor_of_several_modalities_says(directories: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(directories("clip"), tmp_path / "clip"))
    (folder / "preprocessor_config.json").unlink()
    default = open_encoder(folder).reader
    assert default.mean.flatten() / 255 == pytest.approx(np.array([0.48145466, 0.4578275, 0.40821073]))
    said = {"image_processor": PREPARATIONS["clip"] | {"crop_size": None}, "tokenizer": {}}
    (folder / "processor_config.json").write_text(json.dumps(said))
    value = values_for(folder)[:1]
    assert (
        difference(open_encoder(folder)(open_encoder(folder).prepare_raw(value)).embedding, embedding_of(directories("clip"), value)) == 0
    )
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": {"size": {"longest_edge": 16}}}))
    with pytest.raises(DataError, match=r"longest_edge.*is not understood"):
        open_encoder(folder)


def embedding_of(source: Path, values: list[Any]) -> torch.Tensor:
    encoder = open_encoder(source)
    return encoder(encoder.prepare_raw(values)).embedding


def test_a_vision_model_without_its_texts_is_the_same(directories: Callable[[str], Path], tmp_path: Path) -> None:
    for name, family in (("clip", "CLIPVisionModel"), ("siglip", "SiglipVisionModel")):
        getattr(transformers, family).from_pretrained(directories(name)).save_pretrained(tmp_path / name)
        shutil.copy(directories(name) / "preprocessor_config.json", tmp_path / name)
        value = values_for(directories(name))[:1]
        assert difference(embedding_of(tmp_path / name, value), embedding_of(directories(name), value)) < 1e-6


def test_recordings_are_heard_at_the_rate_and_length_of_the_model(
    directories: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder, tone = open_encoder(directories("whisper")), np.sin(np.arange(8000) * 0.3).astype(np.float32)
    inputs = encoder.prepare_raw([(tone[:4000], 8000), (resample(tone[:4000], 8000, 16000), 16000), (tone[:1], 8000)])
    assert inputs["states"].tolist() == [25, 25, 2] and difference(*inputs["values"][:2]) == 0 and not encoder.length_of(inputs)
    assert "are cut" not in capfd.readouterr().err
    assert encoder.prepare_raw([(np.tile(tone, 2), 8000)])["states"].tolist() == [50]
    assert "recordings of more than 1.0 s are cut" in capfd.readouterr().err
    folder = Path(shutil.copytree(directories("whisper"), tmp_path / "whisper"))
    transformers.WhisperFeatureExtractor(feature_size=32, chunk_length=30).save_pretrained(folder)
    with pytest.raises(DataError, match="gives 32 mels of 3000 frames, the model takes 32 of 100"):
        open_encoder(folder)


def test_texts_too_long_are_cut_and_said_so(directories: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("bert", "roberta"):
        encoder = open_encoder(directories(name))
        assert encoder.prepare_raw(["a red thing " * 40])["values"].shape == (1, 64)
        assert "64 tokens are cut" in capfd.readouterr().err
        assert torch.isfinite(encoder(encoder.prepare_raw(["a red thing " * 40])).embedding).all()


def test_pooling_is_a_choice_and_part_of_the_fingerprint(directories: Callable[[str], Path]) -> None:
    first, mean = open_encoder(directories("bert")), open_encoder(directories("bert"), pool="mean")
    inputs, states = first.prepare_raw(["a red thing"]), library_output(directories("bert"), ["a red thing"])
    assert difference(mean(inputs).embedding, states.mean(1)) < 1e-5 and difference(first(inputs).embedding, states[:, 0]) < 1e-5
    assert first.fingerprint != mean.fingerprint and first.fingerprint == open_encoder(directories("bert")).fingerprint
    with pytest.raises(UsageError, match="has no class token"):
        open_encoder(directories("wav2vec2"), pool="class")


def change(folder: Path, **entries: object) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **entries}))


def drop_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "layer.1" not in name}, folder / "model.safetensors", {"format": "pt"})


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (pickle_only, "pytorch_model.bin: pickled weights can run code"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "there are no weights here"),
    "cut weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" * 100), "cannot be opened"),
    "weights left out": (drop_weights, "weights are missing, the first is encoder.layer.1"),
    "other sizes": (lambda folder: change(folder, intermediate_size=48), "cannot be opened"),
    "another architecture": (lambda folder: change(folder, model_type="t5"), "'t5' is not supported. Supported: vit, clip"),
    "a decoder": (lambda folder: change(folder, is_decoder=True), "the model is a decoder"),
    "no tokenizer": (
        lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer.json is missing",
    ),
    "no config": (lambda folder: (folder / "config.json").write_text("{}"), "neither that of a run nor of a Hugging Face model"),
    "of timm": (
        lambda folder: (folder / "config.json").write_text('{"architecture": "vit_tiny", "pretrained_cfg": {}}'),
        "the format of timm are not read",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "no encoder here"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_directories_are_refused(damage: str, directories: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(directories("bert"), tmp_path / "bert")
    DAMAGES[damage][0](tmp_path / "bert")
    with pytest.raises(DataError, match=DAMAGES[damage][1]):
        open_encoder(tmp_path / "bert")


def test_code_in_the_directory_is_not_run(directories: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(directories("bert"), tmp_path / "bert")
    (tmp_path / "bert/evil.py").write_text("raise SystemExit('remote code was run')")
    change(tmp_path / "bert", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config", "AutoTokenizer": ["evil.A", "evil.B"]})
    assert open_encoder(tmp_path / "bert").fingerprint != open_encoder(directories("bert")).fingerprint


def test_without_the_extra_it_says_what_to_install(directories: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = directories("bert")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"mmtool\[hf\]"):
        open_encoder(path)


@pytest.fixture(scope="module")
def shards(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, texts and sounds of the same samples, with a label."""
    folder = tmp_path_factory.mktemp("adapted")
    tokenize("image", [raw.images], output=folder / "image.tar", scheme="patches", size=16, patch=4)
    tokenize("audio", [raw.clips], output=folder / "speech.tar", name="speech", scheme="patches")
    tokenize("text", [raw.notes], output=folder / "text.tar", source={"text_column": "text", "label_columns": ("colour",)})
    shard([folder / f"{name}.tar" for name in ("image", "speech", "text")], output=folder / "shards")
    return folder / "shards"


@pytest.mark.parametrize(
    ("image", "text", "speech", "prompts"),
    [("clip", "modernbert", "whisper", 4), ("siglip", "distilbert", "ast", 2), ("dinov2", "electra", "wav2vec2", 1)],
)
def test_every_family_is_adapted(
    image: str, text: str, speech: str, prompts: int, directories: Callable[[str], Path], shards: Path, tmp_path: Path, mmtool: Any
) -> None:
    """With biases that train and read-only prompts; the adapter opens again, and not on another model of the same shape."""
    folder = Path(shutil.copytree(directories(image), tmp_path / "image"))
    sources = ["--encoder", f"image={folder}", "--encoder", f"text={directories(text)}", "--encoder", f"speech={directories(speech)}"]
    small = ["--label", "colour", "--steps", 3, "--set", "batch=8", "--set", "method.tune=bitfit", "--set", f"method.prompts={prompts}"]
    done = mmtool("adapt", shards, *sources, *small, "--json", "-o", tmp_path / "adapter")
    assert done.code == 0 and json.loads(done.out.splitlines()[-1])["trained"] > 0, done.err
    done = mmtool(
        "impute", tmp_path / "adapter", shards, "--space", "embedding", "--have", "text", "--want", "image", "-o", tmp_path / "out"
    )
    assert done.code == 0 and np.isfinite(np.load(tmp_path / "out/image.npz")["embedding"]).all(), done.err
    change(folder, unknown_to_the_library=1)
    done = mmtool("evaluate", tmp_path / "adapter", shards, "-o", tmp_path / "report")
    assert done.code == 1 and "the encoder of image is" in done.err


@pytest.mark.slow
def test_models_of_the_library_are_adapted_from_raw_files_on(directories: Callable[[str], Path], tmp_path: Path, mmtool: Any) -> None:
    """Pictures and words of two classes, a tiny ViT and a tiny BERT, half of the samples with a hole: the verbs from files to a report."""
    random, colours = np.random.default_rng(0), ("red", "green")
    (tmp_path / "images").mkdir()
    lines = ["key\tcolour\ttext"]
    for i in range(160):
        colour = colours[i % 2]
        pixels = random.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        pixels[..., i % 2] += 150
        Image.fromarray(pixels).save(tmp_path / "images" / f"{colour}-{i:03d}.png")
        lines.append(f"{colour}-{i:03d}\t{colour}\ta {colour} thing")
    (tmp_path / "texts.tsv").write_text("\n".join(lines) + "\n")
    labelled = ["--label-pattern", "^(?P<colour>[a-z]+)-"]
    commands = [
        ["tokenize", "image", tmp_path / "images", "--fit", "--scheme", "patches", "--patch", 4, *labelled, "-o", tmp_path / "image.tar"],
        ["tokenize", "text", tmp_path / "texts.tsv", "--fit", "--text-column", "text", "--label", "colour", "-o", tmp_path / "text.tar"],
        ["shard", tmp_path / "image.tar", tmp_path / "text.tar", "-o", tmp_path / "shards"],
    ]
    sources = ["--encoder", f"image={directories('vit')}", "--encoder", f"text={directories('bert')}", "--label", "colour"]
    adapt = ["adapt", tmp_path / "shards", *sources, "--missing-rate", 0.5, "--steps", 60, "--set", "learning_rate=0.01"]
    for command in [*commands, [*adapt, "-o", tmp_path / "adapter"]]:
        done = mmtool(*command)
        assert done.code == 0, done.err
    done = mmtool("evaluate", tmp_path / "adapter", tmp_path / "shards", "--json", "-o", tmp_path / "report")
    assert done.code == 0, done.err
    values = {(row["metric"], row.get("at")): row["value"] for row in json.loads(done.out.splitlines()[-1])["results"]}
    assert values["auroc, any missing", 0.0] > 0.9 and values["auroc, any missing", 1.0] > 0.8
    assert (tmp_path / "adapter" / "adapter.safetensors").stat().st_size < 5e6
