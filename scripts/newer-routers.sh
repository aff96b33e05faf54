#!/usr/bin/env bash
# Gets routers for the tests that are newer than those of Debian 12, into .cache/routers/bin, unless they are there: FRR 10
# and BIRD 3 as Debian 13 has them, and GoBGP 4, which Go builds (tests/gobgp).
#
# Debian's packages are fetched by apt with settings of its own, which check signatures as ever; they are taken apart in a
# folder with the libraries that they need, their libc too, and nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$PWD/.cache/routers
mkdir -p "$target"

# What is there was made by the script as it is now.
same() { cmp -s "$1" "$2"; }

bin=$target/bin
mkdir -p "$bin"
if ! same scripts/newer-routers.sh "$target/debian-made-by"; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{state/lists/partial,cache/archives/partial,debs,root}
  touch "$work/state/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" \
    >"$work/sources.list"
  cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
END
  export APT_CONFIG=$work/apt.conf
  apt-get update --quiet=2 >&2
  (cd "$work/debs" && apt-get download --quiet=2 frr bird3 libaudit1 libc6 libcap-ng0 libcap2 libcares2 libcom-err2 \
    libcrypt1 libgcc-s1 libgssapi-krb5-2 libjson-c5 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 liblua5.3-0 \
    liblzma5 libpam0g libpcre2-8-0 libprotobuf-c1 libreadline8t64 libssh-4 libssl3t64 libtinfo6 libunwind8 libxxhash0 \
    libyang3 zlib1g >&2)
  unset APT_CONFIG
  for package in "$work"/debs/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
  done
  rm -rf "$work"/root/usr/share/{doc,man,locale} "$target/debian"
  mv "$work/root" "$target/debian"

  # Each program by its own loader, with nothing but its own libraries.
  loader=$(find "$target/debian" -name 'ld-linux*.so.*' | head -n 1)
  libraries=$(dirname "$(find "$target/debian/usr/lib" -name 'libc.so.6' | head -n 1)")
  for program in usr/lib/frr/{zebra,bgpd,bfdd} usr/bin/vtysh usr/sbin/{bird,birdc}; do
    name=$(basename "$program")
    printf '#!/bin/sh\nexec %s --library-path %s --argv0 %s %s "$@"\n' "$loader" "$libraries:$libraries/frr" "$name" \
      "$target/debian/$program" >"$bin/$name"
    chmod 755 "$bin/$name"
  done
  cp scripts/newer-routers.sh "$target/debian-made-by"
fi

if ! same tests/gobgp/go.sum "$target/gobgp-made-of" || [ ! -x "$bin/gobgpd" ]; then
  command -v go >/dev/null || {
    echo "scripts/newer-routers.sh: the end-to-end tests need Go to build GoBGP; install the version in tests/gobgp/go.mod" >&2
    exit 1
  }
  (cd tests/gobgp && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$bin/" tool)
  cp tests/gobgp/go.sum "$target/gobgp-made-of"
fi
