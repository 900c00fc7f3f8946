#!/usr/bin/env bash
# The command with a backend that is a module: tests/module/shadow.c stands in for a device's.
# Usage: backend_test.sh COPPICE (from the project's root; the module lies beside the command)
set -uo pipefail
coppice=$1
shape=configs/models/tiny-2layer.json
box=bench/countdown/countdown.gguf
. "$(dirname "$0")/command_helpers.sh"

info() { "$coppice" info --json --backend shadow_emulated >"$work/$1" || die "info failed: $1"; }
info shadow.json
COPPICE_SHADOW_FAILS=1 info dark.json
"$coppice" info --backend shadow_emulated >"$work/info.txt" || die "info as text failed"
python3 - "$work/shadow.json" "$work/dark.json" <<'PY' || die "info tells backends wrongly"
import json, sys
shadow, dark = (json.load(open(path))["backends"] for path in sys.argv[1:])
assert shadow["cpu"] == {"available": True, "clock": "wall"}
if not shadow["cuda"]["available"]:
    assert shadow["cuda"]["why"] and "\n" not in shadow["cuda"]["why"]
assert shadow["shadow_emulated"] == {"available": True, "clock": "emulated",
                                     "devices": "device 0: a shadow\ndevice 1: another"}
assert dark["shadow_emulated"] == {"available": False, "clock": "emulated",
                                   "why": "a shadow needs light; there is none here: switch it on"}
PY
grep -q '^      device 1: another$' "$work/info.txt" || die "devices have no lines of their own"
pass "test_info_tells_backends_and_what_they_lack"

printf '{"ids": [5, 6, 7, 8]}\n{"ids": [5]}\n{"ids": [6, 5]}\n{"ids": [5, 9]}\n' >"$work/ids.jsonl"
cat >"$work/sweep.json" <<EOF
{"name": "d", "random": "$PWD/$shape", "threads": 1,
 "samples": [{"name": "s", "prompt": "x", "n": 2, "max_tokens": 12, "temperature": 1}]}
EOF
trees=tests/ref/fixtures/odd-trees.jsonl
# verbs FUNCTION..: what the function is given, with every verb that computes and the options of
# `tail`; results go to $work/on-replay and $work/on-bench.
verbs() {
  "$@" "$coppice" run --model "$box" --compute bf16 --prompt 'T20 18 15 7 4' --max-tokens 8 \
    "${tail[@]}"
  "$@" "$coppice" score --model "$box" --compute bf16 --input "$work/ids.jsonl" "${tail[@]}"
  "$@" "$coppice" replay --random "$shape" --compute bf16 --threads 1 --trajectories "$trees" \
    --join stitch --out "$work/on-replay" "${tail[@]}"
  "$@" "$coppice" bench "$work/sweep.json" --compute bf16 --out "$work/on-bench" "${tail[@]}"
}
tail=(--backend nosuch) && verbs refuses 'no backend "nosuch"'
tail=(--backend '../x') && verbs refuses 'lower-case'
tail=(--products fastest) && verbs refuses 'default|invariant|fast'
tail=(--products fast) && verbs refuses 'invariant'
tail=(--device 1) && verbs refuses 'device 1'
tail=(--eager) && verbs refuses 'eager'
tail=(--time-every 4) && verbs refuses 'time_every 4'
tail=(--profile-steps 2-4) && verbs refuses 'no profiler'
for steps in 0-3 4-3 3 3- -3 a-b 1-2-3; do
  tail=(--backend shadow_emulated --profile-steps "$steps") && verbs refuses 'A-B'
done
export COPPICE_SHADOW_FAILS=1
tail=(--backend shadow_emulated) && verbs refuses 'no light here'
unset COPPICE_SHADOW_FAILS
cp "$(dirname "$coppice")/libcoppice_shadow_emulated.so" "$(dirname "$coppice")/libcoppice_other_$$.so"
tail=(--backend "other_$$") && verbs refuses 'calls itself "shadow_emulated"'
rm "$(dirname "$coppice")/libcoppice_other_$$.so"
for bad in backend:3 products:\"fastest\" device:-1 eager:1 time_every:\"2\" time-every:2; do
  sed "s|\"threads\": 1|\"${bad%%:*}\": ${bad#*:}|" "$work/sweep.json" >"$work/bad.json"
  refuses "${bad%%:*}" "$coppice" bench "$work/bad.json" --out "$work/on-bench"
