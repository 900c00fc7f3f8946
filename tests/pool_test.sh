#!/usr/bin/env bash
# What a user asks of the KV pool, and who is pruned: policies for a full pool, the prefix store cold
# and warm, prune rules. Usage: pool_test.sh COPPICE (from the project's root)
set -uo pipefail
coppice=$1
shape=configs/models/tiny-2layer.json
box=bench/countdown/countdown.gguf

. "$(dirname "$0")/command_helpers.sh"

# ---- a full pool: pools that are too small for `fail`, and hold the longest view ----

replay() { "$coppice" replay --random "$shape" --trajectories configs/trajectories/own.jsonl --page-tokens 64 --threads 1 "$@"; }
full() { # ID JOIN PAGES
  local id=$1 join=$2 pages=$3 policy
  replay --id "$id" --join "$join" --out "$work/roomy-$id" --json >"$work/$id-roomy" || die "a roomy pool failed"
  refuses "the KV pool is full" replay --id "$id" --join "$join" --pages "$pages" --out "$work/fail-$id"
  for policy in queue recompute prune-lowest; do
    replay --id "$id" --join "$join" --pages "$pages" --kv-policy "$policy" --out "$work/$policy-$id" --json \
      >"$work/$id-$policy" || die "$id under $policy does not complete in $pages pages"
    "$coppice" report "$work/$policy-$id" >/dev/null || die "no report under $policy"
    grep -q "$policy when the KV pool is full" "$work/$policy-$id/report.html" || die "the report hides the policy $policy"
  done
  python3 - "$work" "$id" "$pages" <<'PY' || die "$id: policies for a full pool disagree"
import json, sys
work, id, pages = sys.argv[1:]
line = lambda p: json.loads(open(f"{work}/{id}-{p}").read())
roomy, gave_way = line("roomy"), 0
assert "kv_policy" not in roomy and "pages" not in roomy and "prefix" not in roomy
keys = {json.loads(open(f"{work}/roomy-{id}/results.jsonl").read())["cell"]}
for policy in ("queue", "recompute", "prune-lowest"):
    r = line(policy)
    assert r["kv_policy"] == policy and r["pages"] == int(pages), r
    assert any(policy in note for note in r["notes"]), r["notes"]
    assert json.load(open(f"{work}/{policy}-{id}/manifest.json"))["kv_policy"] == policy
    for name in ("total", "forced", "prompt", "longest_thread"):
        assert r["metrics"]["tokens"][name] == roomy["metrics"]["tokens"][name], (policy, name)
    assert r["mean_logprob"] == roomy["mean_logprob"], policy
    assert r["metrics"]["kv"]["pages_peak"] <= int(pages) < roomy["metrics"]["kv"]["pages_peak"]
    assert r["metrics"]["steps"]["branches_shed"] == 0  # a replay has none that it may lose
    gave_way += r["metrics"]["steps"]["branches_parked"]
    shown = "A full KV pool" in open(f"{work}/{policy}-{id}/report.html").read()
    assert shown == (r["metrics"]["steps"]["branches_parked"] > 0), policy
    keys.add(json.loads(open(f"{work}/{policy}-{id}/results.jsonl").read())["cell"])
assert gave_way > 0 and len(keys) == 4, (gave_way, keys)
PY
}
full mv-knights reprefill 12
full mv-bridge reprefill+reuse 15
refuses "kv-policy" replay --kv-policy swap --out "$work/swap"
pass "test_a_full_pool_under_every_policy"

# Live: one sample and two pages beside it; the prompt is four pages, a sample's own tokens two.
tight() { # POLICY PAGES
  printf '{"name": "s", "random": "%s", "compute": "f32", "threads": 1, "page_tokens": 16, "pages": %s, "kv_policy": "%s", "samples": [{"name": "s", "prompt": "x", "n": 6, "max_tokens": 24, "temperature": 1}]}' \
    "$PWD/$shape" "$2" "$1" >"$work/tight.json"
}
tight fail 8
refuses_late() { # as refuses, but a row may have been printed
  "$@" >"$work/out" 2>"$work/err"
  [ $? -eq 2 ] && grep -q "the KV pool is full" "$work/err" || die "\"$*\" did not name the full pool"
}
refuses_late "$coppice" bench "$work/tight.json" --out "$work/tight-fail" --json
tight fail 60
"$coppice" bench "$work/tight.json" --out "$work/tight-roomy" --json >"$work/tight-roomy.rows" || die "a roomy pool failed"
for policy in queue recompute prune-lowest; do
  tight "$policy" 8
  "$coppice" bench "$work/tight.json" --out "$work/tight-$policy" --json >"$work/tight-$policy.rows" || die "samples under $policy failed"
