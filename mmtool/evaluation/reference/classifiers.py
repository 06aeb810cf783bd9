"""Reference classifiers: trained on real data of one modality, they predict the class of imputed values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.svm import SVC, LinearSVC

from mmtool.evaluation.reference.features import Embedding


class ReferenceClassifier:
    """A support vector machine: linear on words and characters for text, with a Gaussian kernel on principal components otherwise.

    Measured on held-out real data (`predict` against true classes), its accuracy is the upper bound of that on imputed data.
    """

    def __init__(self, embedding: Embedding, values: Sequence[Any], labels: np.ndarray, seed: int) -> None:
        """Train on real `values` and their classes `labels`, of which there must be at least two."""
        self._represent = embedding.features.transform if embedding.sparse else embedding.transform
        self._classifier = LinearSVC(random_state=seed) if embedding.sparse else SVC(C=10)
        self._classifier.fit(self._represent(values), labels.astype(str))

    def predict(self, values: Sequence[Any]) -> np.ndarray:
        """(N,) classes, as text."""
        if not len(values):
            return np.array([], dtype=str)
        return np.asarray(self._classifier.predict(self._represent(values)))
