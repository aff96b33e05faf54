#!/usr/bin/env bash
# Builds the static programs that container images are made of - metallb, and the lab's pod - as .cache/static/NAME, and
# prints that folder. They need no libc: an image is the program alone.
#
# Two profiles: `release`, the default, is what is shipped; `image` builds in less time and is what the tests run.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
target=$(uname -m)-unknown-linux-musl

if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  rustup target add "$target" >&2 || {
    echo "error: Rust's standard library for $target is not here" >&2
    echo "hint: rustup target add $target" >&2
    exit 1
  }
fi
if ! command -v musl-gcc >/dev/null; then
  echo "error: musl-gcc was not found; the TLS library needs a C compiler for $target" >&2
  echo "hint: on Debian and Ubuntu: apt-get install musl-tools" >&2
  exit 1
fi
variable=CC_${target//-/_}
export "$variable=musl-gcc"
cargo build --quiet --profile "$profile" --target "$target" -p metallb -p lab --bin metallb --bin pod

built=$(scripts/target.sh)/$target/$profile
mkdir -p .cache/static
for name in metallb pod; do
  # The list of sources goes along: the lab does not use a program that is older than one of them.
  cp --preserve=timestamps "$built/$name" "$built/$name.d" .cache/static/
done
echo .cache/static
