#!/bin/sh
# Missing modalities by joint embedding of frozen unimodal encoders (Kim and Kim, arXiv 2407.12616). Encoders are pretrained here, each on one
# modality alone, by masked modelling. On top of them `mmtool compare --encoder` trains the method and what it is compared with on samples of
# which a share has lost a modality, and measures all of them while a growing share of held-out samples loses modalities. M3AE and LoReTTa,
# pretrained on the same samples with the same modalities missing, are asked through linear probes; every pair of modalities occurs, so LoReTTa has
# nothing to chain, and is the commutative method.
#
#   svl    images of MNIST, speech of the Free Spoken Digit Dataset and queries of CLINC150, aligned by digit -> the digit
#   tcga   messenger RNA, micro RNA and proteins (RPPA) of patients who have all three -> the type of cancer
#
#   sh examples/joint_embedding/run.sh --data DIR --out DIR [--tasks svl,tcga] [--seeds 0,1,2,3,4] [--steps N] [--encoder-steps N]
#                                      [--missing-rate SHARE] [--num-missing N] [--methods NAME,...] [--split validation|test] [--ablation] [--smoke]
#
# --ablation: also what every choice of the method is worth, on validation samples with three seeds.
#
# DIR/mnist/train-images-idx3-ubyte.gz (and -labels-idx1-), DIR/fsdd/*.wav, DIR/clinc150/{train,val}.tsv; DIR/tcga/{mrna,mirna,rppa}.csv.gz with
# a column patient, DIR/tcga/clinical.csv with patient and cancer. Finished stages and trainings are kept: the same command continues an
# interrupted one. The last line of standard output is one JSON document with all results.
set -eu
. "$(dirname "$0")/../steps.sh"

tasks=svl,tcga seeds=0,1,2,3,4 steps=600 encoder_steps=1500 generative_steps=750 missing_rate=0.7 num_missing=1 split=validation
alone='' generative='' few_seeds=0,1,2
unset methods
parse 'data out' 'tasks seeds steps encoder_steps missing_rate num_missing methods split' 'ablation smoke' "$@"
among --tasks "$tasks" svl tcga
[ -n "${methods+named}" ] || { methods=joint,mse,ridge,mean,zeros,dropout,late,complete alone=1 generative='commutative m3ae'; }
codec='' limit=1000 per_class=200 compile=--compile
if [ -n "$smoke" ]; then
    seeds=0 few_seeds=0 steps=20 encoder_steps=20 generative_steps=20 codec='--set steps=60'
    limit=100 per_class=20 methods=joint,zeros alone='' compile=--no-compile
fi
fractions='0.7 0.1 0.2'

encoder() { # encoder FOLDER NAME: pretrain on the training split of one modality
    say mmtool pretrain "$1/tokens/$2.tar" --method masked --preset tiny --set shape.depth=2 --set shape.width=128 --set shape.bias=true \
        --set optimizer=muon --set value_epochs=0 --steps "$encoder_steps" --batch-tokens 4096 $compile -o "$1/encoders/$2"
}

curves() { # curves FOLDER LABEL NAME...: all methods and seeds on the encoders of these modalities
    folder=$1 columns=$methods
    label=$2 options=
    shift 2
    for name in "$@"; do
        options="$options --encoder $name=$folder/encoders/$name"
        [ -z "$alone" ] || columns=$columns,alone:$name
    done
    options="$options --label $label --kind single --missing-rate $missing_rate --num-missing $num_missing --limit $limit"
    options="$options --steps $steps --set batch=32 --set learning_rate=0.005"
    results "$folder/results" mmtool compare "$folder/shards" $options --methods "$columns" --seeds "$seeds" --split "$split" --json -o "$folder/curves"
    [ -z "$ablation" ] || ablate
}

