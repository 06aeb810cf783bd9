"""What every encoder promises, from wherever it comes."""

import torch

from mmtool.encoders import Encoder
from mmtool.model.encoder import Inputs


def prompts_of(encoder: Encoder, deep: bool = False) -> torch.Tensor:
    prompts = encoder.prompt_init(4, torch.Generator().manual_seed(0), deep)
    return (prompts + torch.randn(prompts.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()


def difference(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    assert a is not None and b is not None
    return float((a - b).detach().abs().max())


def check_prompts(encoder: Encoder, inputs: Inputs, deep: bool, others: tuple[int, int]) -> None:
    """Prompts read the sample and are read by nobody; the two samples `others` differ."""
    prompts = prompts_of(encoder, deep)
    alone, together = encoder(inputs), encoder(inputs, prompts)
    count, width = alone.embedding.shape
    assert alone.prompts is None and together.prompts.shape == (count, 4, width)
    assert difference(alone.embedding, together.embedding) < 1e-5
    gradient = torch.autograd.grad(together.embedding.square().sum(), prompts, allow_unused=True, retain_graph=True)[0]
    assert gradient is None or not gradient.any(), "the embedding knows nothing of the prompts"
    weights = torch.randn(width, generator=torch.Generator().manual_seed(2))
    own = torch.autograd.grad((together.prompts[:, 0] @ weights).sum(), prompts, retain_graph=True)[0]
    assert own[..., 0, :].abs().amax(-1).all() and not own[..., 1:, :].any(), "a prompt knows nothing of the others"
    assert difference(together.prompts[:, :1], encoder(inputs, prompts[..., :1, :]).prompts) < 1e-5
    one, two = others
    assert difference(together.prompts[one], together.prompts[two]) > 1e-4, "prompts read the sample"
    assert difference(alone.embedding, encoder(inputs).embedding) == 0, "nothing of the prompts stays behind"
