#!/bin/sh
# The recipe in about a minute, where PyTorch is present; elsewhere it says so.
set -e
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "skipped: PyTorch is not installed (bench/countdown/requirements.txt)"
    echo "1 tests, 1 skipped"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
"$python" "$here/test_recipe.py" "$here/countdown.gguf"
"$python" "$here/recipe.py" --smoke --out "$out"
echo "1 tests, 0 skipped"
