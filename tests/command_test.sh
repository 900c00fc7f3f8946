#!/usr/bin/env bash
# The command as a user types it: doors, exit codes, one-line errors, resumed and killed sweeps.
# Usage: command_test.sh COPPICE (from the project's root)
set -uo pipefail
coppice=$1
shape=configs/models/tiny-2layer.json
effort=${COPPICE_EFFORT:-100}

. "$(dirname "$0")/command_helpers.sh"

for verb in info tokenize score run import replay joins bench report grade; do
  "$coppice" "$verb" --help >"$work/out" || die "$verb --help failed"
  grep -q "^usage: coppice $verb" "$work/out" || die "$verb --help has no usage line"
done
pass "test_every_verb_has_help"

refuses "unknown" "$coppice" replay --random "$shape" --wrong 1
refuses "unknown" "$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --out "$work/x" --join nothing
refuses "no trajectory" "$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --out "$work/y" --id nothing
refuses "nowhere.gguf" "$coppice" run --model "$work/nowhere.gguf" --prompt x
refuses "either a model" "$coppice" run --prompt x
head -c 1000 /dev/urandom >"$work/noise.gguf"
refuses "noise.gguf" "$coppice" info --model "$work/noise.gguf"
refuses "pages" "$coppice" replay --random "$shape" --pages 8 --trajectories configs/trajectories/own.jsonl --join stitch --out "$work/z"
printf '{"name": "x", "random": "%s", "replay": [{"trajectories": "t.jsonl"}], "treads": 1}' "$PWD/$shape" >"$work/bad.json"
refuses "treads" "$coppice" bench "$work/bad.json" --out "$work/b"
printf '{"name": "x", "name": "y"}' >"$work/twice.json"
refuses "twice.json" "$coppice" bench "$work/twice.json" --out "$work/b"
[ ! -e "$work/b" ] || die "a refused config left a folder"
refuses "page-tokens" "$coppice" replay --random "$shape" --page-tokens 48 --trajectories configs/trajectories/own.jsonl --out "$work/w"
"$coppice" replay --random "$shape" --trajectories tests/ref/fixtures/odd-trees.jsonl --out "$work/full" --json >/dev/full 2>"$work/err"
[ $? -eq 2 ] || die "a full disk behind stdout went unnoticed"
pass "test_bad_input_is_one_line_and_exit_code_2"

