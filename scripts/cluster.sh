#!/usr/bin/env bash
# Builds what a whole cluster needs, starts one with MetalLB in it, and gives a shell; `make cluster` runs it. Arguments are
# those of crates/lab/examples/cluster.rs: scripts/cluster.sh --nodes 2 --proxy iptables
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/rust.sh
if [ "$(id -u)" != 0 ]; then
  echo "error: nodes need control groups, which only root may make" >&2
  echo "hint: run as root, on a machine or in a virtual machine of your own" >&2
  exit 1
fi
scripts/test-tools.sh
scripts/kubernetes.sh
scripts/helm.sh
scripts/pod.sh
scripts/static.sh
cargo build --quiet --package lab --example cluster
exec "$(scripts/target.sh)/debug/examples/cluster" "$@"
