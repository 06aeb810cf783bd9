"""What a probe must beat: scikit-learn's logistic regression on the pixels of the images that the probe learns from, and is tested on.

    python examples/m3ae_mnist/pixels.py SHARDS --split test --limit 5000 --labelled 10000 --out pixels.json

The penalty is chosen by cross-validation, as that of probes; pixels are between 0 and 1.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from mmtool.common.storage import write_json
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.evaluation.reference.data import draw_test, draw_train
from mmtool.metrics.intervals import share

PENALTIES = (0.01, 0.1, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=5000)
    parser.add_argument("--labelled", type=int, default=10000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    train = draw_train(open_token_set(arguments.shards / "train"), 0, arguments.labelled)
    test = draw_test(open_token_set(arguments.shards / arguments.split), arguments.limit, 0)
    model = GridSearchCV(LogisticRegression(max_iter=200), {"C": list(PENALTIES)}, cv=3).fit(pixels(train), digits(train))
    estimate = share(model.predict(pixels(test)) == digits(test))
    who = {"method": "logistic regression on pixels", "run": "logistic regression on pixels", "seed": None}
    row = {**who, "given": ["image"], "target": "digit", "seen": True, "metric": "probe accuracy", **asdict(estimate)}
    write_json(arguments.out, {"results": [row], "labelled": len(train)})
    print(f"logistic regression on pixels, {len(train)} labelled images: {estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]")


def pixels(samples: list[Sample]) -> np.ndarray:
    return np.stack([sample.tokens["image"].reshape(-1) for sample in samples]).astype(np.float32) / 255


def digits(samples: list[Sample]) -> np.ndarray:
    return np.array([str(sample.labels["digit"]) for sample in samples])


if __name__ == "__main__":
    main()
