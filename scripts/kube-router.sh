#!/bin/sh
# Builds kube-router, which enforces NetworkPolicies in the test of a whole cluster (its version is in tests/kube-router/go.mod),
# as .cache/kube-router/kube-router, unless it is there already. The first build takes a few minutes.
set -eu
cd "$(dirname "$0")/.."
. scripts/go-program.sh

if is_built kube-router; then
    exit 0
fi
need_go kube-router "the end-to-end tests"
echo "Building kube-router for the tests; the first time this takes a few minutes." >&2
build kube-router tool
