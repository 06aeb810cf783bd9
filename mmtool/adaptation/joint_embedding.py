"""Missing-modality prediction by joint embedding of unimodal encoders (Kim and Kim, ECCV 2024, arXiv 2407.12616).

Encoders that were pretrained one modality at a time stay frozen but for their biases. Learned prompts read each sample without being read
(RPO, Lee et al., ICCV 2023), so the embeddings stay as they are. A predictor turns the prompts' outputs of whatever is present into the
embeddings of what is absent; it learns from samples that hold both, by VICReg (Bardes et al., ICLR 2022, arXiv 2105.04906), together with
the task. A late fusion classifies real and predicted embeddings alike. No code of the authors was found: this follows the description.

The same module with other imputed embeddings (zeros, the training mean, ridge regression, none) is what the method is compared with.

B batch rows, M modalities, W width of an embedding (each modality has its own), P prompts, K outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.adaptation.imputed_embeddings import Moments, Scale
from mmtool.adaptation.predictors import PREDICTORS
from mmtool.common.bounds import Count, Natural, NotNegative, Share
from mmtool.model.encoder import Encoder, Inputs, Tuning


@dataclass(frozen=True)
class JointOptions:
    """Settings of the method."""

    tune: Tuning = "bitfit"
    """What is trained in the encoders."""
    prompts: Natural = 8
    """Read-only prompts of each encoder; 0: the predictor reads the embeddings."""
    deep: bool = False
    """New prompts in every layer."""
    predictor: str = "mlp"
    """mlp, linear or transformer."""
    predictor_width: Count = 64
    """Its inner width."""
    absent: str = "predicted"
    """How an absent embedding is imputed: predicted, zeros, mean, ridge, or left_out (of the mean of logits; zeros otherwise)."""
    objective: str = "vicreg"
    """vicreg, mse, cosine or none."""
    joint_weight: NotNegative = 0.04
    """Of the objective, beside the loss of the task."""
    invariance: NotNegative = 25.0
    """Weight of the distance between real and predicted embeddings, in VICReg."""
    variance: NotNegative = 25.0
    """Weight of the variance, in VICReg."""
    covariance: NotNegative = 1.0
    """Weight of the covariance, in VICReg."""
    gamma: NotNegative = 1.0
    """Deviation that VICReg asks for."""
    stop_gradient: bool = True
    """None through the embedding that is predicted."""
    replace: Share = 0.5
    """Share of samples whose modalities are hidden at random in training, so that the fusion has met imputed embeddings."""
    incomplete: str = "fused"
    """fused or left_out: whether imputed embeddings of truly absent modalities enter the loss of the task, or zeros."""
    fusion: str = "concat"
    """concat (an MLP on all embeddings) or logits (mean over one linear head per modality)."""
    hidden: Count = 128
    """Width of that MLP."""
    dropout: Share = 0.1
    """In that MLP."""


CHOICES = {
    "tune": get_args(Tuning),
    "predictor": tuple(PREDICTORS),
    "absent": ("predicted", "zeros", "mean", "ridge", "left_out"),
    "objective": ("vicreg", "mse", "cosine", "none"),
    "incomplete": ("fused", "left_out"),
    "fusion": ("concat", "logits"),
}


@dataclass(frozen=True)
class Encodings:
    """Outputs of the encoders for B samples, modality by modality, in standard units; rows of absent modalities are zeros.

    embedding: (B, W) each. reading: (B, P, W) each, what the predictor reads. present: (B, M).
    """

    embedding: list[Tensor]
    reading: list[Tensor]
    present: Tensor

    def of(self, indices: Tensor) -> "Encodings":
        """Those of some of the samples."""
        return Encodings([rows[indices] for rows in self.embedding], [rows[indices] for rows in self.reading], self.present[indices])


@dataclass(frozen=True)
class Masks:
    """visible (B, M): modalities that are fused as they are. sources (B, M, M): from which ones (last axis) each modality is predicted."""

    visible: Tensor
    sources: Tensor


class JointEmbedding(nn.Module):
    """Encoders, prompts, predictor and fusion; `parameters()` that require no gradient are the frozen rest of the encoders."""

    def __init__(self, encoders: Sequence[Encoder], num_outputs: int, options: JointOptions, seed: int) -> None:
        super().__init__()
        self.options, self.names = options, tuple(encoder.modality for encoder in encoders)
        self.widths = tuple(encoder.width for encoder in encoders)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            self.encoders = nn.ModuleList(encoders)
            for encoder in encoders:
                encoder.tune(options.tune, seed=seed)
            predicts = options.absent == "predicted" and len(encoders) > 1
            count = options.prompts if predicts else 0
            prompts = [encoder.prompt_init(count, generator, options.deep) for encoder in encoders if count]
            self.prompts = nn.ParameterList(nn.Parameter(prompt) for prompt in prompts)
            build = PREDICTORS[options.predictor]
            self.predictor = build(self.widths, max(1, count), options.predictor_width) if predicts else None
            self.fusion: nn.Module = FUSIONS[options.fusion](self.widths, num_outputs, options)
        self.scales = nn.ModuleList(Scale(width) for width in self.widths)
        self.reading_scales = nn.ModuleList(Scale(count * width) for width in self.widths if count)
        self.moments = Moments(self.widths, options.absent == "ridge")

    def encode(self, inputs: Sequence[Inputs], present: Tensor) -> Encodings:
        """inputs[m]: what encoder m prepared of the samples that hold its modality, in their order; not looked at where none does."""
        embeddings, readings = [], []
        for m, (encoder, inputs_of_m) in enumerate(zip(self.encoders, inputs, strict=True)):
            prompts = self.prompts[m] if len(self.prompts) else None
            rows = present[:, m].nonzero()[:, 0]
            reading = torch.zeros(len(present), 1 if prompts is None else prompts.shape[-2], self.widths[m], device=present.device)
            embedding = reading.new_zeros(len(present), self.widths[m])
            if len(rows):
                encoded = encoder(inputs_of_m, prompts)
                standard = self.scales[m](encoded.embedding)
                embedding = embedding.index_copy(0, rows, standard)
                read = standard if prompts is None else self.reading_scales[m](encoded.prompts.flatten(1))
                reading = reading.index_copy(0, rows, read.view(len(rows), *reading.shape[1:]))
            embeddings.append(embedding)
            readings.append(reading)
        return Encodings(embeddings, readings, present)

    def calibrate(self, encodings: Encodings) -> None:
        """Fix the standard units, from the embeddings of training samples before any training."""
        for m in range(len(self.names)):
            held = encodings.present[:, m]
            self.scale(m).calibrate(encodings.embedding[m][held])
            if len(self.reading_scales):
                reading_scale = self.reading_scales[m]
                assert isinstance(reading_scale, Scale)
                reading_scale.calibrate(encodings.reading[m][held].flatten(1))

    def scale(self, m: int) -> Scale:
        """The standard units of one modality's embeddings."""
        scale = self.scales[m]
        assert isinstance(scale, Scale)
        return scale

    def forward(self, encodings: Encodings, masks: Masks) -> tuple[Tensor, list[Tensor]]:
        """Outputs (B, K) of the fusion, and the predictions (B, W) of every modality (none: an empty list)."""
        predicted = self.predictor(encodings.reading, masks.sources) if self.predictor is not None else []
        imputed_embeddings = self.imputed_embeddings(encodings, masks, predicted)
        if self.training and self.options.incomplete == "left_out":
            present = encodings.present
            imputed_embeddings = [torch.where(present[:, m, None], imputed, 0.0) for m, imputed in enumerate(imputed_embeddings)]
        completed = [
            torch.where(masks.visible[:, m, None], real, imputed)
            for m, (real, imputed) in enumerate(zip(encodings.embedding, imputed_embeddings, strict=True))
        ]
        counted = masks.visible if self.options.absent == "left_out" else torch.ones_like(masks.visible)
        return self.fusion(completed, counted), predicted

    def imputed_embeddings(self, encodings: Encodings, masks: Masks, predicted: Sequence[Tensor]) -> list[Tensor]:
        """(B, W) embeddings to use where a modality is not visible; the training mean where there is nothing to predict from."""
        if predicted:
            known = masks.sources.any(-1)
            return [torch.where(known[:, m, None], z, self.moments.mean(m)) for m, z in enumerate(predicted)]
        if self.options.absent == "mean" or (self.options.absent == "predicted"):
            return [self.moments.mean(m).expand_as(real) for m, real in enumerate(encodings.embedding)]
        if self.options.absent == "ridge":
            return self.moments.ridge(encodings.embedding, masks.visible)
        return [torch.zeros_like(real) for real in encodings.embedding]

    def joint_loss(self, encodings: Encodings, masks: Masks, predicted: Sequence[Tensor]) -> dict[str, Tensor]:
        """Terms of the objective, each a mean over modalities that some sample holds beside a source; {} where there is none.

        The invariance needs both embeddings of a sample. Variance and covariance are properties of each branch, so they count every
        row of it, complete or not.
        """
        if not predicted or self.options.objective == "none":
            return {}
        terms_of: dict[str, list[Tensor]] = {}
        for m, z in enumerate(predicted):
            known, present = masks.sources[:, m].any(-1), encodings.present[:, m]
            if not (known & present).any():
                continue
            real = encodings.embedding[m]
            fixed = real.detach() if self.options.stop_gradient else real
            terms = {"invariance": distance(z[known & present], fixed[known & present], self.options.objective)}
            if self.options.objective == "vicreg":
                branches = [z[known]] if self.options.stop_gradient else [z[known], real[present]]
                terms["variance"] = torch.stack([variance_hinge(branch, self.options.gamma) for branch in branches]).mean()
                terms["covariance"] = torch.stack([off_diagonal(branch) for branch in branches]).sum()
            for name, term in terms.items():
                terms_of.setdefault(name, []).append(term)
        return {name: torch.stack(parts).mean() for name, parts in terms_of.items()}

    def weigh(self, terms: dict[str, Tensor]) -> Tensor | float:
        """The joint objective as it enters the loss."""
        options = self.options
        weights = {"invariance": options.invariance, "variance": options.variance, "covariance": options.covariance}
        return options.joint_weight * sum(weights[name] * term for name, term in terms.items())

    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by name: all that an adapter stores."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def num_frozen(self) -> int:
        """Parameters of the encoders as they came."""
        return sum(parameter.numel() for parameter in self.encoders.parameters() if not parameter.requires_grad)


