#!/usr/bin/env bash
# Builds the program, static and stripped, for an architecture: amd64 or arm64, or that of this machine. With the profile
# `release` (the default) it is built soon, with `image` it is small. It and what else the image holds are then in
# target/image/ARCHITECTURE.
#
# The same sources, compilers and CA roots give the same bytes, wherever they are built.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/rust.sh
architecture=${1:-$(uname -m | sed 's/^x86_64$/amd64/; s/^aarch64$/arm64/')}
profile=${2:-release}

# Debian's and Ubuntu's names of the C compiler and its package: parts of the TLS library are C and assembler. The linker is
# another one on amd64: musl-gcc makes programs that ask for musl's loader.
case $architecture in
amd64) target=x86_64-unknown-linux-musl compiler=musl-gcc linker=gcc package=musl-tools ;;
arm64) target=aarch64-unknown-linux-musl compiler=aarch64-linux-gnu-gcc linker=aarch64-linux-gnu-gcc package=gcc-aarch64-linux-gnu ;;
*) echo "error: unknown architecture $architecture; there are amd64 and arm64" >&2 && exit 2 ;;
esac
if ! command -v "$compiler" >/dev/null; then
  echo "error: $compiler was not found" >&2
  echo "hint: on Debian and Ubuntu: apt-get install $package" >&2
  exit 1
fi
roots=/etc/ssl/certs/ca-certificates.crt
if [ ! -s "$roots" ]; then
  echo "error: $roots is missing" >&2
  echo "hint: on Debian and Ubuntu: apt-get install ca-certificates" >&2
  exit 1
fi
if command -v rustup >/dev/null; then
  rustup target list --installed | grep -qx "$target" || rustup target add "$target"
fi

# No path of this machine gets into the program.
root=$PWD cargo_home=${CARGO_HOME:-$HOME/.cargo} sysroot=$(rustc --print sysroot)
variable=${target//-/_}
export "CC_$variable=$compiler"
export "CFLAGS_$variable=-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$root=/metallb"
export "CARGO_TARGET_${variable^^}_LINKER=$linker"
# Addresses to be adjusted at the start take a bit each instead of 24 bytes, all of which are read and stay in memory. Linkers
# for arm64 of these years ignore it.
# Nothing unwinds: a panic ends the program.
export RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs -C force-unwind-tables=no --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$root=/metallb --remap-path-prefix=$sysroot=/rust"
# A folder of its own: with these flags nothing is shared with other builds.
build=.cache/static
cargo build --profile "$profile" --locked --quiet --bin metallb --target "$target" --target-dir "$build"
program=$build/$target/$profile/metallb
if readelf --program-headers --dynamic --wide "$program" | grep -E 'INTERP|NEEDED' >&2; then
  echo "error: $program is not static" >&2
  exit 1
fi

image=target/image/$architecture
rm -rf "$image"
mkdir -p "$image/etc/ssl/certs"
install -m 755 "$program" "$image/metallb"
install -m 644 "$roots" "$image/etc/ssl/certs/ca-certificates.crt"
# The programs of the Go implementation's images.
ln -s metallb "$image/controller"
ln -s metallb "$image/speaker"
echo "$image/metallb: $(stat -c %s "$image/metallb") bytes, sha256 $(sha256sum "$image/metallb" | cut -d' ' -f1)"
