# Sourced by the tests of the command: a folder of their own, counts, and what a refusal looks like.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=0 skips=0

die() { echo "$(basename "$0"): $*" >&2; exit 1; }
pass() { echo "$1"; tests=$((tests + 1)); }
# refuses WORDS COMMAND..: exit code 2, one line on stderr that holds WORDS, nothing on stdout.
refuses() {
  local words=$1 code
  shift
  "$@" >"$work/out" 2>"$work/err"
  code=$?
  [ "$code" -eq 2 ] || die "\"$*\" ended with $code, not 2: $(cat "$work/err")"
  [ ! -s "$work/out" ] || die "\"$*\" wrote to stdout"
  [ "$(wc -l <"$work/err")" -eq 1 ] || die "\"$*\" said more than one line: $(cat "$work/err")"
  grep -qF -- "$words" "$work/err" || die "\"$*\" said \"$(cat "$work/err")\", without \"$words\""
}
