"""Finite scalar quantization: codes and integers are one to one, gradients pass, half precision changes nothing that is stored."""

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmtool.common.errors import UsageError
from mmtool.tokenizers.fsq import FSQ, LEVELS, check_levels, code_usage

levels = st.lists(st.integers(2, 9), min_size=1, max_size=4)


@given(levels)
def test_every_code_is_reachable_and_comes_back(levels: list[int]) -> None:
    fsq = FSQ(levels)
    codes = torch.arange(fsq.size)[None]
    values = fsq.codes_to_values(codes)
    latents = torch.atanh((values * fsq.middle[None, :, None] + fsq.offset[None, :, None]) / fsq.half_width[None, :, None])
    again, codes_again = fsq(latents - fsq.shift[None, :, None])
    assert torch.equal(codes_again, codes)
    assert torch.allclose(again, values, atol=1e-5)
    assert len(set(map(tuple, values[0].T.tolist()))) == prod(levels)


def test_values_are_evenly_spaced_from_minus_one() -> None:
    values = FSQ((5, 4)).codes_to_values(torch.arange(20)[None])[0].T
    assert values.tolist() == [[a, b] for b, a in product((-1.0, -0.5, 0.0, 0.5), (-1.0, -0.5, 0.0, 0.5, 1.0))]


@given(levels, st.floats(0.0, 1e4))
def test_latents_of_any_size_give_valid_codes(levels: list[int], scale: float) -> None:
    fsq = FSQ(levels)
    values, codes = fsq(scale * torch.randn(2, len(levels), 5, generator=torch.Generator().manual_seed(0)))
    assert int(codes.min()) >= 0 and int(codes.max()) < fsq.size
    assert torch.isfinite(values).all() and float(values.abs().max()) <= 1 + 1e-6
    assert torch.allclose(values, fsq.codes_to_values(codes), atol=1e-5)


def test_gradients_pass_through_the_rounding() -> None:
    latents = torch.zeros(1, 3, 4, requires_grad=True)
    FSQ((8, 5, 2))(latents)[0].sum().backward()
    assert latents.grad is not None and (latents.grad > 0).all()


def test_half_precision_latents_give_the_codes_of_the_same_numbers_in_full_precision() -> None:
    latents = (2 * torch.randn(4, 4, 50, generator=torch.Generator().manual_seed(0))).bfloat16()
    fsq = FSQ((8, 5, 2, 3))
    half, full = fsq(latents), fsq(latents.float())
    assert half[0].dtype == torch.float32
    assert torch.equal(half[0], full[0]) and torch.equal(half[1], full[1])


def test_a_small_change_of_a_latent_changes_a_code_by_one_level() -> None:
    _, codes = FSQ((8,))(torch.linspace(-4, 4, 2000).view(1, 1, -1))
    assert codes[0].diff().abs().max() == 1 and codes[0, 0] == 0 and codes[0, -1] == 7


def test_recommended_levels_come_near_their_codebook_size() -> None:
    for size, recommended in LEVELS.items():
        assert 0.9 * size <= prod(recommended) <= 1.1 * size


def test_usage_counts_codes_seen_and_how_evenly() -> None:
    even = code_usage(np.arange(8), 16)
    assert even["codebook_usage"] == 0.5 and even["codebook_perplexity"] == pytest.approx(8)
    assert code_usage(np.zeros(100, np.int64), 16)["codebook_perplexity"] == pytest.approx(1)


@pytest.mark.parametrize("bad", [(), (8, 1), (0,)])
def test_impossible_levels_are_refused(bad: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="levels"):
        check_levels(bad)