done
tight fail 8
"$coppice" bench "$work/tight.json" --kv-policy queue --out "$work/tight-line" --json >"$work/tight-line.rows" || die "bench --kv-policy failed"
python3 - "$work" <<'PY' || die "samples in a full pool are wrong"
import json, sys
def rows(name):
    return [json.loads(l) for l in open(f"{sys.argv[1]}/tight-{name}.rows")]
def cells(name):
    return [json.loads(l)["cell"] for l in open(f"{sys.argv[1]}/tight-{name}/results.jsonl")]
roomy = rows("roomy")
for policy in ("queue", "recompute"):
    for a, b in zip(roomy, rows(policy)):
        assert a["answers"] == b["answers"] and a["stops"] == b["stops"], policy
        assert a["metrics"]["tokens"]["total"] == b["metrics"]["tokens"]["total"]
        assert b["metrics"]["kv"]["pages_peak"] <= 8
    assert b["metrics"]["steps"]["branches_parked"] > 0 and rows(policy)[1]["same_tokens_as_serial"] is True
assert rows("recompute")[1]["metrics"]["steps"]["tokens_recomputed"] > 0
forked = rows("prune-lowest")[1]
assert forked["metrics"]["steps"]["branches_shed"] > 0 and forked["same_tokens_as_serial"] is False
assert sum(forked["stops"].values()) == 6 and len(forked["stops"]) == 2
assert cells("line") == cells("queue")
assert len({c for n in ("roomy", "queue", "recompute", "prune-lowest") for c in cells(n)}) == 12
PY
pass "test_live_samples_in_a_full_pool"

# ---- the prefix store ----

grid() { # NAME MEMBERS: a prompt of 200 tokens, three blocks of it shared
  printf '{"name": "g", "random": "%s", "compute": "f32", "threads": 1, "repeats": 2, %s "replay": [{"grid": {"prefix_tokens": [200], "branches": [3], "branch_tokens": 8}, "joins": ["flattened", "stitch"]}]}' \
    "$PWD/$shape" "$2" >"$work/$1.json"
}
grid plain ''
grid cold '"prefix": {"block": 64, "state": "cold"},'
grid warm '"prefix": {"block": 64, "state": "warm"},'
for state in plain cold warm; do
  "$coppice" bench "$work/$state.json" --out "$work/$state" --json >"$work/$state.rows" || die "a $state sweep failed"
done
python3 - "$work" <<'PY' || die "cold and warm cells are wrong"
import json, sys
work = sys.argv[1]
rows = {s: [json.loads(l) for l in open(f"{work}/{s}.rows")] for s in ("plain", "cold", "warm")}
keys = {s: {json.loads(l)["cell"] for l in open(f"{work}/{s}/results.jsonl")} for s in rows}
assert all(len(r) == 4 for r in rows.values()) and len(set.union(*keys.values())) == 6
for plain, cold, warm in zip(*rows.values()):
    assert "prefix" not in plain
    for r, state in ((cold, "cold"), (warm, "warm")):
        assert r["prefix"] == {"block": 64, "state": state}
        assert any(state in note for note in r["notes"])
        assert r["mean_logprob"] == plain["mean_logprob"]
        assert r["metrics"]["tokens"]["prompt"] == plain["metrics"]["tokens"]["prompt"] == 200
        assert r["metrics"]["kv"]["prefix_lookups"] == 3
    c, w = cold["metrics"], warm["metrics"]
    # Cold is cold in every repeat and under every method, though one engine serves all.
    assert c["tokens"]["prefix_reused"] == 0 and c["kv"]["prefix_hits"] == 0
    assert c["kv"]["prefix_fill_tokens"] == 0 and c["kv"]["prefix_fill_ms"] == 0
    assert w["tokens"]["prefix_reused"] == 192 and w["kv"]["prefix_hits"] == 3
    assert w["steps"]["rows"] == c["steps"]["rows"] - 192
    t = c["tokens"]  # the pass that filled it is a cold one of the same work
    assert w["kv"]["prefix_fill_tokens"] == t["prompt"] + t["total"] + t["forced"] + t["reprefilled"]
    assert w["kv"]["prefix_fill_ms"] > 0
for s in ("cold", "warm"):
    assert json.load(open(f"{work}/{s}/manifest.json"))["prefix"] == {"block": 64, "state": s}
    page = open(f"{work}/{s}/report.html").read()
    assert f"{s} prefix store" in page and "<h3>The prefix store</h3>" in page
