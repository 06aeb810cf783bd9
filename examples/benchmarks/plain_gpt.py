"""A GPT of a given shape in plain PyTorch, as one writes it: fused attention, bf16 autocast, `torch.compile`, fused AdamW."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.model.transformer import Shape


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, width = shape.heads, shape.width
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * shape.inner, bias=False), nn.Linear(shape.inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).type_as(x)


class PlainGPT(nn.Module):
    def __init__(self, shape: Shape, vocabulary: int, length: int) -> None:
        super().__init__()
        self.width = shape.width
        self.embedding, self.head = nn.Embedding(vocabulary, shape.width), nn.Linear(shape.width, vocabulary, bias=False)
        self.blocks, self.norm = nn.ModuleList(Block(shape) for _ in range(shape.depth)), nn.RMSNorm(shape.width)
        half = shape.head_width // 2
        angle = torch.arange(length)[:, None] * shape.rope_base ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos().bfloat16())
        self.register_buffer("sin", angle.sin().bfloat16())

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens).bfloat16()
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def training(shape: Shape, vocabulary: int, rows: int, length: int, device: torch.device) -> tuple[Callable[[], None], PlainGPT]:
    """A step on a batch of random tokens, and the model it trains."""
    torch.use_deterministic_algorithms(False)
    model = PlainGPT(shape, vocabulary, length).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    tokens = torch.randint(vocabulary, (rows, length + 1), device=device)
    loss_of = torch.compile(model, dynamic=False) if device.type == "cuda" else model

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, model
