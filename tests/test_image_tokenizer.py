"""Images: whatever the size and mode, codes come out on the grid, and pictures come back; raw patches lose nothing."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from mmtool.common.errors import DataError, UsageError
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.tokenizers.codec import Codec, CodecShape
from mmtool.tokenizers.image import ImageCodecTokenizer, ImagePatchTokenizer

DATA = Path(os.environ.get("MMTOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
QUICK = {"steps": 40, "width": 32, "batch": 32}


def bars(num: int, size: tuple[int, int] = (8, 8), channels: int = 1) -> list[np.ndarray]:
    """Bright bars at random places on dark ground."""
    random = np.random.default_rng(0)
    images = np.zeros((num, *size, channels), np.uint8)
    for image in images:
        row = random.integers(size[0] - 1)
        image[row : row + 2] = random.integers(100, 255, channels)
    return list(images)


@pytest.fixture(scope="module")
def codec() -> ImageCodecTokenizer:
    return ImageCodecTokenizer.fit(bars(200), QUICK, 0)


def test_an_image_becomes_one_code_per_patch_and_comes_back(codec: ImageCodecTokenizer) -> None:
    images = bars(5)
    codes = codec.encode(images)
    assert codec.shape == (4, 4) and codec.positions == "grid"
    assert all(row.shape == (16,) and row.min() >= 0 and row.max() < codec.vocabulary_size for row in codes)
    decoded = codec.decode(codes)
    assert all(image.shape == (8, 8, 1) and image.dtype == np.uint8 for image in decoded)
    error = np.square(np.stack(decoded) / 255.0 - np.stack(images) / 255.0).mean()
    assert error < 0.3 * np.var(np.stack(images) / 255.0)


def test_codes_of_an_image_do_not_depend_on_its_batch(codec: ImageCodecTokenizer) -> None:
    images = bars(70)
    together = codec.encode(images)
    assert all(np.array_equal(codec.encode([image])[0], codes) for image, codes in zip(images, together, strict=True))
    decoded = codec.decode(together)
    assert all(np.array_equal(codec.decode([codes])[0], image) for codes, image in zip(together, decoded, strict=True))
    assert codec.encode([]) == [] and codec.decode([]) == []


def test_the_same_images_and_seed_give_the_same_file(codec: ImageCodecTokenizer) -> None:
    data = to_bytes(codec)
    assert to_bytes(ImageCodecTokenizer.fit(bars(200), QUICK, 0)) == data
    assert to_bytes(ImageCodecTokenizer.fit(bars(200), QUICK, 1)) != data


def test_the_number_of_cores_changes_nothing_and_is_left_as_it_was(codec: ImageCodecTokenizer) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = ImageCodecTokenizer.fit(bars(200), QUICK, 0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert to_bytes(again) == to_bytes(codec)


def test_fitting_leaves_the_random_state_of_others_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    ImageCodecTokenizer.fit(bars(4), QUICK | {"steps": 1}, 0)
    assert torch.equal(torch.rand(1), expected)


def test_a_saved_codec_gives_the_same_codes_and_pictures(codec: ImageCodecTokenizer) -> None:
    again = from_bytes(to_bytes(codec))
    images = bars(9)
    assert np.array_equal(again.encode(images), codec.encode(images))
    assert np.array_equal(again.decode(codec.encode(images)), codec.decode(codec.encode(images)))
    assert again.shape == codec.shape and again.report == codec.report
    assert to_bytes(again) == to_bytes(codec)


def test_fitting_reports_the_error_on_images_held_out(codec: ImageCodecTokenizer) -> None:
    assert 0 < codec.report["mse"] < 0.05 and codec.report["psnr_db"] > 13
    assert 0 < codec.report["codebook_usage"] <= 1 < codec.report["codebook_perplexity"] <= codec.vocabulary_size


def test_images_of_any_size_and_mode_are_brought_to_the_tokenizers(codec: ImageCodecTokenizer) -> None:
    grey = bars(1)[0]
    colour = np.repeat(grey, 3, axis=2)
    large = np.kron(grey, np.ones((4, 4, 1), np.uint8))
    same, from_colour, from_large = codec.encode([grey, colour, large])
    assert np.array_equal(same, from_colour)
    assert codec.decode([from_large])[0].shape == (8, 8, 1)


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    noise = [np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)]
    tokenizer = ImagePatchTokenizer.fit(noise, {"patch": 3}, 0)
    assert tokenizer.format.size == (6, 9) and tokenizer.shape == (2, 3, 27) and tokenizer.vocabulary_size == 0
    assert np.array_equal(tokenizer.decode(tokenizer.encode(noise))[0], noise[0])


@pytest.mark.parametrize(("fit", "black", "white"), [("stretch", 0, 64), ("contain", 32, 32), ("cover", 0, 64)])
def test_another_aspect_ratio_is_stretched_contained_or_covered(fit: str, black: int, white: int) -> None:
    tokenizer = ImagePatchTokenizer.fit([np.zeros((8, 8, 1), np.uint8)], {"fit": fit, "patch": 2}, 0)
    wide = np.full((10, 20, 1), 255, np.uint8)
    picture = tokenizer.decode(tokenizer.encode([wide]))[0]
    assert ((picture == 0).sum(), (picture == 255).sum()) == (black, white)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3]), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_raw_patches_lose_nothing(rows: int, columns: int, patch: int, channels: int, seed: int) -> None:
    images = list(np.random.default_rng(seed).integers(0, 256, (3, rows * patch, columns * patch, channels), np.uint8))
    tokenizer = from_bytes(to_bytes(ImagePatchTokenizer.fit(images, {"patch": patch}, 0)))
    tokens = tokenizer.encode(images)
    assert all(part.shape == (rows * columns, patch * patch * channels) and part.dtype == np.uint8 for part in tokens)
    assert all(np.array_equal(a, b) for a, b in zip(tokenizer.decode(tokens), images, strict=True))


def test_a_patch_holds_the_pixels_of_one_square() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    tokens = ImagePatchTokenizer.fit([image], {"patch": 2}, 0).encode([image])[0]
    assert tokens.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_written_as_png(tmp_path: Path, channels: int) -> None:
    image = bars(1, (6, 4), channels)[0]
    path = ImagePatchTokenizer.fit([image], {"patch": 2}, 0).write(image, tmp_path / "case.v1")
    assert path.name == "case.v1.png"
    assert np.array_equal(np.asarray(Image.open(path)).reshape(image.shape), image)


@pytest.mark.parametrize(("size", "grid"), [(3, 3), (8, 4), (26, 13), (28, 4), (32, 4), (64, 16), (224, 16)])
def test_small_images_get_few_tokens_by_default(size: int, grid: int) -> None:
    assert ImagePatchTokenizer.fit([np.zeros((size, size, 1), np.uint8)], {}, 0).shape[:2] == (grid, grid)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"sise": 8}, "sise"), ({"patch": 3}, "tile"), ({"mode": "CMYK"}, "CMYK"), ({"fit": "crop"}, "crop"), ({"codebook": 100}, "100"),
     ({"levels": [8, 1]}, "levels"), ({"width": "wide"}, "width"), ({"steps": 0}, "steps"), ({"size": [8]}, "size"), ({"size": 0}, "size")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(changed: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        ImageCodecTokenizer.fit(bars(4), changed, 0)


def test_a_size_that_cannot_be_cut_into_few_tokens_needs_a_choice() -> None:
    with pytest.raises(UsageError, match="29 x 31"):
        ImagePatchTokenizer.fit(bars(1, (29, 31)), {}, 0)


def test_images_of_several_sizes_need_one_to_be_chosen() -> None:
    mixed = [*bars(3), *bars(1, (16, 16))]
    with pytest.raises(UsageError, match="--set size"):
        ImagePatchTokenizer.fit(mixed, {}, 0)
    assert ImagePatchTokenizer.fit(mixed, {"size": [8, 16], "patch": 4}, 0).shape == (2, 4, 16)


@pytest.mark.parametrize("value", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 2), np.uint8), np.zeros((8, 8, 1), np.float32)])
def test_what_is_no_image_is_refused(codec: ImageCodecTokenizer, value: np.ndarray) -> None:
    with pytest.raises(DataError, match="image"):
        codec.encode([value])


def test_no_images_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no training images"):
        ImageCodecTokenizer.fit([], {}, 0)


def test_each_token_sees_its_neighbours() -> None:
    codec = Codec(CodecShape(1, (2, 2), (8, 8), width=16, depth=1, detail=4))
    signal = torch.zeros(1, 1, 8, 8, requires_grad=True)
    codec.quantize(signal)[0][0, :, 1, 1].sum().backward()
    assert signal.grad is not None
    reached = signal.grad[0, 0].abs() > 0
    assert reached[:6, :6].all() and not reached[6:].any() and not reached[:, 6:].any()


@pytest.mark.slow
def test_decoded_digits_are_recognised_as_well_as_the_originals() -> None:
    digits = load_digits()
    images = list(np.rint(digits.images * 255 / 16).astype(np.uint8)[..., None])
    tokenizer = ImageCodecTokenizer.fit(images[:1400], {"steps": 300}, 0)
    assert accuracy_lost(tokenizer, images, digits.target, 1400) < 0.05


@pytest.mark.slow
@pytest.mark.data
def test_decoded_mnist_is_recognised_as_well_as_the_originals() -> None:
    folder = DATA / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST is not in {folder}; set MMTOOL_DATA")
    pixels = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)[:8000]
    labels = np.frombuffer(gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8)[8 : 8 + 8000]
    tokenizer = ImageCodecTokenizer.fit(list(images[:6000]), {}, 0)
    assert tokenizer.shape == (4, 4)
    assert accuracy_lost(tokenizer, list(images), labels, 6000) < 0.05


def accuracy_lost(tokenizer: ImageCodecTokenizer, images: list[np.ndarray], labels: np.ndarray, num_train: int) -> float:
    """Of a classifier trained on originals: accuracy on held-out originals less that on the same after a round trip."""
    originals = np.stack(images).reshape(len(images), -1) / 255.0
    decoded = np.stack(tokenizer.decode(tokenizer.encode(images[num_train:]))).reshape(len(images) - num_train, -1) / 255.0
    judge = SVC(C=5).fit(originals[:num_train], labels[:num_train])
    return float(judge.score(originals[num_train:], labels[num_train:]) - judge.score(decoded, labels[num_train:]))