done
ls "$work" | grep -q '^on-' && die "a refused backend left a folder"
pass "test_what_a_backend_cannot_do_is_refused_by_every_verb"

export COPPICE_SHADOW_LOG=$work/shadow.log
log=$COPPICE_SHADOW_LOG
quietly() { "$@" >"$work/out" 2>"$work/err" || die "\"$*\" failed: $(cat "$work/err")"; }
# The verb runs its steps 2 and 3 under the profiler, once, and destroys what it created.
profiled() {
  : >"$log"
  quietly "$@"
  awk '/^profile on/ {on = $5; n++} /^profile off/ {off = $5; n++} END {exit n != 2 || off - on != 2}' \
    "$log" || die "\"$*\" was profiled wrongly: $(cat "$log")"
  grep -q 'create: device 2, products invariant, eager 1, time_every 3 ' "$log" ||
    die "\"$*\" did not pass its options on: $(cat "$log")"
  [ "$(grep -c '^create' "$log")" -eq "$(grep -c '^destroy' "$log")" ] ||
    die "\"$*\" did not destroy its backends"
}
tail=(--backend shadow_emulated --device 2 --products invariant --eager --time-every 3
  --profile-steps 2-3)
verbs profiled
python3 - "$work/on-replay" "$work/on-bench" <<'PY' || die "results do not say what they ran on"
import json, sys
what = {"backend": "shadow_emulated", "device": "shadow 2 of a cpu", "products": "invariant",
        "clock": "emulated", "eager": True, "time_every": 3}
for folder in sys.argv[1:]:
    manifest = json.load(open(folder + "/manifest.json"))
    lines = [json.loads(line) for line in open(folder + "/results.jsonl")]
    assert lines and "ceilings" not in manifest, manifest
    for place in [manifest] + lines:
        assert {key: place[key] for key in what} == what, place
    for line in lines:
        device, steps = line["metrics"]["device"], line["metrics"]["steps"]["forward"]
        assert device["waits"] == steps and device["waits_per_step"] == 1
        assert device["upload_bytes_per_step"] == 64 and device["launches_per_step"] == 10
        assert device["graph_launches"] == device["captures"] == device["allocations"] == 0
        assert device["idle_us_per_step"] == 2
        assert 0 < line["metrics"]["machine"]["timed_steps"] <= steps / 3 + 1
PY
grep -q '"title":"emulated: ' "$work"/on-replay/trace-*.json || die "a trace hides its clock"
pass "test_options_reach_the_backend_and_stand_in_the_results"

on() { # FOLDER [option..]: the small sweep on the module
  local folder=$1
  shift
  "$coppice" bench "$work/sweep.json" --out "$work/$folder" --backend shadow_emulated "$@"
}
on fast >"$work/out" 2>"$work/err" || die "a run with the backend's own products failed"
[ "$(grep -c '^s .* emulated$' "$work/out")" -eq 3 ] || die "rows of an emulated clock are not labelled: $(cat "$work/out")"
on invariant --products invariant >"$work/out" 2>&1 || die "a run with invariant products failed"
on eager --eager >"$work/out" 2>&1 || die "an eager run failed"
python3 - "$work"/{fast,invariant,eager,on-bench} <<'PY' || die "cells of different runs share a key"
import json, sys
lines = [json.loads(line) for folder in sys.argv[1:] for line in open(folder + "/results.jsonl")]
assert len({line["cell"] for line in lines}) == len(lines) == 12
assert lines[0]["products"] == "fast" and lines[3]["products"] == "invariant"
assert lines[0]["arithmetic"] == "bf16" # the CPU's own is no other backend's default
assert lines[0]["metrics"]["device"]["graph_launches_per_step"] == 1
assert lines[0]["metrics"]["machine"]["op_ms"]["attention"] is None
PY
refuses '"products" is' on fast --resume --products invariant
refuses '"eager" is' on fast --resume --eager
refuses '"device" is' on fast --resume --device 1
refuses '"time_every" is' on fast --resume --time-every 2
refuses 'is "shadow_emulated" there' "$coppice" bench "$work/sweep.json" --out "$work/fast" --resume --compute bf16
on fast --resume >"$work/out" 2>&1 || die "the same run cannot be resumed: $(cat "$work/out")"
[ "$(wc -l <"$work/fast/results.jsonl")" -eq 3 ] || die "resuming ran cells again"
pass "test_runs_on_different_backends_never_mix"

