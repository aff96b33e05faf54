#!/bin/sh
# Builds the real Kubernetes of the end-to-end tests (tests/kubernetes: all its parts and etcd in one program) as
# .cache/kubernetes/kubernetes, unless it is there and its sources are the same. The first build takes about ten minutes and
# 3 GB of Go's build cache.
set -eu
cd "$(dirname "$0")/.."
. scripts/go-program.sh

if is_built kubernetes; then
    exit 0
fi
need_go kubernetes "the end-to-end tests"
version=$(cd tests/kubernetes && go list -m -f '{{.Version}}' k8s.io/kubernetes)
major=$(echo "$version" | sed 's/^v\([0-9]*\)\..*/\1/')
minor=$(echo "$version" | sed 's/^v[0-9]*\.\([0-9]*\)\..*/\1/')
# Without a version in it the server calls itself v0.0.0, which charts refuse.
base=k8s.io/component-base/version
stamps="-X $base.gitVersion=$version -X $base.gitMajor=$major -X $base.gitMinor=$minor"
stamps="$stamps -X k8s.io/client-go/pkg/version.gitVersion=$version"
echo "Building Kubernetes $version for the tests; the first time this takes about ten minutes." >&2
build kubernetes . "$stamps"
