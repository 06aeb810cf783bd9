#!/bin/sh
# TCGA-OMICS (LoReTTa, arXiv 2305.14243, section 4): messenger RNA, micro RNA and proteins (RPPA) of cancer patients. Training holds
# (mrna, mirna) and (mrna, rppa) of different patients, and with --unpaired also all others, one modality of each; mirna and rppa are never
# seen together. Every method trains for the same wall time and is judged on patients that hold all, against the raw tables, beside
# the imputers of practitioners, by R2, rank correlation, cancer type, survival and the coverage of its intervals.
#
#   sh examples/tcga_omics/run.sh --data DIR --out DIR [--seed N] [--minutes M] [--methods "causal cm3 loretta"] [--no-unpaired]
#                                 [--components K] [--levels B] [--samples D] [--split validation|test] [--smoke]
#
# DIR/{mrna,mirna,rppa}.csv.gz with the patient in the first column, DIR/clinical.csv with patient, cancer, time_days and event. Finished
# stages are kept: the same command continues an interrupted one. The last line of standard output is one JSON document with all results.
set -eu
data='' out='' seed=0 minutes=6 methods='causal cm3 loretta' unpaired=--keep-unpaired components=32 levels=16 samples=32 split=validation smoke=
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --smoke) smoke=1; shift; continue ;;
        --no-unpaired) unpaired=; shift; continue ;;
        --data) data=$2 ;;
        --out) out=$2 ;;
        --seed) seed=$2 ;;
        --minutes) minutes=$2 ;;
        --methods) methods=$2 ;;
        --components) components=$2 ;;
        --levels) levels=$2 ;;
        --samples) samples=$2 ;;
        --split) split=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[ -n "$data" ] && [ -n "$out" ] || usage
limit=1000
[ -z "$smoke" ] || { minutes=0.3 samples=10 limit=60 methods='cm3 loretta'; }

say() { # print a command as one would type it, then run it
    printf '$'
    for word in "$@"; do
        case $word in *[!A-Za-z0-9_./,:=~-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    echo
    "$@"
}
make() { [ -e "$1" ] || { shift; say "$@"; }; }   # make TARGET COMMAND...: unless the target is there

fractions='0.7 0.1 0.2' tokens=$out/tokens-$components-$levels shards=$out/shards-$components-$levels-$seed$unpaired
for name in mrna mirna rppa; do
    make "$tokens/$name.tar" mmtool tokenize table "$data/$name.csv.gz" --fit --name "$name" --scheme codec --set components="$components" \
        --n-bins "$levels" --set min_present=0.9 --key-column patient --fractions $fractions -o "$tokens/$name.tar"
done
make "$shards" mmtool shard "$tokens/mrna.tar" "$tokens/mirna.tar" "$tokens/rppa.tar" --pair mrna,mirna --pair mrna,rppa $unpaired \
    --labels "$data/clinical.csv" --fractions $fractions --seed "$seed" -o "$shards"

set --
for method in $methods; do
    run=$out/$method-$components-$levels-$seed$unpaired
    say mmtool pretrain "$shards" --method "$method" --preset tiny --set shape.depth=2 --set shape.width=128 --batch-tokens 4096 \
        --minutes "$minutes" --seed "$seed" -o "$run"
    set -- "$@" "$run"
done
say mmtool evaluate "$@" "$shards/$split" --label cancer --survival time_days,event --key-column patient --raw mrna="$data/mrna.csv.gz" \
    --raw mirna="$data/mirna.csv.gz" --raw rppa="$data/rppa.csv.gz" --samples "$samples" --limit "$limit" --contact-samples 0 \
    --seed "$seed" --force -o "$out/report-$split-$components-$levels-$seed$unpaired" --json
