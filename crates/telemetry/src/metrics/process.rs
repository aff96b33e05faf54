//! The process itself, from `/proc`, under the names that every Prometheus client uses. What cannot be read is left
//! out.

use std::fs;

use super::{SeriesType, Text};

/// Ticks per second of the times in `/proc`: a part of the kernel's interface, the same on all architectures we build
/// for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes the series of this process.
pub(super) fn write(text: &mut Text) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let open_fds = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let (limits, system) = (read("/proc/self/limits"), read("/proc/stat"));
    write_from(text, open_fds, &stat, &status, &limits, &system);
}

fn write_from(text: &mut Text, open_fds: Option<usize>, stat: &str, status: &str, limits: &str, system: &str) {
    let mut single = |name, type_, help, value: Option<f64>| {
        if let Some(value) = value {
            text.single(name, type_, help, value);
        }
    };
    let ticks = |index| stat_field(stat, index).map(|ticks| ticks / TICKS_PER_SECOND);
    let cpu = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    single("process_cpu_seconds_total", SeriesType::Counter, "User and system CPU time spent, in seconds.", cpu);
    let memory = |key| number_after(status, key).map(|kibibytes| kibibytes * 1024.0);
    single("process_resident_memory_bytes", SeriesType::Gauge, "Resident memory size, in bytes.", memory("VmRSS:"));
    single("process_virtual_memory_bytes", SeriesType::Gauge, "Virtual memory size, in bytes.", memory("VmSize:"));
    let open_fds = open_fds.and_then(|count| u32::try_from(count).ok()).map(f64::from);
    single("process_open_fds", SeriesType::Gauge, "Number of open file descriptors.", open_fds);
    let max_fds = number_after(limits, "Max open files");
    single("process_max_fds", SeriesType::Gauge, "Largest number of open file descriptors allowed.", max_fds);
    let start = number_after(system, "btime").zip(ticks(22)).map(|(boot, after)| boot + after);
    single("process_start_time_seconds", SeriesType::Gauge, "When the process began, in seconds since 1970.", start);
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

    #[test]
    fn numbers_come_from_where_proc_5_says() {
        let stat = "7 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 12345 20 21";
        let mut text = Text::default();
        write_from(
            &mut text,
            Some(9),
            stat,
            "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\n",
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096       files\n",
            "cpu 1 2\nbtime 1700000000\n",
        );
        let values: String =
            text.into_string().lines().filter(|line| !line.starts_with('#')).map(|l| l.to_owned() + "\n").collect();
        expect![[r#"
            process_cpu_seconds_total 3
            process_resident_memory_bytes 1048576
            process_virtual_memory_bytes 2097152
            process_open_fds 9
            process_max_fds 1024
            process_start_time_seconds 1700000123.45
        "#]]
        .assert_eq(&values);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let mut text = Text::default();
        write_from(&mut text, None, "", "VmRSS: much\n", "", "");
        assert_eq!(text.into_string(), "");
    }

    #[test]
    fn this_process_has_all_of_them() {
        let mut text = Text::default();
        write(&mut text);
        assert_eq!(text.into_string().lines().filter(|line| !line.starts_with('#')).count(), 6);
    }
}
