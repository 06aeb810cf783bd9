"""The features of a run as one module of plain tensors: codes of each modality in, representations of samples out.

B samples, L codes of a modality, T tokens of its segment, N tokens of all, D width, W values of a patch.

What a method makes of a sample is found out by asking it: its document without any modality, and with each alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.data.layout import VocabularyLayout
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import Document
from mmtool.methods.base import Method
from mmtool.methods.protocols import representing
from mmtool.model.masks import attention_mask
from mmtool.model.transformer import Transformer

ABSENT = -1  # the number of codes of a modality that a sample lacks


def codes_of(modality: Modality, length: int, value: int = 0) -> np.ndarray:
    """So many codes of a modality, all the same; of a continuous one patches."""
    if modality.continuous:
        return np.full((length, modality.patch_width), value, np.uint8)
    return np.full(length, value, np.int64)


class Segment(nn.Module):
    """The tokens of one modality, from its codes (B, L), or patches (B, L, W) uint8, and how many of them each sample has (B,): `ABSENT`
    where it lacks the modality.

    start: of the codes among the tokens. canvas: whether it is as long for every number of codes, and filled with END.
    """

    tokens: Tensor
    filler: Tensor
    modality: Tensor
    slot: Tensor
    position: Tensor

    def __init__(self, method: Method, modality: Modality, index: int) -> None:
        super().__init__()
        self.continuous, self.fixed_length, self.longest = modality.continuous, modality.fixed_length, modality.max_length
        zeros, ones, empty = (_alone(method, modality, *how) for how in ((self.longest,), (self.longest, 1), (0,)))
        is_code = zeros.tokens == method.layout.patch_id(index) if self.continuous else zeros.tokens != ones.tokens
        self.start, self.canvas = int(is_code.argmax()), len(empty) == len(zeros)
        filler = empty.tokens if self.canvas else zeros.tokens
        arrays = {"tokens": zeros.tokens, "filler": filler, "modality": zeros.modality, "slot": zeros.slot, "position": zeros.position}
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def forward(self, codes: Tensor, counts_B: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """(tokens (B, T), which of them are there (B, T), their modality, slot and position, the same in all samples)."""
        held, size = codes.shape[1], len(self.tokens) if self.canvas else self.start + codes.shape[1]
        steps, start = torch.arange(size), self.start
        if self.continuous:
            tokens = self.tokens[:size].expand(len(codes), -1)
        else:
            tokens = self.tokens[:size] + F.pad(codes, (start, size - start - held))
        if self.canvas and not self.fixed_length:
            is_code = (steps >= start) & (steps < start + counts_B[:, None])
            tokens = torch.where(is_code | (steps < start), tokens, self.filler)
        valid = steps < start + counts_B[:, None]
        if self.canvas:
            valid = (counts_B >= 0)[:, None].expand(-1, size)
        return tokens, valid & (counts_B >= 0)[:, None], (self.modality[:size], self.slot[:size], self.position[:size])


class Representation(nn.Module):
    """(B, D) representations of samples from the modalities `names`, as `Representing.features` gives them by the usual pooling.

    Inputs: of each of `names` its codes and how many there are (see `Segment`). A sample that lacks all of them gets zeros, or what the
    method makes of nothing.
    """

    before_tokens: Tensor

    def __init__(self, method: Method, model: Transformer, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.method, self.view = model, representing(method), method.view
        self.indices = [model.layout.index(name) for name in names]
        self.segments = [Segment(method, model.layout.modalities[index], index) for index in self.indices]
        self.registered = nn.ModuleList(self.segments)  # for their buffers
        head = representing(method).reading(Sample("", {}), [])
        self.before = len(head)
        for name in ("tokens", "modality", "slot", "position"):
            self.register_buffer(f"before_{name}", torch.from_numpy(np.array(_padded_axes(getattr(head, name), model.layout))))

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = [segment(*pair) for segment, *pair in zip(self.segments, inputs[::2], inputs[1::2], strict=True)]
        batch = len(inputs[0])
        before = [getattr(self, f"before_{name}") for name in ("modality", "slot", "position")]
        tokens_BN = torch.cat([self.before_tokens.expand(batch, -1), *(tokens for tokens, _, _ in parts)], 1)
        valid_BN = torch.cat([torch.ones(batch, self.before, dtype=torch.bool), *(valid for _, valid, _ in parts)], 1)
        modality_BN, slot_BN, position_BNA = (
            torch.cat([first, *(place[i] for _, _, place in parts)])[None] for i, first in enumerate(before)
        )
        mask = attention_mask(valid_BN.long(), modality_BN, self.view)
        x = self.model.embed(tokens_BN, modality_BN, slot_BN, position_BNA)
        if any(segment.continuous for segment in self.segments):
            x = x + self._patches(inputs[::2], [tokens.shape[1] for tokens, _, _ in parts])
        hidden_BND = self.model.read(x, tokens_BN, slot_BN, position_BNA, mask)
        return self.method.pooled(hidden_BND, tokens_BN, valid_BN)

    def _patches(self, inputs: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        """(B, N, D): the embedding of every patch at its token, 0 elsewhere."""
        batch, patches = len(inputs[0]), self.model.patches
        assert patches is not None
        contents = [torch.zeros(batch, self.before, self.model.shape.width)]
        for index, segment, values, size in zip(self.indices, self.segments, inputs, sizes, strict=True):
            if segment.continuous:
                content = patches.content(index, values, torch.float32)
                contents.append(F.pad(content, (0, 0, segment.start, size - segment.start - values.shape[1])))
            else:
                contents.append(torch.zeros(batch, size, self.model.shape.width))
        return torch.cat(contents, 1)


def _alone(method: Method, modality: Modality, length: int, value: int = 0) -> Document:
    """What the method reads of a sample that holds this modality alone, without what stands before any modality."""
    reading, sample = representing(method).reading, Sample("", {modality.name: codes_of(modality, length, value)})
    before, document = reading(Sample("", {}), []), reading(sample, [modality.name])
    return document.take(np.arange(len(before), len(document)))


def _padded_axes(array: np.ndarray, layout: VocabularyLayout) -> np.ndarray:
    """Positions of no tokens at all do not know how many axes there are."""
    return array if array.ndim == 1 or len(array) else np.zeros((0, layout.axes), array.dtype)
