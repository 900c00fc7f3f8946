#!/usr/bin/env bash
# The PTX of the device language: every cop_*_rn function is one rounded instruction, and nothing
# that ptxas could contract or that reaches memory another way stands beside them.
#
#   tests/emulate/ptx_test.sh NVCC
set -euo pipefail
nvcc=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ptx=$folder/examples.ptx
"$nvcc" -std=c++17 -arch=compute_80 -I. -Itests -ptx -o "$ptx" tests/emulate/examples.cu

failed=0
wanted() { grep -qF -- "$1" "$ptx" || { echo "no $1 in the PTX"; failed=1; }; }
unwanted() { # a pattern at an instruction's beginning
  if grep -nE "^[[:space:]]+(@!?%p[0-9]+ )?$1" "$ptx"; then echo "unwanted: $1"; failed=1; fi
}

for op in mul.rn.f32 add.rn.f32 sub.rn.f32 fma.rn.f32 div.rn.f32 rcp.rn.f32 sqrt.rn.f32 \
  ex2.approx.ftz.f32 lg2.approx.ftz.f32 cvt.rn.bf16.f32 cvt.rn.bf16x2.f32 \
  mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 \
  ldmatrix.sync.aligned.m8n8.x4.shared.b16 ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 \
  cp.async.cg.shared.global cp.async.commit_group 'cp.async.wait_group 1' \
  ld.global.nc ld.global.cg membar.gl 'bar.sync 1' 'bar.arrive 1' 'bar.sync 2'; do
  wanted "$op"
done
unwanted '(mul|add|sub|fma|mad)(\.ftz)?\.f32'
unwanted '(ld|st)\.(u|s|b|f|v)[0-9]' # a generic access: the compiler lost the address space
unwanted '(ld|st)\.local'

[ "$failed" -eq 0 ] && echo "1 tests, 0 skipped"
exit "$failed"
