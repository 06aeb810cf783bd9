"""The one transformer of every method: the mask decides whether it is causal, bidirectional or cached.

A axes of positions, B batch rows, L length, D width, H heads, K head dimension, V vocabulary, S cached length.

Pre-norm RMSNorm, rotary positions on the tokenizer's grid, SwiGLU, untied embeddings. Weights are kept in fp32; activations
run in the dtype of the embedding output (`compute_dtype`), each weight being cast where it is used.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmtool.common.bounds import Count, Natural, Positive
from mmtool.common.errors import UsageError
from mmtool.data.layout import VocabularyLayout
from mmtool.model.attention import apply_rope, attend, rope
from mmtool.model.cache import KVCache
from mmtool.model.embedding import Embedding
from mmtool.model.masks import Mask
from mmtool.model.ordinal import OrdinalPath, has_ordered
from mmtool.model.patches import POSITION_SCALE, FixedPositions, PatchEmbedding, Patches, has_patches

POSITIONS = ("rotary", "fixed", "both")
CosSin = tuple[Tensor, Tensor] | None  # of rotary positions; None where there are none


@dataclass(frozen=True)
class Shape:
    """Size of a transformer."""

    depth: Count
    """Number of blocks."""
    width: Count
    """D."""
    head_width: Count = 32
    """K."""
    hidden: Natural = 0
    """Inner width of SwiGLU; 0: 8/3 of the width, rounded up to 64."""
    bias: bool = False
    """Biases in the linear layers (on for encoders that BitFit tunes)."""
    rope_base: Positive = 1000.0
    """Longest wavelength of the rotary positions."""
    positions: str = "rotary"
    """rotary, fixed (sines and cosines added to the inputs, Vaswani et al. 2017), or both."""

    def __post_init__(self) -> None:
        if self.width % self.head_width:
            fix = f"Give a multiple of {self.head_width}, or another shape.head_width."
            raise UsageError(f"{self.width} is not divided by heads of {self.head_width}.", where="shape.width", fix=fix)
        if self.head_width % 4:
            raise UsageError(
                f"heads of {self.head_width} have no rotary positions on two axes.", where="shape.head_width", fix="Give a multiple of 4."
            )
        if self.positions not in POSITIONS:
            raise UsageError(f"{self.positions!r} is not possible.", where="shape.positions", fix=f"Choose from: {', '.join(POSITIONS)}.")

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def inner(self) -> int:
        return self.hidden or 64 * math.ceil(self.width * 8 / 3 / 64)

    @property
    def parameters(self) -> int:
        """How many the blocks have, biases and norms apart."""
        return self.depth * self.width * (4 * self.width + 3 * self.inner)

    def cos_sin(self, position_BLA: Tensor, dtype: torch.dtype) -> CosSin:
        """cos and sin of rotary positions, as attention takes them."""
        return None if self.positions == "fixed" else rope(position_BLA, self.head_width, self.rope_base, dtype)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


PRESETS = {
    "tiny": Shape(depth=4, width=192),
    "small": Shape(depth=6, width=256),
    "base": Shape(depth=8, width=512, head_width=64),
    "large": Shape(depth=12, width=768, head_width=64, rope_base=10000.0),
    "vit-s": Shape(depth=12, width=384, head_width=64, bias=True),
    "vit-b": Shape(depth=12, width=768, head_width=64, bias=True),
    "vit-l": Shape(depth=24, width=1024, head_width=64, bias=True),
    "vit-h": Shape(depth=32, width=1280, head_width=80, bias=True),
}


class Transformer(nn.Module):
    """Tokens in, hidden states out; `logits` scores hidden states against one modality's range."""

    def __init__(self, shape: Shape, layout: VocabularyLayout) -> None:
        super().__init__()
        if layout.axes > shape.head_width // 2:
            fix = f"Give at least {4 * math.ceil(layout.axes / 2)}."
            raise UsageError(
                f"heads of {shape.head_width} are too narrow for positions of {layout.axes} axes.", where="shape.head_width", fix=fix
            )
        self.shape, self.layout = shape, layout
        self.token_embedding = Embedding(layout.size, shape.width)
        self.modality_embedding = Embedding(len(layout.modalities), shape.width)
        self.slot_embedding = Embedding(num_slots(layout), shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.final_norm = RMSNorm(shape.width)
        self.head = nn.Parameter(torch.empty(layout.size, shape.width))
        self.ordinal = OrdinalPath(layout, shape.width, num_slots(layout)) if has_ordered(layout) else None
        self.task_head: nn.Linear | None = None  # of a finetuned run: features -> what it predicts
        self.patches = PatchEmbedding(layout, shape.width) if has_patches(layout) else None
        self.fixed = FixedPositions(layout, shape.width, POSITION_SCALE) if shape.positions != "rotary" else None
        self.compute_dtype, self.recompute = torch.float32, False

    def forward(
        self,
        tokens_BL: Tensor,
        modality_BL: Tensor,
        slot_BL: Tensor,
        position_BLA: Tensor,
        mask: Mask,
        cache: KVCache | None = None,
        patches: Sequence[Patches] = (),
    ) -> Tensor:
        """Hidden states (B, L, D) after the final norm.

        slot: row of `slot_embedding` (see `num_slots`); position: on the tokenizer's grid, (row, column) or more axes; mask: bool, True
        where a query (second to last axis) may attend to a key (last axis), broadcastable to (B, H, L, S), or of blocks. patches: of
        continuous modalities.
        """
        x = self.embed(tokens_BL, modality_BL, slot_BL, position_BLA, patches)
        return self.read(x, tokens_BL, slot_BL, position_BLA, mask, cache)

    def read(self, x: Tensor, tokens_BL: Tensor, slot_BL: Tensor, position_BLA: Tensor, mask: Mask, cache: KVCache | None = None) -> Tensor:
        """The same of what `embed` gave (B, L, D)."""
        cos_sin = self.shape.cos_sin(position_BLA, x.dtype)
        for depth, block in enumerate(self.blocks):
            x = self._run(block, x, cos_sin, mask, cache.layer(depth) if cache else None)
        x = self.final_norm(x)
        if self.ordinal is None:
            return x
        assert isinstance(mask, Tensor), "values are read under masks of single tokens"
        return self.ordinal.read(x, slot_BL, *(cache.noted(tokens_BL, slot_BL) if cache else (tokens_BL, slot_BL)), mask)

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        """A block; with `recompute` its backward pass computes anew what it needs, for less memory and a third more work."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def embed(
        self, tokens_BL: Tensor, modality_BL: Tensor, slot_BL: Tensor, position_BLA: Tensor, patches: Sequence[Patches] = ()
    ) -> Tensor:
        """(B, L, D): what enters the first block."""
        x = self.token_embedding(tokens_BL) + self.modality_embedding(modality_BL) + self.slot_embedding(slot_BL)
        if self.ordinal is not None:
            x = x + self.ordinal.embed(tokens_BL, slot_BL)
        if self.patches is not None and patches:
            x = x + self.patches(tokens_BL, patches, self.compute_dtype)
        if self.fixed is not None:
            x = x + self.fixed(position_BLA)
        return x.to(self.compute_dtype)

    def logits(self, hidden_ND: Tensor, index: int) -> Tensor:
        """Scores (N, W) of END and the codes of modality `index`, in fp32."""
        start, stop = self.layout.target_range(index)
        head = self.head[start:stop] if self.ordinal is None else self.head[start:stop] + self.ordinal.head(start, stop)
        if hidden_ND.is_cuda:  # of a width that is no multiple of 8, products took four times as long on an H100
            head = F.pad(head, (0, 0, 0, (start - stop) % 8))
        return F.linear(hidden_ND, head.to(hidden_ND.dtype))[..., : stop - start].float()

    @contextmanager
    def cast_weights(self) -> Iterator[None]:
        """Cast them once for many steps without training, not in every step."""
        layers = [module for module in self.modules() if isinstance(module, Linear)]
        for layer in layers:
            layer.cast = layer.weight.detach().to(self.compute_dtype)
        try:
            yield
        finally:
            for layer in layers:
                layer.cast = None

    def init_weights(self, generator: torch.Generator) -> None:
        """Normal(0, 0.02), residual outputs shrunk by the depth (GPT-2), so that every seed gives the same model everywhere."""
        for name, parameter in sorted(self.named_parameters()):
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                shrink = math.sqrt(2 * self.shape.depth) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 / shrink, generator=generator)
        if self.ordinal is not None:
            self.ordinal.init_weights(generator)

    @property
    def takes_blocks(self) -> bool:
        """Whether masks may be of blocks: not where values of tables are read under them, nor with heads that flex attention refuses."""
        widths = [module.head_width for module in self.modules() if isinstance(module, Attention)]
        return self.ordinal is None and all(width >= 16 and width.bit_count() == 1 for width in widths)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def batch_flops(self, batch: Any) -> int:
        """Training cost of a packed batch."""
        return batch.num_tokens * self.flops_per_token(batch.tokens.shape[1])

    def flops_per_token(self, length: int) -> int:
        """Training cost of one token in a row of `length`: 6 per weight of the matrix products plus attention (PaLM, appendix B)."""
        matrices = sum(parameter.numel() for name, parameter in self.named_parameters() if parameter.ndim == 2 and "embedding" not in name)
        return 6 * matrices + 12 * self.shape.depth * self.shape.width * length


def num_slots(layout: VocabularyLayout) -> int:
    """Rows of the slot embedding: one for everything that varies in length, and one per slot of each fixed-length modality."""
    return 1 + sum(modality.max_length + 1 for modality in layout.modalities if modality.fixed_length)


class Block(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = RMSNorm(shape.width), RMSNorm(shape.width)
        self.attention, self.mlp = Attention(shape), SwiGLU(shape)

    def forward(self, x_BLD: Tensor, cos_sin: CosSin, mask: Mask, cache: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        x_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), cos_sin, mask, cache)
        return x_BLD + self.mlp(self.mlp_norm(x_BLD))


class Attention(nn.Module):
    """Multi-head attention with rotary positions; reads and extends a cache when given one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.head_width = shape.head_width
        self.qkv = Linear(shape.width, 3 * shape.width, bias=shape.bias)
        self.out = Linear(shape.width, shape.width, bias=shape.bias)

    def forward(self, x_BLD: Tensor, cos_sin: CosSin, mask: Mask, cache: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        batch, length, width = x_BLD.shape
        heads = self.qkv(x_BLD).view(batch, length, -1, self.head_width).transpose(1, 2)
        q, k, v = heads.chunk(3, dim=1)
        if cos_sin is not None and x_BLD.is_cuda:  # together, in half the kernels; a CPU's matrix products would copy the halves
            q, k = apply_rope(heads[:, : 2 * q.shape[1]], *cos_sin).chunk(2, dim=1)
        elif cos_sin is not None:
            q, k = apply_rope(q, *cos_sin), apply_rope(k, *cos_sin)
        if cache is not None:
            keys, values, cache_position = cache
            k, v = keys.index_copy_(2, cache_position, k), values.index_copy_(2, cache_position, v)
        return self.out(attend(q, k, v, mask).transpose(1, 2).reshape(batch, length, width))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_up = Linear(shape.width, 2 * shape.inner, bias=shape.bias)
        self.down = Linear(shape.inner, shape.width, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        if x.is_cuda and not torch.is_grad_enabled():  # one kernel in place of six, where nothing is compiled
            return F.rms_norm(wide, self.weight.shape, self.weight, 1e-6).to(x.dtype)
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6) * self.weight).to(x.dtype)


class Linear(nn.Linear):
    """A linear layer with fp32 weights that computes in the dtype of its input. cast: the weights in that dtype, while they do not change
    (see `Transformer.cast_weights`)."""

    cast: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype) if self.cast is None else self.cast
        return F.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))
