"""Light variants of recordings and images, for training on few of them."""

import hashlib
from fractions import Fraction

import numpy as np
from scipy.ndimage import affine_transform
from scipy.signal import resample_poly

SPEED, GAIN_DB, SHIFT_S, NOISE_DB = (0.9, 1.1), (-6.0, 3.0), 0.05, -50.0
TURN_DEGREES, ZOOM, SHIFT_SHARE = (-10.0, 10.0), (0.9, 1.1), 0.06


def audio_variant(samples: np.ndarray, sample_rate_hz: int, key: str, seed: int) -> np.ndarray:
    """A variant of a recording (T,), decided by (seed, key) alone.

    Played at 0.9 to 1.1 of its speed, between 6 dB softer and 3 dB louder (never clipped), begun up to 50 ms later, with noise
    50 dB below its peak.
    """
    random = _random(key, seed)
    speed = Fraction(random.uniform(*SPEED)).limit_denominator(100)
    changed = resample_poly(samples, speed.denominator, speed.numerator).astype(np.float32)
    silence = np.zeros(int(random.uniform(0, SHIFT_S) * sample_rate_hz), np.float32)
    changed = np.concatenate([silence, changed]) * 10 ** (random.uniform(*GAIN_DB) / 20)
    peak = float(np.abs(changed).max(initial=0.0))
    noisy = changed + random.normal(0, peak * 10 ** (NOISE_DB / 20), changed.shape)
    return (noisy / max(1.0, float(np.abs(noisy).max(initial=0.0)))).astype(np.float32)


def recording_variant(recording: tuple[np.ndarray, int], key: str, seed: int) -> tuple[np.ndarray, int]:
    """`audio_variant` of an item's value: ((T,) samples, sample rate in Hz)."""
    samples, sample_rate_hz = recording
    return audio_variant(samples, sample_rate_hz, key, seed), sample_rate_hz


def image_variant(image: np.ndarray, key: str, seed: int) -> np.ndarray:
    """A variant of an image (H, W, C) uint8, decided by (seed, key) alone.

    Turned by up to 10 degrees, at 0.9 to 1.1 of its size and moved by up to 6 % of its sides, bilinearly; borders are repeated.
    """
    random = _random(key, seed)
    angle, zoom = np.deg2rad(random.uniform(*TURN_DEGREES)), random.uniform(*ZOOM)
    sides = np.array(image.shape[:2])
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    middle = (sides - 1) / 2
    offset = middle - matrix @ (middle + random.uniform(-SHIFT_SHARE, SHIFT_SHARE, 2) * sides)
    planes = [affine_transform(plane, matrix, offset, order=1, mode="nearest") for plane in np.moveaxis(image.astype(np.float32), 2, 0)]
    return np.stack(planes, 2).round().clip(0, 255).astype(np.uint8)


def _random(key: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
