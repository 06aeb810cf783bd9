"""A model of `transformers` as an encoder.

Read-only prompts need no change of a model: they join the tokens before its first layer, and its attention leaves their keys out. So one
wrapping serves every architecture whose attention is chosen by name in `transformers`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.encoders.readers import Reader
from mmtool.model.encoder import Encoded, Encoder, Inputs, Pool
from mmtool.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Architecture:
    """How a model is opened and read.

    kind: what it reads. model: its class in `transformers`. class_tokens: how many tokens open each sample. norm: name of the module behind
    the last layer, where there is one; normalizes_all: whether the model applies it to all states, not only to what it pools. head: name of
    the module that pools all states, where there is one. prefix: pattern of what names of weights begin with, where the encoder is a part
    of a larger model. preparation: of pictures, where preprocessor_config.json does not say.
    any_size: whether it reads pictures of other sizes than it was trained on. settings: of the constructor.
    """

    kind: str
    model: str
    class_tokens: int
    norm: str | None = None
    normalizes_all: bool = True
    head: str | None = None
    prefix: str | None = None
    preparation: Mapping[str, Any] = field(default_factory=dict)
    any_size: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


class HuggingFaceEncoder(Encoder):
    """A model of `transformers` and what reads raw values for it.

    Tokens of a sample are decoded by the tokenizer that made them: what the model sees is what the shards hold (all of it for text and
    for images as patches, otherwise what the codec keeps). Inputs: values (B, ...), and length (B,) where it varies, or states
    (B,) where only some states of a sample stand for it.
    """

    lora_sites = (
        *("attention.q_proj", "attention.v_proj", "attention.self.query", "attention.self.value"),
        *("attention.attention.query", "attention.attention.value"),  # of ViT and AST in transformers 5.0
        *("self_attn.q_proj", "self_attn.v_proj", "attention.q_lin", "attention.v_lin", "attn.Wqkv"),
    )
    adapter_sites = (
        *("mlp.fc2", "output.dense", "feed_forward.output_dense", "fc2", "ffn.lin2", "mlp.Wo"),
        *("mlp.down_proj", "mlp.weights_out"),  # of DINOv2 with SwiGLU, the latter in transformers 5.0
    )

    def __init__(self, model: Any, architecture: Architecture, reader: Reader, modality: str, fingerprint: str, pool: Pool) -> None:
        super().__init__()
        self.model, self.architecture, self.reader = model, architecture, reader
        self.modality, self.fingerprint = modality, fingerprint
        self.width, self.depth = model.config.hidden_size, model.config.num_hidden_layers
        self.by_class = pool == "class" or (pool == "auto" and architecture.class_tokens > 0)
        self.by_head = pool == "auto" and architecture.head is not None and _has(model, architecture.head)
        self.tokenizer: Tokenizer | None = None
        self._layers = _find_layers(model)

    @property
    def layers(self) -> nn.ModuleList:
        layers = self.model.get_submodule(self._layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def final_norm(self) -> nn.Module | None:
        name = self.architecture.norm
        if name is None or (self.model.config.model_type == "wav2vec2" and not self.model.config.do_stable_layer_norm):
            return None
        return _part(self.model, name)

    @torch.no_grad()
    def class_token(self) -> Tensor:
        if self.model.config.model_type == "wav2vec2":
            projection = self.model.feature_projection
            mean = projection.projection(projection.layer_norm.bias)
            return mean if self.model.config.do_stable_layer_norm else self.model.encoder.layer_norm(mean)
        entered: list[Tensor] = []
        hook = self.layers[0].register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
        try:
            with _joined(self.layers, (), 0):
                self.model(**{self.model.main_input_name: self.reader.model_values(self.reader.blank().to(self.model.device))})
        finally:
            hook.remove()
        return entered[0][0, : self.architecture.class_tokens or None].mean(0)

    def forward(self, inputs: Inputs, prompts: Tensor | None = None) -> Encoded:
        values, lengths = inputs["values"], inputs.get("length")
        arguments = {self.model.main_input_name: self.reader.model_values(values)}
        if lengths is not None and self.reader.masks:
            arguments["attention_mask"] = (torch.arange(values.shape[1], device=values.device) < lengths[:, None]).long()
        deep = [] if prompts is None else list(prompts if prompts.ndim == 3 else prompts[None])
        count = len(deep[0]) if deep else 0
        autocast = torch.autocast(values.device.type, self.compute_dtype, enabled=self.compute_dtype != torch.float32)
        with _joined(self.layers, deep, count), autocast:
            states = self.model(**arguments).last_hidden_state.float()
        if self.final_norm is not None and not self.architecture.normalizes_all:
            states = self.final_norm(states)
        of_sample, of_prompts = states.split((states.shape[1] - count, count), dim=1)
        return Encoded(self._pooled(of_sample, self._frames(inputs)), of_prompts if count else None)

    def prepare(self, samples: Sequence[Sample]) -> Inputs:
        codes = self.tokens(samples)
        if self.tokenizer is None:
            fix = "Open the encoder with the tokenizer that made them."
            raise UsageError(f"a {self.architecture.model} reads raw values, not tokens.", where=self.modality, fix=fix)
        values = self.tokenizer.decode(codes)
        if self.architecture.kind == "audio":
            rate_hz = self.tokenizer.sample_rate_hz  # type: ignore[attr-defined]  # audio tokenizers have it
            values = [(value, rate_hz) for value in values]
        return self.prepare_raw(values)

    def prepare_raw(self, values: Sequence[Any]) -> Inputs:
        return self.reader(values, self.min_length)

    def _pooled(self, states_BLW: Tensor, frames: Tensor | None) -> Tensor:
        """The class tokens, what the head makes of all states, or the mean of all that are no padding."""
        if self.by_head:
            return _part(self.model, self.architecture.head or "")(states_BLW)
        if self.by_class:
            return states_BLW[:, : self.architecture.class_tokens].mean(1)
        if frames is None:
            return states_BLW.mean(1)
        valid = torch.arange(states_BLW.shape[1], device=frames.device) < frames[:, None]
        return (states_BLW * valid[..., None]).sum(1) / frames[:, None]

    def _frames(self, inputs: Inputs) -> Tensor | None:
        """(B,) how many states of each sample are no padding; None: all."""
        frames = inputs.get("states", inputs.get("length"))
        if frames is None:
            return None
        for kernel, stride in zip(*(getattr(self.model.config, name, ()) for name in ("conv_kernel", "conv_stride")), strict=True):
            frames = (frames - kernel) // stride + 1
        return frames

    def length_of(self, inputs: Inputs) -> int:
        return inputs["values"].shape[1] if "length" in inputs else 0


@contextmanager
def _joined(layers: nn.ModuleList, deep: Sequence[Tensor], count: int) -> Iterator[None]:
    """While it lasts, `count` prompts join the tokens before the first layer, deep ones are added to them before the further layers, and
    attention leaves their keys out."""
    attentions: list[Any] = [module for module in layers.modules() if hasattr(module, "is_causal")]
    hooks = [
        layer.register_forward_pre_hook(partial(_join, prompts, count, not i), with_kwargs=True)
        for i, (layer, prompts) in enumerate(zip_longest(layers, deep))
        if count
    ]
    try:
        for module in attentions:
            module.num_prompts = count
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _join(
    prompts: Tensor | None, count: int, first: bool, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a layer with the prompts; where it rotates by positions, these have none."""
    states = arguments[0]
    if prompts is not None:
        prompts = prompts.to(states.dtype)
        length = states.shape[1] - (0 if first else count)
        behind = prompts.expand(len(states), -1, -1) if first else states[:, length:] + prompts
        states = torch.cat((states[:, :length], behind), 1)
    if named.get("position_embeddings") is not None:
        cos, sin = named["position_embeddings"]
        named = {**named, "position_embeddings": (F.pad(cos, (0, 0, 0, count), value=1), F.pad(sin, (0, 0, 0, count)))}
    return (states, *arguments[1:]), named


