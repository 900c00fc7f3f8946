# Sourced by bench/profile_nsys.sh and bench/profile_ncu.sh: what is run under the profiler, and what
# must be there for it. Sets: run (the command), out, steps, dry.
coppice=${COPPICE:-build/release/coppice}
model=(--random configs/models/llama3-1b.json)
sweep=configs/sweeps/gpu-profile.json trajectories='' join=stitch
backend=cuda steps=50-59 out='' dry=''
modes=()

# profile_option ARGUMENT..: takes one option that both scripts have; sets `taken` to how many
# arguments that was, 0 for none.
profile_option() {
  taken=2
  case $1 in
  --eager) modes+=(--eager) taken=1; return ;;
  --dry-run) dry=yes taken=1; return ;;
  --random | --model | --sweep | --trajectories | --join | --steps | --products | --backend | --out) ;;
  *) taken=0; return ;;
  esac
  [ $# -gt 1 ] && [ -n "$2" ] || { echo "$1 lacks its value" >&2; exit 2; }
  case $1 in
  --random | --model) model=("$1" "$2") ;;
  --sweep) sweep=$2 trajectories='' ;;
  --trajectories) trajectories=$2 ;;
  --join) join=$2 ;;
  --steps) steps=$2 ;;
  --products) modes+=(--products "$2") ;;
  --backend) backend=$2 ;;
  --out) out=$2 ;;
  esac
}

# With it set the command does not start itself once more, which a profiler would have to follow.
export GOMP_SPINCOUNT=10000

# profile_command FOLDER: the run, as the array `run`.
profile_command() {
  local options=("${model[@]}" --backend "$backend" --compute bf16 --profile-steps "$steps"
    "${modes[@]}" --out "$1")
  run=("$coppice")
  if [ -n "$trajectories" ]; then
    run+=(replay --trajectories "$trajectories" --join "$join" "${options[@]}")
  else
    run+=(bench "$sweep" "${options[@]}")
  fi
}

# profile_needs TOOL PACKAGE: ends with 2, naming all that is missing here.
profile_needs() {
  local missing=()
  command -v "$1" >/dev/null || missing+=("$1 on PATH ($2)")
  command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU' ||
    missing+=("a GPU with its driver (nvidia-smi lists none)")
  [ -x "$coppice" ] || missing+=("$coppice: build it, or name another command with COPPICE=")
  [ -f "$(dirname "$coppice")/libcoppice_$backend.so" ] ||
    missing+=("libcoppice_$backend.so beside it: build where the CUDA toolkit's nvcc is on PATH")
  [ ${#missing[@]} -eq 0 ] && return
  echo "$0 cannot run here. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 2
}

# profile_folder: makes $out, and room for the run's results in it.
profile_folder() {
  if [ -e "$out/results" ] && [ ! -f "$out/results/manifest.json" ]; then
    echo "$out/results exists and is no result folder: name another with --out" >&2
    exit 2
  fi
  rm -rf "${out:?}/results"
  mkdir -p "$out"
}

# profile_show COMMAND..: as one could type it.
profile_show() { printf '%q ' "$@" && echo; }
