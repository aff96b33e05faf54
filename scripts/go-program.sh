# For the scripts that make programs of the tests with Go, which read this: .cache/NAME/NAME from tests/NAME. The sources that
# a program was made from are kept beside it; the lab compares them too, before it uses it (crates/lab/src/built.rs).

# Whether the program is there and its sources are the same.
is_built() {
    for file in "tests/$1"/*; do
        cmp -s "$file" ".cache/$1/${file##*/}" || return 1
    done
    [ -x ".cache/$1/$1" ]
}

# Ends the script where there is no Go. What needs the program is the second word.
need_go() {
    command -v go >/dev/null || {
        echo "scripts/$1.sh: $2 need Go to build $1; install the version in tests/$1/go.mod" >&2
        exit 1
    }
}

# Makes the program from a package, with more flags for the linker if need be.
build() {
    mkdir -p ".cache/$1"
    (cd "tests/$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w ${3:-}" -o "../../.cache/$1/$1.new" "$2")
    mv ".cache/$1/$1.new" ".cache/$1/$1"
    cp "tests/$1"/* ".cache/$1"
}