# The page's table is the command's; what is not supported is shown, and refused by all that would run it.
sed '1,/<!-- dialects -->/d' configs/dialects/README.md >"$work/page"
"$coppice" info --dialects >"$work/table" || die "info --dialects failed"
diff "$work/page" "$work/table" >"$work/out" || die "configs/dialects/README.md is not what info --dialects prints: $(cat "$work/out")"
for file in configs/dialects/*.json; do
  name=$(basename "$file" .json)
  [ "$name" = schema ] && continue
  "$coppice" info --dialect "$name" --json >"$work/one" || die "info --dialect $name failed"
  if grep -q '"supported": true' "$work/one"; then
    grep -q "^| .$name. | yes" "$work/table" || die "$name runs and the table says otherwise"
  else
    grep -q "^| .$name. | \*\*no" "$work/table" || die "$name does not run and the table says otherwise"
    refuses "dialect $name is not supported: " "$coppice" run --model bench/countdown/countdown.gguf --dialect "$name" --prompt x
    refuses "dialect $name is not supported: " "$coppice" import "$name" README.md --out "$work/t.jsonl"
    printf '{"v": 1, "id": "a", "dialect": "%s", "source": "s", "blocks": 0, "paths": 0, "depth": 0, "prompt": [], "stream": [{"text": "x"}]}\n' "$name" >"$work/t-$name.jsonl"
    refuses "dialect $name is not supported: " "$coppice" replay --random "$shape" --trajectories "$work/t-$name.jsonl" --out "$work/r"
    printf '{"name": "x", "random": "%s", "replay": [{"trajectories": "t-%s.jsonl"}]}' "$PWD/$shape" "$name" >"$work/sweep.json"
    refuses "dialect $name is not supported: " "$coppice" bench "$work/sweep.json" --out "$work/b"
  fi
done
refuses "stand alone" "$coppice" info --dialect npr --model x.gguf
refuses "no dialect 'nothing'" "$coppice" info --dialect nothing
pass "test_dialects_are_described_and_what_is_not_supported_is_refused"

# A preset's text goes all the way: imported, and the same work under every join.
mkdir "$work/texts"
printf '<Think>go<Parallel><Goal><Outline>1: p</Outline><Outline>2: q</Outline></Goal>\n<Path>\n1: x</Path>\n<Path>\n2: y and y</Path>\n<Conclusion>\nz</Conclusion></Parallel></Think>' >"$work/texts/multiverse-engine"
printf '<guideline><plan>1: p</plan><plan>2: q</plan></guideline>\n<step>\n1: x</step><step>\n2: y</step>\n<takeaway>\nz</takeaway>so' >"$work/texts/npr-corrected"
printf 'a<Parallel><Path>x</Path><Path>y z</Path></Parallel>\n<Summary>z</Summary>b' >"$work/texts/parallel-r1"
printf '<think><Outlines><Outline>1: p</Outline><Outline>2: q</Outline></Outlines>\n<Thread>\n1: x\n</Thread><Thread>\n2: y\n</Thread>\n</Parallel></think>' >"$work/texts/threadweaver-rl-recipe"
printf '<guideline><plan>1: p</plan><plan>2: q</plan></guideline>\n<step>\n1: x</step>\n<step>\n2: y</step>\n<takeaway>\nz</takeaway>so' >"$work/texts/npr"
for name in multiverse-engine npr npr-corrected parallel-r1 threadweaver-rl-recipe; do
  "$coppice" import "$name" "$work/texts/$name" --out "$work/texts/$name.jsonl" >"$work/out" || die "import $name failed"
  "$coppice" replay --random "$shape" --trajectories "$work/texts/$name.jsonl" --join all --out "$work/texts/out-$name" --json >"$work/out" || die "replay of $name failed"
  [ "$(wc -l <"$work/out")" -eq 4 ] || die "$name: not every rule was replayed"
done
pass "test_texts_of_presets_are_imported_and_replayed"

# Ways to join: a table, lines, and a page that loads nothing.
grep -E '"id":"(mv-divisors|tw-schedule)"' configs/trajectories/own.jsonl >"$work/two.jsonl"
joins() { "$coppice" joins --random "$shape" --trajectories "$work/two.jsonl" "$@"; }
joins --after 6 --html "$work/joins.html" --lines "$work/joins.jsonl" >"$work/out" || die "joins failed"
joins --after 6 --json >"$work/again" || die "joins --json failed"
python3 - "$work/out" "$work/joins.jsonl" "$work/again" "$work/joins.html" "$work/two.jsonl" <<'PY' || die "joins says something wrong"
import json, re, sys
table, page = open(sys.argv[1]).read(), open(sys.argv[4]).read()
lines, again = [[json.loads(line) for line in open(f)] for f in sys.argv[2:4]]
ids = [json.loads(line)["id"] for line in open(sys.argv[5])]
timeless = lambda rows: [{k: v for k, v in r.items() if k != "join_ms"} for r in rows]
assert timeless(lines) == timeless(again) and len(ids) == 2
of = lambda kind: [r for r in lines if r["kind"] == kind]
assert [r["trajectory"] for r in of("trajectory")] == ids and all(r["random_weights"] for r in of("trajectory"))
assert all(i + " (" in table and "<h2>" + i + "</h2>" in page for i in ids)
assert "was not trained with says nothing about a model that was trained" in table
assert "was not trained with says nothing about a model that was trained" in page
assert "<script" not in page and not re.search(r"(src|href)=.?(http|//)", page) and page.count("<svg viewBox") == len(ids)
for r in of("contrast"):
    assert 0 <= r["kl_mean"] <= r["kl_max"] and r["tokens"] > 0, r
    mine = [t["contrast"][r["name"]] for t in of("token") if t["trajectory"] == r["trajectory"]]
    mine = [m for m in mine if m["kl"] is not None]  # shared has no figures inside paths
    assert len(mine) == r["tokens"] and max(m["kl"] for m in mine) == r["kl_max"]
    if r["name"] == "band-stitch-order": assert r["kl_max"] < 1e-8, r
    if r["name"] in ("positions", "dropped"): assert r["kl_max"] > 1e-3, r
assert all("message" in r["omitted"][0] for r in of("trajectory")) and table.count("left out: message") == 2
assert all(1 <= t["after"] <= 6 and t["join"] >= 1 for t in of("token"))
kept = [r for r in of("track") if r["name"] == "stitch"]
assert len(kept) == len(ids) and all(r["tokens_recomputed"] == r["kv_written"] == r["kv_read"] == 0 for r in kept)
PY
[ "$(joins --id tw-schedule --after 1 --json | grep -c '"kind":"trajectory"')" -eq 1 ] || die "joins --id took more than one"
refuses "no trajectory" joins --id nothing
refuses "either a model" "$coppice" joins --trajectories configs/trajectories/own.jsonl
refuses "trajectories" "$coppice" joins --random "$shape"
refuses "not supported" "$coppice" joins --random "$shape" --trajectories "$work/t-pasta.jsonl"
refuses "nowhere.jsonl" "$coppice" joins --random "$shape" --trajectories "$work/nowhere.jsonl"
refuses "nowhere" joins --id tw-schedule --after 1 --html "$work/nowhere/x.html"
refuses "f32|bf16" joins --compute f64
printf '{"v": 1, "id": "a", "dialect": "multiverse", "source": "s", "blocks": 0, "paths": 0, "depth": 0, "prompt": [], "stream": [{"text": "x"}]}\n' >"$work/flat.jsonl"
refuses "nothing is joined" "$coppice" joins --random "$shape" --trajectories "$work/flat.jsonl"
: >"$work/empty.jsonl"
refuses "empty.jsonl" "$coppice" joins --random "$shape" --trajectories "$work/empty.jsonl"
sed 's/"context": 32768/"context": 64/' "$shape" >"$work/short.json"
refuses "--allow-extrapolation" "$coppice" joins --random "$work/short.json" --trajectories configs/trajectories/own.jsonl
pass "test_joins_are_compared_and_bad_input_is_refused"

# Grading: a set, three samples of each problem, every state of an answer.
printf '%s\n' '{"id":"a","prompt":"p","answer":"2"}' '{"id":"b","prompt":"p","answer":"1/2"}' >"$work/set.jsonl"
printf '%s\n' '{"id":"a","sample":0,"text":"\\boxed{2.0}","tokens":4}' '{"id":"a","sample":1,"text":"no","tokens":6}' \
  '{"id":"a","sample":2,"answer":"3","tokens":5}' '{"id":"b","sample":0,"answer":"0.5","tokens":10}' \
  '{"id":"b","sample":1,"answer":"x","tokens":10}' '{"id":"b","sample":2,"answer":null,"tokens":10}' >"$work/said.jsonl"
head -3 "$work/said.jsonl" >"$work/part.jsonl"
grade() { "$coppice" grade --set "$work/set.jsonl" --checker boxed "$@"; }
grade "$work/said.jsonl" --k 1,2,3 --answers "$work/graded.jsonl" --json >"$work/out" || die "grade failed"
python3 - "$work/out" "$work/graded.jsonl" <<'PY' || die "grades are wrong"
import json, sys
line = json.loads(open(sys.argv[1]).read())
assert [line[k] for k in ("right", "wrong", "none", "ungraded")] == [2, 1, 2, 1], line
# a: 1 of 3 right; b: 1 of 2, since one cannot be judged and is no sample.
assert abs(line["avg"]["share"] - (1 / 3 + 1 / 2) / 2) < 1e-12 and line["avg"]["problems"] == 2
share = [(p["k"], p["share"], p["problems"]) for p in line["pass"]]
assert abs(share[1][1] - (2 / 3 + 1) / 2) < 1e-12 and share[2] == (3, 1.0, 1), share
assert line["bootstrap"] == {"replicates": 2000, "seed": 1, "level": 0.95, "clustered_by": "problem"}
assert line["tokens_mean"] == 7.5 and line["pareto"] == {"tokens": True, "latency_ms": None, "device_s": None}
assert line["well_formed"]["share"] is None and line["well_formed"]["share_why"]
grades = [json.loads(l)["grade"] for l in open(sys.argv[2])]
assert grades == ["right", "none", "wrong", "right", "ungraded", "none"], grades
PY
grade "$work/said.jsonl" >"$work/out" && grep -q "pass@3" "$work/out" || die "the table of grades lacks pass@3"
refuses 'no prediction for problem "b"' grade "$work/part.jsonl"
grade "$work/part.jsonl" --partial >"$work/out" && grep -q "1 problems have no prediction" "$work/out" || die "a partial grade does not say so"
refuses "said.jsonl" "$coppice" grade "$work/said.jsonl" --checker boxed
refuses "there is no checker" "$coppice" grade "$work/said.jsonl" --set "$work/set.jsonl" --checker boxd
refuses "no plain number" "$coppice" grade "$work/said.jsonl" --set <(echo '{"id":"a","prompt":"p","answer":"x"}') --checker boxed
refuses "said.jsonl:1: the program \"exit 3\" ended with exit code 3" "$coppice" grade "$work/said.jsonl" --set "$work/set.jsonl" --checker "equivalence:exit 3"
refuses "gave no line within 40 ms" "$coppice" grade "$work/said.jsonl" --set "$work/set.jsonl" --checker "equivalence:sleep 60" --timeout-ms 40
printf '%s\n' '{"id":"a","answer":"2"}' '{"id":"a","answer":"2"}' >"$work/doubled.jsonl"
refuses "doubled.jsonl:2: problem \"a\" has its sample 0 already in line 1" grade "$work/doubled.jsonl"
echo '{"id":"z","answer":"2"}' >"$work/strange.jsonl"
refuses 'strange.jsonl:1: the set holds no problem "z"' grade "$work/strange.jsonl"
echo '{"id":"a"}' >"$work/empty.jsonl"
refuses 'empty.jsonl:1: neither "answer" nor "text"' grade "$work/empty.jsonl"
echo '{"id":"a",' >"$work/torn.jsonl"
refuses 'torn.jsonl:1:' grade "$work/torn.jsonl"
: >"$work/nothing.jsonl"
refuses 'holds no prediction' grade "$work/nothing.jsonl"
refuses "--k takes" grade "$work/said.jsonl" --k 1,0
refuses "--k takes" grade "$work/said.jsonl" --k 1,
refuses "nothing to grade" "$coppice" grade results/2026-11-23-smollm2-transcripts --checker exact
pass "test_grade_tells_right_wrong_none_and_ungraded_apart"

joins="flattened reprefill reprefill+reuse stitch"
"$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --out "$work/own" --json --threads 1 >"$work/own.jsonl" || die "replay failed"
python3 - "$work/own.jsonl" "$work/own" <<'PY' || die "replayed rules disagree"
import json, sys, os
rows = [json.loads(line) for line in open(sys.argv[1])]
by = {}
for r in rows:
    by.setdefault(r["problem"], {})[r["method"]] = r
for problem, methods in by.items():
    assert set(methods) == {"flattened", "reprefill", "reprefill+reuse", "stitch"}, problem
    work = {m: r["metrics"]["tokens"]["total"] + r["metrics"]["tokens"]["forced"] for m, r in methods.items()}
    assert len(set(work.values())) == 1, (problem, work)
    for r in methods.values():
        kv = r["metrics"]["kv"]
        assert kv["first_bytes"] == kv["min_bytes"] and kv["load_bytes"] == kv["predicted_load_bytes"]
        assert r["random_weights"] is True
lines = [json.loads(line) for line in open(os.path.join(sys.argv[2], "results.jsonl"))]
assert len(lines) == len(rows) and json.load(open(os.path.join(sys.argv[2], "manifest.json")))
PY
pass "test_replay_does_the_same_work_under_every_rule"

# Time that is attributed to nothing is there in every run; an interrupt of 0.1 ms, which is 1 % of
# these runs, is not. So each row may be measured again, and has to keep the bound once.
attributed() {
  python3 - "$@" <<'PY'
import json, sys
least = {}
for name in sys.argv[1:]:
    for r in map(json.loads, open(name)):
        key, time = (r["problem"], r["method"]), r["metrics"]["time"]
        least[key] = min(least.get(key, time), time, key=lambda t: abs(t["remainder_share"]))
sys.exit(next((f"{k}: {t}" for k, t in least.items() if abs(t["remainder_share"]) > 0.01), None))
PY
}
runs=("$work/own.jsonl")
until attributed "${runs[@]}" 2>"$work/unattributed"; do
  [ ${#runs[@]} -lt 8 ] || die "time is attributed to nothing: $(cat "$work/unattributed")"
  runs+=("$work/own${#runs[@]}.jsonl")
  "$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --out "${runs[-1]%.jsonl}" --json --threads 1 >"${runs[-1]}" || die "replay failed"
done
pass "test_time_is_attributed"

# Paths that end at once, one path with nothing behind it, blocks in a chain.
"$coppice" replay --random "$shape" --trajectories tests/ref/fixtures/odd-trees.jsonl --out "$work/odd" --threads 1 >"$work/out" 2>"$work/err" ||
  die "odd trees do not replay: $(cat "$work/err")"
[ "$(wc -l <"$work/odd/results.jsonl")" -eq 12 ] || die "odd trees gave other than 12 results"
pass "test_odd_trees_replay_under_every_rule"

refuses "$work/own" "$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --out "$work/own"
cp "$work/own/results.jsonl" "$work/whole.jsonl"
head -c -40 "$work/whole.jsonl" >"$work/own/results.jsonl"
"$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --out "$work/own" --threads 1 --resume >"$work/out" 2>"$work/err" || die "resume failed: $(cat "$work/err")"
[ "$(wc -l <"$work/own/results.jsonl")" -eq "$(wc -l <"$work/whole.jsonl")" ] || die "resume lost or doubled a cell"
[ "$(wc -l <"$work/own/results.jsonl")" -eq "$(sed 's/.*"cell":"\([^"]*\)".*/\1/' "$work/own/results.jsonl" | sort -u | wc -l)" ] || die "a cell stands twice"
"$coppice" report "$work/own" >/dev/null && grep -q '</html>' "$work/own/report.html" || die "no report"
grep -qi 'random weights' "$work/own/report.html" || die "the report hides that the weights are random"
pass "test_a_torn_result_folder_resumes"

