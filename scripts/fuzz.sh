#!/usr/bin/env bash
# Fuzzes what bytes from the network go through: coverage-guided (libFuzzer), with checks of overflow and of what comes out.
# Then it shows how much of the code the inputs that were found go through.
#
#   scripts/fuzz.sh [RUNS] [TARGET...]
#   scripts/fuzz.sh pack [TARGET...]
#
# RUNS is the number of executions of each target, 10 million unless given: an hour or two. Inputs are kept in .cache/fuzz, so that the
# next run begins where this one ended, and the first one with what is in tests/corpus. An input that breaks something is
# left there too; give it to the program as its argument to see it again, with FUZZ_TARGET set.
#
# `pack` leaves of each target's inputs the fewest that reach as much as all, and puts them into tests/corpus, from where
# `make test` plays them (crates/netio/tests/corpus.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"

runs=${1:-10000000}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] ||
  targets=(bgp_message bgp_session bgp_discovery bfd_packet gossip_packet gossip_stream l2_frame)

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
fuzz=$built/fuzz/$host/release/fuzz
pack=$built/fuzz/pack
rustc --edition 2024 -O -o "$pack" tests/fuzz/pack.rs

# Puts the inputs of a target where the fuzzer keeps them.
inputs() {
  mkdir -p ".cache/fuzz/$1"
  if [ -z "$(ls -A ".cache/fuzz/$1")" ] && [ -e "tests/corpus/$1" ]; then
    "$pack" --out "tests/corpus/$1" ".cache/fuzz/$1"
  fi
}

if [ "$runs" = pack ]; then
  mkdir -p tests/corpus
  for target in "${targets[@]}"; do
    inputs "$target"
    least=.cache/fuzz/least
    rm -rf "$least"
    mkdir "$least"
    FUZZ_TARGET=$target "$fuzz" -set_cover_merge=1 -use_value_profile=0 -max_len=4200 -timeout=20 -verbosity=0 \
      "$least" ".cache/fuzz/$target" 2>/dev/null
    "$pack" "$least" "tests/corpus/$target"
    echo "$target: $(ls "$least" | wc -l) inputs, $(wc -c <"tests/corpus/$target") bytes"
  done
  exit 0
fi

build "-Cinstrument-coverage --cfg fuzzing" fuzz-coverage
coverage=$built/fuzz-coverage/$host/release/fuzz

for target in "${targets[@]}"; do
  inputs "$target"
  corpus=.cache/fuzz/$target
  echo "== $target: $runs executions"
  FUZZ_TARGET=$target "$fuzz" -runs="$runs" -max_len=4200 -len_control=200 -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix=".cache/fuzz/$target-" "$corpus" 2>&1 | grep -v '# Uses:'
  LLVM_PROFILE_FILE=.cache/fuzz/$target.profraw FUZZ_TARGET=$target \
    "$coverage" -runs=0 -max_len=4200 -verbosity=0 "$corpus" 2>/dev/null
done

echo "== what the inputs go through"
profiles=()
for target in "${targets[@]}"; do
  profiles+=(".cache/fuzz/$target.profraw")
done
"$tools/llvm-profdata" merge -sparse "${profiles[@]}" -o .cache/fuzz/profile
# The codecs of all, and of BGP what a session does with messages.
sources=$(git ls-files 'crates/bgp/src/*.rs' 'crates/bfd/src/wire/*.rs' 'crates/gossip/src/wire/*.rs' \
  'crates/l2/src/wire/*.rs' | grep -v -e test -e capture)
# shellcheck disable=SC2086 # one word for each file
"$tools/llvm-cov" report "$coverage" -instr-profile=.cache/fuzz/profile -show-branch-summary=false $sources
