#!/bin/sh
# Builds the counterpart of the tests of memberlist (tests/memberlist: members of HashiCorp's library) as
# .cache/memberlist/memberlist, unless it is there and its sources are the same.
set -eu
cd "$(dirname "$0")/.."
. scripts/go-program.sh

if is_built memberlist; then
    exit 0
fi
need_go memberlist "the end-to-end tests"
build memberlist .
