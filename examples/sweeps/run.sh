#!/bin/sh
# When does transitive training pay? LoReTTa beside the commutative method, asked directly and by a chain, on the quickstart's data (embedded
# digits, made-up speech and sentences) with fewer pairs, with unpaired samples, with wrong links, and with a few true pairs of what else
# never occurs together. One training is a point of a curve; everything else stays the same. Judged on validation samples.
#
#   sh examples/sweeps/run.sh --out DIR [--seeds 0] [--steps N] [--sweeps pairs,unpaired,noise,true] [--jobs N] [--smoke]
#
# mmtool, with its extras quickstart and plots, must be installed. Finished stages and trainings are kept: the same command continues an
# interrupted one. It ends with DIR/sweeps.png, DIR/sweeps.md and, on the last line of standard output, one JSON document with all points.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../steps.sh"

seeds=0 steps=600 sweeps=pairs,unpaired,noise,true jobs=2 limit=400 speech=400
parse out 'seeds steps sweeps jobs' smoke "$@"
among --sweeps "$sweeps" pairs unpaired noise true
[ -z "$smoke" ] || { steps=4 limit=20 speech=10; }

mkdir -p "$out"
cd "$out"
make raw python "$here/../quickstart_data.py" raw --seed 0
image() { # image FOLDER TOKENS
    make "$2" mmtool tokenize image "$1" --fit --name image --label-from-folder digit --augment 4 --patch 4 --codebook 64 \
        --set depth=1 --set width=32 --set steps=600 -o "$2"
}
image raw/digits tokens/image.tar
make tokens/speech.tar mmtool tokenize audio raw/speech --fit --name speech --label-pattern '^(?P<digit>[0-9])_' --patch 13 --codebook 256 \
    --set depth=2 --set width=96 --set steps=$speech -o tokens/speech.tar
make tokens/text.tar mmtool tokenize text raw/sentences.tsv --fit --set algorithm=bpe --vocabulary-size 512 --label digit -o tokens/text.tar

point() { # point NAME IMAGES RARE [OPTIONS of shard...]: both methods, trained and judged
    name=$1 images=$2 rare=$3
    shift 3
    make "shards/$name" mmtool shard "$images" tokens/speech.tar tokens/text.tar --align digit --pair image,text --pair image,speech "$@" \
        -o "shards/$name"
    say mmtool compare "shards/$name" --methods commutative --variant "loretta:loretta:rare=$rare" --chain commutative --seeds "$seeds" \
        --jobs "$jobs" --preset tiny --set shape.depth=3 --set shape.width=128 --set compile=off --batch-tokens 1024 \
        --steps "$steps" --split validation --label digit --limit "$limit" --temperature 0.5 --contact-samples 0 --quiet -o "points/$name"
}
swept() { case ,$sweeps, in *,"$1",*) ;; *) return 1 ;; esac; }

point all tokens/image.tar 0
! swept pairs || for pairs in 10 30 100; do point "pairs-$pairs" tokens/image.tar 0 --pairs-per-class $pairs; done
! swept unpaired || for share in 0.5 0.9; do point "unpaired-$share" tokens/image.tar 0 --missing-rate $share; done
! swept noise || for share in 0.2 0.4; do
    make "noise-$share" python "$here/wrong_labels.py" raw/digits "noise-$share" --share $share
    image "noise-$share" "tokens/image-noise-$share.tar"
    point "noise-$share" "tokens/image-noise-$share.tar" 0
done
! swept true || for share in 0.0125 0.05 0.15; do point "true-$share" tokens/image.tar 0.2 --pair "speech,text=$share"; done
python "$here/plot.py" points sweeps