if [ "$effort" -ge 100 ]; then
  "$coppice" replay --random "$shape" --trajectories configs/trajectories/multiverse-counts.jsonl --out "$work/all" --json --threads 1 \
    --join flattened,reprefill,stitch >"$work/all.jsonl" || die "the transcripts do not replay"
  python3 - "$work/all.jsonl" <<'PY' || die "transcripts disagree"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert len(rows) == 17 * 3
assert sum(r["blocks"] for r in rows) == 3 * 115 and sum(r["paths"] for r in rows) == 3 * 275
assert sum(r["metrics"]["tokens"]["total"] + r["metrics"]["tokens"]["forced"] for r in rows) == 3 * 158015
assert all(r["tokens_from"] == "token counts only" for r in rows)
PY
  pass "test_all_transcripts_replay_under_three_rules"
else
  echo "skipped: the 17 transcripts are replayed in the release build"
  skips=$((skips + 1)) tests=$((tests + 1))
fi

cat >"$work/sweep.json" <<EOF
{"name": "small", "random": "$PWD/$shape", "compute": "f32", "threads": 1,
 "samples": [{"name": "s", "prompt": "x", "n": 6, "max_tokens": 24, "temperature": 1,
              "prune": {"window": 8, "warmup": 2, "keep_percent": 50}}]}
