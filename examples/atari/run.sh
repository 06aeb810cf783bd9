#!/bin/sh
# Atari: what is seen (a long exposure of a second of play), what is heard, and what is done (actions and rewards) of four games.
# The pairs are true ones, moments of the same play: training holds (frames, audio) and (frames, actions) of disjoint clips, never
# (audio, actions). Every method takes the same steps and is judged on held-out episodes by the scene: which game, and whether
# shots are fired.
#
#   sh examples/atari/run.sh --data DIR --out DIR [--clips N] [--seeds 0,1,2] [--steps N | --minutes M] [--preset P] [--batch-tokens B]
#                            [--methods causal,loretta] [--task impute,retrieval,...] [--label scene|game]
#                            [--split validation|test] [--guidance G] [--jobs N] [--smoke]
#
# Clips are generated into DIR (by ale-py, nothing is downloaded) unless it holds some. Finished stages and trainings are kept: the
# same command continues an interrupted one. --jobs: trainings side by side (2). The last line of standard output is one JSON document
# with all results.
set -eu
. "$(dirname "$0")/../steps.sh"

clips=8000 seeds=0 steps=1600 minutes='' preset=tiny batch_tokens=2048 jobs=2 guidance=1
task=impute,retrieval,probe label=scene split=validation
methods=causal,masked,contrastive,cm3,commutative,loretta
parse 'data out' 'clips seeds steps minutes preset batch_tokens methods task label split guidance jobs' smoke "$@"
codec='' limit=1000 candidates=100
if [ -n "$smoke" ]; then
    clips=640 preset=tiny minutes=0.3 codec='--set steps=60' limit=100 candidates=20 methods=commutative,loretta
fi
budget="--steps $steps"
[ -z "$minutes" ] || budget="--minutes $minutes"

tokens=$out/tokens shards=$out/shards
known="--labels $data/labels.csv --group-column episode"
make "$data/labels.csv" python "$(dirname "$0")/make_clips.py" "$data" --clips "$clips"
make "$tokens/frames.tar" mmtool tokenize image "$data/frames" --fit --name frames $known --patch 8 --codebook 1024 $codec \
    -o "$tokens/frames.tar"
make "$tokens/audio.tar" mmtool tokenize audio "$data/audio" --fit $known --patch 8 --set trim_db=0 --set normalise=false $codec \
    -o "$tokens/audio.tar"
make "$tokens/actions.tar" mmtool tokenize trajectory "$data/actions" --fit --name actions $known --set streams=actions,rewards \
    --set num_actions=18 --set binning=quantile -o "$tokens/actions.tar"
make "$shards" mmtool shard "$tokens/frames.tar" "$tokens/audio.tar" "$tokens/actions.tar" --pair frames,audio --pair frames,actions \
    -o "$shards"

say mmtool compare "$shards" --methods "$methods" --seeds "$seeds" --jobs "$jobs" --preset "$preset" --set optimizer=muon \
    --batch-tokens "$batch_tokens" $budget --task "$task" --split "$split" --label "$label" --limit "$limit" --candidates "$candidates" \
    --temperature 0.2,actions=1 --guidance "$guidance" --json -o "$out/comparison"
