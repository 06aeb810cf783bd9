"""M3AE in plain PyTorch, written the obvious way: what `m3ae.py` beside it is measured against.

Every sample is one row of a padded batch. The encoder sees CLS, the visible patches and as many visible words as the richest caption of the
batch has, the others padded; the decoder sees all patches and captions padded to the longest. Blocks are `nn.TransformerEncoder`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sines(places: int, width: int) -> Tensor:
    angles = torch.arange(places)[:, None] * 10_000 ** (-torch.arange(width // 2) / (width // 2))
    return torch.cat((angles.sin(), angles.cos()), 1)


def blocks(depth: int, width: int, heads: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)


class PlainM3AE(nn.Module):
    """encoder, decoder: (depth, width, heads)."""

    def __init__(
        self, patches: int, values: int, words: int, longest: int, encoder: tuple[int, int, int], decoder: tuple[int, int, int]
    ) -> None:
        super().__init__()
        width, narrow = encoder[1], decoder[1]
        self.patches, self.longest = patches, longest
        self.patch_in, self.word_in = nn.Linear(values, width), nn.Embedding(words + 1, width, padding_idx=0)
        self.cls, self.types = nn.Parameter(0.02 * torch.randn(width)), nn.Embedding(2, width)
        self.encoder, self.narrow = blocks(*encoder), nn.Linear(width, narrow)
        self.masks, self.decoder_types = nn.Embedding(2, narrow), nn.Embedding(2, narrow)
        self.decoder = blocks(*decoder)
        self.patch_out, self.word_out = nn.Linear(narrow, values), nn.Linear(narrow, words + 1)
        self.register_buffer("places", sines(patches + longest, width))
        self.register_buffer("decoder_places", sines(patches + longest, narrow))

    def forward(self, image_BPV: Tensor, text_BT: Tensor, ratio: float) -> Tensor:
        """The loss; text is padded with 0."""
        batch, patches = len(image_BPV), self.patches
        real = text_BT > 0
        image = self.patch_in(image_BPV) + self.types.weight[0] + self.places[:patches]
        text = self.word_in(text_BT) + self.types.weight[1] + self.places[: text_BT.shape[1]]
        seen_image = hide(torch.ones(batch, patches, dtype=torch.bool), ratio)
        seen_text = hide(real, ratio)
        image_order, text_order = (seen.float().argsort(dim=1, descending=True, stable=True) for seen in (seen_image, seen_text))
        image_order, text_order = image_order[:, : int(seen_image.sum(1).max())], text_order[:, : int(seen_text.sum(1).max())]
        visible = torch.cat((self.cls.expand(batch, 1, -1), take(image, image_order), take(text, text_order)), 1)
        padding = torch.cat(
            (torch.zeros(batch, 1, dtype=torch.bool), ~seen_image.gather(1, image_order), ~seen_text.gather(1, text_order)), 1
        )
        states = self.narrow(self.encoder(visible, src_key_padding_mask=padding))
        cls, image_states, text_states = states.split([1, image_order.shape[1], text_order.shape[1]], 1)
        image = put(self.masks.weight[0].expand(batch, patches, -1), image_order, image_states, seen_image)
        text = put(self.masks.weight[1].expand(batch, text_BT.shape[1], -1), text_order, text_states, seen_text)
        image = image + self.decoder_types.weight[0] + self.decoder_places[:patches]
        text = text + self.decoder_types.weight[1] + self.decoder_places[: text_BT.shape[1]]
        ignored = torch.cat((torch.zeros(batch, 1 + patches, dtype=torch.bool), ~real), 1)
        states = self.decoder(torch.cat((cls, image, text), 1), src_key_padding_mask=ignored)
        errors = (self.patch_out(states[:, 1 : 1 + patches]) - image_BPV).square().mean(-1)
        image_loss = (errors * ~seen_image).sum() / (~seen_image).sum()
        targets = torch.where(real & ~seen_text, text_BT, -1)
        return image_loss + 0.5 * F.cross_entropy(
            self.word_out(states[:, 1 + patches :]).flatten(0, 1).float(), targets.flatten(), ignore_index=-1
        )


def hide(real_BL: Tensor, ratio: float) -> Tensor:
    """(B, L) which real tokens stay visible: a share of those of each row, at least one."""
    noise = torch.rand(real_BL.shape).masked_fill(~real_BL, 2.0)
    keep = (real_BL.sum(1, keepdim=True) * (1 - ratio)).round().clamp(min=1)
    return (noise.argsort(1).argsort(1) < keep) & real_BL


def take(x_BLD: Tensor, order_BK: Tensor) -> Tensor:
    return x_BLD.gather(1, order_BK[..., None].expand(-1, -1, x_BLD.shape[-1]))


def put(x_BLD: Tensor, order_BK: Tensor, states_BKD: Tensor, seen_BL: Tensor) -> Tensor:
    spread = x_BLD.to(states_BKD.dtype).scatter(1, order_BK[..., None].expand_as(states_BKD), states_BKD)
    return torch.where(seen_BL[..., None], spread, x_BLD.to(states_BKD.dtype))
