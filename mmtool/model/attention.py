"""Attention kernels and rotary positions.

Three kernels compute the same thing. On a CPU, the backward of torch's fused attention is several times slower than a compiled
explicit softmax for short rows (`examples/benchmarks/` measures it), on a GPU the fused one wins at any length, and the one that skips
blocks nobody sees, flex attention, wins in compiled steps with long rows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from mmtool.model.masks import Mask

EXPLICIT_MAX_LENGTH = 256
# Blocks of flex attention for narrow heads in 16 bits. On an H100 (torch 2.11, 64 rows of 1,024, 12 heads of 64) forward and backward took
# 1.83 ms with these of the backward and 1.90 ms with these of the forward alone, 2.06 ms with torch's choice.
NARROW: Any = {"fwd_BLOCK_M": 128, "fwd_BLOCK_N": 64, "fwd_num_warps": 4, "fwd_num_stages": 3}
NARROW |= {"bwd_BLOCK_M1": 64, "bwd_BLOCK_N1": 64, "bwd_BLOCK_M2": 64, "bwd_BLOCK_N2": 64, "bwd_num_warps": 4, "bwd_num_stages": 3}
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # since torch 2.7
TAKES_OPTIONS = torch.__version__ >= "2.8"  # of the forward and the backward apart


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """softmax(q k' / sqrt(K)) v where `mask` is True; q (B, H, L, K), k and v (B, H, S, K), mask broadcastable to (B, H, L, S), or of
    blocks, for compiled steps on a GPU.

    A query that may attend to nothing (padding) gets the mean of all values, never NaN.
    """
    if isinstance(mask, BlockMask):
        narrow = TAKES_OPTIONS and q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] <= 64
        mixed = flex_attention(q, k, v, block_mask=mask, kernel_options=NARROW if narrow else None)
        assert isinstance(mixed, Tensor)
        return mixed
    if q.device.type == "cpu" and (is_exporting() or k.shape[2] <= EXPLICIT_MAX_LENGTH):  # one graph for all lengths
        return explicit_attention(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(scores.float().masked_fill(~mask, -1e9), dim=-1)
    return weights.to(v.dtype) @ v


def rope(position_BLA: Tensor, head_width: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (B, 1, L, K/2) of axial rotary positions (RoPE): each of the A axes (time, row, column) has its share of the frequencies.

    On a line all axes carry the same position, which is plain RoPE (Su et al. 2021, arXiv 2104.09864).
    """
    angles = []
    for axis, count in enumerate(axis_shares(head_width // 2, position_BLA.shape[-1])):
        frequency = base ** (-torch.arange(count, device=position_BLA.device, dtype=torch.float32) / count)
        angles.append(position_BLA[..., axis, None].float() * frequency)
    angle = torch.cat(angles, -1)[:, None]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def axis_shares(count: int, axes: int) -> list[int]:
    """How many of `count` frequencies each axis has: equally many, or the first ones have one more."""
    return [count // axes + (axis < count % axes) for axis in range(axes)]


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x_i, x_{i + K/2}) by its angle; x (B, H, L, K)."""
    if x.is_cuda:  # the same products and sums, without halves to be put together: fewer kernels, or one that reads in order
        halves = x.unflatten(-1, (2, -1))
        return (halves * cos[..., None, :] + halves.flip(-2) * torch.stack((-sin, sin), -2)).flatten(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
