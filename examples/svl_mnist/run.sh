#!/bin/sh
# SVL-MNIST (LoReTTa, arXiv 2305.14243, section 4): images of MNIST, speech of the Free Spoken Digit Dataset and queries of CLINC150, whose
# ten domains stand for the ten digits. Training holds two of the three pairs, aligned by class, with disjoint pools; the third
# pair is never seen. Every method takes the same steps and is judged on held-out images, recordings and queries.
#
#   sh examples/svl_mnist/run.sh --data DIR --out DIR [--link image|speech|text] [--seeds 0,1,2] [--steps N | --minutes M] [--preset P]
#                                [--batch-tokens B] [--methods causal,loretta] [--ablation] [--task impute,confidence,...]
#                                [--split validation|test] [--limit N] [--guidance G] [--data-seed N] [--speakers-apart] [--oracle]
#                                [--variant NAME:METHOD:KEY=VALUE,...] [--set KEY=VALUE] [--jobs N] [--no-compile] [--smoke]
#
# DIR/mnist/train-images-idx3-ubyte.gz (and -labels-idx1-), DIR/fsdd/*.wav, DIR/clinc150/{train,val}.tsv. --data-seed divides them into
# train, validation and test in another way. --speakers-apart: all recordings of a speaker go to one of these, so that the voices of test
# samples are new; with six speakers some data seeds leave a split without any (3, 22, 28 and 30 do not). --oracle: a column that has seen
# the third pair. --variant: a column with other settings; --set: a setting of every training; both repeatable. --ablation compares
# the choices of LoReTTa with each other. Finished stages and trainings are kept: the same command continues an interrupted one. The last
# line of standard output is one JSON document with all results. --jobs: trainings side by side (2), each with its share of the cores.
set -eu
. "$(dirname "$0")/../steps.sh"

link=image seeds=0 steps=2400 minutes='' preset=tiny batch_tokens=2048 split=validation task=impute limit=500 guidance=1 data_seed=0 jobs=2
methods=causal,masked,contrastive,cm3,commutative,loretta variant='' set=''
parse 'data out' 'link seeds steps minutes preset batch_tokens methods task split limit guidance data_seed jobs variant... set...' \
    'ablation speakers_apart oracle no_compile smoke' "$@"
case $link in
    image) pairs='--pair image,text --pair image,speech' ;;
    speech) pairs='--pair image,speech --pair speech,text' ;;
    text) pairs='--pair image,text --pair speech,text' ;;
    *) refuse "--link is image, speech or text, not $link" ;;
esac
codec='' augment=9 dealt='' learned='' compile=${no_compile:+--set compile=off}
if [ -n "$smoke" ]; then
    preset=tiny steps=10 batch_tokens=1024 minutes='' limit=16 methods=commutative,loretta compile='--set compile=off'
    codec='--set steps=40' augment=1 dealt='--pairs-per-class 200 --aligned-per-class 20' learned='--train-limit 150'
fi

budget="--steps $steps"
[ -z "$minutes" ] || budget="--minutes $minutes"

tokens=$out/tokens shards=$out/shards-$link fractions='' group='' more=''
[ -z "$speakers_apart" ] || { fractions='--fractions 0.7 0.15 0.15'; group='--group-column speaker'; }
make "$tokens/image.tar" mmtool tokenize image "$data/mnist/train-images-idx3-ubyte.gz" --fit --label digit=label \
    --codebook 64 $codec $fractions --seed "$data_seed" -o "$tokens/image.tar"
make "$tokens/speech.tar" mmtool tokenize audio "$data/fsdd" --fit --name speech --augment "$augment" --codebook 64 \
    --label-pattern '^(?P<digit>[0-9])_(?P<speaker>[a-z]+)_' $codec $group $fractions --seed "$data_seed" -o "$tokens/speech.tar"
make "$tokens/text.tar" mmtool tokenize text "$data/clinc150/train.tsv" "$data/clinc150/val.tsv" --fit --columns digit,domain,intent,text \
    --key-column none --text-column text --label digit --vocabulary-size 1024 $fractions --seed "$data_seed" -o "$tokens/text.tar"
make "$shards" mmtool shard "$tokens/image.tar" "$tokens/speech.tar" "$tokens/text.tar" --align digit $pairs $dealt $fractions --seed "$data_seed" -o "$shards"
if [ -n "$oracle" ]; then
    make "$shards-oracle" mmtool shard "$tokens/image.tar" "$tokens/speech.tar" "$tokens/text.tar" --align digit \
        --pair image,speech --pair image,text --pair speech,text $dealt $fractions --seed "$data_seed" -o "$shards-oracle"
    more="--oracle $shards-oracle"
fi

set --
while IFS= read -r column; do [ -z "$column" ] || set -- "$@" --variant "$column"; done <<END
$variant
END
while IFS= read -r setting; do [ -z "$setting" ] || set -- "$@" --set "$setting"; done <<END
$set
END
if [ -n "$ablation" ]; then   # one choice changed at a time
    methods=commutative,loretta
    for choice in any-draw:draws=1 temperature-1:temperature=1 likeliest:temperature=0,draws=1 top-5:top_k=5 \
        share-half:transitive_share=0.5 share-three-quarters:transitive_share=0.75 \
        undistilled:distillation=0 from-the-start:warmup=0 predict-pseudo:pseudo_loss=true pairs-only:all_share=0 reused:refresh=$steps spans-within:across_segments=false; do
        set -- "$@" --variant "${choice%%:*}:loretta:${choice#*:}"
    done
    set -- "$@" --variant "commutative-longer:commutative:steps=$((steps * 3 / 2))"
fi
case ,$methods,$task, in *,commutative,*impute,*) more="$more --chain commutative" ;; esac
say mmtool compare "$shards" --methods "$methods" "$@" --seeds "$seeds" --jobs "$jobs" --preset "$preset" --set optimizer=muon \
    --batch-tokens "$batch_tokens" $budget --task "$task" --split "$split" --label digit --limit "$limit" \
    --temperature 0.5,text=0.2,speech=1 --top-k 5 --guidance "$guidance" $more $learned $compile --json -o "$out/$link${ablation:+-ablation}"
