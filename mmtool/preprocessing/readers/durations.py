"""How long recordings may be."""

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.entries import SourceOptions

MAX_DURATION_S = 600.0
STEPS_OF_ANY_RATE = 10_000  # so many are read at any rate: years of one value each day, say


def check_duration(steps: int, rate_hz: float, options: SourceOptions, where: str, way_on: str = "Cut it into shorter ones") -> None:
    """Raise DataError where a recording of so many steps is longer than `options` take."""
    stated = options.max_duration_s
    if steps > (max(MAX_DURATION_S * rate_hz, STEPS_OF_ANY_RATE) if stated is None else stated * rate_hz):
        fix = f"{way_on}, or raise the limit with --max-duration-s."
        raise DataError(f"the recording is longer than {stated or MAX_DURATION_S:g} s.", where=where, fix=fix)
