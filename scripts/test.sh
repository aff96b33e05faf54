#!/usr/bin/env bash
# Every test. Installs and builds what the tests need, runs them, and fails when one fails, when one was skipped, and when
# one does not end.
#
# The end-to-end binaries wait more than they compute, so some run beside each other; what each says is printed when it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"

logs=.cache/test-logs
rm -rf "$logs"
mkdir -p "$logs"

say() { printf '\n== %s (%d min %02d s)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# What is running: process by name.
declare -A running
failed=0
# They have process groups of their own, which an interrupt from the keyboard does not reach.
trap '[ "${#running[@]}" = 0 ] || kill "${running[@]}" 2>/dev/null' EXIT
trap 'exit 130' INT TERM

# Starts a command that has so many seconds to end. `timeout` ends the whole group of processes that it makes.
start() {
  local name=$1 seconds=$2
  shift 2
  timeout --kill-after=10 "$seconds" "$@" >"$logs/$name" 2>&1 </dev/null &
  running[$name]=$!
}

# Waits for it, prints what it said, and notes whether it failed, or skipped a test.
finish() {
  local name=$1 status=0
  wait "${running[$name]}" || status=$?
  unset "running[$name]"
  say "$name"
  cat "$logs/$name"
  if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    echo "error: $name did not end in its time" >&2
    failed=1
  elif [ "$status" != 0 ]; then
    echo "error: $name failed" >&2
    failed=1
  elif grep -qE '^test result: .* [1-9][0-9]* ignored' "$logs/$name"; then
    echo "error: $name skipped a test" >&2
    failed=1
  fi
}

run() {
  start "$@"
  finish "$1"
}

# Nothing is tested with what could not be built.
need() {
  run "$@"
  [ "$failed" = 0 ] || exit 1
}

scripts/rust.sh
say "installing what is missing"
scripts/test-tools.sh

# Kubernetes, helm, GoBGP, kube-router and HashiCorp's members are compiled by Go, the rest by cargo: the first time both take minutes, and
# each has phases with one core.
start go-programs 2400 sh -c 'scripts/memberlist.sh && scripts/newer-routers.sh && scripts/kubernetes.sh &&
  scripts/helm.sh && scripts/kube-router.sh'

# Another one of few cores: a program of its own, which nothing waits for.
start site 900 scripts/docs.sh

need format 60 sh -c 'cargo fmt --check && cargo fmt --check --manifest-path tests/fuzz/Cargo.toml &&
  cargo fmt --check --manifest-path tests/oracle/Cargo.toml'
need lints 1800 cargo clippy --workspace --all-targets --quiet -- -D warnings
# The packages' features are those of the whole workspace in all that follows, so that nothing is built twice.
need tests-build 1800 cargo test --workspace --no-run --quiet
need image-build 1800 sh -c 'scripts/pod.sh && scripts/static.sh'
finish go-programs
finish site
[ "$failed" = 0 ] || exit 1

# The end-to-end binaries, by the name of the test, and one that has work for one core only.
beside=(apiserver bfd demo enter fleet hosts l2_kernel manifests memberlist routers traffic)
long=(kubernetes e2e)
# A whole cluster takes all cores: nothing that measures time is right beside it.
alone=(cluster release)
end_to_end=" ${beside[*]} ${long[*]} ${alone[*]} "
quick=()
for test in crates/*/tests/*; do
  name=$(basename "$test" .rs)
  [[ $test == *.rs || -f $test/main.rs ]] || continue
  [[ $end_to_end == *" $name "* ]] || quick+=(--test "$name")
done

# The longest begins before all others, and the next when only those are left that wait as well.
start_long() { start "$1" 2400 cargo test --workspace --test "$1" -- --test-threads 3; }
start_long kubernetes

run unit 900 cargo test --workspace --no-fail-fast --lib --bins --examples --quiet
run doc 900 cargo test --workspace --doc --quiet
run integration 1200 cargo test --workspace --no-fail-fast --quiet "${quick[@]}"

# A million frames and messages of each kind, cut and edited at random, in seconds: only an optimized build is that quick.
run hostile-l2 900 cargo test --release --quiet -p l2 --test l2 hostile
run hostile-bgp 900 cargo test --release --quiet -p bgp --lib fuzz
run hostile-bfd 900 cargo test --release --quiet -p bfd --lib -- mutated edits
run oracle 900 scripts/oracle.sh --quiet

start_long e2e
for name in "${beside[@]}"; do
  run "$name" 900 cargo test --workspace --test "$name"
done
for name in "${long[@]}"; do
  finish "$name"
done
for name in "${alone[@]}"; do
  run "$name" 1200 cargo test --workspace --test "$name"
done

if [ "$failed" != 0 ]; then
  # Whoever reads only the end learns at least what failed, and why.
  say "what failed"
  grep -hA 4 -E '^---- .* ----$' "$logs"/* | cut -c 1-400 || true
  echo "error: some tests failed; see above" >&2
  exit 1
fi
