#!/usr/bin/env bash
# One kernel of chosen steps on a GPU, by Nsight Compute: what memory delivered, what the caches did,
# how many blocks were resident. What to look for: bench/PROFILING.md.
#
#   bench/profile_ncu.sh [--random SHAPE.json | --model FILE]
#                        [--sweep CONFIG.json | --trajectories FILE [--join RULE]]
#                        [--steps A-B] [--products MODE] [--eager]
#                        [--kernel REGEX] [--launches N] [--warm-cache]
#                        [--backend NAME] [--out FOLDER] [--dry-run]
#
# Writes FOLDER (default: out/profile-ncu): kernel.ncu-rep (open it with ncu-ui), details.txt,
# results/ (the run's own, whose times are not to be used: a kernel is run again for every pass).
# --kernel picks by name, default the tree attention; the first N launches of it in the steps are
# taken (4). Caches are emptied before each pass, so that reads of memory are the first touches;
# --warm-cache leaves them as the step had them. Exit codes: 0 a report was written, 1 the run
# failed or no kernel matched, 2 something is missing here, or wrong usage.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
. bench/profile_common.sh

out=out/profile-ncu steps=50-50 kernel=attention_tree_kernel launches=4 cache=all
while [ $# -gt 0 ]; do
  profile_option "$@"
  if [ "$taken" -gt 0 ]; then shift "$taken"; continue; fi
  case $1 in
  --kernel)
    [ -n "${2:-}" ] || { echo "--kernel lacks its name" >&2; exit 2; }
    kernel=$2
    shift 2
    ;;
  --launches)
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "--launches takes a number from 1" >&2; exit 2; }
    launches=$2
    shift 2
    ;;
  --warm-cache) cache=none; shift ;;
  -h | --help) sed -n '2,18p' "$0"; exit 0 ;;
  *) echo "unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done
profile_command "$out/results"
ncu=(ncu --profile-from-start off --graph-profiling node --kernel-name-base function
  --kernel-name "regex:$kernel" --launch-count "$launches" --cache-control "$cache" --nvtx
  --section LaunchStats --section Occupancy --section SpeedOfLight
  --section MemoryWorkloadAnalysis --section MemoryWorkloadAnalysis_Chart
  --section MemoryWorkloadAnalysis_Tables --force-overwrite --export "$out/kernel")
details=(ncu --import "$out/kernel.ncu-rep" --page details)
if [ -n "$dry" ]; then
  profile_show "${ncu[@]}" "${run[@]}"
  profile_show "${details[@]}"
  exit 0
fi
profile_needs ncu "Nsight Compute, in the CUDA toolkit or from developer.nvidia.com"
profile_folder
rm -f "$out/kernel.ncu-rep"
"${ncu[@]}" "${run[@]}" || {
  echo "the run failed; where ncu says ERR_NVGPUCTRPERM, counters are for root alone: run it as root," \
    "or load the driver with NVreg_RestrictProfilingToAdminUsers=0" >&2
  exit 1
}
if [ ! -f "$out/kernel.ncu-rep" ]; then
  echo "no report was written: had the run as many steps as $steps, and a kernel like $kernel?" >&2
  exit 1
fi
"${details[@]}" >"$out/details.txt" 2>&1 || echo "the details could not be made: see $out/details.txt" >&2
echo "kernels: $out/kernel.ncu-rep (ncu-ui); tables: $out/details.txt"
