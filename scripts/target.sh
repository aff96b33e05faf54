#!/usr/bin/env bash
# Prints the folder that cargo builds into, wherever the user's settings put it.
set -euo pipefail
cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
