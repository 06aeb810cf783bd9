"""Generation: prefill once, then one token per step for hundreds of rows, within one modality's id range.

N rows (prompts x draws), P longest prompt, T steps, W width of the target modality's range.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.data.sequence import NO_TARGET, Document
from mmtool.model.cache import KVCache
from mmtool.model.continuation import Continuation
from mmtool.model.masks import View, attention_mask
from mmtool.model.passes import decoded_rows, passes, slices
from mmtool.model.repeated import any_order
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Transformer


@dataclass(frozen=True)
class Generated:
    """codes: one array per row, without END. log_likelihood: (N,) sum over the row's tokens of log p at temperature 1, in nats;
    num_tokens: (N,) how many tokens that sum runs over (END counts where the length varies). expected: (N, W) mean code values
    given the codes drawn before it, where code values were asked for: its mean over draws has much less noise than that of draws."""

    codes: list[np.ndarray]
    log_likelihood: np.ndarray
    num_tokens: np.ndarray
    expected: np.ndarray | None = None


@torch.no_grad()
def generate(
    model: Transformer, prompts: Sequence[Document], index: int, *, sampling: Sampling, generator: torch.Generator, draws: int = 1
) -> Generated:
    """Continue each prompt with a segment of modality `index`; row order is prompt-major (all draws of prompt 0 first).

    As many prompts at once as their cache may take memory, all draws of one together.
    """
    copies, longest = 2 if sampling.guidance else 1, max(map(len, prompts)) + model.layout.modalities[index].max_length + 1
    size = max(1, decoded_rows(model, longest) // (draws * copies))
    parts = [_generate(model, prompts[start : start + size], index, sampling, generator, draws) for start in range(0, len(prompts), size)]
    if len(parts) == 1:
        return parts[0]
    log_p, counts = (np.concatenate(arrays) for arrays in zip(*((part.log_likelihood, part.num_tokens) for part in parts), strict=True))
    expected = [part.expected for part in parts if part.expected is not None]
    return Generated([codes for part in parts for codes in part.codes], log_p, counts, np.concatenate(expected) if expected else None)


def _generate(
    model: Transformer, prompts: Sequence[Document], index: int, sampling: Sampling, generator: torch.Generator, draws: int
) -> Generated:
    """The same of prompts whose cache fits."""
    modality = model.layout.modalities[index]
    with any_order(generator.device), model.cast_weights():
        cache, filled_NP = _prefill(model, prompts, draws)
        if sampling.guidance:  # a second batch of rows, unconditional: they see nothing of the prompts
            cache, filled_NP = cache.tile(2), torch.cat((filled_NP, torch.zeros_like(filled_NP)))
        codes_NT, log_p_NT, expected_NW = Continuation(model, cache, filled_NP, index, sampling, generator).run()
    return trim(codes_NT, log_p_NT, modality.fixed_length, expected_NW)


def _prefill(model: Transformer, prompts: Sequence[Document], draws: int) -> tuple[KVCache, Tensor]:
    """A cache holding the prompts at positions 0..P-1 (each row filled from the left) and (N, P) which of them are filled."""
    device = model.head.device
    longest = max(len(prompt) for prompt in prompts)
    shape, batch = model.shape, len(prompts)
    cache = KVCache(shape.depth, batch, shape.heads, max(1, longest), shape.head_width, dtype=model.compute_dtype, device=device)
    filled = torch.zeros(batch, longest, dtype=torch.bool, device=device)
    if longest:
        tokens, modality, slot, position, lengths = (torch.from_numpy(array).to(device) for array in pad_documents(prompts, longest))
        steps = torch.arange(longest, device=device)
        filled = steps < lengths[:, None]
        for part in slices(model, batch, longest):
            mask = filled[part, None, None, :] & (steps[:, None] >= steps)
            model(tokens[part], modality[part], slot[part], position[part], mask, cache.part(part).at(0, longest))
    return cache.spread(draws), filled.repeat_interleave(draws, 0)


def pad_documents(documents: Sequence[Document], length: int) -> tuple[np.ndarray, ...]:
    fields = ("tokens", "modality", "slot", "position")
    like = max(documents, key=len)  # one without tokens does not know how many axes positions have
    padded = [np.zeros((len(documents), length, *getattr(like, field).shape[1:]), np.int64) for field in fields]
    for row, document in enumerate(documents):
        for array, field in zip(padded, fields if len(document) else (), strict=False):
            array[row, : len(document)] = getattr(document, field)
    return (*padded, np.array([len(document) for document in documents]))


def trim(local: Tensor, log_p: Tensor, fixed_length: bool, expected: Tensor | None = None) -> Generated:
    """Local targets (N, T) and their log-probabilities, cut behind each row's first END; expected values (N, W) as they are."""
    local_NT, log_p_NT = local.cpu().numpy(), log_p.cpu().numpy()
    steps = np.full(len(local_NT), local_NT.shape[1])
    if not fixed_length:
        ended = local_NT == 0
        steps = np.where(ended.any(1), ended.argmax(1) + 1, steps)
    counted = np.arange(local_NT.shape[1]) < steps[:, None]
    codes = [row[:stop][row[:stop] > 0] - 1 for row, stop in zip(local_NT, steps, strict=True)]
    return Generated(codes, np.where(counted, log_p_NT, 0).sum(1), steps, None if expected is None else expected.cpu().numpy())


