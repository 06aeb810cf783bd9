"""What an encoder of one modality is, wherever it comes from: samples in, one embedding each, and what read-only prompts read beside it.

B samples, W width, P prompts, N layers. The encoder is frozen; `tune` says what little of it trains. It always computes as in evaluation
(no dropout), so that an embedding is a function of the sample and the weights.

Read-only prompts (RPO, Lee et al. 2023, arXiv 2308.14960) are learned tokens behind those of the sample: they attend to these, nothing
attends to them, not even other prompts or they themselves. So the embedding is the same with and without them. They have no position.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.common.errors import DataError, UsageError
from mmtool.data.sample import Sample
from mmtool.model.tuning import add_adapters, add_lora, free_biases, is_wrapped

Inputs = dict[str, Tensor]  # batch first, so that a prepared data set is cut into batches by indexing every tensor
Tuning = Literal["none", "bitfit", "lora", "adapter"]
Pool = Literal["auto", "mean", "class"]  # of all states, or the state of what opens every sample; auto: what the source is known for
PROMPT_NOISE = 0.1


@dataclass(frozen=True)
class Encoded:
    """embedding (B, W): pooled after the final norm, fp32. prompts (B, P, W): the states at the prompts, after the same norm; None where
    there were no prompts."""

    embedding: Tensor
    prompts: Tensor | None


class Encoder(nn.Module, ABC):
    """modality: its name in the samples. width: W. depth: N. fingerprint: sha256 over weights and shape.

    lora_sites, adapter_sites: names, inside a layer, of the linear layers that LoRA changes and that an adapter follows.
    compute_dtype: of activations; weights and what comes out are fp32. min_length: of inputs whose length varies; set it to that of the
    training data (`length_of`), and a step meets one shape only, also for a single sample.
    """

    modality: str
    width: int
    depth: int
    fingerprint: str
    lora_sites: tuple[str, ...]
    adapter_sites: tuple[str, ...]
    compute_dtype: torch.dtype = torch.float32
    min_length: int = 0

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The blocks that read, the first one first."""

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module | None:
        """The norm behind the last block; None where the blocks end with one."""

    @abstractmethod
    def class_token(self) -> Tensor:
        """(W,) the token that opens every sample, or the mean token where there is none, as it enters the first layer."""

    @abstractmethod
    def forward(self, inputs: Inputs, prompts: Tensor | None = None) -> Encoded:
        """prompts: (P, W) at the input, or (N, P, W) deep: those of every further layer are added to the states that the prompts have
        there (read-only prompts that were replaced, as VPT does, would forget what they have read)."""

    @abstractmethod
    def prepare(self, samples: Sequence[Sample]) -> Inputs:
        """Samples -> inputs, all of one length. Raises DataError where a sample lacks the modality."""

    @abstractmethod
    def prepare_raw(self, values: Sequence[Any]) -> Inputs:
        """Raw values, as `preprocessing.sources.read_items` gives them -> inputs."""

    def length_of(self, inputs: Inputs) -> int:
        """What `min_length` is to be for inputs like these; 0 where all inputs have one length anyhow."""
        return 0

    def tokens(self, samples: Sequence[Sample]) -> list[Any]:
        """The modality's tokens of every sample. Raises DataError where one lacks it."""
        for sample in samples:
            if self.modality not in sample.tokens:
                fix = "Encode only what is present."
                raise DataError(f"the sample has no {self.modality}.", where=sample.key, fix=fix)
        return [sample.tokens[self.modality] for sample in samples]

    def prompt_init(self, count: int, generator: torch.Generator, deep: bool = False) -> Tensor:
        """(P, W): the class token + 0.1 x unit noise each, as in RPO; deep: (N, P, W), of which all but the first are 0."""
        noise = torch.randn(count, self.width, generator=generator)
        prompts = self.class_token().detach().cpu().float() + PROMPT_NOISE * noise
        return torch.cat((prompts[None], prompts.new_zeros(self.depth - 1, *prompts.shape))) if deep else prompts

    def tune(self, how: Tuning, *, rank: int = 8, adapter_width: int = 16, seed: int = 0) -> int:
        """Freeze everything but what `how` names; gives the number of trained parameters.

        bitfit: biases of the layers and the final norm (Ben Zaken et al. 2022); linear layers without one get a bias of 0.
        lora: low-rank changes of the attention's input projections (Hu et al. 2021), of `rank`. adapter: a bottleneck of `adapter_width`
        behind every feed-forward part (Pfeiffer et al. 2021). none: nothing. All of them leave the function as it is until trained.
        Raises UsageError for an unknown one, and where LoRA or adapters are there already.
        """
        if how not in get_args(Tuning):
            raise UsageError(f"there is no tuning {how!r}.", where="tune", fix=f"Choose from: {', '.join(get_args(Tuning))}.")
        if is_wrapped(self.layers):
            raise UsageError("the encoder has LoRA or adapters already.", where="tune", fix="Open it anew.")
        self.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        if how == "bitfit":
            free_biases([*self.layers, *([self.final_norm] if self.final_norm else [])])
        elif how == "lora":
            add_lora(self.layers, self.lora_sites, rank, generator)
        elif how == "adapter":
            add_adapters(self.layers, self.adapter_sites, adapter_width, generator)
        return sum(parameter.numel() for parameter in self.trained().values())

    def trained(self) -> dict[str, nn.Parameter]:
        """What `tune` left free, by name: all that is to be saved beside the fingerprint."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def load_trained(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `trained` gave, after the same `tune`. Raises DataError where names or sizes differ."""
        trained = self.trained()
        if {name: value.shape for name, value in trained.items()} != {name: value.shape for name, value in tensors.items()}:
            fix = "Use the encoders and the tuning that they were trained with."
            raise DataError("the tuned parameters are not those of this encoder.", where=self.modality, fix=fix)
        with torch.no_grad():
            for name, value in trained.items():
                value.copy_(tensors[name])

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def train(self, mode: bool = True) -> "Encoder":
        """Always in evaluation mode, whatever is asked of the module around it."""
        return super().train(False)


def read_only_mask(mask: Tensor, filled_BL: Tensor, prompts: int) -> Tensor:
    """The (B, 1, L, L) mask of the samples' tokens, with `prompts` more queries, which see what is filled, and as many keys, which
    nobody sees."""
    reading = filled_BL[:, None, None].expand(-1, 1, prompts, -1)
    return F.pad(torch.cat((mask, reading), 2), (0, prompts), value=False)
