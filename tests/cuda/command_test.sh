#!/usr/bin/env bash
# The CUDA backend as a user meets it: the command over the emulated runtime gives what cpu gives, and
# without a driver (or without the module) one line and exit code 2.
# Usage: command_test.sh COPPICE (from the project's root)
set -uo pipefail
coppice=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=0
die() { echo "cuda/command_test: $*" >&2; exit 1; }
pass() { echo "$1"; tests=$((tests + 1)); }

cat >"$work/shape.json" <<'EOF'
{"name": "small, d = 64", "n_layers": 1, "hidden": 64, "n_heads": 2, "n_kv_heads": 1,
 "head_dim": 64, "ffn": 64, "vocab": 320, "context": 32768, "rope_theta": 10000, "rms_eps": 1e-5,
 "tied": true, "dtype": "Q8_0", "seed": 1}
EOF
replay() { # BACKEND JOIN
  "$coppice" replay --random "$work/shape.json" --backend "$1" --compute bf16 --threads 1 --json \
    --trajectories configs/trajectories/own.jsonl --id tw-schedule --join "$2" --out "$work/$1-$2"
}

for join in stitch reprefill+reuse; do
  for backend in cpu cuda_emulated; do
    replay "$backend" "$join" >"$work/$backend.json" || die "replay on $backend failed"
  done
  python3 - "$work/cpu.json" "$work/cuda_emulated.json" <<'PY' || die "$join: cuda_emulated is not cpu"
import json, sys
cpu, cuda = (json.load(open(name)) for name in sys.argv[1:])
assert cuda["backend"] == "cuda_emulated" and cuda["clock"] == "emulated" and cuda["products"] == "fast"
same, other = cpu["metrics"], cuda["metrics"]
assert same["tokens"] == other["tokens"], (same["tokens"], other["tokens"])
assert abs(cpu["mean_logprob"] - cuda["mean_logprob"]) < 1e-5, (cpu["mean_logprob"], cuda["mean_logprob"])
assert same["kv"]["min_bytes"] <= other["kv"]["min_bytes"]  # rows that ran ahead may run again
device, steps = other["device"], other["steps"]["forward"]
assert device["allocations"] == 0 and other["machine"]["allocations_in_steps"] == 0
assert device["waits"] <= steps and device["graph_launches"] > 0.9 * steps
assert 0 < device["upload_steps"] < 0.3 * steps, device
assert other["kv"]["pages_leaked"] == 0 and other["steps"]["failed_rows"] == 0
PY
done
pass "test_the_emulated_backend_replays_as_cpu_does"

if [ -e "$(dirname "$coppice")/libcoppice_cuda.so" ] && nvidia-smi >/dev/null 2>&1; then
  replay cuda stitch >"$work/gpu.json" || die "replay on the GPU failed"
  pass "test_the_gpu_replays"
else
  replay cuda stitch >"$work/out" 2>"$work/err"
  code=$?
  [ "$code" -eq 2 ] || die "without a driver the command ended with $code: $(cat "$work/err")"
  [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" -eq 1 ] || die "not one line: $(cat "$work/err")"
  grep -q "driver\|nvcc" "$work/err" || die "what is missing is not said: $(cat "$work/err")"
  pass "test_without_a_driver_one_line_and_exit_code_2"
fi

ldd "$coppice" >"$work/libraries" || die "ldd failed"
! grep -qi "cuda\|cublas\|nvidia" "$work/libraries" || die "the command links $(cat "$work/libraries")"
pass "test_the_command_links_no_cuda_library"

"$coppice" replay --random "$work/shape.json" --backend cuda_emulated --compute f32 --out "$work/f" \
  --trajectories configs/trajectories/own.jsonl >"$work/out" 2>"$work/err"
[ $? -eq 2 ] && grep -q -- "--compute bf16" "$work/err" || die "f32 was not refused: $(cat "$work/err")"
pass "test_other_arithmetics_are_refused"

"$coppice" replay --random "$work/shape.json" --backend cuda_emulated --compute bf16 --join shared \
  --trajectories configs/trajectories/own.jsonl --id tw-dice --out "$work/s" >"$work/out" 2>"$work/err"
[ $? -eq 2 ] && grep -q "does not rotate queries .* use backend cpu" "$work/err" ||
  die "paths that see each other were not refused: $(cat "$work/err")"
pass "test_shared_joins_are_refused"

sed 's/"join": "stitch",/"join": "stitch", "stage_sampling": {"main": {"repetition_penalty": 1.1}},/' \
  configs/dialects/countdown-stitch.json >"$work/penalty.json"
"$coppice" run --model bench/countdown/countdown.gguf --backend cuda_emulated --compute bf16 \
  --dialect "$work/penalty.json" --prompt 'T20 18 15 7 4' >"$work/out" 2>"$work/err"
[ $? -eq 2 ] && grep -q "repetition penalty of 1.1, which the cuda backend does not apply; use backend cpu" \
  "$work/err" || die "a penalty was not refused: $(cat "$work/err")"
pass "test_penalties_are_refused"
echo "$tests tests"
