#!/bin/sh
# Builds the real Kubernetes of the end-to-end tests (tests/kubernetes: all its parts and etcd in one program) as
# .cache/kubernetes/kubernetes, unless it is there and its sources are the same. The first build takes about ten minutes and
# 3 GB of Go's build cache.
set -eu
cd "$(dirname "$0")/.."
source=tests/kubernetes
target=.cache/kubernetes

# The sources that the program was made from are kept beside it; the lab compares them too, before it uses it.
up_to_date=yes
for file in main.go go.mod go.sum; do
    cmp -s "$source/$file" "$target/$file" || up_to_date=no
done
if [ "$up_to_date" = yes ] && [ -x "$target/kubernetes" ]; then
    exit 0
fi

command -v go >/dev/null || {
    echo "scripts/kubernetes.sh: the end-to-end tests need Go to build Kubernetes; install the version in $source/go.mod" >&2
    exit 1
}
mkdir -p "$target"
version=$(cd "$source" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
major=$(echo "$version" | sed 's/^v\([0-9]*\)\..*/\1/')
minor=$(echo "$version" | sed 's/^v[0-9]*\.\([0-9]*\)\..*/\1/')
# Without a version in it the server calls itself v0.0.0, which charts refuse.
base=k8s.io/component-base/version
stamps="-X $base.gitVersion=$version -X $base.gitMajor=$major -X $base.gitMinor=$minor"
stamps="$stamps -X k8s.io/client-go/pkg/version.gitVersion=$version"
echo "Building Kubernetes $version for the tests; the first time this takes about ten minutes." >&2
(cd "$source" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $stamps" -o "../../$target/kubernetes.new" .)
mv "$target/kubernetes.new" "$target/kubernetes"
for file in main.go go.mod go.sum; do
    cp "$source/$file" "$target/$file"
done
