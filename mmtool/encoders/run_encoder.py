"""A run of this toolkit as an encoder of one of its modalities: the mean of the last hidden states, as in the run's own features, or the
state of the opening token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import canonical_json, sha256_bytes
from mmtool.data.sample import Sample
from mmtool.methods.base import Method
from mmtool.methods.protocols import representing
from mmtool.model.decode import pad_documents
from mmtool.model.encoder import Encoded, Encoder, Inputs, Pool, read_only_mask
from mmtool.model.masks import attention_mask
from mmtool.model.patches import Patches
from mmtool.model.transformer import Transformer
from mmtool.preprocessing.prepare import preparer_of
from mmtool.tokenizers.base import Tokenizer
from mmtool.training.checkpoint import MODEL
from mmtool.training.run import Run, open_run

FIELDS = ("tokens", "modality_index", "slot", "position", "length")
READING = ("token_embedding", "modality_embedding", "slot_embedding", "ordinal", "patches", "blocks", "final_norm")


class RunEncoder(Encoder):
    """The transformer of a run, fed as its method feeds it when it is asked for features.

    Inputs: tokens, modality_index, slot (B, L), position (B, L, axes) and length (B,), as in `data.sequence.Document`; of a continuous
    modality also patches (B, L, W), those of a sample first.
    """

    lora_sites = ("attention.qkv",)
    adapter_sites = ("mlp.down",)

    def __init__(self, model: Transformer, method: Method, modality: str, fingerprint: str, tokenizer: Tokenizer, pool: Pool) -> None:
        super().__init__()
        self.model, self.method, self.view, self.tokenizer = model, representing(method), method.view, tokenizer
        self.modality, self.fingerprint = modality, fingerprint
        self.by_class = pool == "class" or (pool == "auto" and self.method.poolings[0] == "cls")
        self.index = model.layout.index(modality)
        self.width, self.depth = model.shape.width, model.shape.depth

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.blocks

    @property
    def final_norm(self) -> nn.Module:
        return self.model.final_norm

    def class_token(self) -> Tensor:
        """The opening token."""
        document = self.method.reading(self._empty(), [self.modality])
        arrays = (document.tokens, document.modality, document.slot, document.position)
        device = self.model.head.device
        tokens, modality, slot, position = (torch.from_numpy(array[None, :1]).to(device) for array in arrays)
        return self.model.embed(tokens, modality, slot, position)[0, 0].float()

    def forward(self, inputs: Inputs, prompts: Tensor | None = None) -> Encoded:
        model = self.model
        tokens, modality, slot, position, lengths = (inputs[name].long() for name in FIELDS)
        size = tokens.shape[1]
        model.compute_dtype = self.compute_dtype
        valid = torch.arange(size, device=tokens.device) < lengths[:, None]
        sample_mask = mask = attention_mask(valid.long(), modality, self.view)
        x = model.embed(tokens, modality, slot, position, self._patches(inputs, tokens))
        deep: Sequence[Tensor] = ()
        if prompts is not None:
            first, *deep = prompts if prompts.ndim == 3 else prompts[None]
            mask = read_only_mask(mask, valid, len(first))
            x = torch.cat((x, first.to(x.dtype).expand(len(x), -1, -1)), 1)
            position = torch.cat((position, position.new_zeros(len(x), len(first), position.shape[2])), 1)
        cos_sin = model.shape.cos_sin(position, x.dtype)
        for depth, block in enumerate(model.blocks):
            if depth and deep:
                x = torch.cat((x[:, :size], x[:, size:] + deep[depth - 1].to(x.dtype)), 1)
            x = block(x, cos_sin, mask, None)
        x = model.final_norm(x)
        states = x[:, :size]
        if model.ordinal is not None:
            states = model.ordinal.read(states, slot, tokens, slot, sample_mask)
        if "cls" in self.method.poolings:
            valid = valid & (torch.arange(size, device=tokens.device) > 0)
        pooled = states[:, 0].float() if self.by_class else (states.float() * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
        return Encoded(pooled, None if prompts is None else x[:, size:].float())

    def prepare(self, samples: Sequence[Sample]) -> Inputs:
        self.tokens(samples)
        documents = [self.method.reading(sample, [self.modality]) for sample in samples]
        length = max([self._usual_length(), self.min_length, *map(len, documents)])
        arrays = pad_documents(documents, length)
        inputs = {name: torch.from_numpy(array).int() for name, array in zip(FIELDS, arrays, strict=True)}
        if self.model.layout.modalities[self.index].continuous:
            rows = [document.values[self.index] for document in documents]
            inputs["patches"] = torch.from_numpy(np.stack([np.pad(row, ((0, length - len(row)), (0, 0))) for row in rows]))
        return inputs

    def prepare_raw(self, values: Sequence[Any]) -> Inputs:
        prepare = preparer_of(self.tokenizer)
        codes = self.tokenizer.encode([prepare(value) for value in values])
        return self.prepare([Sample(str(number), {self.modality: row}) for number, row in enumerate(codes)])

    def num_parameters(self) -> int:
        """Of what reads: embeddings, blocks and final norm, without the head."""
        parts = [module for name, module in self.model.named_children() if name in READING]
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    def length_of(self, inputs: Inputs) -> int:
        return inputs["tokens"].shape[1]

    def _patches(self, inputs: Inputs, tokens_BL: Tensor) -> Sequence[Patches]:
        """Those of all samples, without the padding of shorter ones."""
        if "patches" not in inputs:
            return ()
        is_patch = tokens_BL == self.model.layout.patch_id(self.index)
        values = inputs["patches"][torch.arange(is_patch.shape[1], device=is_patch.device) < is_patch.sum(1, keepdim=True)]
        return (Patches(self.index, values, is_patch.flatten().nonzero()[:, 0]),)

    def _usual_length(self) -> int:
        """Tokens of the longest sample of the run's data: inputs of all batches have this length unless a sample is longer."""
        longest = self.model.layout.modalities[self.index].max_length
        return len(self.method.reading(self._empty(longest), [self.modality]))

    def _empty(self, length: int = 0) -> Sample:
        modality = self.model.layout.modalities[self.index]
        shape = (length, modality.patch_width) if modality.continuous else (length,)
        return Sample("", {self.modality: np.zeros(shape, np.uint8 if modality.continuous else np.int64)})


