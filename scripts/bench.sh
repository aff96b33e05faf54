#!/usr/bin/env bash
# Measures what we promise. Each program prints a table and fails when a budget is missed; the others are run all the same.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/rust.sh
scripts/test-tools.sh

failed=()

# Says what is measured and runs it.
bench() {
  echo "== $1"
  "${@:2}" || failed+=("$1")
}

# Runs an example of a crate.
example() { cargo run --release --quiet -p "$1" --example "$2" -- "${@:3}"; }

bench "controller: addresses for 100,000 Services" example controller allocation
bench "controller: 10,000 addresses spread over 100 nodes" example speaker assigning
bench "gossip: what membership costs, and how quickly and calmly the dead are found" example gossip swim_figures
bench "gossip: who owns 10,000 addresses while 1,000 nodes come and go, fewer over many seeds (10 minutes)" \
  example gossip at_scale
cargo build --release --quiet --bin metallb
program=$(scripts/target.sh)/release/metallb
bench "layer 2: a node of three dies under the eyes of its clients, 42 times (10 minutes)" \
  example lab node_loss "$program"
bench "layer 2: a node of seven dies under the eyes of its clients, 42 times (10 minutes)" \
  example lab node_loss "$program" --nodes 7
bench "BGP: many routes beside FRR, BIRD and GoBGP, many Services, and single changes (2 minutes)" \
  example lab routes "$program"
# `scripts/bench.sh long` adds what takes minutes.
if [ "${1:-}" = long ]; then
  scripts/memberlist.sh
  bench "gossip: ten minutes under loss, beside HashiCorp's members" example lab memberlist_loss
fi
# Lets the thread of BFD run before all others, which a container may do with the capability SYS_NICE.
ulimit -r 1 2>/dev/null || echo "no real-time threads here, so that others can delay BFD"
bench "BFD: the death of a router, and false alarms on a busy machine (15 minutes)" example lab bfd_timing
scripts/kubernetes.sh
architecture=$(uname -m | sed 's/^x86_64$/amd64/; s/^aarch64$/arm64/')
scripts/static.sh "$architecture" image
bench "Kubernetes: thousands of Services on a real API server, with the program of the image (15 minutes)" \
  example lab scale "target/image/$architecture/metallb"
scripts/pod.sh
scripts/helm.sh
bench "Kubernetes: installed by Helm twenty times, with objects in a random order meanwhile (12 minutes)" \
  example lab installs

for name in "${failed[@]}"; do
  echo "error: failed or over budget: $name" >&2
done
[ ${#failed[@]} = 0 ]
