"""Which way a table lies: samples in rows, or features in rows and samples in columns, as matrices of genes are written."""

import re
from collections.abc import Sequence

from mmtool.preprocessing.keys import KeyColumnError
from mmtool.preprocessing.readers.table_options import TableOptions

SEPARATORS = re.compile(r"[_\-. ]")
COLUMNS_OF_FEATURES = (
    "hugosymbol entrezgeneid gene genes geneid genename genesymbol genesymbols symbol ensembl ensemblid ensemblgene ensemblgeneid ensg "
    "transcript transcriptid targetid idref probe probeid probeset probesetid compositeelementref compositeelement entitystableid "
    "geneticprofileid agid mirna mirnaid mirbaseid protein proteinid proteins uniprot uniprotid feature featureid features featurename "
    "geneids cpg cpgid peptide metabolite metaboliteid"
)
INDEX_NAMES = frozenset(("index", "idx", "row", "rownumber", "rowid", "rownames"))  # without `_`, `-`, `.` and blanks
FEATURE_HEADERS = frozenset(COLUMNS_OF_FEATURES.split())  # without `_`, `-`, `.` and blanks
SAMPLE_NAME = re.compile(  # barcodes and accessions that consortia and archives give to samples
    r"TCGA[-.]\w\w[-.]\w{4}.*|TARGET[-.]\d\d[-.].*|GTEX[-.]\w+.*|GSM\d+.*|[ESD]R[RSX]\d{5,}.*|SAM(N|EA|D)\d+|ACH-\d{6}|C3[LN]-\d{5}.*|"
    r"MB-\d{4}|(HG|NA)\d{5}"
)
FEATURE_NAME = re.compile(  # identifiers of genes, transcripts, proteins and probes
    r"ENS[A-Z]{0,4}[GTP]\d{11}.*|[a-z]{3}-(mir|miR|let)-.+|\d+(_[a-z])*_at|AFFX-.+|cg\d{8}.*|ILMN_\d+|[NX][MRP]_\d+.*|HGNC:\d+|MIMAT\d{7}|"
    r"A_\d\d_P\d+|rs\d{3,}|[^|]+\|\d+"
)
GENES = (
    "tp53 egfr kras myc pten brca1 brca2 gapdh actb erbb2 braf pik3ca rb1 apc vegfa cdkn2a akt1 mtor stat3 jun fos il6 tnf cd4 cd8a cd3e "
    "cd19 esr1 ar pgr mki67 bcl2 mdm2 ccnd1 notch1 nras hras atm smad4 idh1 fgfr3 kit met alk ret jak2 gata3 foxp3 ptprc epcam vim cdh1 "
    "b2m hbb alb ins a1bg a2m"
)
KNOWN_GENES = frozenset(GENES.split())  # in nearly every panel and matrix of genes
DIGITS = re.compile(r"\d+")
PLAIN_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
ENOUGH_GENES = 3
VALUES = (
    "unstranded strandedfirst strandedsecond tpmunstranded fpkmunstranded fpkmuqunstranded tpm fpkm fpkmuq rpkm expectedcount estcounts "
    "numreads readcount rawcount normalizedcount scaledestimate readspermillionmirnamapped proteinexpression betavalue count counts"
)
MEASUREMENTS = frozenset(VALUES.split())  # columns of files that programs write for one sample: STAR, RSEM, salmon, kallisto, miRNA, RPPA


def features_in_rows(header: Sequence[str], index: int, rows: Sequence[str], options: TableOptions, where: str) -> bool:
    """Whether a table holds features in rows. index: of the column with the names of its rows, of which `rows` are the first.

    Options decide, then the features that are known. Raises KeyColumnError where it looks so but nobody has said it.
    """
    if options.transpose is not None:
        return options.transpose
    if options.features:
        known = set(options.features)
        return sum(name in known for name in rows) > sum(name in known for name in header)
    sign = _sign(header[index], [name for number, name in enumerate(header) if number != index], rows)
    if sign is not None:
        what = f"the rows seem to be features and the columns samples: {sign}."
        fix = "Add --transpose if so, or --no-transpose where each row is a sample."
        raise KeyColumnError(what, where=where, fix=fix)
    return False


def check_header_row(header: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise KeyColumnError where the header is a row by its name, such as `ENSG00000141510` or `s0` before `s1`, and its numbers. names: of
    the first rows."""
    first, *cells = header
    is_name = FEATURE_NAME.fullmatch(first) or SAMPLE_NAME.fullmatch(first) or first.casefold() in KNOWN_GENES
    is_alike = any(map(str.isdigit, first)) and DIGITS.sub("0", first) in {DIGITS.sub("0", name) for name in names}
    if (is_name or is_alike) and cells and all(PLAIN_NUMBER.fullmatch(name) for name in cells):
        what = f"the first line seems to be a row and no header: it begins with {first!r} and {cells[0]!r}."
        raise KeyColumnError(what, where=where, fix="Name the columns with --columns, or write a header.")


def check_one_sample(header: Sequence[str], index: int, options: TableOptions, where: str) -> None:
    """Raise KeyColumnError where a table seems to hold one sample, with a row for each feature and several columns of values."""
    measured = [name for name in header if _plain(name) in MEASUREMENTS]
    if options.transpose is not False and options.value_column is None and measured and _plain(header[index]) in {*FEATURE_HEADERS, "name"}:
        what = f"the file seems to hold one sample, in a row for each feature; its columns are: {', '.join(map(repr, header))}."
        to_say = f"Name that of the values to `mmtool tokenize` (--value-column {measured[0]})"
        fix = f"{to_say}, or add --no-transpose where each row is a sample."
        raise KeyColumnError(what, where=where, fix=fix)


def _sign(first: str, columns: Sequence[str], rows: Sequence[str]) -> str | None:
    """What speaks for features in rows; None where nothing does."""
    filled = [name for name in rows if name]
    named = [name for name in filled if not name.replace(".", "", 1).isdigit()]
    if _plain(first) in FEATURE_HEADERS and (named or _plain(first) == "entrezgeneid"):
        return f"the first column is called {first!r}"
    if _mostly(SAMPLE_NAME, columns) and not _mostly(SAMPLE_NAME, filled):
        return f"columns are called {_example(SAMPLE_NAME, columns)!r} and the like"
    if _mostly(FEATURE_NAME, filled) and not _mostly(FEATURE_NAME, columns):
        return f"rows are called {_example(FEATURE_NAME, filled)!r} and the like"
    genes = [name for name in filled if name.casefold() in KNOWN_GENES]
    if len(genes) >= ENOUGH_GENES and len(genes) > sum(name.casefold() in KNOWN_GENES for name in columns):
        return f"rows are called {', '.join(map(repr, genes[:ENOUGH_GENES]))}"
    return None


def is_called_like_features(name: str) -> bool:
    """Whether a column has a name that those of features have."""
    return _plain(name) in FEATURE_HEADERS


def is_called_like_an_index(name: str) -> bool:
    """Whether a column has a name that those of row numbers have."""
    return _plain(name) in INDEX_NAMES


def _plain(name: str) -> str:
    return SEPARATORS.sub("", name).casefold()


def _mostly(pattern: re.Pattern[str], names: Sequence[str]) -> bool:
    return len(names) > 1 and 2 * sum(pattern.fullmatch(name) is not None for name in names) > len(names)


def _example(pattern: re.Pattern[str], names: Sequence[str]) -> str:
    return next(name for name in names if pattern.fullmatch(name))
