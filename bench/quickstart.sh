#!/usr/bin/env bash
# From a fresh clone to a measured table and an HTML report: installs what is missing, builds, fetches
# the model once, replays recorded reasoning under every join rule and samples a prompt three ways.
#
#   bench/quickstart.sh [--out DIR]        (default: out/quickstart; an existing one is replaced)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. bench/setup.sh

out=out/quickstart
while [ $# -gt 0 ]; do
  case $1 in
  --out) out=${2:?--out needs a folder}; shift 2 ;;
  -h | --help) sed -n '2,6p' "$0"; exit 0 ;;
  *) echo "unknown option $1; see --help" >&2; exit 2 ;;
  esac
done

begin=$SECONDS
coppice_need "${coppice_build_packages[@]}"
coppice_build release
if ! coppice_fetch_model; then
  coppice_say "the model cannot be had here: going on with RANDOM weights of its shape"
fi
if [ -e "$out" ]; then
  [ -f "$out/manifest.json" ] || { echo "$out exists and is no result folder: name another with --out" >&2; exit 2; }
  rm -rf "$out"
fi
coppice_say "measuring"
build/release/coppice bench configs/sweeps/quickstart.json --out "$out"
coppice_say "done in $((SECONDS - begin)) s"
