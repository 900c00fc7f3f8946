#!/usr/bin/env bash
# Everything that a GPU can prove or measure: build for the GPU found; of the kernels the probes,
# kernel_check and their benchmarks; of whole steps, on random weights of a stated shape, what a
# steady step costs in each products mode with graphs and without, decode steps against sequential
# decoding, and sweeps over branches and prefix lengths. Within ten minutes for each part.
#
#   bench/gpu.sh [--part kernels|steps] [--random SHAPE.json] [--out FOLDER] [--flashinfer FOLDER]
#                [--dry-run]
#
# --random: the model's shape (configs/models/llama3-1b.json). --flashinfer: its source, as a peer of
# the kernels (it compiles its own first: up to five minutes more). --dry-run prints what would run.
# Writes FOLDER (default: results/gpu-<name>): environment.txt, info.txt, probes.txt,
# kernel_check.txt, kernels.jsonl, steps.jsonl, a result folder a sweep (decode, modes-*), clocks.csv,
# flashinfer.txt, summary.txt. Exit codes: 0 all passed, 1 a check failed, 2 something is missing
# here, or wrong usage.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

out='' flashinfer='' part=all dry='' shape=configs/models/llama3-1b.json
while [ $# -gt 0 ]; do
  case $1 in
  --out | --flashinfer | --part | --random)
    [ $# -gt 1 ] && [ -n "$2" ] || { echo "$1 lacks its value" >&2; exit 2; }
    case $1 in
    --out) out=$2 ;;
    --flashinfer) flashinfer=$2 ;;
    --part) part=$2 ;;
    --random) shape=$2 ;;
    esac
    shift 2
    ;;
  --dry-run) dry=yes; shift ;;
  -h | --help) sed -n '2,18p' "$0"; exit 0 ;;
  *) echo "unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done
case $part in all | kernels | steps) ;; *) echo "--part takes kernels or steps" >&2; exit 2 ;; esac
[ -f "$shape" ] || { echo "$shape: there is no such shape file" >&2; exit 2; }
has() { [ "$part" = all ] || [ "$part" = "$1" ]; }

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
if [ ${#missing[@]} -gt 0 ] && [ -z "$dry" ]; then
  echo "bench/gpu.sh cannot run here. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 2
fi

name='the GPU' capability=90
if [ -z "$dry" ]; then
  name=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0)
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '. ')
  if [ "$capability" -lt 80 ]; then
    echo "bench/gpu.sh needs a GPU of compute capability 8.0 or newer; $name has $capability" >&2
    exit 2
  fi
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
  [ -n "$dry" ] || echo "no figures describe $name: shares of bandwidth are of the H100's" >&2
fi
[ -n "$out" ] || out=results/gpu-$(tr -c 'A-Za-z0-9\n' '-' <<<"$name" | tr -s '-' | sed 's/-$//')
build=build/gpu
status=0 begin=$SECONDS

# step NAME SECONDS COMMAND..: its output goes to NAME; a failure is noted and the rest goes on.
step() {
  local file=$1 limit=$2
  shift 2
  if [ -n "$dry" ]; then
    printf '%-20s %4s s  %s\n' "$file" "$limit" "$*"
    return
  fi
  if timeout "$limit" "$@" >"$out/$file" 2>&1; then
    echo "ok      $file, $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
  else
    echo "FAILED  $file (exit code $?), $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
    tail -n 5 "$out/$file"
    status=1
  fi
}

# sweep NAME SECONDS CONFIG OPTION..: a sweep into a result folder of its own.
sweep() {
  local folder=$out/$1 limit=$2 config=$3
  shift 3
  if [ -z "$dry" ] && [ -e "$folder" ]; then
    if [ ! -f "$folder/manifest.json" ]; then
      echo "FAILED  $folder exists and is no result folder" | tee -a "$out/summary.txt"
      status=1
      return
    fi
    rm -rf "$folder"
  fi
  step "$(basename "$folder").txt" "$limit" "$build/coppice" bench "configs/sweeps/$config.json" \
    --random "$shape" --backend cuda --compute bf16 "$@" --out "$folder"
}

if [ -z "$dry" ]; then
  mkdir -p "$out"
  : >"$out/summary.txt"
  {
    date -u
    git rev-parse HEAD
    git status --short
    nvcc --version | tail -n 2
    nvidia-smi -q -i 0 -d CLOCK,POWER,TEMPERATURE,ECC,PERFORMANCE
    echo "steps: random weights of $shape"
  } >"$out/environment.txt" 2>&1
fi

targets=()
if has kernels; then targets+=(kernel_check gpu_bench); fi
if has steps; then targets+=(coppice coppice_cuda step_bench); fi
step build.txt 300 bash -c "cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release \
-DCMAKE_CUDA_ARCHITECTURES=$capability && cmake --build $build --target ${targets[*]} && \
nvcc -std=c++17 -O3 -I. -arch=sm_$capability -o $build/gpu_probes bench/gpu_probes.cu"
if [ "$status" -ne 0 ]; then exit 1; fi

if [ -z "$dry" ]; then
  reasons=clocks_event_reasons.active # its name since driver 535
  nvidia-smi -i 0 --format=csv --query-gpu=$reasons >/dev/null 2>&1 ||
    reasons=clocks_throttle_reasons.active
  nvidia-smi -i 0 -lms 500 --format=csv \
    --query-gpu=timestamp,clocks.sm,clocks.mem,temperature.gpu,power.draw,$reasons \
    >"$out/clocks.csv" 2>&1 &
  clocks=$!
  trap 'kill "$clocks" 2>/dev/null' EXIT
fi

step probes.txt 30 "$build/gpu_probes"
if has kernels; then
  step kernel_check.txt 120 "$build/kernel_check" --shapes configs/shapes/edge_shapes.json \
    --shapes configs/shapes/tree_shapes.json --shrink 8
  step kernels.jsonl 120 "$build/gpu_bench" --shapes configs/shapes/tree_shapes.json \
    --gpu "configs/gpus/$described.json"
  if [ -n "$flashinfer" ]; then
    step flashinfer.txt 300 env PYTHONPATH="$flashinfer" python3 \
      "$flashinfer/benchmarks/bench_batch_attention.py"
  fi
fi
if has steps; then
  step info.txt 30 "$build/coppice" info --random "$shape"
  step steps.jsonl 150 "$build/step_bench" --random "$shape" --backend cuda --compute bf16 --json
  # Sequential decoding of as many tokens is the long half: 16,352 steps a prefix.
  sweep decode 180 gpu-decode
  sweep modes-fast 120 gpu-modes --products fast
  sweep modes-invariant 120 gpu-modes --products invariant
  sweep modes-fast-eager 120 gpu-modes --products fast --eager
  sweep modes-invariant-eager 120 gpu-modes --products invariant --eager
  sweep modes-fast-timed 120 gpu-modes --products fast --time-every 8
fi
[ -z "$dry" ] || exit 0
echo "$name, $((SECONDS - begin)) s; clocks beside it: $out/clocks.csv" | tee -a "$out/summary.txt"
exit "$status"
