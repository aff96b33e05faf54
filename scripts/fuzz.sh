#!/usr/bin/env bash
# Fuzzes what bytes from the network go through: coverage-guided (libFuzzer), with checks of overflow and of what comes out.
# Then it shows how much of the code the inputs that were found go through.
#
#   scripts/fuzz.sh [RUNS] [TARGET...]
#
# RUNS is the number of executions of each target, 50 million unless given. Inputs are kept in .cache/fuzz, so that the
# next run begins where this one ended. An input that breaks something is left there too; give it to the program
# as its argument to see it again.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"

runs=${1:-50000000}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(bgp_message bgp_session)

scripts/rust.sh
rustup component add llvm-tools 2>/dev/null
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
built=$(scripts/target.sh)

build() { # flags, folder
  (cd tests/fuzz && RUSTFLAGS="$1" cargo build --release --locked --quiet --target "$host" --target-dir "$built/$2")
}

# What cargo-fuzz gives to the compiler, but for the address sanitizer: there is no unsafe code to find out about, and
# without it the stable compiler is enough.
build "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" fuzz
build "-Cinstrument-coverage --cfg fuzzing" fuzz-coverage

profiles=()
objects=()
for target in "${targets[@]}"; do
  corpus=.cache/fuzz/$target
  mkdir -p "$corpus"
  echo "== $target: $runs executions"
  "$built/fuzz/$host/release/$target" -runs="$runs" -max_len=4200 -len_control=200 -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix=".cache/fuzz/$target-" "$corpus" 2>&1 | grep -v '# Uses:'
  coverage=$built/fuzz-coverage/$host/release/$target
  LLVM_PROFILE_FILE=.cache/fuzz/$target.profraw "$coverage" -runs=0 -max_len=4200 -verbosity=0 "$corpus" 2>/dev/null
  profiles+=(".cache/fuzz/$target.profraw")
  objects+=(-object "$coverage")
done

echo "== what the inputs go through"
"$tools/llvm-profdata" merge -sparse "${profiles[@]}" -o .cache/fuzz/profile
sources=$(git ls-files 'crates/bgp/src/*.rs' | grep -v test)
"$tools/llvm-cov" report "${objects[@]}" -instr-profile=.cache/fuzz/profile -show-branch-summary=false $sources