def distance(predicted: Tensor, real: Tensor, objective: str) -> Tensor:
    """Mean squared error, or 1 - cosine."""
    if objective == "cosine":
        return 1 - F.cosine_similarity(predicted, real, dim=-1).mean()
    return F.mse_loss(predicted, real)


def variance_hinge(rows: Tensor, gamma: float) -> Tensor:
    """How far the standard deviations of (N, W) rows fall short of gamma; 0 for a single row, which has none."""
    if len(rows) < 2:
        return rows.new_zeros(())
    return F.relu(gamma - torch.sqrt(rows.var(0) + 1e-4)).mean()


def off_diagonal(rows: Tensor) -> Tensor:
    """Squared covariances between different dimensions of (N, W) rows, summed and divided by W; 0 for a single row."""
    if len(rows) < 2:
        return rows.new_zeros(())
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / (len(rows) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / rows.shape[1]


def masks_of(present: Tensor) -> Masks:
    """At inference: all that is present is visible and a source of everything else."""
    sources = present[:, None, :] & ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    return Masks(present, sources)


def draw_masks(present: np.ndarray, seeds: Sequence[int], replace: float) -> Masks:
    """In training: some modalities (never all) of a share of the samples are hidden, and visible ones are predicted from a random part of
    the other visible ones. present (B, M); seeds: one per sample, all that the draws depend on."""
    visible = present.copy()
    sources = np.zeros((*present.shape, present.shape[1]), dtype=bool)
    for row, seed in enumerate(seeds):
        random, held = np.random.default_rng(seed), np.flatnonzero(present[row])
        if len(held) > 1 and random.random() < replace:
            visible[row, random.permutation(held)[: random.integers(1, len(held))]] = False
        for target in range(present.shape[1]):
            pool = np.flatnonzero(visible[row] & (np.arange(present.shape[1]) != target))
            count = len(pool) if not visible[row, target] else random.integers(1, len(pool) + 1) if len(pool) else 0
            sources[row, target, random.permutation(pool)[:count]] = True
    return Masks(torch.from_numpy(visible), torch.from_numpy(sources))


class ConcatFusion(nn.Module):
    """An MLP on all embeddings side by side."""

    def __init__(self, widths: Sequence[int], num_outputs: int, options: JointOptions) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(sum(widths), options.hidden), nn.Linear(options.hidden, num_outputs)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, embeddings: Sequence[Tensor], counted: Tensor) -> Tensor:
        return self.outer(self.dropout(F.gelu(self.inner(torch.cat(list(embeddings), dim=-1)))))


class LogitFusion(nn.Module):
    """The mean of one linear head per modality, over the modalities that count."""

    def __init__(self, widths: Sequence[int], num_outputs: int, options: JointOptions) -> None:
        super().__init__()
        self.heads, self.dropout = nn.ModuleList(nn.Linear(width, num_outputs) for width in widths), nn.Dropout(options.dropout)

    def forward(self, embeddings: Sequence[Tensor], counted: Tensor) -> Tensor:
        logits = torch.stack([head(self.dropout(embedding)) for head, embedding in zip(self.heads, embeddings, strict=True)], dim=1)
        return (logits * counted[..., None]).sum(1) / counted.sum(1, keepdim=True).clamp(min=1)


FUSIONS: dict[str, type[nn.Module]] = {"concat": ConcatFusion, "logits": LogitFusion}
