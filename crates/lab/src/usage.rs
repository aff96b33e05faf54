//! What a process has cost so far: memory as `/proc` has it, processor time as its clock has it. All fail when it is gone.

use std::fs;

use anyhow::{Context as _, Result};
use kit::Duration;
use sys::process::{Pid, cpu_time};

/// Makes the kernel measure the peak anew, from the present size on.
pub fn peak_reset(process: Pid) -> Result<()> {
    fs::write(format!("/proc/{}/clear_refs", process.get()), "5").context("resetting the peak of a process's memory")
}

/// The most memory that was resident at once, in KiB.
pub fn peak(process: Pid) -> Result<u64> {
    status(process, "VmHWM")
}

/// The memory that is resident now, in KiB.
pub fn resident(process: Pid) -> Result<u64> {
    status(process, "VmRSS")
}

fn status(process: Pid, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.get()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {name} in {status}"))?.parse()?)
}

/// The processor time that it has used.
pub fn cpu(process: Pid) -> Result<Duration> {
    cpu_time(process).with_context(|| format!("the processor time of process {}", process.get()))
}
