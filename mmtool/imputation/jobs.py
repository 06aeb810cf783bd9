"""Which modality of which samples is imputed from which others: one job for all samples that hold and lack the same."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.imputation.chain import ChainedImputer
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.imputer import Imputation, Imputer

Jobs = dict[tuple[tuple[str, ...], str], list[Sample]]  # (have, want) -> samples


def jobs_of(imputer: Imputer, samples: Sequence[Sample], options: ImputeOptions) -> Jobs:
    """(have, want) -> samples: one decode for all samples that hold and lack the same. Where nothing is wanted by name, modalities that
    nothing links with what is present stay missing, unless that is all of them: then UsageError is raised, as it is for what is wanted by
    name, and where only what is missing is imputed and nothing of it is."""
    for want in options.want:
        imputer.check(options.have, want)
    if samples and options.only_missing and options.want and all(set(options.want) <= set(sample.tokens) for sample in samples):
        raise none_lacks(options.want)
    names = [modality.name for modality in imputer.modalities]
    jobs: Jobs = defaultdict(list)
    for sample in samples:
        have = options.have or tuple(name for name in names if name in sample.tokens)
        if not have or not set(have) <= set(sample.tokens):
            continue
        for want in options.want or tuple(name for name in names if name not in sample.tokens):
            given = tuple(name for name in have if name != want)
            if given and not (options.only_missing and want in sample.tokens):
                jobs[given, want].append(sample)
    linked = {job: members for job, members in jobs.items() if options.want or imputer.graph.path(job[0], job[1]) is not None}
    for have, want in linked or jobs:
        imputer.check(have, want)
    for have, want in sorted(jobs.keys() - linked.keys()):
        log(f"{want} of {len(jobs[have, want])} samples stays absent: nothing in training links it with {' and '.join(have)}")
    return _chained(imputer, linked) if options.chain else linked


def chosen_of(samples: Sequence[Sample], options: ImputeOptions) -> Sequence[Sample]:
    """The first `options.limit` samples; where only what is missing is imputed, of those that lack some of it, if there are any."""
    short = [sample for sample in samples if not set(options.want) <= set(sample.tokens)] if options.only_missing else []
    return (short or samples)[: options.limit]


def lacking(samples: Iterable[Sample], want: str) -> list[Sample]:
    """The samples without this modality. Raises UsageError where all of them hold it."""
    chosen = [sample for sample in samples if want not in sample.tokens]
    if not chosen:
        raise none_lacks([want])
    return chosen


def none_lacks(wanted: Sequence[str]) -> UsageError:
    """The error where only samples that lack what is wanted are to get it, and there are none."""
    what = f"no sample lacks {' or '.join(wanted)}."
    return UsageError(what, where="--only-missing", fix="Leave it out to impute what samples hold as well, or want another modality.")


def _chained(imputer: Imputer, jobs: Jobs) -> Jobs:
    """The jobs with what a chain reads as what is given, where there is one, which is said; raise UsageError where there is none in any."""
    chain, read = ChainedImputer(imputer), dict[tuple[tuple[str, ...], str], tuple[str, ...]]()
    for have, want in sorted(jobs):
        if path := chain.path(have, want):
            read[have, want] = tuple(chain.read(have, path))
            ignored = [name for name in have if name not in read[have, want]]
            rest = f" ({' and '.join(ignored)} beside it is not read)" if ignored else ""
            log(f"{want} from {' and '.join(read[have, want])}: {' -> '.join(path[1:])}{rest}")
    if jobs and not read:
        what = "nothing that is wanted needs a link: it occurred with what is given in training, or what links them cannot be drawn."
        raise UsageError(what, where="--chain", fix="Leave it out.")
    chained: Jobs = defaultdict(list)
    for (have, want), samples in jobs.items():
        chained[read.get((have, want), have), want] += samples
    return chained


def run_job(imputer: Imputer, samples: Sequence[Sample], have: Sequence[str], want: str, options: ImputeOptions) -> list[Imputation]:
    """The draws of one job, or its donors."""
    if options.donors is not None:
        return imputer.choose(samples, have, want, options.donors, options.draws, limit=options.max_donors, seed=options.seed)
    chain = ChainedImputer(imputer) if options.chain else None
    asked = chain if chain and chain.path(have, want) else imputer
    return asked.impute(
        samples,
        have,
        want,
        seed=options.seed,
        params=options.params,
        draws=options.draws,
        consistency=options.consistency,
    )
