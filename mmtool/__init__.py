"""mmtool: tokenize, pretrain on and impute incomplete multimodal data."""

__version__ = "0.1.0"
