"""Opening a local directory in Hugging Face format: config.json and safetensors, nothing downloaded, no remote code, no pickle.

A new architecture adds one line to `ARCHITECTURES`.
"""

import json
from pathlib import Path
from typing import Any

import torch

from mmtool.common.errors import DataError, UsageError
from mmtool.common.hugging_face import complaints, library, refuse_missing, refuse_pickles, silence
from mmtool.common.storage import canonical_json, sha256_bytes, sha256_file
from mmtool.encoders.hugging_face import Architecture, HuggingFaceEncoder, read_only_attention
from mmtool.encoders.readers import ImageReader, Reader, SpectrumReader, TextReader, WaveReader
from mmtool.model.encoder import Pool
from mmtool.tokenizers.base import from_bytes

ATTENTION = "mmtool_read_only"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
DECIDING = (PREPROCESSOR, PROCESSOR, *VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
NO_POOLER = (("add_pooling_layer", False),)
ARCHITECTURES = {
    "vit": Architecture("image", "ViTModel", 1, "layernorm", NO_POOLER),
    "bert": Architecture("text", "BertModel", 1, None, NO_POOLER),
    "roberta": Architecture("text", "RobertaModel", 1, None, NO_POOLER),
    "wav2vec2": Architecture("audio", "Wav2Vec2Model", 0, "encoder.layer_norm"),
    "audio-spectrogram-transformer": Architecture("audio", "ASTModel", 2, "layernorm"),
}


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
    refuse_pickles(path)
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
    model_class = getattr(transformers, architecture.model)
    with complaints(path), silence(transformers):
        config = model_class.config_class.from_pretrained(path, local_files_only=True)
        config.add_adapter = False
        options = dict(architecture.settings)
        model, loaded = model_class.from_pretrained(
            path,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation=ATTENTION,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    refuse_missing(set(loaded["missing_keys"]) - {"masked_spec_embed"}, path)
    return model


def _transformers(path: Path) -> Any:
    """The library, with our attention registered."""
    transformers = library(path)
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    transformers.AttentionInterface.register(ATTENTION, read_only_attention)
    AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return transformers


def _reader(path: Path, architecture: Architecture, config: Any) -> Reader:
    """By the processor files of the directory; where there are none, as the architecture has it by default (text needs them)."""
    import transformers

    if architecture.kind == "image":
        return ImageReader(json.loads((path / PREPROCESSOR).read_text()) if (path / PREPROCESSOR).exists() else {}, config, path)
    if architecture.kind == "text":
        if not any((path / name).exists() for name in VOCABULARIES):
            # the library would make an empty tokenizer, to which every word is unknown
            raise DataError("the tokenizer's tokenizer.json is missing.", where=path, fix="Give it, or the vocabulary file of the model.")
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        if len(tokenizer) > config.vocab_size:
            raise DataError(f"its tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}.", where=path)
        reserved = config.pad_token_id + 1 if config.model_type == "roberta" else 0
        longest = min(tokenizer.model_max_length, config.max_position_embeddings - reserved)
        return TextReader(tokenizer, longest, config.pad_token_id or 0)
    spectrum = architecture.model == "ASTModel"
    extractor_class = transformers.ASTFeatureExtractor if spectrum else transformers.Wav2Vec2FeatureExtractor
    if (path / PREPROCESSOR).exists() or (path / PROCESSOR).exists():
        extractor = extractor_class.from_pretrained(path, local_files_only=True)
    elif spectrum:
        extractor = extractor_class(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    else:
        extractor = extractor_class(return_attention_mask=config.feat_extract_norm == "layer")
    if spectrum:
        return SpectrumReader(extractor, config)
    least = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        least = (least - 1) * stride + kernel
    return WaveReader(extractor, least)


def _fingerprint(path: Path, modality: str, pool: str) -> str:
    files = sorted(
        ["config.json", *(name for name in DECIDING if (path / name).exists()), *(file.name for file in path.glob("*.safetensors"))]
    )
    content = {"modality": modality, "pool": pool, "files": {name: sha256_file(path / name) for name in files}}
    return sha256_bytes(canonical_json(content).encode())
