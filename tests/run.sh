#!/usr/bin/env bash
# Everything that proves Coppice: the tests in a release build, those of the device's code again on a
# GPU where one is there with its toolkit, all again under ASan and UBSan, the threaded ones under
# TSan, and a short run of each fuzz target. Installs what is missing.
#
#   tests/run.sh [release|gpu|asan|tsan|fuzz ..]      (default: all five)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. bench/setup.sh

parts=("$@")
[ ${#parts[@]} -eq 0 ] && parts=(release gpu asan tsan fuzz)
for part in "${parts[@]}"; do
  case $part in
  release | gpu | asan | tsan | fuzz) ;;
  -h | --help) sed -n '2,7p' "$0"; exit 0 ;;
  *) echo "unknown part $part; see --help" >&2; exit 2 ;;
  esac
done
has() { [[ " ${parts[*]} " == *" $1 "* ]]; }

packages=("${coppice_build_packages[@]}" libbenchmark-dev)
if has tsan || has fuzz; then packages+=(clang libclang-rt-14-dev libomp-dev); fi
coppice_need "${packages[@]}" || exit 2
coppice_fetch_model || coppice_say "the model cannot be had here: tests that need it skip, saying so"

passed=0 failed=0 skipped=0
begin=$SECONDS

# count LOG: adds up the tests that each binary reports ("12 tests, 1 skipped").
count() {
  local tests skips
  tests=$(grep -oE '^[0-9]+: [0-9]+ tests, [0-9]+ skipped$' "$1" | awk '{n += $2} END {print n + 0}')
  skips=$(grep -oE '^[0-9]+: [0-9]+ tests, [0-9]+ skipped$' "$1" | awk '{n += $4} END {print n + 0}')
  passed=$((passed + tests - skips)) skipped=$((skipped + skips))
}

# run_ctest PRESET EFFORT [ctest argument..]: effort is the share, in percent, of random cases run.
run_ctest() {
  local preset=$1 effort=$2 log=build/$1/ctest.log start=$SECONDS
  shift 2
  coppice_build "$preset" || { failed=$((failed + 1)); return; }
  coppice_say "testing $preset"
  if COPPICE_EFFORT=$effort ctest --test-dir "build/$preset" --verbose --timeout 400 "$@" >"$log" 2>&1; then
    grep -E 'skipped: ' "$log" | sed 's/^[0-9]*: //' | sort | uniq -c >&2
  else
    grep -vE '^test [0-9]+$' "$log" | tail -n 60 >&2
    failed=$((failed + $(grep -cE '\*\*\*(Failed|Timeout|Exception)' "$log" || true)))
    [ "$failed" -eq 0 ] && failed=1
  fi
  grep -E 'tests passed|Total Test time' "$log" >&2
  count "$log"
  coppice_say "$preset took $((SECONDS - start)) s"
}

has release && run_ctest release 100 -j 2 -LE gpu
if has gpu; then
  if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    coppice_say "no GPU here (nvidia-smi lists none): what needs one is skipped; its twins over the emulation run"
    skipped=$((skipped + 1))
  elif ! command -v nvcc >/dev/null; then
    coppice_say "a GPU, but no toolkit (nvcc on PATH): what needs both is skipped"
    skipped=$((skipped + 1))
  else
    nvidia-smi -L >&2
    run_ctest release 100 -j 1 -L gpu --no-tests=error
    build/release/coppice info | sed -n '/^  cuda:/,/^  sim:/p' | sed '$d' >&2
  fi
fi
has asan && ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 run_ctest asan 5 -j 2
if has tsan; then
  # Archer tells TSan of OpenMP's own synchronisation; without it every parallel region is a race.
  archer=$(ls /usr/lib/llvm-*/lib/libarcher.so 2>/dev/null | head -n 1)
  OMP_TOOL_LIBRARIES=$archer TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" \
    run_ctest tsan 4 -j 1 -R '^test_(bits|engine|cpu_attention|products|cpu_ops|tokenizer)$'
fi
if has fuzz; then
  start=$SECONDS
  if coppice_build fuzz; then
    for target in build/fuzz/tests/fuzz_*; do
      [ -x "$target" ] && [ -f "$target" ] || continue
      name=$(basename "$target") corpus=$(mktemp -d)
      coppice_say "fuzzing $name for 6 s"
      if "$target" -max_total_time=6 -timeout=5 -rss_limit_mb=2048 -print_final_stats=0 \
        "$corpus" "tests/fuzz/corpus/${name#fuzz_}" >"build/fuzz/$name.log" 2>&1; then
        passed=$((passed + 1))
      else
        tail -n 40 "build/fuzz/$name.log" >&2
        failed=$((failed + 1))
      fi
      rm -rf "$corpus"
    done
  else
    failed=$((failed + 1))
  fi
  coppice_say "fuzz took $((SECONDS - start)) s"
fi

coppice_say "all took $((SECONDS - begin)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
