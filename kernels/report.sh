#!/usr/bin/env bash
# What ptxas makes of every kernel instantiation: registers, spilled bytes, shared memory, resident
# blocks of one processor. Fails if anything spills.
#
#   kernels/report.sh NVCC [ARCHITECTURE..]     (default: 80 90 100 120; 90a and 90-real are fine)
#
# Resident blocks are the least of what registers, threads and block slots allow, and shared memory
# where it is known: attention's dynamic shared memory comes from its own constants
# (attention_fold.cuh), that of the other kernels depends on a launch's widths and is left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
nvcc=${1:?usage: kernels/report.sh NVCC [ARCHITECTURE..]}
shift
architectures=()
for a in "$@"; do
  [[ $a == *-virtual ]] && continue # ptxas does not run for these
  [[ ${a%-real} =~ ^[0-9]+[af]?$ ]] && architectures+=("${a%-real}")
done
[ ${#architectures[@]} -eq 0 ] && architectures=(80 90 100 120)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
codes=()
for a in "${architectures[@]}"; do codes+=(-gencode "arch=compute_$a,code=sm_$a"); done

# Dynamic shared memory by head size, from the constants that the launchers use.
: >"$folder/shared"
if [ -f kernels/attention_fold.cuh ]; then
  cat >"$folder/shared.cu" <<'EOF'
#include <cstdio>
#include "kernels/attention_fold.cuh"
int main() {
    printf("64 %u\n96 %u\n128 %u\n256 %u\n", (unsigned)cop__shared<64>::bytes,
           (unsigned)cop__shared<96>::bytes, (unsigned)cop__shared<128>::bytes,
           (unsigned)cop__shared<256>::bytes);
}
EOF
  "$nvcc" -std=c++17 -I. -o "$folder/shared_bytes" "$folder/shared.cu" 2>"$folder/shared.log" || {
    cat "$folder/shared.log" >&2
    exit 1
  }
  "$folder/shared_bytes" >"$folder/shared"
fi

for source in kernels/*.cu; do
  "$nvcc" -std=c++17 -I. -O3 --threads 2 -Xptxas -v "${codes[@]}" -c -o "$folder/object.o" \
    "$source" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
  "$nvcc" -std=c++17 -I. -O3 -arch="compute_${architectures[0]%[af]}" -ptx -o "$folder/kernel.ptx" "$source"
  # Threads of a block, from the launch bounds.
  awk '/^\.visible \.entry|^\.entry/ {name = $NF; sub(/\(.*/, "", name)}
       /^\.maxntid/ {gsub(",", "", $2); print name, $2}' "$folder/kernel.ptx" >>"$folder/threads"
  cat "$folder/log" >>"$folder/ptxas"
done

demangle='c++filt'
command -v c++filt >/dev/null || demangle='cat'
awk -v shared_file="$folder/shared" -v threads_file="$folder/threads" '
  function floor_div(a, b) { return int(a / b) }
  function ceil_to(a, b) { return int((a + b - 1) / b) * b }
  BEGIN {
    while ((getline line < threads_file) > 0) { split(line, f, " "); threads[f[1]] = f[2] }
    while ((getline line < shared_file) > 0) { split(line, f, " "); dynamic[f[1]] = f[2] }
  }
  /Compiling entry function/ {
    split($0, quoted, "\047"); name = quoted[2]; arch = quoted[4]
  }
  /bytes spill stores/ {
    for (i = 1; i <= NF; i++) {
      if ($i == "spill" && $(i + 1) ~ /^stores/) stores = $(i - 2)
      if ($i == "spill" && $(i + 1) ~ /^loads/) loads = $(i - 2)
    }
  }
  /Used [0-9]+ registers/ {
    regs = $5; fixed = 0
    for (i = 1; i <= NF; i++) if ($i ~ /^smem/) fixed = $(i - 2)
    n = (name in threads) ? threads[name] : 0
    sm = arch; sub(/^sm_/, "", sm); sub(/[af]$/, "", sm); sm += 0
    max_threads = sm == 86 || sm == 89 || sm >= 120 ? 1536 : 2048
    max_blocks = sm == 86 ? 16 : sm == 89 || sm >= 120 ? 24 : 32
    room = sm == 80 || sm == 87 ? 164 : sm == 86 || sm == 89 || sm >= 120 ? 100 : 228
    d = ""
    if (name ~ /attention_(tree|paged)/ && match(name, /ILi[0-9]+E/)) d = substr(name, RSTART + 3, RLENGTH - 4)
    bytes = fixed + (d in dynamic ? dynamic[d] : 0)
    blocks = max_blocks
    if (n > 0) {
      warps = n / 32
      by_regs = floor_div(floor_div(65536, ceil_to(regs * 32, 256)), warps)
      by_threads = floor_div(max_threads, n)
      if (by_regs < blocks) blocks = by_regs
      if (by_threads < blocks) blocks = by_threads
    }
    if (bytes > 0) {
      by_shared = floor_div(room * 1024, bytes + 1024)
      if (by_shared < blocks) blocks = by_shared
    }
    verdict = blocks == 0 ? "DOES NOT FIT" : (stores + loads > 0 ? "SPILLS" : "")
    printf "%s\t%s\t%d\t%d\t%d\t%s\t%d\t%s\n", name, arch, n, regs, stores + loads,
      (d in dynamic) ? bytes : fixed " + launch", blocks, verdict
    total++; if (stores + loads > 0) spilled++; if (blocks == 0) unfit++
  }
  END { printf "total\t%d\t%d\t%d\n", total, spilled, unfit }
' "$folder/ptxas" >"$folder/table"

printf '%-64s %-8s %7s %9s %7s %14s %7s\n' kernel code threads registers spilled shared blocks
grep -v '^total' "$folder/table" | sort -t "$(printf '\t')" -k1,1 -k2,2 | "$demangle" |
  awk -F '\t' '{sub(/^void /, "", $1); sub(/\(anonymous namespace\)::/, "", $1); at = index($1, "("); if (at > 1) $1 = substr($1, 1, at - 1)
    printf "%-64s %-8s %7s %9s %7s %14s %7s %s\n", $1, $2, $3, $4, $5, $6, $7, $8}'
read -r _ total spilled unfit < <(grep '^total' "$folder/table" | tr '\t' ' ')
echo "$total instantiations, $spilled with spills, $unfit that fit on no processor"
[ "$total" -gt 0 ] && [ "$spilled" -eq 0 ] && [ "$unfit" -eq 0 ]
