#!/usr/bin/env bash
# Builds the image from a program that is compiled here, and its bill of materials. Needs buildah, and neither a daemon nor a
# registry.
#
#   scripts/image.sh                for the architecture of this machine
#   scripts/image.sh amd64 arm64    for these
#
# What comes of it is in target/image: an archive for each architecture (docker load -i, podman load -i, ctr images
# import, skopeo copy oci-archive:...) and the bill in SPDX. The same sources make the same digests.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v buildah >/dev/null || {
  echo "error: buildah was not found" >&2
  echo "hint: on Debian and Ubuntu: apt-get install buildah; or docker build -f Containerfile -t metallb/metallb ." >&2
  exit 1
}
[ $# != 0 ] || set -- "$(uname -m | sed 's/^x86_64$/amd64/; s/^aarch64$/arm64/')"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
time=$(git log -1 --format=%ct)
# No layer is ever mounted, so that no privilege and no overlay is needed.
store=(--storage-driver vfs --root "$PWD/.cache/containers" --runroot "$PWD/.cache/containers-run")

for architecture in "$@"; do
  scripts/static.sh "$architecture" image
  name=metallb/metallb:$version
  archive=target/image/metallb-$version-$architecture.tar
  sed -e '1,/^FROM scratch/{/^FROM scratch/!d}' -e "s#--from=builder /image/#target/image/$architecture/#" Containerfile |
    buildah "${store[@]}" build --quiet --isolation chroot --layers=false --file - --os linux --arch "$architecture" \
    --timestamp "$time" --identity-label=false \
    --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$(git rev-parse HEAD)" \
    --tag "$name-$architecture" . >/dev/null
  rm -f "$archive"
  digest=$(mktemp)
  buildah "${store[@]}" push --quiet --digestfile "$digest" "$name-$architecture" "oci-archive:$archive:$name"
  echo "$archive: $(stat -c %s "$archive") bytes, $(cat "$digest")"
  rm "$digest"
done
bill=target/image/metallb-$version.spdx.json
scripts/sbom.sh >"$bill"
echo "$bill: $(jq '.packages | length' "$bill") packages"