@torch.no_grad()
def score(model: Transformer, documents: Sequence[Document], view: View = "past") -> tuple[np.ndarray, np.ndarray]:
    """(sum of negative log-likelihood in nats, number of targets) of each document, teacher-forced."""
    nll, counts = np.zeros(len(documents)), np.zeros(len(documents), np.int64)
    for rows in passes(model, [len(document) for document in documents]):
        nll[rows], counts[rows] = _score(model, [documents[i] for i in rows], view)
    return nll, counts


def _score(model: Transformer, documents: Sequence[Document], view: View) -> tuple[np.ndarray, np.ndarray]:
    """The same in one pass."""
    hidden_NLD, modality = hidden_states(model, documents, view)
    targets = torch.full(modality.shape, NO_TARGET, device=modality.device)
    for row, document in enumerate(documents):
        targets[row, : len(document)] = torch.from_numpy(document.targets).to(targets.device)
    total = torch.zeros(len(documents), dtype=torch.float64, device=targets.device)
    for index in range(len(model.layout.modalities)):
        rows, columns = torch.nonzero((targets >= 0) & (modality == index), as_tuple=True)
        if len(rows):
            log_p = torch.log_softmax(model.logits(hidden_NLD[rows, columns], index), -1)
            total.index_add_(0, rows, -log_p.gather(1, targets[rows, columns][:, None])[:, 0].double())
    return total.cpu().numpy(), (targets >= 0).sum(1).cpu().numpy()


@torch.no_grad()
def score_pairs(model: Transformer, prompts: Sequence[Document], targets: Sequence[Document]) -> np.ndarray:
    """(prompts, targets) log-likelihood in nats of every target, a segment, after every prompt; each prompt is read once."""
    log_p, longest = np.zeros((len(prompts), len(targets))), max(map(len, targets), default=0)
    for rows in passes(model, [len(prompt) + longest for prompt in prompts]):
        log_p[rows] = _score_pairs(model, [prompts[i] for i in rows], targets)
    return log_p


def _score_pairs(model: Transformer, prompts: Sequence[Document], targets: Sequence[Document]) -> np.ndarray:
    """The same for as many prompts as one pass holds."""
    cache, filled_NP = _prefill(model, prompts, 1)
    device, (batch, start) = filled_NP.device, filled_NP.shape
    totals = np.zeros((batch, len(targets)))
    for column, target in enumerate(targets):
        stop, index = start + len(target), int(target.modality[0])
        cache.at(start, stop)
        tokens, modality, slot, position, wanted = (
            torch.from_numpy(array).to(device) for array in (target.tokens, target.modality, target.slot, target.position, target.targets)
        )
        cached = torch.arange(cache.capacity, device=device)
        target_LS = (cached >= start) & (cached <= torch.arange(start, stop, device=device)[:, None])
        mask = target_LS | F.pad(filled_NP, (0, cache.capacity - start))[:, None, None]
        rows = (array.expand(batch, *array.shape) for array in (tokens, modality, slot, position))
        hidden_NLD = model(*rows, mask, cache)[:, wanted >= 0]
        log_p = torch.log_softmax(model.logits(hidden_NLD, index), -1)
        picked = log_p.gather(2, wanted[wanted >= 0].expand(batch, -1)[..., None])
        totals[:, column] = picked.double().sum((1, 2)).cpu().numpy()
    return totals


def mean_states(model: Transformer, documents: Sequence[Document], view: View) -> Tensor:
    """(N, D) mean of the last hidden states of each document, in fp32, with gradients."""
    return pooled_states(model, documents, view, _mean)


def _mean(hidden_NLD: Tensor, lengths_N: Tensor) -> Tensor:
    filled = torch.arange(hidden_NLD.shape[1], device=lengths_N.device) < lengths_N[:, None]
    return (hidden_NLD.float() * filled[..., None]).sum(1) / lengths_N[:, None]


def pooled_states(model: Transformer, documents: Sequence[Document], view: View, pool: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N, D) what `pool` makes of the hidden states (R, L, D) and lengths (R,) of the documents of each pass, with gradients."""
    sizes = [len(document) for document in documents]
    lengths, parts = torch.tensor(sizes, device=model.head.device), passes(model, sizes)
    pooled = [pool(hidden_states(model, [documents[i] for i in rows], view)[0], lengths[torch.from_numpy(rows)]) for rows in parts]
    if len(parts) == 1:
        return pooled[0]
    return torch.cat(pooled)[torch.from_numpy(np.concatenate(parts).argsort()).to(lengths.device)]


def hidden_states(model: Transformer, documents: Sequence[Document], view: View) -> tuple[Tensor, Tensor]:
    """Hidden states (N, L, D) of one document per row, and the modality (N, L) of each token, all in one pass; a row is filled from the
    left."""
    device = model.head.device
    longest = max(len(document) for document in documents)
    tokens, modality, slot, position, lengths = (torch.from_numpy(array).to(device) for array in pad_documents(documents, longest))
    filled = torch.arange(longest, device=device) < lengths[:, None]
    return model(tokens, modality, slot, position, attention_mask(filled.long(), modality, view)), modality
