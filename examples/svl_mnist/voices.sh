#!/bin/sh
# What does transitive training add to asking twice? LoReTTa beside the commutative method chained through the link, on SVL-MNIST in voices
# that no training has heard: several divisions of the data, several seeds of training in each. To train about equally long, the commutative
# method, whose steps generate nothing, takes more of them. The model is the quickstart's.
#
#   sh examples/svl_mnist/voices.sh --data DIR --out DIR [--divisions 3,22,28] [--seeds 0,1,2,3,4] [--steps N] [--commutative-steps N]
#                                   [--split test|validation] [--jobs N] [--no-compile]
#
# DIR as of run.sh. Finished stages and trainings are kept: the same command continues an interrupted one. It ends with DIR/voices.md and, on
# the last line of standard output, one JSON document.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../steps.sh"

divisions=3,22,28 seeds=0,1,2,3,4 steps=1200 commutative_steps=1600 split=test jobs=2
parse 'data out' 'divisions seeds steps commutative_steps split jobs' no_compile "$@"

for division in $(printf '%s' "$divisions" | tr , ' '); do
    say sh "$here/run.sh" --data "$data" --out "$out/$division" --data-seed "$division" --speakers-apart --seeds "$seeds" \
        --methods commutative --steps "$commutative_steps" --variant "loretta:loretta:steps=$steps" --set shape.depth=3 --set shape.width=128 \
        --guidance 0 --split "$split" --jobs "$jobs" ${no_compile:+--no-compile}
done
python "$here/voices_table.py" "$out" $(printf '%s' "$divisions" | tr , ' ')
