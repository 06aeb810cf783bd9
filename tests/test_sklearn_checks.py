"""Promise: MultimodalImputer keeps scikit-learn's rules, as scikit-learn itself checks them on single arrays."""

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmtool.sklearn import MultimodalImputer

TINY = {
    "preset": "tiny",
    "steps": 1,
    "bins": 4,
    "draws": 2,
    "settings": {"compile": "off", "batch_tokens": 256, "validation_samples": 4, "shape": {"depth": 1, "width": 32}},
}
FURTHER = (  # which `parametrize_with_checks` leaves out for estimators of others
    "check_dataframe_column_names_consistency",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_parameters_default_constructible",
)
pytestmark = pytest.mark.thorough  # a training for each, a second or two


@parametrize_with_checks([MultimodalImputer(**TINY)])  # none is expected to fail
def test_the_rules_of_scikit_learn(estimator: MultimodalImputer, check: Callable[..., Any]) -> None:
    check(estimator)


@pytest.mark.parametrize("name", FURTHER)
def test_names_and_output_as_scikit_learn_has_them(name: str) -> None:
    getattr(estimator_checks, name)("MultimodalImputer", MultimodalImputer(**TINY))
