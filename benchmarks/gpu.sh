#!/usr/bin/env bash
# All measurements on one GPU, in under nine minutes:
#
#     bash benchmarks/gpu.sh OUT [SENTENCES.txt]
#
# Needs torch, numpy, tokenizers and safetensors (matplotlib for the picture), but no Ray. Every part writes its output
# to the folder OUT. If a part fails, the others still run, and the exit status is 1.
# Environment variables:
#   PEER    command of another implementation that prints {"ms_per_iteration": ...} as its last line, to compare with
#   PYTHON  Python interpreter (default: python3)
#   FLAGS   settings for all parts, such as "--precision bfloat16"
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: bash benchmarks/gpu.sh OUT [SENTENCES.txt]}
mkdir -p "$out"
python=${PYTHON:-python3}
read -ra flags <<< "${FLAGS:-}"
data=()
[ -z "${2:-}" ] || data=(--data "$2")
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4
failed=0

# part NAME SECONDS COMMAND...: run the command, save its output and print it
part() {
    local name=$1 limit=$2
    shift 2
    echo "== $name: $*"
    timeout "$limit" "$@" > "$out/$name.txt" 2> "$out/$name.log" || { failed=1; echo "failed, or took more than $limit s"; tail -n 3 "$out/$name.log"; }
    cat "$out/$name.txt"
}

throughput=("$python" benchmarks/throughput.py --threads 4 --device cuda "${flags[@]}")
part captured 60 "${throughput[@]}" --config paper-snli --iterations 300 --samples 100000 "${data[@]}"
part bfloat16 60 "${throughput[@]}" --config paper-snli --iterations 300 --samples 2000 --precision bfloat16 "${data[@]}"
part called 60 "${throughput[@]}" --config paper-snli --iterations 100 --samples 2000 --cuda-graphs off "${data[@]}"
if [ -n "${PEER:-}" ]; then
    part peer 120 "${throughput[@]}" --config paper-snli --iterations 300 --samples 2000 --rounds 1 --peer "$PEER" "${data[@]}"
fi
for preset in yelp mnist; do
    part "$preset" 60 "${throughput[@]}" --config "$preset" --iterations 300 --samples 2000
done
for graphs in auto off; do
    part "kernels-$graphs" 60 "$python" benchmarks/kernels.py --config paper-snli --device cuda --cuda-graphs "$graphs" "${data[@]}" "${flags[@]}"
done
part floor 60 "$python" benchmarks/floor.py --config paper-snli --device cuda --iterations 200 "${flags[@]}"
part scaling 100 "$python" benchmarks/scaling.py --device cuda --most-seconds 10 --picture "$out/scaling.png" "${flags[@]}"
packing=("$python" benchmarks/packing.py --config paper-snli --device cuda --trials 1,2,4,8 --seconds 4 "${data[@]}" "${flags[@]}")
part packing 100 "${packing[@]}"
# CUDA's multi-process service runs kernels of several processes at the same time.
if command -v nvidia-cuda-mps-control > /dev/null; then
    pipes=$(mktemp -d)
    export CUDA_MPS_PIPE_DIRECTORY=$pipes CUDA_MPS_LOG_DIRECTORY=$pipes
    if nvidia-cuda-mps-control -d; then
        part packing-mps 100 "${packing[@]}"
        echo quit | nvidia-cuda-mps-control
    fi
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    rm -rf "$pipes"
fi
exit "$failed"
