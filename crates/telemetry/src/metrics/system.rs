//! The process as the kernel sees it, from `/proc`, under the names that every Prometheus client uses. What cannot be
//! read is left out.

use std::fs;

use super::Origin;
use super::family::Family;

/// Ticks per second of the times in `/proc`: a part of the kernel's interface, the same on all architectures we build
/// for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel tells; not a number where it does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct System {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
    started: f64,
}

pub(super) const PROCESS: [Family<System, 0>; 6] = [
    Family::counter(
        Origin::Common,
        "process_cpu_seconds_total",
        "User and system CPU time spent, in seconds.",
        |system| system.cpu_seconds,
    ),
    Family::gauge(Origin::Common, "process_resident_memory_bytes", "Resident memory size, in bytes.", |system| {
        system.resident_bytes
    }),
    Family::gauge(Origin::Common, "process_virtual_memory_bytes", "Virtual memory size, in bytes.", |system| {
        system.virtual_bytes
    }),
    Family::gauge(Origin::Common, "process_open_fds", "Number of open file descriptors.", |system| system.open_fds),
    Family::gauge(Origin::Common, "process_max_fds", "Largest number of open file descriptors allowed.", |system| {
        system.max_fds
    }),
    Family::gauge(
        Origin::Common,
        "process_start_time_seconds",
        "When the process began, in seconds since 1970.",
        |system| system.started,
    ),
];

impl System {
    /// This process, now.
    pub(super) fn read() -> System {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let open_fds = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        let (limits, system) = (read("/proc/self/limits"), read("/proc/stat"));
        System::parse(open_fds, &stat, &status, &limits, &system)
    }

    fn parse(open_fds: Option<usize>, stat: &str, status: &str, limits: &str, system: &str) -> System {
        let ticks = |index| stat_field(stat, index).map(|ticks| ticks / TICKS_PER_SECOND);
        let bytes = |key| number_after(status, key).map(|kibibytes| kibibytes * 1024.0);
        let or_nothing = |value: Option<f64>| value.unwrap_or(f64::NAN);
        System {
            cpu_seconds: or_nothing(ticks(14).zip(ticks(15)).map(|(user, system)| user + system)),
            resident_bytes: or_nothing(bytes("VmRSS:")),
            virtual_bytes: or_nothing(bytes("VmSize:")),
            open_fds: or_nothing(open_fds.and_then(|count| u32::try_from(count).ok()).map(f64::from)),
            max_fds: or_nothing(number_after(limits, "Max open files")),
            started: or_nothing(number_after(system, "btime").zip(ticks(22)).map(|(boot, after)| boot + after)),
        }
    }
}

/// A field of `/proc/self/stat` by its number in proc(5). The second one is a name that may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The first number after this word at the beginning of a line.
fn number_after(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(word))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::metrics::family::write_known;
    use crate::metrics::{Metrics, Text, render};

    impl Metrics for System {
        fn write(&self, text: &mut Text) {
            write_known(text, &PROCESS, self);
        }
    }

    fn values(system: &System) -> String {
        render(&[system]).lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect()
    }

    #[test]
    fn numbers_come_from_where_proc_5_says() {
        let stat = "7 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 12345 20 21";
        let system = System::parse(
            Some(9),
            stat,
            "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\n",
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096       files\n",
            "cpu 1 2\nbtime 1700000000\n",
        );
        expect![[r#"
            process_cpu_seconds_total 3
            process_resident_memory_bytes 1048576
            process_virtual_memory_bytes 2097152
            process_open_fds 9
            process_max_fds 1024
            process_start_time_seconds 1700000123.45
        "#]]
        .assert_eq(&values(&system));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(values(&System::parse(None, "", "VmRSS: much\n", "", "")), "");
    }

    #[test]
    fn this_process_has_all_of_them() {
        assert_eq!(values(&System::read()).lines().count(), PROCESS.len());
    }
}