def open_run_encoder(path: Path, modality: str | None, tokenizer: bytes | None, pool: Pool) -> RunEncoder:
    """The newest checkpoint of a run that verifies, as the encoder of `modality` (None: its only one), frozen.

    Raises UsageError where the run does not know the modality or has several, DataError where `tokenizer` is not the run's.
    """
    run = open_run(path)
    names = run.layout.names
    if modality is None and len(names) > 1:
        raise UsageError(f"the run has the modalities {', '.join(names)}.", where=path, fix="Name the one to encode.")
    name = names[0] if modality is None else modality
    if name not in names:
        fix = f"It knows {', '.join(names)}; name the modality so in `mmtool tokenize --name`."
        raise UsageError(f"the run knows no modality {name!r}.", where=path, fix=fix)
    expected = run.layout.modalities[run.layout.index(name)].tokenizer
    if tokenizer is not None and sha256_bytes(tokenizer) != expected:
        what = f"the data's {name} was made by the tokenizer {sha256_bytes(tokenizer)[:12]}, but the run was trained with {expected[:12]}."
        raise DataError(what, where=path, fix=f"Tokenize the raw files again with `mmtool tokenize KIND PATH... --tokenizer {path}`.")
    checkpoint = run.checkpoint()
    model = run.model(torch.device("cpu"))
    model.load_state_dict(checkpoint.model)
    fingerprint = _fingerprint(run, name, pool, checkpoint.state["sha256"][MODEL])
    encoder = RunEncoder(model, run.method(), name, fingerprint, run.tokenizers()[name], pool)
    encoder.eval().tune("none")
    return encoder


def _fingerprint(run: Run, modality: str, pool: Pool, weights: str) -> str:
    content = {name: run.record[name] for name in ("shape", "modalities", "method_options")}
    content |= {"method": run.config.method, "modality": modality, "pool": pool, "weights": weights}
    return sha256_bytes(canonical_json(content).encode())
