#!/usr/bin/env bash
# The scripts that start profilers and the GPU's benchmark: what they would run, what they name when
# it is missing, and a whole run with stand-ins for the tools and for the device's module.
# Usage: profile_test.sh COPPICE (from the project's root; the module lies beside the command)
set -uo pipefail
coppice=$1
shape=configs/models/tiny-2layer.json
. "$(dirname "$0")/command_helpers.sh"
nsys=bench/profile_nsys.sh ncu=bench/profile_ncu.sh gpu=bench/gpu.sh

# ends CODE WORDS COMMAND..: the exit code, and words on either stream.
ends() {
  local code=$1 words=$2
  shift 2
  "$@" >"$work/out" 2>&1
  local got=$?
  [ "$got" -eq "$code" ] || die "\"$*\" ended with $got, not $code: $(cat "$work/out")"
  grep -qF -- "$words" "$work/out" || die "\"$*\" does not say \"$words\": $(cat "$work/out")"
}

# Only what a shell needs: no profiler, no GPU, no compiler for one.
mkdir "$work/bare"
for tool in bash env sed grep dirname mkdir rm cat tr date printf; do
  ln -s "$(command -v "$tool")" "$work/bare/" 2>/dev/null
done
bare() { env PATH="$work/bare" COPPICE="$coppice" "$@"; }
ends 2 'nsys on PATH' bare bash "$nsys"
ends 2 'a GPU with its driver' bare bash "$nsys"
ends 2 'libcoppice_nosuch.so' bare bash "$nsys" --backend nosuch
ends 2 'ncu on PATH' bare bash "$ncu"
ends 2 'a GPU with its driver' bare bash "$gpu" --out "$work/gpu"
ends 2 'nvcc' bare bash "$gpu" --out "$work/gpu"
[ ! -e "$work/gpu" ] || die "gpu.sh left a folder where it cannot run"
for script in "$nsys" "$ncu" "$gpu"; do
  ends 0 "$script" bash "$script" --help
  ends 2 '--nonsense' bash "$script" --nonsense
  ends 2 '--out lacks' bash "$script" --out
done
ends 2 'number from 1' bash "$ncu" --launches 0
ends 2 '--kernel lacks' bash "$ncu" --kernel
pass "test_what_is_missing_is_named"

ends 0 '--capture-range=cudaProfilerApi --capture-range-end=stop' bash "$nsys" --dry-run
ends 0 '--cuda-graph-trace=graph' bash "$nsys" --dry-run --graph-whole
ends 0 'bench a.json --model m.gguf --backend cuda --compute bf16 --profile-steps 3-4 --products fast --eager --out' \
  bash "$nsys" --dry-run --sweep a.json --model m.gguf --steps 3-4 --products fast --eager
ends 0 'replay --trajectories t.jsonl --join reprefill --random' \
  bash "$ncu" --dry-run --trajectories t.jsonl --join reprefill
ends 0 '--kernel-name regex:norm --launch-count 2 --cache-control none' \
  bash "$ncu" --dry-run --kernel norm --launches 2 --warm-cache
ends 0 '--section MemoryWorkloadAnalysis_Tables' bash "$ncu" --dry-run
ends 0 'gpu-decode.json' bash "$gpu" --dry-run
for words in kernel_check gpu_probes gpu_bench step_bench '--products invariant --eager' '--time-every 8' \
  '--target kernel_check gpu_bench coppice coppice_cuda step_bench'; do
  ends 0 "$words" bash "$gpu" --dry-run
done
bash "$gpu" --dry-run --part steps | grep -q kernel_check && die "--part steps checks kernels"
bash "$gpu" --dry-run --part kernels | grep -q 'coppice bench' && die "--part kernels runs sweeps"
ends 0 'llama3-8b.json' bash "$gpu" --dry-run --random configs/models/llama3-8b.json
ends 2 'no-shape.json' bash "$gpu" --dry-run --random no-shape.json
[ ! -e out/profile-nsys ] || [ -f out/profile-nsys/results/manifest.json ] || die "--dry-run left a folder"
pass "test_a_dry_run_prints_what_would_run"

# Stand-ins: a profiler that runs what it is given and writes a report when the run's profiler was
# switched on; the device's module is tests/module/shadow.c.
mkdir "$work/fake"
cat >"$work/fake/nvidia-smi" <<'EOF'
#!/usr/bin/env bash
echo 'GPU 0: a stand-in'
EOF
cat >"$work/fake/nsys" <<'EOF'
#!/usr/bin/env bash
if [ "$1" = stats ]; then echo "tables of ${*: -1}"; exit 0; fi
shift
while [[ $1 == -* ]]; do [[ $1 == --output=* ]] && report=${1#*=}.nsys-rep; shift; done
"$@" || exit
! grep -q '^profile on' "$COPPICE_SHADOW_LOG" || echo report >"$report"
EOF
cat >"$work/fake/ncu" <<'EOF'
#!/usr/bin/env bash
if [ "$1" = --import ]; then echo "details of $2"; exit 0; fi
while [[ $1 == -* ]]; do
  case $1 in
  --export) report=$2.ncu-rep; shift 2 ;;
  --nvtx | --force-overwrite) shift ;;
  *) shift 2 ;;
  esac
done
"$@" || exit
! grep -q '^profile on' "$COPPICE_SHADOW_LOG" || echo report >"$report"
EOF
chmod +x "$work"/fake/*
cat >"$work/sweep.json" <<EOF
{"name": "p", "random": "$PWD/$shape", "threads": 1, "replay": [{"joins": ["stitch"],
 "grid": {"prefix_tokens": [20], "branches": [3], "branch_tokens": 12}}]}
EOF
export COPPICE_SHADOW_LOG=$work/shadow.log COPPICE=$coppice
faked() { : >"$COPPICE_SHADOW_LOG"; env PATH="$work/fake:$PATH" bash "$@" --backend shadow_emulated --random "$shape" --sweep "$work/sweep.json"; }
ends 0 'time line:' faked "$nsys" --steps 4-7 --out "$work/nsys"
grep -q 'tables of .*steps.nsys-rep' "$work/nsys/summary.txt" || die "no tables were made"
[ -f "$work/nsys/results/results.jsonl" ] && [ -f "$work/nsys/steps.nsys-rep" ] || die "no report was written"
ends 0 'kernels:' faked "$ncu" --steps 4-4 --out "$work/ncu"
grep -q 'details of .*kernel.ncu-rep' "$work/ncu/details.txt" || die "no details were made"
ends 0 'time line:' faked "$nsys" --steps 4-7 --out "$work/nsys" # its results make room
ends 1 'as many steps as 400-500' faked "$nsys" --steps 400-500 --out "$work/few"
ends 1 'the run failed' faked "$nsys" --steps 4-2 --out "$work/wrong"
mkdir -p "$work/other/results"
ends 2 'no result folder' faked "$nsys" --steps 4-7 --out "$work/other"
pass "test_reports_are_written"

echo "$tests tests, $skips skipped"