assert "The prefix store" not in open(f"{work}/plain/report.html").read()
PY
refuses "prefix" "$coppice" bench "$work/warm.json" --out "$work/cold" --resume
refuses "--prefix-block" replay --prefix warm --out "$work/none"
refuses "64" replay --prefix-block 100 --out "$work/none"
run() { "$coppice" run --model "$box" --compute f32 --max-tokens 40 --threads 1 --prompt 'T20 18 15 7 4' "$@"; }
run --json >"$work/bare" && run --prefix-block 64 --prefix warm --json >"$work/warmed" || die "run with a store failed"
python3 - "$work/bare" "$work/warmed" <<'PY' || die "a warm store changes what is said, or hides what it cost"
import json, sys
bare, warm = (json.load(open(f)) for f in sys.argv[1:])
assert bare["ids"] == warm["ids"] and "prefix" not in bare and warm["prefix"]["state"] == "warm"
t = bare["metrics"]["tokens"]
assert warm["metrics"]["kv"]["prefix_fill_tokens"] == t["prompt"] + t["total"]
PY
pass "test_cold_and_warm_prefix_stores"

# ---- prune rules ----

echo '{"name": "waves", "source": "test", "rule": "deepconf", "mode": "online", "window": 8, "warmup": 2, "keep_percent": 50, "vote": "majority"}' >"$work/waves.json"
echo '{"name": "asks", "source": "test", "rule": "certaindex", "measure": "entropy", "threshold": 0.0001, "probe": {"text": " 7", "tokens": 4, "every": 16, "boxed": false}}' >"$work/asks.json"
echo '{"name": "spent", "source": "test", "rule": "policy", "budget_tokens": 60, "losers": "drop"}' >"$work/spent.json"
echo '{"name": "both", "source": "test", "rule": "set", "rules": [{"rule": "deepconf", "mode": "online", "window": 8, "warmup": 2, "keep_percent": 50, "vote": "majority"}, {"rule": "policy", "budget_tokens": 40, "losers": "drop"}]}' >"$work/both.json"
samples() { # RULE [MEMBERS]
  printf '{"name": "s", "random": "%s", "compute": "f32", "threads": 1, "samples": [{"name": "s", "prompt": "x", "n": 6, "max_tokens": 24, "temperature": 1, "rule": "%s"%s}]}' \
    "$PWD/$shape" "$1" "${2:-}" >"$work/ruled.json"
}
for rule in waves spent both; do
  samples "$rule.json"
  "$coppice" bench "$work/ruled.json" --out "$work/ruled-$rule" --json >"$work/$rule.rows" || die "samples under $rule failed"
done
python3 - "$work" <<'PY' || die "samples under a rule are wrong"
import json, sys
work = sys.argv[1]
def rows(rule):
    return [json.loads(l) for l in open(f"{work}/{rule}.rows")]
keys = [[json.loads(l)["cell"] for l in open(f"{work}/ruled-{r}/results.jsonl")] for r in ("waves", "spent", "both")]
assert keys[0][:2] == keys[1][:2] == keys[2][:2] and len({k[2] for k in keys}) == 3
for name in ("waves", "spent", "both"):
    serial, forked, ruled = rows(name)
    assert "rule" not in serial and "rule" not in forked and ruled["method"] == "forked+" + name
    rule, tokens = ruled["rule"], ruled["metrics"]["tokens"]
    assert rule["name"] == name and len(rule["sha256"]) == 64
    assert rule["tokens"] == tokens["total"] == rule["tokens_cost"] and rule["tokens_pruned"] == tokens["pruned"]
    assert rule["opened"] == rule["ended"] + rule["pruned"] == sum(ruled["stops"].values())
waves = rows("waves")[2]
assert waves["rule"]["opened"] == 6 and waves["rule"]["tokens_warmup"] == 2 * 24
assert waves["rule"]["pruned"] == waves["stops"]["confidence"] > 0
spent = rows("spent")[2]["rule"]
assert spent["tokens"] == 60 and spent["pruned"] == 6
# Stopped in its warm-up: the second wave never begins.
both = rows("both")[2]
assert both["rule"]["opened"] == 2 and both["stops"] == {"cancelled": 2}
assert any("2 of 6" in note for note in both["notes"])
PY
# Another rule under the same name is another cell.
sed 's/"keep_percent": 50/"keep_percent": 60/' "$work/waves.json" >"$work/again.json"
samples again.json
"$coppice" bench "$work/ruled.json" --out "$work/ruled-again" --json >"$work/again.rows" || die "a changed rule failed"
cells() { sed 's/.*"cell": *"\([^"]*\)".*/\1/' "$work/ruled-$1/results.jsonl"; }
[ "$(cells again | head -2)" = "$(cells waves | head -2)" ] || die "a rule changed the cells that it does not rule"
[ "$(cells again | tail -1)" != "$(cells waves | tail -1)" ] || die "a changed rule stands in the same cell"
for bad in nosuch deepconf-high certaindex-server tree-of-thoughts-bfs; do
  samples "$bad"
  refuses "samples[0].rule" "$coppice" bench "$work/ruled.json" --out "$work/refused"
