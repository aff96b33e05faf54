#!/usr/bin/env bash
# Builds the documentation as a site, target/docs/index.html, by mdbook, which is built in .cache the first time.
#
# The pages stand in the site where they stand in the repository, so that links mean the same in both. That what they
# lead to exists is tested in crates/metallb/tests/documentation.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.4
mdbook=.cache/mdbook/bin/mdbook
# Files outside of docs that pages lead to.
others=(README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md charts/metallb/README.md charts/metallb/values.yaml
  manifests/metallb-native.yaml monitoring/alerts.yaml monitoring/dashboard.json LICENSE)

if [ "$("$mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
  scripts/rust.sh
  echo "Building mdbook $version; the first time this takes a minute." >&2
  # Not optimized, and without what serves, watches and searches: it renders a few dozen pages.
  cargo install "mdbook@$version" --locked --quiet --force --no-default-features --profile dev --config profile.dev.debug=0 \
    --root .cache/mdbook --target-dir .cache/mdbook/target
  rm -rf .cache/mdbook/target
fi

book=.cache/book
rm -rf "$book"
mkdir -p "$book/src"
cp --parents -r docs "${others[@]}" "$book/src"
mv "$book/src/docs/book.toml" "$book"
# The contents come first for mdbook, and its links begin where the site begins.
sed -E 's#\]\(#](docs/#; s#\]\(docs/\.\./#](#' docs/SUMMARY.md >"$book/src/SUMMARY.md"
rm "$book/src/docs/SUMMARY.md"
# mdbook makes index.html of README.md, and leaves links to it as they are.
find "$book/src" -name README.md | while read -r page; do mv "$page" "${page%README.md}index.md"; done
find "$book/src" -name '*.md' -exec sed -i -E 's#(\]\([^)]*)README\.md#\1index.md#g' {} +
"$mdbook" build "$book" >"$book/log" 2>&1 || {
  cat "$book/log" >&2
  exit 1
}
if grep -E ' (WARN|ERROR) ' "$book/log" >&2; then
  echo "error: mdbook has something to say about the pages" >&2
  exit 1
fi
dead=$(find "$book/site" -name '*.html' ! -name toc.html ! -name 404.html | while read -r page; do
  sed -nE 's/.*href="([^":#]+)["#].*/\1/p' <(sed 's/href=/\nhref=/g' "$page") | sort -u | while read -r link; do
    [ -e "$(dirname "$page")/$link" ] || echo "$page: $link"
  done
done)
if [ -n "$dead" ]; then
  printf 'error: links of the site lead nowhere:\n%s\n' "$dead" >&2
  exit 1
fi
rm -rf "$(scripts/target.sh)/docs"
mv "$book/site" "$(scripts/target.sh)/docs"
echo "$(scripts/target.sh)/docs/index.html"
