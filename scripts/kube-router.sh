#!/bin/sh
# Builds kube-router, which enforces NetworkPolicies in the test of a whole cluster (its version is in tests/kube-router/go.mod),
# as .cache/kube-router/kube-router, unless it is there already. The first build takes a few minutes.
set -eu
cd "$(dirname "$0")/.."
source=tests/kube-router
target=.cache/kube-router

# The module that the program was made from is kept beside it.
if [ -x "$target/kube-router" ] && cmp -s "$source/go.mod" "$target/go.mod" && cmp -s "$source/go.sum" "$target/go.sum"; then
    exit 0
fi

command -v go >/dev/null || {
    echo "scripts/kube-router.sh: the end-to-end tests need Go to build kube-router; install the version in $source/go.mod" >&2
    exit 1
}
mkdir -p "$target"
echo "Building kube-router for the tests; the first time this takes a few minutes." >&2
(cd "$source" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "../../$target/" tool)
cp "$source/go.mod" "$source/go.sum" "$target"
