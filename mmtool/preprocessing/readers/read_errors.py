"""Errors of reading that more is made of than a message: files that hold something else, pictures whose range is unknown."""

from collections.abc import Sequence

from mmtool.common.errors import DataError


class OtherContent(DataError):
    """A file whose format could hold samples of the kind and does not: an error where it was given itself, else a file left out."""


class ReadBeside(OtherContent):
    """A file that is read along with another one that lies beside it."""


class DeepImageError(DataError):
    """An image with more than 8 bits per value, whose range was not declared. low, high: the range of its values."""

    def __init__(self, where: str, dtype: str, low: float, high: float) -> None:
        self.dtype, self.low, self.high = dtype, low, high
        fix = "Declare what is black and white with --value-range LOW HIGH."
        super().__init__(f"the image has {dtype} values from {low} to {high}.", where=where, fix=fix)

    @staticmethod
    def of_all(errors: Sequence["DeepImageError"]) -> DataError:
        """What to say of several, whose common range matters."""
        if len(errors) == 1:
            return errors[0]
        low, high = min(error.low for error in errors), max(error.high for error in errors)
        dtypes = " or ".join(sorted({error.dtype for error in errors}))
        what = f"{len(errors):,} images have {dtypes} values, from {low} to {high} over all of them."
        return DataError(what, where=errors[0].where, fix=errors[0].fix)
