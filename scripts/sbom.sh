#!/usr/bin/env bash
# Prints the bill of materials of the program, as SPDX 2.3: every package that is compiled into it, with version, licence and
# checksum, as Cargo.lock and the packages' manifests have them.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-x86_64-unknown-linux-musl}
command -v jq >/dev/null || { echo "error: jq was not found" >&2 && echo "hint: apt-get install jq" >&2 && exit 1; }

# The time of the sources, so that the same sources make the same bill.
created=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)
revision=$(git rev-parse HEAD)
used=$(cargo tree --locked --package metallb --edges normal --target "$target" --prefix none --format '{p}' |
  awk '{sub(/^v/, "", $2); print $1 " " $2}' | sort -u)
checksums=$(awk '/^name = /{name=$3} /^version = /{version=$3} /^checksum = /{print name " " version " " $3}' Cargo.lock | tr -d '"')

cargo metadata --locked --format-version 1 --filter-platform "$target" |
  jq --arg used "$used" --arg checksums "$checksums" --arg created "$created" --arg revision "$revision" '
    ($used | split("\n")) as $used
    | ($checksums | split("\n") | map(split(" ") | {key: (.[0] + " " + .[1]), value: .[2]}) | from_entries) as $checksums
    | [.packages[] | select((.name + " " + .version) as $name | $used | index($name))] | sort_by(.name, .version)
    | map({
        name, versionInfo: .version,
        SPDXID: ("SPDXRef-" + (.name | gsub("_"; "-")) + "-" + (.version | gsub("[^A-Za-z0-9.-]"; "-"))),
        downloadLocation: (.repository // "NOASSERTION"),
        licenseConcluded: "NOASSERTION",
        licenseDeclared: ((.license // "NOASSERTION") | gsub("/"; " OR ")),
        copyrightText: "NOASSERTION",
        filesAnalyzed: false,
        externalRefs: [{
          referenceCategory: "PACKAGE-MANAGER", referenceType: "purl",
          referenceLocator: ("pkg:cargo/" + .name + "@" + (.version | gsub("\\+"; "%2B")))
        }]
      } + (($checksums[.name + " " + .version]) as $sum
        | if $sum then {checksums: [{algorithm: "SHA256", checksumValue: $sum}]} else {} end))
    | . as $packages
    | ($packages[] | select(.name == "metallb")) as $root
    | {
        spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT",
        name: ("metallb-" + $root.versionInfo),
        documentNamespace: ("https://metallb.io/spdx/metallb-" + $root.versionInfo + "-" + $revision),
        creationInfo: {created: $created, creators: ["Tool: scripts/sbom.sh"]},
        documentDescribes: [$root.SPDXID],
        packages: $packages,
        relationships: [$packages[] | select(.SPDXID != $root.SPDXID)
          | {spdxElementId: $root.SPDXID, relationshipType: "CONTAINS", relatedSpdxElement: .SPDXID}]
      }'
