#!/usr/bin/env bash
# A time line of chosen steps on a GPU, by Nsight Systems: kernels, copies, launches, and the ranges
# that the command names. What to look for: bench/PROFILING.md.
#
#   bench/profile_nsys.sh [--random SHAPE.json | --model FILE]
#                         [--sweep CONFIG.json | --trajectories FILE [--join RULE]]
#                         [--steps A-B] [--products MODE] [--eager] [--graph-whole]
#                         [--backend NAME] [--out FOLDER] [--dry-run]
#
# Writes FOLDER (default: out/profile-nsys): steps.nsys-rep (open it with nsys-ui), summary.txt (its
# tables), results/ (the run's own). Steps count from 1 over the sweep's first section. Captured
# graphs are shown node by node, which costs some time a node; --graph-whole shows each as one bar
# and keeps the gaps between steps true. Exit codes: 0 a report was written, 1 the run failed or had
# fewer steps, 2 something is missing here, or wrong usage.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
. bench/profile_common.sh

out=out/profile-nsys graph=node
while [ $# -gt 0 ]; do
  profile_option "$@"
  if [ "$taken" -gt 0 ]; then shift "$taken"; continue; fi
  case $1 in
  --graph-whole) graph=graph; shift ;;
  -h | --help) sed -n '2,16p' "$0"; exit 0 ;;
  *) echo "unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done
profile_command "$out/results"
nsys=(nsys profile --trace=cuda,nvtx,cublas --sample=none --cpuctxsw=none
  --cuda-graph-trace="$graph" --capture-range=cudaProfilerApi --capture-range-end=stop
  --force-overwrite=true --output="$out/steps")
stats=(nsys stats --force-export=true --format=table
  --report=nvtx_pushpop_sum,cuda_gpu_kern_sum,cuda_gpu_mem_size_sum,cuda_gpu_mem_time_sum,cuda_api_sum
  "$out/steps.nsys-rep")
if [ -n "$dry" ]; then
  profile_show "${nsys[@]}" "${run[@]}"
  profile_show "${stats[@]}"
  exit 0
fi
profile_needs nsys "Nsight Systems, in the CUDA toolkit or from developer.nvidia.com"
profile_folder
rm -f "$out/steps.nsys-rep"
"${nsys[@]}" "${run[@]}" || { echo "the run failed" >&2; exit 1; }
if [ ! -f "$out/steps.nsys-rep" ]; then
  echo "no report was written: had the run as many steps as $steps?" >&2
  exit 1
fi
"${stats[@]}" >"$out/summary.txt" 2>&1 || echo "the tables could not be made: see $out/summary.txt" >&2
echo "time line: $out/steps.nsys-rep (nsys-ui); tables: $out/summary.txt"
