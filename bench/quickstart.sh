#!/usr/bin/env bash
# From a fresh clone to measured tables and HTML reports. First the model in the box, which needs no
# download: it forks of its own accord, sequentially and under three join rules. Then SmolLM2 on
# recorded reasoning (93 MB, fetched once).
#
#   bench/quickstart.sh [--countdown-only] [--out DIR]      (default: out/quickstart; replaced)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. bench/setup.sh

out=out/quickstart transcripts=yes
while [ $# -gt 0 ]; do
  case $1 in
  --out) out=${2:?--out needs a folder}; shift 2 ;;
  --countdown-only) transcripts=no; shift ;;
  -h | --help) sed -n '2,7p' "$0"; exit 0 ;;
  *) echo "unknown option $1; see --help" >&2; exit 2 ;;
  esac
done

begin=$SECONDS
coppice_need "${coppice_build_packages[@]}"
coppice_build release coppice
parts=(countdown)
[ "$transcripts" = no ] || parts+=(transcripts)
for part in "${parts[@]}"; do
  if [ -e "$out/$part" ] && [ ! -f "$out/$part/manifest.json" ]; then
    echo "$out/$part exists and is no result folder: name another with --out" >&2
    exit 2
  fi
  rm -rf "${out:?}/$part"
done

coppice_say "one problem: the model proposes five first moves, forks, and joins what its children found"
build/release/coppice run --model bench/countdown/countdown.gguf --dialect countdown-message \
  --compute f32 --max-tokens 2000 --prompt 'T20 18 15 7 4' --tree
coppice_say "200 held-out problems: one after the other, and under three join rules"
build/release/coppice bench configs/sweeps/countdown.json --out "$out/countdown"
if [ "$transcripts" = yes ]; then
  coppice_fetch_model || coppice_say "the model cannot be had here: going on with RANDOM weights of its shape"
  coppice_say "recorded reasoning under every join rule"
  build/release/coppice bench configs/sweeps/quickstart.json --out "$out/transcripts"
fi
coppice_say "done in $((SECONDS - begin)) s"
