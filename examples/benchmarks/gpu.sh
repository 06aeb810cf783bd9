#!/bin/sh
# What one GPU does with mmtool, as a table on standard output and as JSON: training and decoding at 124 M parameters, the same model in plain
# PyTorch, and 200 steps of the preset `large` on shards. All but the last took
# three minutes on an H100, compiling included.
#
#   sh examples/benchmarks/gpu.sh [--shards DIR] [--json FILE] [--only matmul,causal,masked,loretta,plain,decode,large] [--smoke]
#      [--profile]
#
# --shards: the training data of the last part (`examples/svl_mnist/run.sh` makes such; otherwise random codes). --smoke: tiny, on any machine.
# --profile: also prints the kernels of a training step that take longest.
set -eu
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu.py" "$@"
