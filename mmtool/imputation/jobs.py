"""Which modality of which samples is imputed from which others: one job for all samples that hold and lack the same."""

from collections import defaultdict
from collections.abc import Sequence

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
    name."""
    for want in options.want:
        imputer.check(options.have, want)
    names = [modality.name for modality in imputer.modalities]
    jobs: Jobs = defaultdict(list)
    for sample in samples:
        have = options.have or tuple(name for name in names if name in sample.tokens)
        if not have or not set(have) <= set(sample.tokens):
            continue
        for want in options.want or tuple(name for name in names if name not in sample.tokens):
            given = tuple(name for name in have if name != want)
            if given:
                jobs[given, want].append(sample)
    linked = {job: members for job, members in jobs.items() if options.want or imputer.graph.path(job[0], job[1]) is not None}
    for have, want in linked or jobs:
        imputer.check(have, want)
    for have, want in sorted(jobs.keys() - linked.keys()):
        log(f"{want} of {len(jobs[have, want])} samples stays absent: nothing in training links it with {' and '.join(have)}")
    if options.chain:
        _check_chain(imputer, linked)
    return linked


def _check_chain(imputer: Imputer, jobs: Jobs) -> None:
    """Say what is drawn on the way; raise UsageError where nothing is, in any of the jobs."""
    chain = ChainedImputer(imputer)
    paths = {job: path for job in sorted(jobs) if (path := chain.path(*job))}
    if jobs and not paths:
        what = "what is given and what is wanted occurred together in training, or nothing that can be drawn links them."
        raise UsageError(what, where="--chain", fix="Leave it out.")
    for (have, want), path in paths.items():
        log(f"{want} from {' and '.join(have)}: {' -> '.join(path)}")


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
