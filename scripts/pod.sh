#!/usr/bin/env bash
# Builds what the containers of the lab's clusters run (crates/pod) as a static program, .cache/pod/pod: an image is the
# program alone.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  rustup target add "$target" >&2 || {
    echo "error: Rust's standard library for $target is not here" >&2
    echo "hint: rustup target add $target" >&2
    exit 1
  }
fi
cargo build --quiet --release --target "$target" --package pod
built=$(scripts/target.sh)/$target/release
mkdir -p .cache/pod
# The list of sources goes along: the lab does not use a program that is older than one of them.
cp --preserve=timestamps "$built/pod" "$built/pod.d" .cache/pod/
