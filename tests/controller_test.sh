#!/usr/bin/env bash
# Controllers as a user runs them: `run --rule` with its tree and its JSON, and methods of a problem
# set. Usage: controller_test.sh COPPICE (from the project's root)
set -uo pipefail
coppice=$1
box=bench/countdown/countdown.gguf
text=models/SmolLM2-135M-Instruct.Q4_1.gguf

. "$(dirname "$0")/command_helpers.sh"

# The model in the box knows no words: three samples, each judged by one more, and one is kept.
echo '{"name": "tot", "source": "test", "rule": "thoughts", "search": "bfs", "generate_prompt": "{input}{state}", "evaluate_prompt": "{input}{state}", "steps": 1, "n_generate": 3, "n_evaluate": 1, "n_select": 1, "values": {"sure": 1}, "temperature": 0.5}' >"$work/tot.json"
run() { "$coppice" run --model "$box" --compute f32 --threads 1 --prompt 'T33 18 15 9 8' --dialect countdown-sequential --rule "$work/tot.json" --max-tokens 300 "$@"; }
run --json >"$work/json" || die "run under a controller failed"
run >"$work/text" 2>"$work/err" || die "run under a controller, in text, failed"
run --tree >"$work/tree" 2>/dev/null || die "run under a controller, as a tree, failed"
python3 - "$work" <<'PY' || die "run under a controller is wrong"
import json, sys
work = sys.argv[1]
out = json.load(open(f"{work}/json"))
calls = out["paths"]
assert out["stop"] == "end" and out["status"] == "complete" and out["ids"] == []
assert [(c["block"], c["path"]) for c in calls[:3]] == [(0, "1"), (0, "2"), (0, "3")]
assert {c["block"] for c in calls} == {0, 1} and 4 <= len(calls) <= 6
# Judged where it stands: the candidate is the prompt's end. Equal ones are judged once.
assert all(c["prompt"] == "<seq>T33 18 15 9 8" for c in calls[:3])
assert [c["prompt"] for c in calls[3:]] == list(dict.fromkeys("<seq>T33 18 15 9 8" + c["text"] for c in calls[:3]))
assert out["text"] == calls[0]["text"] == out["rule"]["answer"] and out["text"].startswith("<try>")
said = sum(len(c["ids"]) for c in calls)
longest = max(len(c["ids"]) for c in calls[:3]) + max(len(c["ids"]) for c in calls[3:])
tokens = out["metrics"]["tokens"]
assert tokens["total"] == said == out["rule"]["tokens"] and tokens["longest_thread"] == longest
assert tokens["prompt"] == sum(c["prompt_tokens"] for c in calls)
assert out["rule"]["opened"] == out["rule"]["ended"] == len(calls)
assert out["text"] in open(f"{work}/text").read()
tree = open(f"{work}/tree").read()
assert f"{len(calls)} paths in 2 blocks" in tree and "├ 2 " in tree
PY
grep -q 'rule tot: [456] opened' "$work/err" || die "the text does not say what the rule did"
run --json --kv-policy recompute --pages 24 >"$work/tight" || die "a small pool failed"
run --json --prefix-block 64 >"$work/prefix" || die "a controller over the prefix store failed"
for other in tight prefix; do
  python3 - "$work/json" "$work/$other" <<'PY' || die "$other: other tokens"
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
assert a["paths"] == b["paths"] and a["text"] == b["text"]
assert a["metrics"]["tokens"]["longest_thread"] == b["metrics"]["tokens"]["longest_thread"]
PY
done
pass "test_run_under_a_controller"

head -n 6 bench/countdown/problems-200.jsonl >"$work/six.jsonl"
cat >"$work/sweep.json" <<EOF
{"name": "x", "model": "$PWD/$box", "compute": "f32", "threads": 1, "problems": [{"name": "p", "set": "six.jsonl",
 "checker": "countdown", "max_tokens": 300, "max_paths": 4, "at_once": [1, 3], "temperature": 0.7,
 "methods": [{"name": "sequential", "dialect": "countdown-sequential"},
             {"name": "tot", "dialect": "countdown-sequential", "rule": "tot.json"}]}]}
