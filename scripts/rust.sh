#!/usr/bin/env bash
# Makes sure that Rust is here, and says what to do where it is not.
set -euo pipefail
if ! command -v cargo >/dev/null; then
  echo "error: cargo was not found" >&2
  echo "hint: install Rust with rustup (https://rustup.rs); the version in rust-toolchain.toml is fetched by itself" >&2
  exit 1
fi
if ! cargo --version >/dev/null 2>&1; then
  echo "error: cargo does not run:" >&2
  cargo --version >&2 || true
  exit 1
fi
if ! command -v cc >/dev/null; then
  echo "error: no C compiler was found; the TLS library needs one" >&2
  echo "hint: on Debian and Ubuntu: apt-get install gcc libc6-dev" >&2
  exit 1
fi