def read_only_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention (B, H, L + P, K) in which the keys of the last P = `module.num_prompts` tokens are left out; all see the same keys, in a
    sliding window only the prompts see all of them."""
    length = key.shape[2] - module.num_prompts
    mask = attention_mask
    if mask is not None:
        mask = mask[..., :length]
        every = mask.any(2, keepdim=True) if sliding_window else mask[:, :, :1]
        mask = torch.cat((mask, every.expand(-1, -1, module.num_prompts, -1)), 2) if sliding_window else every
    out = F.scaled_dot_product_attention(query, key[:, :, :length], value[:, :, :length], attn_mask=mask, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def _has(model: Any, name: str) -> bool:
    return any(path == name or path.endswith(f".{name}") for path, _ in model.named_modules())


def _part(model: Any, name: str) -> Any:
    """The module of a name, wherever it lies: transformers 5.0 wraps vision models once more."""
    return next(part for path, part in model.named_modules() if path == name or path.endswith(f".{name}"))


def _find_layers(model: Any) -> str:
    """Name of the list of layers: the one as long as the model is deep, whose members attend."""
    for name, module in model.named_modules():
        attends = any(hasattr(part, "is_causal") for part in module.modules())
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers and attends:
            return name
    raise AssertionError("no list of layers")