EOF
"$coppice" bench "$work/sweep.json" --dry-run >"$work/list" || die "the list of a sweep with a controller failed"
"$coppice" bench "$work/sweep.json" --out "$work/out" --json >"$work/rows" || die "a sweep with a controller failed"
"$coppice" report "$work/out" >/dev/null || die "the report of a sweep with a controller failed"
"$coppice" bench "$work/sweep.json" --out "$work/again" --json >"$work/again.rows" || die "a second sweep failed"
for file in "$work"/out/answers-*.jsonl; do
  cmp -s "$file" "$work/again/$(basename "$file")" || die "a second sweep gave other answers"
done
"$coppice" grade "$work/out" --checker countdown >"$work/graded" || die "a sweep with a controller cannot be graded"
python3 - "$work" <<'PY' || die "a sweep with a controller is wrong"
import json, sys
work = sys.argv[1]
rows = [json.loads(l) for l in open(f"{work}/rows")]
assert [(r["method"], r["at_once"]) for r in rows] == [("sequential", 1), ("sequential", 3), ("tot", 1), ("tot", 3)]
assert all("rule" not in r for r in rows[:2])
assert [r["join"] for r in rows] == ["none", "none", "calls", "calls"]  # the control, and what is set against it
one, three = rows[2:]
assert any("same tokens as with 1 at once" in n for n in three["notes"]) and one["each"]["tokens"] == three["each"]["tokens"]
for r in (one, three):
    rule, tokens = r["rule"], r["metrics"]["tokens"]
    assert rule["name"] == "tot" and rule["calls_at_once"] == 4 and r["stops"] == {"end": 6}
    assert tokens["total"] == rule["tokens"] == sum(r["each"]["tokens"])
    assert sum(r["each"]["paths"]) == rule["opened"] == rule["ended"]
    assert tokens["longest_thread"] == sum(r["each"]["longest"])
    for figure in ("longest_thread", "critical_path"):
        assert abs(r["reasoning"]["tokens"][figure] * 6 - tokens[figure]) < 1e-6
lines = [json.loads(l) for l in open(f"{work}/out/results.jsonl")]
assert len({l["cell"] for l in lines}) == 4
answers = [json.loads(l) for l in open(f"{work}/out/answers-{lines[2]['cell']}.jsonl")]
assert len(answers) == 6 and [a["grade"] for a in answers] == one["each"]["grade"] and "right" in one["each"]["grade"]
for a in answers:  # the rule's answer is the problem's: what it marks is what the checker gets
    assert a["text"].startswith("<try>") and (a["answer"] is None) == ("<ok>" not in a["text"])
    assert a["answer"] is None or a["text"].endswith("<ok>" + a["answer"])
report = open(f"{work}/out/report.html").read()
assert "on the front" in report and "tot" in report
PY
pass "test_a_controller_is_a_method_of_a_problem_set"

if [ -f "$text" ]; then
  "$coppice" run --model "$text" --chat --prompt "Why is the sky blue?" --rule skeleton-of-thought --max-tokens 24 --json >"$work/sot" ||
    die "skeleton-of-thought failed"
  python3 - "$work/sot" <<'PY' || die "skeleton-of-thought is wrong"
import json, sys
out = json.load(open(sys.argv[1]))
outline, points = out["paths"][0], out["paths"][1:]
assert "Question:\nWhy is the sky blue?\n" in outline["prompt"] and outline["partial"] == "1." and outline["block"] == 0
assert points and all(p["block"] == 1 and outline["partial"] + outline["text"] in p["prompt"] for p in points)
assert out["text"] == "\n".join(p["partial"] + " " + p["text"].strip() for p in points)
assert all(len(p["ids"]) <= 24 for p in out["paths"])
# The chat format stands around each prompt: many more tokens than words.
assert outline["prompt_tokens"] > 50
PY
  pass "test_skeleton_of_thought_runs"
else
  echo "skipped: $text is not there"
  skips=$((skips + 1))
fi
echo "$tests tests, $skips skips"
