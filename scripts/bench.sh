#!/usr/bin/env bash
# Measures what we promise. Each program prints a table and fails when a budget is missed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/rust.sh
echo "== controller: addresses for 100,000 Services"
cargo run --release --quiet -p controller --example allocation
echo "== gossip: what membership costs, and how quickly and calmly the dead are found"
cargo run --release --quiet -p gossip --example swim_figures
echo "== layer 2: a node dies under the eyes of its clients, forty times (8 minutes)"
cargo build --release --quiet --bin metallb
cargo run --release --quiet -p lab --example node_loss "$(scripts/target.sh)/release/metallb"
scripts/test-tools.sh
echo "== BGP: many routes beside FRR, BIRD and GoBGP, many Services, and single changes (2 minutes)"
cargo run --release --quiet -p lab --example routes "$(scripts/target.sh)/release/metallb"
# `scripts/bench.sh long` adds what takes minutes.
if [ "${1:-}" = long ]; then
  scripts/memberlist.sh
  echo "== gossip: ten minutes under loss, beside HashiCorp's members"
  cargo run --release --quiet -p lab --example memberlist_loss
fi
echo "== BFD: the death of a router, and false alarms on a busy machine (15 minutes)"
# Lets the thread of BFD run before all others, which a container may do with the capability SYS_NICE.
ulimit -r 1 2>/dev/null || echo "no real-time threads here, so that others can delay BFD"
cargo run --release --quiet -p lab --example bfd_timing