EOF
"$coppice" bench "$work/sweep.json" --dry-run | grep -q 'samples' || die "--dry-run lists nothing"
[ ! -e "$work/sweep" ] || die "--dry-run wrote something"
"$coppice" bench "$work/sweep.json" --out "$work/sweep" --json >"$work/rows.jsonl" || die "bench failed"
python3 - "$work/rows.jsonl" <<'PY' || die "sample rows are wrong"
import json, sys
rows = {r["method"]: r for r in map(json.loads, open(sys.argv[1]))}
total = lambda m: rows[m]["metrics"]["tokens"]["total"]
assert total("serial") == total("forked") == 6 * 24, (total("serial"), total("forked"))
assert rows["forked"]["same_tokens_as_serial"] is True
assert total("forked+pruned") <= total("forked")
assert rows["forked"]["metrics"]["steps"]["forward"] < rows["serial"]["metrics"]["steps"]["forward"]
PY
pass "test_samples_serial_forked_and_pruned"

# ---- the model in the box ----

box=bench/countdown/countdown.gguf
fork() { "$coppice" run --model "$box" --compute f32 --max-tokens 2000 --prompt 'T20 18 15 7 4' "$@"; }
fork --dialect countdown-message --json >"$work/fork.json" || die "a message join failed"
fork --dialect countdown-message --ask-paths 3 --json >"$work/three.json" || die "--ask-paths failed"
python3 - "$work/fork.json" "$work/three.json" <<'PY' || die "a live tree in JSON is wrong"
import json, sys
five, three = (json.load(open(path)) for path in sys.argv[1:])
assert five["answer"].strip() == "15 - 7 8 / 4 18 + 2" and five["stop"] == "end", five["answer"]
assert five["forks"] == 2 and [p["block"] for p in five["paths"]] == [0] * 5 + [1] * 5
assert [p["path"] for p in five["paths"]] == list("12345") * 2
assert [p["success"] for p in five["paths"]].count(True) == 1
assert all(p["text"].startswith("<thr>") and p["text"].endswith("<end>") for p in five["paths"])
assert sum(p["block"] == 0 for p in three["paths"]) == 3
PY
fork --dialect countdown-stitch --tree >"$work/tree" 2>/dev/null || die "--tree failed"
grep -q 'paths in' "$work/tree" && ! grep -q $'\033' "$work/tree" || die "--tree into a file is no plain finished tree"
refuses "byte 0x4D" "$coppice" run --model "$box" --dialect countdown-message --prompt 'Make 75 of these'
refuses "--ask-paths" fork --ask-paths 3
refuses "two forms of output" fork --tree --json
head -c 1000000 "$box" >"$work/short.gguf"
refuses "short.gguf" "$coppice" run --model "$work/short.gguf" --prompt 'T20 18 15 7 4'
pass "test_the_model_in_the_box_forks"

