#!/bin/sh
# Builds the helm of the tests (its version is in tests/helm/go.mod) as .cache/helm/helm, unless it is there already. The
# first build takes a few minutes.
set -eu
cd "$(dirname "$0")/.."
. scripts/go-program.sh

if is_built helm; then
    exit 0
fi
need_go helm "the tests of the chart"
version=$(cd tests/helm && go list -m -f '{{.Version}}' helm.sh/helm/v4)
echo "Building helm $version for the tests; the first time this takes a few minutes." >&2
build helm helm.sh/helm/v4/cmd/helm "-X helm.sh/helm/v4/internal/version.version=$version"
