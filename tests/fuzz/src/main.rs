//! What libFuzzer calls: the target that is named by the variable `FUZZ_TARGET`.

#![no_main]

mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "libFuzzer takes all arguments for its own")]
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is no target: {name:?}")).1
});

fuzz_target!(|input: &[u8]| TARGET(input));