# ---- a program that makes a dialect's messages ----

cat >"$work/made.json" <<'JSON'
{"name": "made", "source": "a test", "join": "reprefill", "program": {"recipe": "make it"}, "paths_from": "message",
 "trigger": {"on": "end_of_text"}, "refused": "ends_run", "max_turn_tokens": 6, "max_paths": 4}
JSON
cat >"$work/answers.sh" <<'SH'
exec python3 tests/message_answers.py '{"fork0.0": {"children": [{"prompt": "@18 "}, {"prompt": "@15 "}]}, "join0": {"text": "@<try>"}, "fork1.0": {"end": true}}'
SH
made() { "$coppice" run --model "$box" --compute f32 --prompt 'T20 18 15 7 4' --dialect "$work/made.json" "$@"; }
made --program "sh $work/answers.sh" --json >"$work/made.out" || die "a program's messages failed"
python3 - "$work/made.out" <<'PY' || die "a program's messages are wrong"
import json, sys
out = json.load(open(sys.argv[1]))
assert out["forks"] == 1 and [p["path"] for p in out["paths"]] == ["1", "2"], out
assert "18 " in out["paths"][0]["text"] and "15 " in out["paths"][1]["text"], out
assert "<try>" in out["text"] and out["stop"] == "length", out
PY
made --program true --program-failure goes-on --json >"$work/made.out" || die "--program-failure goes-on ended the run"
grep -q '"stop": *"refused"' "$work/made.out" || die "a program that failed was not refused"
refuses 'the messages of dialect made are made by a program, which must be given: --program, or "program" in a config; its file names "make it"' made
refuses "use ends-run or goes-on" made --program cat --program-failure ends
refuses "leave out --rule" made --program cat --rule deepconf-low
refuses "takes no program" fork --dialect countdown-message --program cat
refuses "name it, --dialect" fork --program cat
made --program true >"$work/out" 2>"$work/err" && die "a program that ended was no failure"
grep -q 'sample 0, turn 0: the program that makes messages, asked about a fork: the program "true" ended' "$work/err" || die "a program that ended is not named: $(cat "$work/err")"
pass "test_a_program_makes_messages"

