#!/usr/bin/env bash
# Every test. Installs and builds what the tests need, runs them, and fails when one fails or one was skipped.
#
# The end-to-end binaries wait more than they compute, so they run beside each other; what each says is printed when it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"

scripts/rust.sh
scripts/test-tools.sh
logs=.cache/test-logs
rm -rf "$logs"
mkdir -p "$logs"

say() { printf '\n== %s\n' "$*"; }

# Prints a log and fails if the command did, or if a test in it was skipped.
conclude() {
  local name=$1 status=$2
  say "$name"
  cat "$logs/$name"
  if [ "$status" != 0 ]; then
    echo "error: $name failed" >&2
    failed=1
  elif grep -qE '^test result: .* [1-9][0-9]* ignored' "$logs/$name"; then
    echo "error: $name skipped a test" >&2
    failed=1
  fi
}
failed=0

# Kubernetes and helm are compiled by Go, the rest by cargo: the first time both take minutes, and each has phases with one
# core.
{ scripts/kubernetes.sh && scripts/helm.sh; } >"$logs/kubernetes-build" 2>&1 &
kubernetes_build=$!

say "format and lints"
cargo fmt --check
cargo clippy --workspace --all-targets --quiet -- -D warnings

say "building the tests"
cargo test --workspace --no-run --quiet
scripts/pod.sh
scripts/static.sh
wait "$kubernetes_build" || { cat "$logs/kubernetes-build" >&2; exit 1; }

# The end-to-end binaries: package and name.
whole_clusters=("lab cluster" "metallb release")
end_to_end=(
  "lab enter" "lab fleet" "lab hosts" "lab kubernetes" "lab l2_kernel" "lab routers" "lab traffic"
  "metallb demo" "metallb kubernetes" "metallb e2e" "${whole_clusters[@]}"
)
only_unit=(--workspace --lib --bins --examples)
for test in crates/*/tests/*; do
  package=$(basename "$(dirname "$(dirname "$test")")")
  name=$(basename "$test" .rs)
  [[ $test == *.rs || -f $test/main.rs ]] || continue
  [[ " ${end_to_end[*]} " == *" $package $name "* ]] || integration+=("$package $name")
done

say "unit tests"
cargo test "${only_unit[@]}" --quiet >"$logs/unit" 2>&1 && status=0 || status=$?
conclude unit "$status"
cargo test --workspace --doc --quiet >"$logs/doc" 2>&1 && status=0 || status=$?
conclude doc "$status"
for pair in "${integration[@]}"; do
  read -r package name <<<"$pair"
  cargo test -p "$package" --test "$name" --quiet >"$logs/$package-$name" 2>&1 && status=0 || status=$?
  conclude "$package-$name" "$status"
done

# A million frames and messages of each kind, cut and edited at random, in seconds: only an optimized build is that quick.
say "a million malformed frames and messages of each kind"
cargo test --release --quiet -p l2 --test l2 hostile >"$logs/hostile-l2" 2>&1 && status=0 || status=$?
conclude hostile-l2 "$status"
cargo test --release --quiet -p bgp --lib fuzz >"$logs/hostile-bgp" 2>&1 && status=0 || status=$?
conclude hostile-bgp "$status"

# The two long ones run beside everything else; the last to be concluded is the one with the most to say.
declare -A running
start() {
  local package=$1 name=$2
  cargo test -p "$package" --test "$name" >"$logs/$package-$name" 2>&1 &
  running["$package-$name"]=$!
}
finish() {
  local name=$1 status=0
  wait "${running[$name]}" || status=$?
  conclude "$name" "$status"
}
start metallb kubernetes
start metallb e2e
for pair in "${end_to_end[@]}"; do
  read -r package name <<<"$pair"
  [[ $package-$name == metallb-kubernetes || $package-$name == metallb-e2e ]] && continue
  [[ " ${whole_clusters[*]} " == *" $pair "* ]] && continue
  start "$package" "$name"
  finish "$package-$name"
done
finish metallb-kubernetes
finish metallb-e2e
# A whole cluster takes all cores: nothing that measures time is right beside it.
for pair in "${whole_clusters[@]}"; do
  read -r package name <<<"$pair"
  start "$package" "$name"
  finish "$package-$name"
done

if [ "$failed" != 0 ]; then
  echo "error: some tests failed; see above" >&2
  exit 1
fi
