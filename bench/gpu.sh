#!/usr/bin/env bash
# Everything that a GPU can prove or measure, within ten minutes: build for the GPU found, the
# probes, kernel_check, the kernel benchmarks; FlashInfer as a peer where its source is given (it
# compiles its kernels first: up to five minutes more).
#
#   bench/gpu.sh [--out FOLDER] [--flashinfer FOLDER]
#
# Writes FOLDER (default: results/gpu-<name>): environment.txt, probes.txt, kernel_check.txt,
# kernels.jsonl, clocks.csv, flashinfer.txt, summary.txt. Exit codes: 0 all passed, 1 a check
# failed, 2 something is missing here.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

out='' flashinfer=''
while [ $# -gt 0 ]; do
  case $1 in
  --out | --flashinfer)
    [ $# -gt 1 ] || { echo "$1 lacks its folder" >&2; exit 2; }
    if [ "$1" = --out ]; then out=$2; else flashinfer=$2; fi
    shift 2
    ;;
  -h | --help) sed -n '2,10p' "$0"; exit 0 ;;
  *) echo "unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done

missing=()
command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU' ||
  missing+=("a GPU with its driver (nvidia-smi lists none)")
command -v nvcc >/dev/null || missing+=("the CUDA toolkit (nvcc on PATH, 12.8 or newer)")
for tool in cmake ninja pkg-config gcc g++; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
for package in jansson libpcre2-8; do
  pkg-config --exists "$package" 2>/dev/null || missing+=("$package with its headers")
done
[ -z "$flashinfer" ] || [ -d "$flashinfer/benchmarks" ] || missing+=("$flashinfer/benchmarks")
if [ ${#missing[@]} -gt 0 ]; then
  echo "bench/gpu.sh cannot run here. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 2
fi

name=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '. ')
if [ "$capability" -lt 80 ]; then
  echo "bench/gpu.sh needs a GPU of compute capability 8.0 or newer; $name has $capability" >&2
  exit 2
fi
case $name in # the described figures that shares are taken of
*GH200* | *PCIe* | *PCIE* | *NVL* | *-40GB* | *Laptop*) described='' ;; # other memory or clocks
*H200*) described=h200 ;;
*H100* | *H800*) described=h100 ;;
*A100* | *A800*) described=a100 ;;
*B200*) described=b200 ;;
*4090*) described=rtx4090 ;;
*5090*) described=rtx5090 ;;
*) described='' ;;
esac
if [ -z "$described" ]; then
  described=h100
  echo "no figures describe $name: shares of bandwidth are of the H100's" >&2
fi
[ -n "$out" ] || out=results/gpu-$(tr -c 'A-Za-z0-9\n' '-' <<<"$name" | tr -s '-' | sed 's/-$//')
mkdir -p "$out"
build=build/gpu
status=0 begin=$SECONDS

# step NAME SECONDS COMMAND..: its output goes to NAME; a failure is noted and the rest goes on.
step() {
  local file=$1 limit=$2
  shift 2
  if timeout "$limit" "$@" >"$out/$file" 2>&1; then
    echo "ok      $file, $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
  else
    echo "FAILED  $file (exit code $?), $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
    tail -n 5 "$out/$file"
    status=1
  fi
}

: >"$out/summary.txt"
{
  date -u
  git rev-parse HEAD
  git status --short
  nvcc --version | tail -n 2
  nvidia-smi -q -i 0 -d CLOCK,POWER,TEMPERATURE,ECC,PERFORMANCE
} >"$out/environment.txt" 2>&1

step build.txt 240 bash -c "cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CUDA_ARCHITECTURES=$capability && cmake --build $build --target kernel_check gpu_bench &&
  nvcc -std=c++17 -O3 -I. -arch=sm_$capability -o $build/gpu_probes bench/gpu_probes.cu"
if [ "$status" -ne 0 ]; then exit 1; fi

reasons=clocks_event_reasons.active # its name since driver 535
nvidia-smi -i 0 --format=csv --query-gpu=$reasons >/dev/null 2>&1 ||
  reasons=clocks_throttle_reasons.active
nvidia-smi -i 0 -lms 500 --format=csv \
  --query-gpu=timestamp,clocks.sm,clocks.mem,temperature.gpu,power.draw,$reasons \
  >"$out/clocks.csv" 2>&1 &
clocks=$!
trap 'kill "$clocks" 2>/dev/null' EXIT

step probes.txt 30 "$build/gpu_probes"
step kernel_check.txt 120 "$build/kernel_check" --shapes configs/shapes/edge_shapes.json \
  --shapes configs/shapes/tree_shapes.json --shrink 8
step kernels.jsonl 120 "$build/gpu_bench" --shapes configs/shapes/tree_shapes.json \
  --gpu "configs/gpus/$described.json"
if [ -n "$flashinfer" ]; then
  step flashinfer.txt 300 env PYTHONPATH="$flashinfer" python3 \
    "$flashinfer/benchmarks/bench_batch_attention.py"
fi
echo "$name, $((SECONDS - begin)) s; clocks beside it: $out/clocks.csv" | tee -a "$out/summary.txt"
exit "$status"