sweep() { # PROBLEMS-FILE [METHOD-JSON]
  printf '{"name": "x", "model": "%s", "compute": "bf16", "problems": [{"name": "p", "set": "%s", "checker": "countdown", "max_tokens": 600, "max_paths": 24, "at_once": [1, 2], "methods": [%s]}]}' \
    "$PWD/$box" "$1" "${2:-{\"name\": \"message\", \"dialect\": \"countdown-message\"\}}" >"$work/problems.json"
}
head -n 6 bench/countdown/problems-200.jsonl >"$work/six.jsonl"
sweep "$work/six.jsonl"
"$coppice" bench "$work/problems.json" --out "$work/six" --json >"$work/six.rows" || die "a problem set failed"
python3 - "$work/six.rows" "$work/six" <<'PY' || die "lines of a problem set are wrong"
import glob, json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert [r["at_once"] for r in rows] == [1, 2]
assert rows[0]["each"]["tokens"] == rows[1]["each"]["tokens"] and rows[0]["accuracy"]["right"] >= 5
assert all(r["metrics"]["machine"]["allocations_in_steps"] == 0 for r in rows)
assert len(glob.glob(sys.argv[2] + "/answers-*.jsonl")) == 2
PY
"$coppice" grade "$work/six" --checker countdown --json >"$work/out" || die "a result folder is not graded"
"$coppice" grade "$work/six" --set "$work/six.jsonl" --checker countdown --json >"$work/again" || die "a result folder is not graded against its set"
python3 - "$work/six.rows" "$work/out" "$work/again" <<'PY' || die "a folder's grades are not those of its run"
import json, sys
rows, grades, again = [[json.loads(line) for line in open(f)] for f in sys.argv[1:]]
assert grades == again and len(grades) == 2
for row, grade in zip(rows, grades):
    assert all(row["accuracy"][k] == grade[k] for k in ("right", "wrong", "none", "ungraded")), grade
    assert abs(grade["avg"]["share"] - row["accuracy"]["share"]) < 1e-12
    assert abs(grade["tokens_mean"] - row["tokens_mean"]) < 1e-9
    assert abs(grade["latency_ms_mean"] - row["latency_ms"]["mean"]) < 1e-6
    assert grade["used_parallelism"]["share"] == row["forked"] and grade["well_formed"]["share"] == row["well_formed"]
