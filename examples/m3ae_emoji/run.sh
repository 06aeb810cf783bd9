#!/bin/sh
# M3AE (arXiv 2205.14204) on a small true image-text set: 1,644 emoji, 32 x 32 pixels as 4 x 4 patches beside their names. Asked by linear
# probes of the group of an emoji (nine classes), with every training for the same steps of the same number of tokens:
#   ratios     which share of the words should be hidden in training? (the paper: the more, up to 90 %, the better)
#   image-only are images learned better beside their names than by masked images alone?
#   unpaired   a quarter of the training samples are pairs, the others lack picture or name: do these help?
# The report on the ratios holds a sheet of reconstructions.
#
#   sh examples/m3ae_emoji/run.sh --data DIR --out DIR [--seeds 0,1,2] [--steps N] [--batch-tokens B] [--split validation|test] [--smoke]
#
# DIR/emoji/emoji32.npz holds images, name, tags and group. Finished stages and trainings are kept: the same command continues an
# interrupted one. The last line of standard output is one JSON document with all results.
set -eu
. "$(dirname "$0")/../steps.sh"

seeds=0,1,2 steps=1000 batch_tokens=4096 split=test
parse 'data out' 'seeds steps batch_tokens split' smoke "$@"
[ -z "$smoke" ] || { seeds=0 steps=10 batch_tokens=1024; }

# compare SHARDS NAME OPTIONS...: trainings of one question, judged alike; its JSON goes to NAME.json. Compiling would take as long as it
# saves; nothing is hidden whole and no length told (hide_share, length_weight), as in the paper
compare() {
    shards=$1 name=$2
    shift 2
    results "$out/$name" mmtool compare "$shards" --seeds "$seeds" --preset tiny --set shape.width=128 --set compile=off --steps "$steps" \
        --batch-tokens "$batch_tokens" --set optimizer=muon --set validation_samples=0 --set checkpoint_every=0 --label group --split "$split" \
        --json -o "$out/$name" "$@"
}

emoji=$data/emoji/emoji32.npz fractions='0.7 0.1 0.2'
make "$out/tokens/image.tar" mmtool tokenize image "$emoji" --fit --as patches --patch 4 --label group --label tags --fractions $fractions \
    -o "$out/tokens/image.tar"
make "$out/tokens/text.tar" mmtool tokenize text "$emoji" --fit --key-column none --text-column name --label group --label tags \
    --fractions $fractions --set algorithm=bpe --vocabulary-size 1024 -o "$out/tokens/text.tar"
make "$out/shards" mmtool shard "$out/tokens/image.tar" "$out/tokens/text.tar" --by-row --fractions $fractions -o "$out/shards"
make "$out/shards-holes" mmtool shard "$out/tokens/image.tar" "$out/tokens/text.tar" --by-row --missing-rate 0.75 \
    --fractions $fractions -o "$out/shards-holes"

compare "$out/shards" ratios --task probe --reconstructions --contact-samples 12 \
    --variant text-15:m3ae:hide_share=0,length_weight=0,method.mask_ratios.text=0.15 \
    --variant text-50:m3ae:hide_share=0,length_weight=0,method.mask_ratios.text=0.5 \
    --variant text-75:m3ae:hide_share=0,length_weight=0,method.mask_ratios.text=0.75 \
    --variant text-90:m3ae:hide_share=0,length_weight=0,method.mask_ratios.text=0.9 \
    --variant image-only:m3ae:modalities=image
compare "$out/shards-holes" unpaired --task probe --variant paired-and-unpaired:m3ae:hide_share=0,length_weight=0 \
    --variant paired-alone:m3ae:hide_share=0,length_weight=0,least_modalities=2
python3 "$(dirname "$0")/../m3ae_summary.py" --out "$out" ratios unpaired --difference ratios:text-75:image-only \
    --difference ratios:text-75:text-15 --difference unpaired:paired-and-unpaired:paired-alone
