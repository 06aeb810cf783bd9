"""How files of formats that are not read become ones that are: what messages advise."""

from collections.abc import Collection

PICTURES = "`magick mogrify -format png *.{form}` (ImageMagick)"
SLIDES = "cut tiles from it, e.g. with openslide or `vips dzsave`"
SOUND = "`ffmpeg -i in.{form} out.wav`"
MEDICAL = "read it with {package} and save numpy.savez('x.npz', images=array, key=keys), slices as (N, height, width)"
DOCUMENTS = "export it as text (.txt, one per file): {tool}"
TABLES = "save it as CSV: {tool}"
CODE = "{form} files can run code and are never read; save the arrays with numpy.savez"

CONVERSIONS: dict[str, str] = {
    **dict.fromkeys(
        ("heic", "heif", "jp2", "j2k", "jxl", "pgm", "ppm", "pbm", "psd", "tga", "ico", "exr", "svg", "eps", "cr2", "nef", "dng"), PICTURES
    ),
    **dict.fromkeys(("svs", "mrxs", "ndpi", "scn", "czi", "vsi"), SLIDES),
    **dict.fromkeys(("nii", "mgz"), MEDICAL.format(package="nibabel (get_fdata)")),
    **dict.fromkeys(("mha", "mhd", "nrrd"), MEDICAL.format(package="SimpleITK (GetArrayFromImage)")),
    **dict.fromkeys(("aiff", "aif", "au", "sph", "wma", "m4b", "mp4", "mov", "mkv", "webm", "amr", "caf", "w64", "ape"), SOUND),
    **dict.fromkeys(
        ("doc", "docx", "odt", "rtf", "md", "html", "htm", "xml", "epub", "tex"),
        DOCUMENTS.format(tool="`pandoc in.{form} -t plain -o out.txt`"),
    ),
    "pdf": DOCUMENTS.format(tool="`pdftotext in.pdf out.txt`"),
    **dict.fromkeys(
        ("srt", "vtt"), DOCUMENTS.format(tool="without the time stamps, e.g. `ffmpeg -i in.{form} out.srt`, then its lines of text")
    ),
    "trans": DOCUMENTS.format(tool="a CSV with the columns key and text"),
    "json": "write one JSON object per line (.jsonl): `jq -c '.[]' in.json > out.jsonl`",
    **dict.fromkeys(("xls", "ods"), TABLES.format(tool="in a spreadsheet program, or pandas.read_excel(...).to_csv(...)")),
    **dict.fromkeys(("rds", "rdata", "rda"), TABLES.format(tool="in R, write.csv(x, 'x.csv')")),
    **dict.fromkeys(("dta", "sav", "sas7bdat"), TABLES.format(tool="pandas.read_stata, read_spss or read_sas, then to_csv")),
    "loom": TABLES.format(tool="anndata.read_loom(...).to_df().to_csv(...)"),
    "maf": TABLES.format(tool="one row per sample and one column per gene"),
    **dict.fromkeys(("feather", "arrow"), "save it as Parquet: pandas.read_feather(...).to_parquet(...)"),
    **dict.fromkeys(("pkl", "pickle", "joblib"), CODE),
    **dict.fromkeys(("zarr", "tfrecord", "bag", "mcap", "rrd", "fif", "mat"), "save its arrays with numpy.savez"),
    **dict.fromkeys(("rar", "7z"), "unpack it and give the folder"),
}


WORDS = {"png": "png", "tiles": "png", "savez": "npz", ".wav": "wav", ".txt": "txt", "csv": "csv", ".jsonl": "jsonl", "parquet": "parquet"}


def advice(form: str, formats: Collection[str]) -> str:
    """What to do with a file of a format that is not read, as a sentence; empty where nothing is known that leads to one of `formats`."""
    conversion = CONVERSIONS.get(form, "").replace("{form}", form)
    targets = {target for word, target in WORDS.items() if word in conversion.lower()}
    return f"Convert it: {conversion}." if conversion and (not targets or targets & set(formats)) else ""
