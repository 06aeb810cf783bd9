#!/bin/sh
# A mosaic of blood cells (CITE-seq): of 400 training cells only RNA is known, of 400 only surface proteins, of 400 both. Cells of a fourth
# batch hold both and are the test: either table is imputed from the other and judged against the measured one, beside ridge regression,
# nearest neighbours and, each in a Python environment of its own, totalVI, MOFA+ and MIDAS.
#
#   sh examples/pbmc_mosaic/run.sh --data DIR --out DIR [--totalvi PYTHON] [--mofa PYTHON] [--midas PYTHON] [--seeds 0,1,2] [--steps N]
#                                  [--methods commutative] [--rival-seeds 0] [--split validation|test] [--halves] [--smoke]
#
# DIR/pbmc/quickstart_pbmc_mosaic.h5mu. --halves: also two halves of the protein panel that no training cell holds both of; RNA is the link.
# Finished stages and trainings are kept: the same command continues an interrupted one. Standard output ends with a table and, in one line, the
# same numbers as JSON.
set -eu
here=$(dirname "$0")
. "$here/../steps.sh"

totalvi='' mofa='' midas='' seeds=0,1,2 steps=100 methods=commutative rival_seeds=0 split=test
parse 'data out' 'totalvi mofa midas seeds steps methods rival_seeds split' 'halves smoke' "$@"
cells='' epochs='' iterations=''
[ -z "$smoke" ] || { seeds=0 steps=10 cells='--cells 60' epochs='--epochs 5' iterations='--iterations 5'; }

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
impute() { # impute RUN GIVEN TARGET OUT DATA...: of all cells
    run=$1 given=$2 target=$3 to=$4
    shift 4
    make "$to" mmtool impute "$run" "$@" --have "$given" --want "$target" --no-confidence --format h5ad -o "$to"
}

imputed=$out/imputed
make "$out/cells.h5mu" python3 "$here/prepare.py" "$data/pbmc/quickstart_pbmc_mosaic.h5mu" "$out" $cells
fit "$out/cells.h5mu" "$out" rna adt
for method in $(words "$methods"); do
    for seed in $(words "$seeds"); do
        train "$out" "$method" "$seed"
        impute "$out/runs/$method-$seed" rna adt "$imputed/$method/$seed/rna" "$out/shards"
        impute "$out/runs/$method-$seed" adt rna "$imputed/$method/$seed/adt" "$out/shards"
    done
done
make "$imputed/k nearest/0/adt/rna.h5ad" python3 "$here/baselines.py" "$out/cells.h5mu" "$imputed"
[ -z "$mofa" ] || make "$imputed/MOFA+/0/adt/rna.h5ad" "$mofa" "$here/mofa.py" "$out/cells.h5mu" "$imputed" $iterations
for seed in $(words "$rival_seeds"); do
    [ -z "$totalvi" ] || make "$imputed/totalVI/$seed/rna/adt.h5ad" "$totalvi" "$here/totalvi.py" "$out/cells.h5mu" "$imputed" --seed "$seed" $epochs
    [ -z "$midas" ] || make "$imputed/MIDAS/$seed/adt/rna.h5ad" "$midas" "$here/midas.py" "$out/cells.h5mu" "$imputed" --seed "$seed" $epochs
done
if [ -n "$halves" ]; then
    folder=$out/halves
    fit "$out/halves.h5mu" "$folder" rna adt_a adt_b
    for seed in $(words "$seeds"); do
        for method in commutative loretta; do
            train "$folder" "$method" "$seed"
            impute "$folder/runs/$method-$seed" adt_a adt_b "$folder/imputed/$method/$seed/adt_a" "$folder/shards"
            impute "$folder/runs/$method-$seed" adt_b adt_a "$folder/imputed/$method/$seed/adt_b" "$folder/shards"
        done
        for pair in adt_a:adt_b adt_b:adt_a; do # asked twice: for the link, and with it for the target
            start=${pair%:*} end=${pair#*:} twice=$folder/runs/commutative-$seed link=$folder/links/$seed/${pair%:*}
            impute "$twice" "$start" rna "$link" "$folder/shards"
            impute "$twice" rna "$end" "$folder/imputed/commutative twice/$seed/$start" --raw rna="$link/rna.h5ad"
        done
    done
    make "$folder/imputed/k nearest/0/adt_b/adt_a.h5ad" python3 "$here/baselines.py" "$out/halves.h5mu" "$folder/imputed" --through rna
    say python3 "$here/score.py" "$out/halves.h5mu" "$folder/imputed" --against loretta --split "$split"
fi
say python3 "$here/score.py" "$out/cells.h5mu" "$imputed" --split "$split"
