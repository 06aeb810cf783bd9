#!/bin/sh
# A mosaic of blood cells (CITE-seq): of 400 training cells only RNA is known, of 400 only surface proteins, of 400 both. Cells of a fourth
# batch hold both and are the test: either table is imputed from the other and judged against the measured one, beside ridge regression,
# nearest neighbours and, each in a Python environment of its own, totalVI, MOFA+ and MIDAS.
#
#   sh examples/pbmc_mosaic/run.sh --data DIR --out DIR [--totalvi PYTHON] [--mofa PYTHON] [--midas PYTHON] [--seeds 0,1,2] [--steps N]
#                                  [--methods commutative] [--split validation|test] [--halves] [--smoke]
#
# DIR/pbmc/quickstart_pbmc_mosaic.h5mu. --halves: also two halves of the protein panel that no training cell holds both of; RNA is the link.
# Finished stages and trainings are kept: the same command continues an interrupted one. Standard output ends with a table and, in one line, the
# same numbers as JSON.
set -eu
data='' out='' totalvi='' mofa='' midas='' seeds=0,1,2 steps=100 methods=commutative split=test halves='' smoke=
usage() { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --smoke) smoke=1; shift; continue ;;
        --halves) halves=1; shift; continue ;;
        --data) data=$2 ;;
        --out) out=$2 ;;
        --totalvi) totalvi=$2 ;;
        --mofa) mofa=$2 ;;
        --midas) midas=$2 ;;
        --seeds) seeds=$2 ;;
        --steps) steps=$2 ;;
        --methods) methods=$2 ;;
        --split) split=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[ -n "$data" ] && [ -n "$out" ] || usage
here=$(dirname "$0") cells='' epochs='' iterations=''
[ -z "$smoke" ] || { seeds=0 steps=10 cells='--cells 60' epochs='--epochs 5' iterations='--iterations 5'; }

. "$here/../steps.sh"
words() { echo "$1" | tr , ' '; }
fit() { # fit CELLS FOLDER TABLE...: tokens and shards
    file=$1 folder=$2
    shift 2
    for name in "$@"; do
        make "$folder/tokens/$name.tar" mmtool tokenize table "$file" --fit --name "$name" --scheme codec --set components=16 \
            --label celltype,split --split-label split -o "$folder/tokens/$name.tar"
    done
    make "$folder/shards" mmtool shard "$folder"/tokens/*.tar --split-label split -o "$folder/shards"
}
train() { # train FOLDER METHOD SEED
    say mmtool pretrain "$1/shards" --method "$2" --seed "$3" --preset tiny --set shape.depth=2 --set shape.width=96 --set optimizer=muon \
        --steps "$steps" --batch-tokens 4096 --no-compile -o "$1/runs/$2-$3"
}
impute() { # impute RUN DATA GIVEN TARGET OUT: of all cells
    make "$5" mmtool impute "$1" $2 --have "$3" --want "$4" --no-confidence --format h5ad -o "$5"
}

make "$out/cells.h5mu" python3 "$here/prepare.py" "$data/pbmc/quickstart_pbmc_mosaic.h5mu" "$out" $cells
fit "$out/cells.h5mu" "$out" rna adt
for method in $(words "$methods"); do
    for seed in $(words "$seeds"); do
        train "$out" "$method" "$seed"
        impute "$out/runs/$method-$seed" "$out/shards" rna adt "$out/imputed/$method/$seed/rna"
        impute "$out/runs/$method-$seed" "$out/shards" adt rna "$out/imputed/$method/$seed/adt"
    done
done
imputed=$out/imputed
make "$imputed/k nearest/0/adt/rna.h5ad" python3 "$here/baselines.py" "$out/cells.h5mu" "$imputed"
[ -z "$mofa" ] || make "$imputed/MOFA+/0/adt/rna.h5ad" "$mofa" "$here/mofa.py" "$out/cells.h5mu" "$imputed" $iterations
for seed in $(words "$seeds"); do
    [ -z "$totalvi" ] || make "$imputed/totalVI/$seed/rna/adt.h5ad" "$totalvi" "$here/totalvi.py" "$out/cells.h5mu" "$imputed" --seed "$seed" $epochs
    [ -z "$midas" ] || make "$imputed/MIDAS/$seed/adt/rna.h5ad" "$midas" "$here/midas.py" "$out/cells.h5mu" "$imputed" --seed "$seed" $epochs
done
if [ -n "$halves" ]; then
    fit "$out/halves.h5mu" "$out/halves" rna adt_a adt_b
    for seed in $(words "$seeds"); do
        for method in commutative loretta; do
            train "$out/halves" "$method" "$seed"
        done
        for pair in adt_a:adt_b adt_b:adt_a; do
            given=${pair%:*} target=${pair#*:}
            for method in commutative loretta; do
                impute "$out/halves/runs/$method-$seed" "$out/halves/shards" "$given" "$target" "$out/halves/imputed/$method/$seed/$given"
            done
            # asked twice: RNA from what is given, the target from that RNA
            impute "$out/halves/runs/commutative-$seed" "$out/halves/shards" "$given" rna "$out/halves/links/$seed/$given"
            impute "$out/halves/runs/commutative-$seed" "--raw rna=$out/halves/links/$seed/$given/rna.h5ad" rna "$target" \
                "$out/halves/imputed/commutative, twice/$seed/$given"
        done
    done
    make "$out/halves/imputed/k nearest/0/adt_b/adt_a.h5ad" python3 "$here/baselines.py" "$out/halves.h5mu" "$out/halves/imputed" --through rna
    say python3 "$here/score.py" "$out/halves.h5mu" "$out/halves/imputed" --against loretta --split "$split"
fi
say python3 "$here/score.py" "$out/cells.h5mu" "$imputed" --split "$split"
