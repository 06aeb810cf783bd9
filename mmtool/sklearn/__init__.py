"""mmtool as scikit-learn has it: an imputer of tables that belong together, with `fit` and `transform`.

    from mmtool.sklearn import MultimodalImputer

    imputer = MultimodalImputer(steps=500).fit({"mrna": mrna, "mirna": mirna, "rppa": rppa})
    complete = imputer.transform({"mrna": new_patients})  # three data frames

Needs the extra `pandas`.
"""

from mmtool.common.errors import UsageError

try:
    import pandas  # noqa: F401
    from sklearn.utils.validation import validate_data  # noqa: F401  (since 1.6)
except ImportError as missing:
    fix = "Install them with `pip install 'mmtool[pandas]'`."
    raise UsageError("mmtool.sklearn needs pandas, and scikit-learn 1.6 or newer.", where=str(missing), fix=fix) from missing

from mmtool.sklearn.multimodal_imputer import MultimodalImputer

__all__ = ["MultimodalImputer"]
