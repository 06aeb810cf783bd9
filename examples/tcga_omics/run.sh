#!/bin/sh
# TCGA-OMICS (LoReTTa, arXiv 2305.14243, section 4): messenger RNA, micro RNA and proteins (RPPA) of cancer patients. Training holds
# (mrna, mirna) and (mrna, rppa) of different patients, and unless told otherwise also all others, one modality of each; mirna and rppa
# are never seen together. Every method takes the same steps and is judged on patients that hold all, against the raw tables,
# beside the imputers of practitioners, by R2, rank correlation, cancer type, survival and the coverage of its intervals.
#
#   sh examples/tcga_omics/run.sh --data DIR --out DIR [--seeds N,...] [--steps N | --minutes M] [--methods NAME,...]
#                                 [--no-unpaired] [--no-guides] [--levels B] [--draws D] [--task impute,donors,...]
#                                 [--split validation|test] [--limit N] [--jobs N] [--oracle] [--values-only] [--complete]
#                                 [--min-present P] [--smoke]
#
# DIR/tcga/{mrna,mirna,rppa}.csv.gz with a column patient, DIR/tcga/clinical.csv with patient, cancer, time_days and event. Finished
# stages and trainings are kept: the same command continues an interrupted one. The last line of standard output is one JSON document.
# --jobs: trainings side by side (2), each with its share of the cores. --oracle: a column of the commutative method that has seen mirna and rppa
# together. --values-only: a column of the networks that predict whole tables, distilled through mrna, beside a transformer of one step.
# --complete: patients who hold all three only. --min-present: leaves out columns of which fewer patients than this share have a value.
# The masked method is left out unless --methods names it: it tells and scores a table in many passes, which is slow.
set -eu
. "$(dirname "$0")/../steps.sh"

seeds=0 steps=2000 minutes='' methods=causal,contrastive,cm3,commutative,loretta
levels=16 draws=10 split=validation limit=1000 task=impute jobs=2 min_present=0
parse 'data out' 'seeds steps minutes methods levels draws split limit task jobs min_present' \
    'no_unpaired no_guides oracle values_only complete smoke' "$@"
[ -z "$smoke" ] || { steps=100 minutes='' draws=10 limit=60; }
budget="--steps $steps" unpaired=--keep-unpaired
[ -z "$minutes" ] || budget="--minutes $minutes"
[ -z "$no_unpaired" ] || unpaired=''

fractions='0.7 0.1 0.2'
encode() { # encode FOLDER [OPTIONS...]: the three tables as tokens
    folder=$1
    shift
    for table in mrna:96 mirna:96 rppa:64; do
        name=${table%:*}
        make "$folder/$name.tar" mmtool tokenize table "$data/tcga/$name.csv.gz" --fit --name "$name" --scheme codec \
            --set components="${table#*:}" --n-bins "$levels" --set min_present="$min_present" --key-column patient --fractions $fractions "$@" \
            -o "$folder/$name.tar"
    done
}
divide() { # divide TOKENS SHARDS [OPTIONS...]: disjoint pairs of modalities, patients of the other splits complete
    from=$1 to=$2
    shift 2
    make "$to" mmtool shard "$from/mrna.tar" "$from/mirna.tar" "$from/rppa.tar" --pair mrna,mirna --pair mrna,rppa $unpaired "$@" \
        --labels "$data/tcga/clinical.csv" --fractions $fractions -o "$to"
}

stem=$levels
[ "$min_present" = 0 ] || stem=$levels-present-$min_present
kind=$stem$unpaired tokens=$out/tokens-$stem
encode "$tokens"
divide "$tokens" "$out/shards-$kind"
if [ -z "$no_guides" ]; then   # a second time: components that tell what the other table of the same training patients holds
    shards=$out/shards-$kind kind=$kind-guided tokens=$out/tokens-$kind
    encode "$tokens" --guide "$shards"
    divide "$tokens" "$out/shards-$kind"
fi
if [ -n "$oracle" ]; then
    divide "$tokens" "$out/shards-$kind-oracle" --pair mirna,rppa
    oracle="--oracle $out/shards-$kind-oracle"
fi
say mmtool compare "$out/shards-$kind" --methods "$methods" ${values_only:+--variant values-only:loretta:steps=1} --seeds "$seeds" \
    --jobs "$jobs" $budget --preset tiny --set shape.depth=2 --set shape.width=96 --set optimizer=muon --batch-tokens 4096 --task "$task" \
    --split "$split" --label cancer --survival time_days,event --strata cancer $oracle ${complete:+--complete} --key-column patient \
    --raw mrna="$data/tcga/mrna.csv.gz" --raw mirna="$data/tcga/mirna.csv.gz" --raw rppa="$data/tcga/rppa.csv.gz" \
    --draws "$draws" --limit "$limit" --contact-samples 0 --max-donors 10000 -o "$out/comparison-$kind${complete:+--complete}" --json
