#!/usr/bin/env bash
# Compares our BGP codec with two that others wrote, on messages of ours and on edited ones.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked --manifest-path tests/oracle/Cargo.toml --target-dir "$(scripts/target.sh)/oracle" "$@"
