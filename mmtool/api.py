"""The Python front door: what `import mmtool` offers, each loaded when it is first used.

The verbs are functions of the same names as on the command line; `load` opens what they trained, to impute, score and represent samples
in memory:

    run = mmtool.load("run/")
    samples = mmtool.open_shards("shards/", split="test")
    for imputed in run.impute(samples, have="text", want="image"):
        imputed.values[0]  # (H, W, C) uint8, the most consistent draw
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from mmtool.common.bounds import plain
from mmtool.common.errors import DataError, UsageError
from mmtool.common.remote_arguments import accepts_urls
from mmtool.data.sample import Sample, listed_samples
from mmtool.data.shards import TokenSet, open_token_set, split_directories
from mmtool.imputation.calibrate import calibrate, calibrate_draws, directions_to
from mmtool.imputation.calibration import Calibration, calibration_of, key_of
from mmtool.imputation.chain import ChainedImputer, refuse_calibrated
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.decoded import Imputed
from mmtool.imputation.frames import impute_frames, shares_of
from mmtool.imputation.imputer import Imputer, refuse_repeated
from mmtool.imputation.jobs import lacking
from mmtool.imputation.sampling_params import SamplingParams
from mmtool.preprocessing.frames import Frames, check_frames, encode_frames, is_frame, keys_by_frame
from mmtool.preprocessing.given import encode_lists
from mmtool.training.hardware import pick_device

if TYPE_CHECKING:
    from mmtool.adaptation.adapter import Adapter as OpenedAdapter
    from mmtool.adaptation.joint_embedding import Encodings

Names = str | Sequence[str]
PathLike = str | Path


class Run:
    """A trained run, opened: `mmtool.load("run/")`.

    modalities: names of all that it knows. imputer: what it is underneath, in tokens.
    """

    def __init__(self, imputer: Imputer) -> None:
        self.imputer = imputer
        self.modalities: tuple[str, ...] = tuple(modality.name for modality in imputer.modalities)

    def encode(self, values: Mapping[str, Sequence[Any]] | Frames, keys: Sequence[Any] | None = None) -> list[Sample]:
        """Raw values by modality -> samples: the i-th value of each modality belongs to the i-th sample. None, NaN, pd.NA and texts
        without words are missing modalities.

        Data frames of tables, and series of other values, are joined by their index: samples in the order of their keys, without those
        that hold nothing.

        Values: images (H, W, C) uint8 or of Pillow, recordings as ((T,) float32, sample rate in Hz), texts as str, table rows as {feature:
        value} with categories by name and dates as such or in text, trajectories as {stream: (steps, ...)}. keys: of the samples (default:
        0, 1, ...; of data frames their index). Raises UsageError for a modality that the run does not know and where no lists are given,
        DataError for lists of different lengths, keys that are missing or the same, and values that the modality's tokenizer cannot read.
        """
        if not isinstance(values, Mapping):
            fix = "Give {modality: values}, with a list or data frame of each."
            raise UsageError(f"values are {type(values).__name__}, without names of modalities.", where="encode", fix=fix)
        for name in values:
            self._known(name)
        if not any(map(is_frame, values.values())):
            return encode_lists(values, keys, self.imputer.tokenizers)
        check_frames(values)
        if keys is not None:
            fix = "Leave keys out, or name the rows with frame.set_axis(keys)."
            raise UsageError("the keys of data frames are their index.", where="keys", fix=fix)
        return encode_frames(values, self.imputer.tokenizers, keys_by_frame(values))

    @overload
    def impute(
        self,
        samples: Sequence[Sample] | TokenSet,
        have: Names,
        want: str,
        *,
        draws: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance: float = 0.0,
        chain: bool = False,
        only_missing: bool = False,
        calibration: Calibration | PathLike | None = None,
    ) -> list[Imputed]: ...

    @overload
    def impute(
        self,
        samples: Frames,
        have: Names | None = None,
        *,
        want: str,
        draws: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance: float = 0.0,
        chain: bool = False,
        only_missing: bool = False,
        quantiles: float | Sequence[float] = (),
        calibration: Calibration | PathLike | None = None,
    ) -> Any: ...

    def impute(
        self,
        samples: Sequence[Sample] | TokenSet | Frames,
        have: Names | None = None,
        want: str = "",
        *,
        draws: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance: float = 0.0,
        chain: bool = False,
        only_missing: bool = False,
        quantiles: float | Sequence[float] = (),
        calibration: Calibration | PathLike | None = None,
    ) -> Any:
        """Draw the modality `want` of every sample from its modalities `have`; several draws come ranked by consistency.

        Of data frames, `{"mrna": frame}` with samples in rows, the table `want` is given as a data frame of expected values with the same
        index, from `have`, or from all frames that hold a sample (None); with `quantiles=(0.05, 0.95)` as (frame, {0.05: frame, ...}),
        what values stay below with these probabilities, for which 50 draws are good. Rows are NaN where
        a sample holds nothing to impute it from.

        chain: what links `have` and `want` where they never occurred together is drawn first, and `want` from it alone; else an error.

        only_missing: leave out samples that hold `want`, also of frames, whose other rows alone are given then.

        calibration: what `calibrate` made, or the report of `mmtool evaluate` on this run. Of data frames it corrects these bounds so that
        they hold as often as they say, of as many draws; of samples it tells how probable it is that each draw is right.

        Raises UsageError where no chain of modalities that occurred together links them, where a number is out of bounds, and where with
        `only_missing` no sample lacks `want`; DataError for a sample that lacks any of `have`.
        """
        self._known(want)
        params = SamplingParams(*plain((temperature, top_k, guidance)))
        refuse_calibrated(chain, calibration)
        given, draws, seed, shares = () if have is None else tuple(_names(have)), plain(draws), plain(seed), shares_of(quantiles)
        options = ImputeOptions(
            given, (want,), draws=draws, params=params, consistency=False, chain=chain, seed=seed, only_missing=only_missing
        )
        if isinstance(samples, Mapping):
            check_frames(samples)
            corrections = self._opened(calibration) if calibration is not None else None
            frame, bounds = impute_frames(self.imputer, samples, options, shares, corrections)
            return (frame, bounds) if shares else frame
        if have is None or shares:
            fix = "Name the modalities that are given, and leave quantiles out; data frames need no names and have quantiles."
            raise UsageError("samples are imputed from modalities that are named.", where="have", fix=fix)
        chosen, names = listed_samples(samples), _names(have)
        chosen = self._holding(lacking(chosen, want) if only_missing else chosen, have)
        opened = self._opened(calibration) if calibration is not None else Calibration(self.imputer.weights, draws, params)
        opened.check(params)
        asked = ChainedImputer(self.imputer) if chain else self.imputer
        imputations = asked.impute(chosen, names, want, seed=seed, params=params, draws=draws, consistency=draws > 1)
        tokenizer, curves = self.imputer.tokenizers[want], [opened.curve(names, want, imputation) for imputation in imputations]
        drawn = zip(chosen, imputations, curves, strict=True)
        return [Imputed.of(sample.key, imputation, tokenizer, curve) for sample, imputation, curve in drawn]

    def calibrate(
        self,
        samples: Sequence[Sample] | TokenSet | Frames,
        have: Names | None = None,
        *,
        want: str,
        draws: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance: float = 0.0,
        quantiles: float | Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        right: Callable[[Sample, Any], bool] | None = None,
    ) -> Calibration:
        """How `impute` is to correct bounds of the table `want`, by frames of held-out samples that hold it, for as many draws and the same
        quantiles: split conformal prediction (see `mmtool.imputation.conformal`). have: None is every subset of the other frames.

        Of samples, how probable it is that a draw of `want` from `have` is right: Platt scaling (see `mmtool.imputation.probability`).
        right: whether a draw, decoded, is right for a sample: `lambda sample, text: text == truth[sample.key]`.

        Samples that the run was trained on are left out. Raises UsageError where no others are left, or they tell nothing.
        """
        self._known(want)
        params, draws, seed, shares = (
            SamplingParams(*plain((temperature, top_k, guidance))),
            plain(draws),
            plain(seed),
            shares_of(quantiles),
        )
        if not isinstance(samples, Mapping):
            if have is None or right is None:
                fix = "Name the modalities that are given, and give right=lambda sample, value: ...; bounds take data frames."
                raise UsageError("samples tell how probable a draw is right, where it is known which are.", where="have/right", fix=fix)
            options = ImputeOptions(draws=draws, params=params, consistency=draws > 1, seed=seed)
            return calibrate_draws(self.imputer, self._holding(samples, have), _names(have), want, options, right)
        check_frames(samples)
        directions = directions_to(self.imputer, list(samples), want) if have is None else [key_of(_names(have), want)]
        options = ImputeOptions(draws=draws, params=params, consistency=False, seed=seed)
        return calibrate(self.imputer, samples, directions, options, shares)

    def _opened(self, calibration: Calibration | PathLike) -> Calibration:
        if not isinstance(calibration, Calibration):
            return calibration_of(Path(calibration), self.imputer.weights)
        if calibration.weights != self.imputer.weights:
            raise UsageError("the calibration is of another run.", where="calibration", fix="Calibrate this run.")
        return calibration

    def score(self, samples: Sequence[Sample] | TokenSet, have: Names, target: str) -> np.ndarray:
        """(N,) negative log-likelihood of `target` given `have`, in nats per token; the exponential of its mean over tokens is the
        perplexity. Raises UsageError where the method has none, DataError for a sample that lacks any of these."""
        self._known(target)
        self.imputer.check_names(_names(have), target)
        if not self.imputer.can_score(target):
            fix = "Ask a run of a generative method."
            raise UsageError(f"{target} has no likelihood under the method {self.imputer.method}.", where=self.imputer.run.path, fix=fix)
        scored = self.imputer.score(self._holding(samples, [*_names(have), target]), _names(have), target)
        return np.array([nll / max(1, count) for nll, count in scored])

    def features(self, samples: Sequence[Sample] | TokenSet, have: Names) -> np.ndarray:
        """(N, D) float32 representations of the samples from their modalities `have` alone. Raises DataError for a sample that lacks
        any of them, UsageError for no samples, whose width nothing tells."""
        chosen = self._holding(samples, have)
        if not chosen:
            raise UsageError("there are no samples.", where="samples", fix="Give at least one.")
        return self.imputer.features(chosen, _names(have))

    def predict(self, samples: Sequence[Sample] | TokenSet, have: Names | None = None) -> np.ndarray:
        """(N,) labels as text, or numbers, that a finetuned run predicts from `have` (None: all that a sample holds and the run knows).
        Raises UsageError for a run without a head."""
        outputs = self.imputer.predict(listed_samples(samples), None if have is None else _names(have))
        assert self.imputer.target is not None
        return self.imputer.target.decode(outputs)

    def _known(self, name: str) -> None:
        if not isinstance(name, str):
            fix = "Name one as text; impute several one after the other."
            raise UsageError(f"{name!r} names no modality.", where="want", fix=fix)
        if name not in self.modalities:
            fix = f"It knows {', '.join(self.modalities)}."
            raise UsageError(f"the run has no modality {name!r}.", where=self.imputer.run.path, fix=fix)

    def _holding(self, samples: Sequence[Sample] | TokenSet, have: Names) -> list[Sample]:
        """The samples, all of which hold these modalities."""
        for name in _names(have):
            self._known(name)
        refuse_repeated(_names(have))
        chosen = listed_samples(samples)
        for sample in chosen:
            lacking = [name for name in _names(have) if name not in sample.tokens]
            if lacking:
                fix = f"Leave out samples without it: [sample for sample in samples if {lacking[0]!r} in sample.tokens]."
                raise DataError(f"the sample has no {lacking[0]}.", where=sample.key, fix=fix)
        return chosen


class Adapter:
    """An adapter with its frozen encoders, opened: `mmtool.load("adapter/")`.

    modalities: names of those that the method uses. model: what it is underneath.
    """

    def __init__(self, opened: "OpenedAdapter") -> None:
        self._opened, self.model = opened, opened.model
        self.modalities: tuple[str, ...] = tuple(opened.model.names)

    def predict(self, samples: Sequence[Sample] | TokenSet) -> np.ndarray:
        """(N,) labels as text, or numbers, from whatever the samples hold. Raises DataError for one without any modality."""
        from mmtool.adaptation.joint_embedding import masks_of

        encodings = self._encodings(listed_samples(samples))
        with torch.no_grad():
            outputs = self.model(encodings, masks_of(encodings.present))[0]
        return self._opened.task.decode(outputs.float().cpu().numpy())

    def embeddings(self, samples: Sequence[Sample] | TokenSet, want: str, have: Names = ()) -> np.ndarray:
        """(N, W) float32 embeddings of the modality `want`: the encoder's where a sample holds it, else predicted from its modalities
        `have` (none named: all it holds). What `have` leaves out counts as absent. Raises DataError for a sample without any of these."""
        from mmtool.adaptation.embeddings import embedding_table

        self._known([want, *_names(have)])
        chosen = listed_samples(samples)
        table = embedding_table(self._opened, chosen, self._encodings(chosen), _names(have), want)
        if len(table["key"]) < len(chosen):
            known = set(table["key"].tolist())
            lacking = next(sample.key for sample in chosen if sample.key not in known)
            raise DataError(
                f"the sample holds nothing to predict {want} from.", where=lacking, fix="Leave it out, or name others in have=."
            )
        embedding: np.ndarray = table["embedding"]
        return embedding

    def _encodings(self, samples: Sequence[Sample]) -> "Encodings":
        from mmtool.adaptation.batches import encode_all

        for sample in samples:
            if not set(sample.tokens) & set(self.modalities):
                what = f"the sample holds none of {', '.join(self.modalities)}."
                raise DataError(what, where=sample.key, fix="Leave it out.")
        return encode_all(self.model, samples, next(self.model.parameters()).device)

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.modalities:
                fix = f"It knows {', '.join(self.modalities)}."
                raise UsageError(f"the adapter has no encoder of {name!r}.", where="adapter", fix=fix)


@accepts_urls()
def load(path: PathLike, *, checkpoint: str | None = None, device: str | None = None, shards: PathLike | None = None) -> "Run | Adapter":
    """Open what `pretrain`, `finetune` or `export` wrote (a `Run`), or what `adapt` wrote (an `Adapter`), on a device.

    device: None is a GPU where there is one. checkpoint: of a run, None is the newest. shards: the token set of an adapter's samples, whose
    tokenizers Hugging Face encoders need. Raises DataError where there is neither, or an encoder is not the one of the training, UsageError
    where there is no such device.
    """
    from mmtool.adaptation.adapter import is_adapter, open_adapter

    if not is_adapter(Path(path)):
        return Run(Imputer.open(Path(path), checkpoint=checkpoint, device=device))
    tokenizers = {} if shards is None else open_token_set(Path(shards), split_directories(Path(shards))[0]).tokenizers
    return Adapter(open_adapter(Path(path), tokenizers, pick_device(str(device or ""))))


@accepts_urls()
def open_shards(path: PathLike, split: str | None = None) -> TokenSet | list[Sample]:
    """The samples of a token set: of one split, in which they are read when they are needed, or of all its splits, as a list. Raises
    DataError where the shards are not whole."""
    parts = split_directories(Path(path))
    if split is not None or len(parts) == 1:
        return open_token_set(Path(path), split or parts[0])
    return [sample for part in parts for sample in open_token_set(Path(path), part)]


def _names(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