ablate() { # ablate: the method with one choice changed at a time, with the folder and options of `curves`
    set --
    for change in objective=mse objective=cosine objective=none variance=0.0 covariance=0.0 stop_gradient=false joint_weight=0.004 joint_weight=0.4 \
        prompts=0 prompts=16 replace=0.0 replace=0.8 predictor=linear predictor=transformer tune=lora fusion=logits incomplete=left_out; do
        set -- "$@" --variant "$(echo "$change" | sed 's,[=_],-,g'):joint:$change"
    done
    say mmtool compare "$folder/shards" $options --methods joint,dropout,ridge "$@" --seeds "$few_seeds" --split validation -o "$folder/ablation"
}

generate() { # generate FOLDER LABEL TOKENS...: both methods on the same missing modalities
    folder=$1 label=$2 runs=
    shift 2
    [ -n "$generative" ] || return 0
    make "$folder/shards-holes" mmtool shard "$@" --missing-rate "$missing_rate" --num-missing "$num_missing" -o "$folder/shards-holes"
    for method in $generative; do
        for seed in $(echo "$few_seeds" | tr , ' '); do
            run=$folder/generative/$method-$seed runs="$runs --run $method=$folder/generative/$method-$seed"
            say mmtool pretrain "$folder/shards-holes" --method "$method" --preset tiny --set shape.width=128 --set optimizer=muon --set value_epochs=0 \
                --steps "$generative_steps" --batch-tokens 4096 --seed "$seed" $compile -o "$run"
        done
    done
    say python3 "$(dirname "$0")/generative.py" "$folder/shards" $runs --label "$label" --missing-rate "$missing_rate" --num-missing "$num_missing" \
        --split "$split" --limit "$limit" --out "$folder/generative.json"
}

svl() {
    folder=$out/svl tokens=$out/svl/tokens
    make "$tokens/image.tar" mmtool tokenize image "$data/mnist/train-images-idx3-ubyte.gz" --fit --label digit=label \
        --codebook 64 $codec -o "$tokens/image.tar"
    make "$tokens/speech.tar" mmtool tokenize audio "$data/fsdd" --fit --name speech \
        --label-pattern '^(?P<digit>[0-9])_(?P<speaker>[a-z]+)_' $codec -o "$tokens/speech.tar"
    make "$tokens/text.tar" mmtool tokenize text "$data/clinc150/train.tsv" "$data/clinc150/val.tsv" --fit \
        --columns digit,domain,intent,text --key-column none --text-column text --label digit -o "$tokens/text.tar"
    set -- "$tokens/image.tar" "$tokens/speech.tar" "$tokens/text.tar" --align digit --pairs-per-class "$per_class" --aligned-per-class 100
    make "$folder/shards" mmtool shard "$@" -o "$folder/shards"
    for name in image speech text; do encoder "$folder" "$name"; done
    curves "$folder" digit image speech text
    generate "$folder" digit "$@"
}

tcga() {
    folder=$out/tcga tokens=$out/tcga/tokens
    for table in mrna:48 mirna:32 rppa:32; do
        name=${table%:*}
        make "$tokens/$name.tar" mmtool tokenize table "$data/tcga/$name.csv.gz" --fit --name "$name" --scheme codec \
            --set components="${table#*:}" --n-bins 16 --set min_present=0.9 --key-column patient --fractions $fractions -o "$tokens/$name.tar"
    done
    set -- "$tokens/mrna.tar" "$tokens/mirna.tar" "$tokens/rppa.tar" --labels "$data/tcga/clinical.csv" --fractions $fractions --least 3
    make "$folder/shards" mmtool shard "$@" -o "$folder/shards"
    for name in mrna mirna rppa; do encoder "$folder" "$name"; done
    curves "$folder" cancer mrna mirna rppa
    generate "$folder" cancer "$@"
}

for task in $(echo "$tasks" | tr , ' '); do
    "$task"
done
python3 - "$out" $(echo "$tasks" | tr , ' ') <<'EOF'
import json, os, sys
out, *tasks = sys.argv[1:]
files = [(task, f"{out}/{task}/{name}.json") for task in tasks for name in ("results", "generative")]
results = [{**row, "task": task} for task, file in files if os.path.exists(file) for row in json.load(open(file))["results"]]
print(json.dumps({"results": results, "report": [f"{out}/{task}/curves" for task in tasks]}))
EOF