grep -q 'EMULATED DEVICE' "$work/fast/report.html" || die "the report hides that its clock is emulated"
! grep -qE '>(serial|forked)' "$work/fast/report.html" || die "the report names a method without its clock"
"$coppice" run --backend shadow_emulated --model "$box" --prompt 'T20 18 15 7 4' --max-tokens 4 --json \
  >"$work/run.json" || die "run --json failed"
python3 -c '
import json, sys
run = json.load(open(sys.argv[1]))
assert run["clock"] == "emulated" and run["backend"] == "shadow_emulated" and run["products"] == "fast"
assert run["device"] == "shadow 0 of a cpu" and len(run["ids"]) == 4' "$work/run.json" || die "run --json hides what it ran on"
"$coppice" run --backend shadow_emulated --model "$box" --prompt 'T20 18 15 7 4' --max-tokens 4 \
  >/dev/null 2>"$work/err"
grep -q 'times are emulated' "$work/err" || die "run hides that its times are emulated"
pass "test_an_emulated_clock_is_named_wherever_a_time_stands"

sed 's|"threads": 1|"backend": "shadow_emulated", "products": "invariant", "device": 3, "eager": true, "time_every": 5|' \
  "$work/sweep.json" >"$work/keys.json"
: >"$log"
quietly "$coppice" bench "$work/keys.json" --out "$work/keys"
grep -q 'create: device 3, products invariant, eager 1, time_every 5 ' "$log" || die "a config's keys did not reach the backend"
: >"$log"
quietly "$coppice" bench "$work/keys.json" --out "$work/over" --products fast --device 0 --time-every 0
grep -q 'create: device 0, products fast, eager 1, time_every 0 ' "$log" || die "options do not stand above the config: $(cat "$log")"
pass "test_a_config_names_a_backend_and_options_stand_above_it"

for sweep in decode modes; do
  "$coppice" bench "configs/sweeps/gpu-$sweep.json" --dry-run >"$work/cells" || die "gpu-$sweep.json is refused"
  grep -q '1024x256 .*stitch' "$work/cells" || die "gpu-$sweep.json has no cell of 256 branches"
done
pass "test_the_sweeps_for_a_gpu_are_read"

step_bench=$(dirname "$coppice")/step_bench
bench() { "$step_bench" --random "$shape" --compute f32 --threads 1 --steps 8 --repeats 1 "$@"; }
bench --backend shadow_emulated --prefix 40,70 --branches 1,5 --json >"$work/steps.jsonl" || die "step_bench failed"
bench --prefix 40 --branches 2 >"$work/out" || die "step_bench failed on cpu"
python3 - "$work/steps.jsonl" <<'PY' || die "a steady step is counted wrongly"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
modes = ["fast", "fast-eager", "invariant", "invariant-eager"]
assert [line["mode"] for line in lines] == [mode for mode in modes for cell in range(4)]
for line in lines:
    assert line["clock"] == "emulated" and line["products"] == line["mode"].split("-")[0]
    assert line["waits"] == 1 and line["upload_bytes"] == 64 and line["allocations"] == 0
    assert (line["launches"], line["graph_launches"]) == ((10, 0) if line["eager"] else (0, 1))
    assert line["idle_us"] == 2 and line["prefix_tokens"] in (40, 70) and line["branches"] in (1, 5)
PY
bench --backend shadow_emulated --prefix 40 --branches 2 | grep -c ' emulated$' | grep -qx 4 || die "rows of step_bench are not labelled"
refuses 'invariant ones alone' "$step_bench" --random "$shape" --modes fast --branches 1 --prefix 8
for bad in '--branches 0' '--branches 1,,2' '--branches 4097' '--prefix 5,' '--prefix 1x' '--modes fast,fast' '--modes quick'; do
  refuses "${bad%% *}" "$step_bench" --random "$shape" $bad
done
pass "test_a_steady_step_is_counted_in_every_mode"

echo "$tests tests, $skips skipped"
