#!/bin/sh
# Builds the counterpart of the tests of memberlist (tests/memberlist: members of HashiCorp's library) as
# .cache/memberlist/memberlist, unless it is there and its sources are the same.
set -eu
cd "$(dirname "$0")/.."
source=tests/memberlist
target=.cache/memberlist

# The sources that the program was made from are kept beside it; the tests compare them too, before they use it.
up_to_date=yes
for file in main.go vectors.go go.mod go.sum; do
    cmp -s "$source/$file" "$target/$file" || up_to_date=no
done
if [ "$up_to_date" = yes ] && [ -x "$target/memberlist" ]; then
    exit 0
fi

command -v go >/dev/null || {
    echo "scripts/memberlist.sh: the end-to-end tests need Go to build memberlist; install the version in $source/go.mod" >&2
    exit 1
}
mkdir -p "$target"
(cd "$source" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "../../$target/memberlist.new" .)
mv "$target/memberlist.new" "$target/memberlist"
for file in main.go vectors.go go.mod go.sum; do
    cp "$source/$file" "$target/$file"
done
