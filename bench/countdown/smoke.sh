#!/bin/sh
# The recipe in about a minute, where PyTorch is present; elsewhere it says so and exits with 77.
set -e
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "skipped: PyTorch is not installed (bench/countdown/requirements.txt)"
    exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
"$python" "$here/test_recipe.py" "$here/countdown.gguf"
"$python" "$here/recipe.py" --smoke --out "$out"