done
samples waves.json ', "prune": {"budget_tokens": 9}'
refuses "give one" "$coppice" bench "$work/ruled.json" --out "$work/refused"
samples asks.json
refuses "no tokenizer" "$coppice" bench "$work/ruled.json" --out "$work/refused"
[ ! -e "$work/refused" ] || die "a refused rule left a folder"
pass "test_samples_run_under_rules_in_waves"

run --samples 5 --temperature 1 --json >"$work/free" || die "several samples failed"
run --samples 5 --temperature 1 --rule "$work/waves.json" --json >"$work/held" || die "samples under a rule failed"
run --samples 5 --temperature 1 --rule "$work/asks.json" --json >"$work/asked" || die "samples with probes failed"
run --samples 2 --rule "$work/waves.json" >"$work/text" 2>"$work/err" || die "samples in text failed"
grep -q -- '---- sample 2' "$work/text" && grep -q 'rule waves: 2 opened' "$work/err" || die "samples in text are not told apart"
python3 - "$work/free" "$work/held" "$work/asked" <<'PY' || die "samples of a run are wrong"
import json, sys
free, held, asked = (json.load(open(f)) for f in sys.argv[1:])
assert len(free["samples"]) == len(held["samples"]) == 5 and "rule" not in free
for a, b in zip(free["samples"], held["samples"]):  # a rule cuts, and changes nothing before
    assert a["ids"][:len(b["ids"])] == b["ids"] and (a["ids"] == b["ids"]) == (b["stop"] != "confidence")
assert held["rule"]["pruned"] == [s["stop"] for s in held["samples"]].count("confidence") > 0
rule, total = asked["rule"], asked["metrics"]["tokens"]["total"]
assert rule["probes_answered"] > 0 and rule["tokens_probe"] > 0 and rule["tokens_given"] > 0
assert total == rule["tokens"] + rule["tokens_probe"]
assert rule["tokens_cost"] == total + rule["tokens_given"]
PY
refuses "no rule 'nosuch'" run --rule nosuch
refuses "is a controller" run --samples 2 --rule skeleton-of-thought
refuses "is a controller" run --dialect countdown-message --rule mcts-uct
refuses "cannot be encoded" run --rule skeleton-of-thought
refuses "one sample" run --samples 2 --tree
head -n 3 bench/countdown/problems-200.jsonl >"$work/three.jsonl"
sweep() { # METHOD-MEMBERS
  printf '{"name": "x", "model": "%s", "compute": "f32", "problems": [{"name": "p", "set": "three.jsonl", "checker": "countdown", "max_tokens": 300, "max_paths": 24, "at_once": [2], "methods": [{"name": "m", %s}]}]}' \
    "$PWD/$box" "$1" >"$work/problems.json"
}
sweep '"dialect": "countdown-message", "rule": "first-finisher"'
"$coppice" bench "$work/problems.json" --out "$work/first" --json >"$work/first.rows" || die "problems under a rule failed"
sweep '"dialect": "countdown-message"'
"$coppice" bench "$work/problems.json" --out "$work/all" --json >"$work/all.rows" || die "problems without a rule failed"
python3 - "$work" <<'PY' || die "problems under a rule are wrong"
import json, sys
first, every = (json.loads(open(f"{sys.argv[1]}/{n}.rows").read()) for n in ("first", "all"))
key = lambda n: json.loads(open(f"{sys.argv[1]}/{n}/results.jsonl").read())["cell"]
assert key("first") != key("all") and "rule" not in every
rule = first["rule"]
assert rule["name"] == "first-finisher" and rule["opened"] == sum(first["each"]["paths"])
assert rule["pruned"] > 0 and rule["tokens_pruned"] == first["metrics"]["tokens"]["pruned"]
PY
sweep '"dialect": "countdown-message", "rule": "tree-of-thoughts-bfs"'
refuses "is a controller" "$coppice" bench "$work/problems.json" --out "$work/refused"
sweep '"dialect": "countdown-sequential", "rule": "tree-of-thoughts-bfs"'
refuses "the first prompt of rule tree-of-thoughts-bfs" "$coppice" bench "$work/problems.json" --out "$work/refused"
sweep '"dialect": "countdown-message", "rule": "waves.json"'
refuses "counts whole samples" "$coppice" bench "$work/problems.json" --out "$work/refused"
pass "test_runs_and_problem_sets_under_rules"
echo "$tests tests, $skips skipped"
