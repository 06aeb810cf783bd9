"""The table of kinds: all that a kind of modality is made of, one entry each.

A new kind is a tokenizer, a reader and an entry in `KINDS`. What an entry names is written `module:name` and imported when it is first
used, so that the command line starts without any of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mmtool.common.errors import UsageError

Reference = str  # "module:name"
PRETRAINED = "hf"  # the scheme of what is taken from elsewhere as it is: `hf:PATH`


@dataclass(frozen=True)
class Kind:
    """What handles the values of one kind, stage by stage. Every field is stated for every kind; None says that there is no such thing.

    suffixes: of the files that are read, in lower case, without `.gz` and the like (`idx` for MNIST's).
    recognizer: (first bytes of a file, whether it was given by its name) -> whether it is of the kind, where its suffix does not say so.
    gatherer: (RawFile and Broken, one after the other) -> the same, files that hold one sample together as one; None: each stands alone.
    reader: (RawFile, SourceOptions) -> entries (`preprocessing/readers/`).
    options: flags of options of raw files that have an effect on it and not on every kind.
    preparer: class between raw values and the tokenizer's, also when it is fitted (`preprocessing.prepare.Preparer`).
    augmentation: (value of an item, key of the variant, seed) -> value of the variant.
    features: tokenizer -> scikit-learn transformer, values -> (N, F): what reference classifiers and nearest neighbours look at.
    thumbnail: (tokenizer, real values, size) -> what draws a value (`evaluation.figures.thumbnails.Drawer`).
    player: folder of a report that holds values as files to be played; None where the contact sheet shows all there is.
    is_text: whether values are written words: reports list them, reconstructions show them piece by piece, and empty ones may be kept.
    schemes: scheme -> tokenizer; the first one is the default.
    writes: suffixes of the files that imputed values are written to.
    """

    suffixes: tuple[str, ...]
    recognizer: Reference | None
    gatherer: Reference | None
    reader: Reference
    options: tuple[str, ...]
    preparer: Reference
    augmentation: Reference | None
    features: Reference
    thumbnail: Reference
    player: str | None
    is_text: bool
    schemes: Mapping[str, Reference]
    writes: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "image": Kind(
        suffixes=(
            *("png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff", "gif", "avif", "dcm", "dicom"),
            *("idx", "npz", "npy", "parquet", "arrow"),
        ),
        recognizer="mmtool.preprocessing.readers.dicom:looks_like_dicom",
        gatherer=None,
        reader="mmtool.preprocessing.readers.images:read_images",
        options=("--value-range", "--max-pixels"),
        preparer="mmtool.preprocessing.prepare:ImagePreparer",
        augmentation="mmtool.preprocessing.augment:image_variant",
        features="mmtool.evaluation.reference.features:image_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:PictureDrawer",
        player=None,
        is_text=False,
        schemes={
            "codec": "mmtool.tokenizers.image:ImageCodecTokenizer",
            "patches": "mmtool.tokenizers.image:ImagePatchTokenizer",
            PRETRAINED: "mmtool.tokenizers.hugging_face_image:HuggingFaceImageTokenizer",
        },
        writes=("png",),
    ),
    "audio": Kind(
        suffixes=("wav", "flac", "ogg", "oga", "opus", "mp3", "m4a", "aac", "parquet", "arrow"),
        recognizer=None,
        gatherer=None,
        reader="mmtool.preprocessing.readers.audio:read_audio",
        options=("--channel", "--max-duration-s"),
        preparer="mmtool.preprocessing.prepare:RecordingPreparer",
        augmentation="mmtool.preprocessing.augment:recording_variant",
        features="mmtool.evaluation.reference.features:frame_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:SpectrogramDrawer",
        player="audio",
        is_text=False,
        schemes={
            "codec": "mmtool.tokenizers.audio:AudioCodecTokenizer",
            "patches": "mmtool.tokenizers.audio_patches:AudioPatchTokenizer",
            PRETRAINED: "mmtool.tokenizers.hugging_face_audio:HuggingFaceAudioTokenizer",
        },
        writes=("wav",),
    ),
    "text": Kind(
        suffixes=("txt", "csv", "tsv", "jsonl", "json", "token", "npz", "parquet", "arrow"),
        recognizer=None,
        gatherer=None,
        reader="mmtool.preprocessing.readers.text:read_text",
        options=("--text-column", "--lines", "--keep-empty", "--keep-na"),
        preparer="mmtool.preprocessing.prepare:TextPreparer",
        augmentation=None,
        features="mmtool.evaluation.reference.features:text_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:TextDrawer",
        player=None,
        is_text=True,
        schemes={
            "pieces": "mmtool.tokenizers.text:TextTokenizer",
            PRETRAINED: "mmtool.tokenizers.hugging_face_text:HuggingFaceTextTokenizer",
        },
        writes=("txt",),
    ),
    "table": Kind(
        suffixes=("csv", "tsv", "tab", "xlsx", "parquet", "h5ad", "h5mu", "zarr", "mtx"),
        recognizer="mmtool.preprocessing.readers.delimited:looks_delimited",
        gatherer=None,
        reader="mmtool.preprocessing.readers.tables:read_tables",
        options=(
            *("--layer", "--mod", "--sheet", "--transpose", "--feature-column", "--value-column", "--sample-sheet", "--duplicates"),
            *("--censored", "--column-type", "--unseen"),
        ),
        preparer="mmtool.preprocessing.prepare:TablePreparer",
        augmentation=None,
        features="mmtool.evaluation.reference.features:table_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:RowDrawer",
        player=None,
        is_text=False,
        schemes={"bins": "mmtool.tokenizers.table:TableTokenizer", "codec": "mmtool.tokenizers.table_codec:TableCodecTokenizer"},
        writes=("csv", "h5ad", "h5mu"),
    ),
    "trajectory": Kind(
        suffixes=("npz", "hdf5", "h5", "parquet"),
        recognizer=None,
        gatherer=None,
        reader="mmtool.preprocessing.readers.trajectories:read_trajectories",
        options=("--ends", "--clip", "--split-within"),
        preparer="mmtool.preprocessing.prepare:TrajectoryPreparer",
        augmentation=None,
        features="mmtool.evaluation.reference.features:trajectory_features",
        thumbnail="mmtool.evaluation.figures.trajectory_thumbnail:ClipDrawer",
        player=None,
        is_text=False,
        schemes={"steps": "mmtool.tokenizers.trajectory:TrajectoryTokenizer"},
        writes=("npz",),
    ),
    "signal": Kind(
        suffixes=("npz", "npy", "csv", "tsv", "wav", "edf"),
        recognizer=None,
        gatherer=None,
        reader="mmtool.preprocessing.readers.signals:read_signals",
        options=("--clip", "--split-within", "--source-rate-hz", "--max-duration-s", "--column-type"),
        preparer="mmtool.preprocessing.readers.signals:SignalPreparer",
        augmentation=None,
        features="mmtool.evaluation.reference.features:frame_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:LineDrawer",
        player=None,
        is_text=False,
        schemes={"codec": "mmtool.tokenizers.signal:SignalCodecTokenizer", "patches": "mmtool.tokenizers.signal:SignalPatchTokenizer"},
        writes=("npz", "csv"),
    ),
    "video": Kind(
        suffixes=("gif", "npz", "npy", "mp4", "mov", "mkv", "webm", "avi"),
        recognizer=None,
        gatherer=None,
        reader="mmtool.preprocessing.readers.videos:read_videos",
        options=("--frames", "--clip", "--split-within", "--source-rate-hz", "--value-range", "--max-pixels", "--max-duration-s"),
        preparer="mmtool.preprocessing.readers.videos:VideoPreparer",
        augmentation=None,
        features="mmtool.evaluation.reference.features:film_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:FilmDrawer",
        player="video",
        is_text=False,
        schemes={"codec": "mmtool.tokenizers.video:VideoCodecTokenizer", "patches": "mmtool.tokenizers.video:VideoPatchTokenizer"},
        writes=("gif", "npz"),
    ),
    "volume": Kind(
        suffixes=("nii", "dcm", "dicom", "npz", "npy"),
        recognizer="mmtool.preprocessing.readers.dicom:looks_like_dicom",
        gatherer="mmtool.preprocessing.readers.dicom_series:gather_series",
        reader="mmtool.preprocessing.readers.volumes:read_volumes",
        options=("--value-range", "--max-pixels"),
        preparer="mmtool.preprocessing.readers.volumes:VolumePreparer",
        augmentation=None,
        features="mmtool.evaluation.reference.features:film_features",
        thumbnail="mmtool.evaluation.figures.thumbnails:FilmDrawer",
        player="volume",
        is_text=False,
        schemes={"codec": "mmtool.tokenizers.volume:VolumeCodecTokenizer", "patches": "mmtool.tokenizers.volume:VolumePatchTokenizer"},
        writes=("nii.gz", "npz"),
    ),
}


def kind_named(name: str) -> Kind:
    """The entry of a kind. Raises UsageError for one that the table does not hold."""
    if name not in KINDS:
        raise UsageError(f"unknown kind {name!r}.", where="KINDS in mmtool/kinds.py", fix=f"Choose from: {', '.join(KINDS)}.")
    return KINDS[name]


def schemes_by_kind() -> str:
    """Which schemes each kind has, in words."""
    shown = {PRETRAINED: f"{PRETRAINED}:PATH"}
    return "; ".join(f"{name}: {' or '.join(shown.get(scheme, scheme) for scheme in entry.schemes)}" for name, entry in KINDS.items())


def players() -> dict[str, tuple[str, ...]]:
    """Folder of a report that holds values to be played -> suffixes of the files in it."""
    return {entry.player: entry.writes for entry in KINDS.values() if entry.player}


def load(reference: Reference) -> Any:
    """What a reference `module:name` stands for."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def is_pretrained(scheme: str | None) -> bool:
    """Whether a scheme names a tokenizer from elsewhere: `hf:PATH`."""
    return scheme is not None and scheme.startswith(f"{PRETRAINED}:")