PY
grep -q 'longest path' "$work/six/report.html" || die "the report says nothing of the longest path"
refuse_set() { # WORDS LINE
  { head -n 1 "$work/six.jsonl"; printf '%s\n' "$2"; } >"$work/odd.jsonl"
  sweep "$work/odd.jsonl"
  refuses "$1" "$coppice" bench "$work/problems.json" --out "$work/refused"
}
refuse_set "odd.jsonl:2" '{"id": "a", "prompt": "T20 18 15 7 4", "answer": 5}'
refuse_set "odd.jsonl:2" '{"id": "countdown-0000", "prompt": "T20 18 15 7 4"}'
refuse_set "odd.jsonl:2" '{"id": "a", "prompt": "T99 1 1 1 1"}'
refuse_set "odd.jsonl:2" '{"id": "a", "prompt": "T20 18 15 7 4", "answer": "18 + 15 33 - 7 26 - 4"}'
refuse_set "odd.jsonl:2" '{"id": "a", "prompts": "T20 18 15 7 4"}'
refuse_set "problem a" '{"id": "a", "prompt": "Make 20 of 18 15 7 4"}'
[ ! -e "$work/refused" ] || die "a refused problem set left a folder"
sweep "$work/six.jsonl" "{\"name\": \"m\", \"dialect\": \"$work/made.json\"}"
refuses "made by a program" "$coppice" bench "$work/problems.json" --out "$work/refused"
sweep "$work/six.jsonl" '{"name": "m", "dialect": "countdown-message", "program": "cat"}'
refuses "takes no program" "$coppice" bench "$work/problems.json" --out "$work/refused"
sweep "$work/six.jsonl" '{"name": "m", "dialect": "countdown-massage"}'
refuses "countdown-massage" "$coppice" bench "$work/problems.json" --out "$work/refused"
sweep "$work/six.jsonl" "{\"name\": \"m\", \"dialect\": \"$work/made.json\", \"program\": \"sh $work/answers.sh\"}"
"$coppice" bench "$work/problems.json" --out "$work/made" --json >"$work/made.rows" || die "a program's messages failed in a problem set"
grep -q 'every problem gave the same tokens as with 1 at once' "$work/made.rows" || die "what runs beside a program's problem changed it"
pass "test_problem_sets_run_and_bad_ones_are_refused"

model=${COPPICE_MODEL:-models/SmolLM2-135M-Instruct.Q4_1.gguf}
if [ -f "$model" ] && [ "$effort" -ge 100 ]; then
  "$coppice" run --model "$model" --prompt "The quick brown fox" --max-tokens 8 --json >"$work/run.json" || die "run failed"
  python3 - "$work/run.json" <<'PY' || die "run --json is wrong"
import json, sys
o = json.load(open(sys.argv[1]))
assert len(o["ids"]) == 8 and o["stop"] == "length" and isinstance(o["text"], str)
PY
  refuses "context" "$coppice" run --model "$model" --prompt-file configs/trajectories/multiverse-counts.jsonl --max-tokens 1
  pass "test_run_prints_one_object"
else
  echo "skipped: test_run_prints_one_object needs the model, in the release build"
  skips=$((skips + 1)) tests=$((tests + 1))
fi
echo "$tests tests, $skips skipped"
