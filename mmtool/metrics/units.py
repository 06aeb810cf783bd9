"""What unit a metric of a report has, by its name."""

SHARES = ("accuracy", "recall", "robustness", "calibration error", "probability", "coverage", "macro f1", "auroc", "share of the gap")


def is_share(metric: str) -> bool:
    """Whether a metric is a share, shown in percent."""
    return any(word in metric for word in SHARES)
