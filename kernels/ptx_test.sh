#!/usr/bin/env bash
# The PTX of the canonical kernels holds no f32 mul, add, sub, fma or mad without a rounding: ptxas
# contracts those, and a host compiler does not, so their bits would be nobody's promise.
#
#   kernels/ptx_test.sh NVCC
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
nvcc=${1:?usage: kernels/ptx_test.sh NVCC}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pattern='^[[:space:]]*(@!?%p[0-9]+[[:space:]]+)?(mul|add|sub|fma|mad)(\.ftz)?(\.sat)?\.f32(x2)?[[:space:]]'

# The pattern must see what it is for.
printf '__global__ void k(float *x) { x[0] = x[1] * x[2] + x[3]; x[4] = x[5] - x[6]; }\n' >"$folder/plain.cu"
"$nvcc" -std=c++17 -arch=compute_80 -ptx -o "$folder/plain.ptx" "$folder/plain.cu"
grep -qE "$pattern" "$folder/plain.ptx" || { echo "the pattern does not see plain arithmetic"; exit 1; }

failed=0 kernels=0
for source in kernels/*.cu; do
  ptx=$folder/$(basename "$source").ptx
  "$nvcc" -std=c++17 -I. -arch=compute_80 -ptx -o "$ptx" "$source"
  kernels=$((kernels + $(grep -c '\.entry' "$ptx" || true)))
  if grep -nE "$pattern" "$ptx"; then
    echo "$source: arithmetic without a rounding; write it with the cop_*_rn functions"
    failed=1
  fi
done
[ "$kernels" -gt 0 ] || { echo "no kernels"; exit 1; }
[ "$failed" -eq 0 ] && echo "$kernels kernels" && echo "1 tests, 0 skipped"
exit "$failed"
