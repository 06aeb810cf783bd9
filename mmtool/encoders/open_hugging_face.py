"""Opening a local directory in Hugging Face format: config.json and safetensors, nothing downloaded, no remote code, no pickle.

A new architecture adds one line to `ARCHITECTURES`.
"""

import json
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.hugging_face import PREPROCESSOR, PROCESSOR, complaints, library, load_model, read_preparation, silence
from mmtool.common.storage import canonical_json, sha256_bytes, sha256_file
from mmtool.encoders.hugging_face import Architecture, HuggingFaceEncoder, read_only_attention
from mmtool.encoders.readers import ImageReader, Reader, SpectrumReader, TextReader, WaveReader
from mmtool.model.encoder import Pool
from mmtool.tokenizers.base import from_bytes

ATTENTION = "mmtool_read_only"
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
DECIDING = (PREPROCESSOR, PROCESSOR, *VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
CROPPED = {"default_to_square": False, "do_center_crop": True, "resample": 3}
NO_POOLER = {"add_pooling_layer": False}
CLIP_VISION = Architecture("image", "CLIPVisionModel", 1, "post_layernorm", normalizes_all=False, preparation={**CLIP, **CROPPED})
SIGLIP_VISION = Architecture("image", "SiglipVisionModel", 0, "post_layernorm", head="head", preparation={"resample": 3})
DINOV2 = {**IMAGENET, **CROPPED, "size": 256, "crop_size": 224}
ARCHITECTURES = {
    "vit": Architecture("image", "ViTModel", 1, "layernorm", settings=NO_POOLER),
    "clip": CLIP_VISION,
    "clip_vision_model": CLIP_VISION,
    "siglip": SIGLIP_VISION,
    "siglip_vision_model": SIGLIP_VISION,
    "dinov2": Architecture("image", "Dinov2Model", 1, "layernorm", preparation=DINOV2, any_size=True),
    "dinov2_with_registers": Architecture("image", "Dinov2WithRegistersModel", 1, "layernorm", preparation=DINOV2, any_size=True),
    "bert": Architecture("text", "BertModel", 1, settings=NO_POOLER),
    "roberta": Architecture("text", "RobertaModel", 1, settings=NO_POOLER),
    "xlm-roberta": Architecture("text", "XLMRobertaModel", 1, settings=NO_POOLER),
    "camembert": Architecture("text", "CamembertModel", 1, settings=NO_POOLER),
    "distilbert": Architecture("text", "DistilBertModel", 1),
    "electra": Architecture("text", "ElectraModel", 1),
    "modernbert": Architecture("text", "ModernBertModel", 1, "final_norm"),
    "wav2vec2": Architecture("audio", "Wav2Vec2Model", 0, "encoder.layer_norm"),
    "whisper": Architecture("audio", "WhisperEncoder", 0, "layer_norm", prefix=r"^(model\.)?encoder\."),
    "audio-spectrogram-transformer": Architecture("audio", "ASTModel", 2, "layernorm"),
}
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")  # their positions count from behind that of padding


def open_hugging_face(path: Path, modality: str | None, tokenizer: bytes | None, pool: Pool) -> HuggingFaceEncoder:
    """The model of a directory as the frozen encoder of `modality` (None: named by its kind).

    Raises UsageError without `transformers`, DataError where the architecture is not supported, weights are missing, damaged or pickled,
    or the modality's tokens are of another kind.
    """
    record = json.loads((path / "config.json").read_text())
    architecture = _architecture(path, record)
    if pool == "class" and not architecture.class_tokens:
        raise UsageError(f"a {record['model_type']} has no class token.", where=path, fix="Pool by the mean.")
    token_source = None if tokenizer is None else from_bytes(tokenizer)
    if token_source is not None and token_source.kind != architecture.kind:
        what = f"a {record['model_type']} reads {architecture.kind}, but {modality or 'the data'} is {token_source.kind}."
        raise DataError(what, where=path, fix="Give an encoder of that kind.")
    model = _load(path, architecture)
    with complaints(path):
        reader = _reader(path, architecture, model.config)
    name = modality or architecture.kind
    encoder = HuggingFaceEncoder(model, architecture, reader, name, _fingerprint(path, name, pool), pool)
    encoder.tokenizer = token_source
    encoder.eval().tune("none")
    return encoder


def _architecture(path: Path, record: dict[str, Any]) -> Architecture:
    kind = record.get("model_type")
    if kind not in ARCHITECTURES:
        raise DataError(f"the architecture {kind!r} is not supported.", where=path, fix=f"Supported: {', '.join(ARCHITECTURES)}.")
    if record.get("is_decoder") or record.get("quantization_config"):
        what = "a decoder" if record.get("is_decoder") else "quantised"
        raise DataError(f"the model is {what}.", where=path, fix="Give an encoder in full precision.")
    return ARCHITECTURES[kind]


def _load(path: Path, architecture: Architecture) -> Any:
    """The bare model with all of its weights, fp32. Raises DataError where some are missing."""
    transformers = _transformers(path)
    with complaints(path), silence(transformers):
        model_class = _model_class(transformers, architecture.model)
        config = model_class.config_class.from_pretrained(path, local_files_only=True)
    config.add_adapter = False
    options = {"config": config, "attn_implementation": ATTENTION, **architecture.settings}
    return load_model(path, model_class, architecture.prefix, ("masked_spec_embed",), **options)


def _model_class(transformers: Any, name: str) -> Any:
    if name == "WhisperEncoder":  # which the library does not name at its top
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder
    return getattr(transformers, name)


def _transformers(path: Path) -> Any:
    """The library, with our attention registered."""
    transformers = library(path)
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    transformers.AttentionInterface.register(ATTENTION, read_only_attention)
    AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return transformers


def _reader(path: Path, architecture: Architecture, config: Any) -> Reader:
    """By the processor files of the directory; where there are none, as the architecture has it by default (text needs them)."""
    if architecture.kind == "image":
        return ImageReader({**architecture.preparation, **read_preparation(path)}, config, path, architecture.any_size)
    if architecture.kind == "text":
        return _text_reader(path, config)
    return {"WhisperEncoder": _whisper_reader, "ASTModel": _ast_reader}.get(architecture.model, _wave_reader)(path, config)


def _whisper_reader(path: Path, config: Any) -> SpectrumReader:
    extractor = _extractor(path, "WhisperFeatureExtractor", feature_size=config.num_mel_bins)
    given, wanted = (extractor.feature_size, extractor.nb_max_frames), (config.num_mel_bins, 2 * config.max_source_positions)
    if given != wanted:
        what = f"its preparation gives {given[0]} mels of {given[1]} frames, the model takes {wanted[0]} of {wanted[1]}."
        raise DataError(what, where=path, fix="Mend `feature_size` and `chunk_length` in preprocessor_config.json.")
    return SpectrumReader(extractor, wanted, extractor.n_samples, 2 * extractor.hop_length)


def _ast_reader(path: Path, config: Any) -> SpectrumReader:
    extractor = _extractor(path, "ASTFeatureExtractor", num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    return SpectrumReader(extractor, (config.max_length, config.num_mel_bins), config.max_length * extractor.sampling_rate // 100)


def _wave_reader(path: Path, config: Any) -> WaveReader:
    extractor = _extractor(path, "Wav2Vec2FeatureExtractor", return_attention_mask=config.feat_extract_norm == "layer")
    least = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        least = (least - 1) * stride + kernel
    return WaveReader(extractor, least)


def _extractor(path: Path, name: str, **default: Any) -> Any:
    """The directory's feature extractor; where it has none, one with the settings `default`."""
    import transformers

    extractor_class = getattr(transformers, name)
    if (path / PREPROCESSOR).exists() or (path / PROCESSOR).exists():
        return extractor_class.from_pretrained(path, local_files_only=True)
    return extractor_class(**default)


def _text_reader(path: Path, config: Any) -> TextReader:
    import transformers

    if not any((path / name).exists() for name in VOCABULARIES):
        # the library would make an empty tokenizer, to which every word is unknown
        raise DataError("the tokenizer's tokenizer.json is missing.", where=path, fix="Give it, or the vocabulary file of the model.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    if len(tokenizer) > config.vocab_size:
        raise DataError(f"its tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}.", where=path)
    reserved = config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0
    longest = min(tokenizer.model_max_length, config.max_position_embeddings - reserved)
    return TextReader(tokenizer, longest, config.pad_token_id or 0)


def _fingerprint(path: Path, modality: str, pool: str) -> str:
    files = sorted(
        ["config.json", *(name for name in DECIDING if (path / name).exists()), *(file.name for file in path.glob("*.safetensors"))]
    )
    content = {"modality": modality, "pool": pool, "files": {name: sha256_file(path / name) for name in files}}
    return sha256_bytes(canonical_json(content).encode())
