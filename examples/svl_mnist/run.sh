#!/bin/sh
# SVL-MNIST (LoReTTa, arXiv 2305.14243, section 4): images of MNIST, speech of the Free Spoken Digit Dataset and queries of CLINC150, whose
# ten domains stand for the ten digits. Training holds two of the three pairs, aligned by class, with disjoint pools; the third
# pair is never seen. Every method trains for the same wall time and is judged on held-out images, recordings and queries.
#
#   sh examples/svl_mnist/run.sh --data DIR --out DIR [--link image|speech|text] [--seeds 0,1,2] [--minutes M] [--preset P] [--batch-tokens B]
#                                [--methods causal,loretta] [--task impute,retrieval,...] [--split validation|test] [--smoke]
#
# DIR/mnist/train-images-idx3-ubyte.gz (and -labels-idx1-), DIR/fsdd/*.wav, DIR/clinc150/{train,val}.tsv. Finished stages and trainings
# are kept: the same command continues an interrupted one. The last line of standard output is one JSON document with all results.
# On 2 cores the default (one link, one seed, six methods, 5 minutes each) ends within 45 minutes.
set -eu
data='' out='' link=image seeds=0 minutes=5 preset=tiny batch=2048 split=validation task=impute smoke=
methods=causal,masked,contrastive,cm3,commutative,loretta
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --smoke) smoke=1; shift; continue ;;
        --data) data=$2 ;;
        --out) out=$2 ;;
        --link) link=$2 ;;
        --seeds) seeds=$2 ;;
        --minutes) minutes=$2 ;;
        --preset) preset=$2 ;;
        --batch-tokens) batch=$2 ;;
        --methods) methods=$2 ;;
        --task) task=$2 ;;
        --split) split=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[ -n "$data" ] && [ -n "$out" ] || usage
case $link in
    image) pairs='--pair image,text --pair image,speech' ;;
    speech) pairs='--pair image,speech --pair speech,text' ;;
    text) pairs='--pair image,text --pair speech,text' ;;
    *) usage ;;
esac
codec='' limit=1000
if [ -n "$smoke" ]; then
    preset=tiny minutes=0.3 codec='--set steps=60' limit=100 methods=commutative,loretta
fi

. "$(dirname "$0")/../steps.sh"

tokens=$out/tokens shards=$out/shards-$link
make "$tokens/image.tar" mmtool tokenize image "$data/mnist/train-images-idx3-ubyte.gz" --fit --label digit=label \
    --codebook 64 $codec -o "$tokens/image.tar"
make "$tokens/speech.tar" mmtool tokenize audio "$data/fsdd" --fit --name speech --augment 9 \
    --label-pattern '^(?P<digit>[0-9])_(?P<speaker>[a-z]+)_' $codec -o "$tokens/speech.tar"
make "$tokens/text.tar" mmtool tokenize text "$data/clinc150/train.tsv" "$data/clinc150/val.tsv" --fit --columns digit,domain,intent,text \
    --text-column text --label digit -o "$tokens/text.tar"
make "$shards" mmtool shard "$tokens/image.tar" "$tokens/speech.tar" "$tokens/text.tar" --align digit $pairs -o "$shards"

say mmtool compare "$shards" --methods "$methods" --seeds "$seeds" --preset "$preset" --batch-tokens "$batch" --minutes "$minutes" \
    --task "$task" --split "$split" --label digit --limit "$limit" --json -o "$out/$link"
