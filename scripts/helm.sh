#!/bin/sh
# Builds the helm of the tests (its version is in tests/helm/go.mod) as .cache/helm/helm, unless it is there already. The
# first build takes a few minutes.
set -eu
cd "$(dirname "$0")/.."
source=tests/helm
target=.cache/helm

# The module that the program was made from is kept beside it.
if [ -x "$target/helm" ] && cmp -s "$source/go.mod" "$target/go.mod" && cmp -s "$source/go.sum" "$target/go.sum"; then
    exit 0
fi

command -v go >/dev/null || {
    echo "scripts/helm.sh: the tests of the chart need Go to build helm; install the version in $source/go.mod" >&2
    exit 1
}
mkdir -p "$target"
version=$(cd "$source" && go list -m -f '{{.Version}}' helm.sh/helm/v4)
echo "Building helm $version for the tests; the first time this takes a few minutes." >&2
stamp="-X helm.sh/helm/v4/internal/version.version=$version"
(cd "$source" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $stamp" -o "../../$target/helm.new" helm.sh/helm/v4/cmd/helm)
mv "$target/helm.new" "$target/helm"
cp "$source/go.mod" "$source/go.sum" "$target"
