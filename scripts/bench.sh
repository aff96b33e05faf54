#!/usr/bin/env bash
# Measures what we promise. Each program prints a table and fails when a budget is missed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/rust.sh
echo "== controller: addresses for 100,000 Services"
cargo run --release --quiet -p controller --example allocation
