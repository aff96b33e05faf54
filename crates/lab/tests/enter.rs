//! What `lab::enter` promises: the program's exit status and signals pass through, and nothing stays behind, not even
//! after SIGKILL.
//!
//! The test binary starts itself, with `--as-program`, as the program that enters. The tests themselves are inside
//! namespaces already, so those of the program are nested in them, and all of its processes are in our `/proc`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Rng};
use lab::testing::Trial;
use lab::{Lab, eventually};
use sys::process::{Pid, Signal, signal_send};

const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "--as-program") {
        return program(&arguments[2], arguments.get(3).map_or("1000", String::as_str));
    }
    lab::testing::main([
        Trial::new("the_exit_status_of_the_program_is_that_of_the_caller", exit_status),
        Trial::new("a_signal_to_the_outer_process_reaches_the_program", signal),
        Trial::new("the_program_is_root_with_every_user_and_owns_its_namespaces", inside),
        Trial::new("a_killed_outer_process_leaves_nothing_behind_at_any_moment", kill_at_any_moment),
        Trial::new("interfaces_of_a_killed_program_vanish", interfaces_vanish),
        Trial::new("a_user_without_privileges_may_enter", unprivileged),
        Trial::new("a_refused_namespace_is_told_in_one_line_that_says_what_to_do", refused),
        Trial::new("a_lab_outside_of_enter_is_refused", not_entered),
    ])
}

/// The program under test. What it starts can be told by `mark`, a number of seconds that nobody waits for.
fn program(what: &str, mark: &str) -> ExitCode {
    if what == "no-enter" {
        println!("{:#}", Lab::new("x").unwrap_err());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = lab::enter() {
        println!("{error}");
        return ExitCode::from(3);
    }
    match what {
        "exit-42" => ExitCode::from(42),
        "abort" => std::process::abort(),
        "refused" => {
            // Inside, this limit is the namespace's own.
            fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
            let (mut child, stdout) = start(&["inside"]).unwrap();
            print!("{}", all_of(stdout).unwrap());
            ExitCode::from(u8::try_from(child.wait().unwrap().code().unwrap()).unwrap())
        }
        "inside" => {
            println!("users {}", user_map().unwrap().join(", "));
            println!("uid {}", sys::process::effective_user());
            println!("pids {:?}", pids());
            println!("interfaces {:?}", names("/sys/class/net"));
            println!("run {:?}", names("/run"));
            ExitCode::SUCCESS
        }
        _ => hold(mark),
    }
}

/// Two hosts with a switch and a process each, held until the end.
fn hold(mark: &str) -> ExitCode {
    let lab = Lab::new("hold").unwrap();
    let lan = lab.switch("lan").unwrap();
    let mut held = Vec::new();
    for name in ["a", "b"] {
        let host = lab.host(name).unwrap();
        host.plug("eth0", &lan).unwrap().address("10.0.0.1/24").unwrap();
        let mut command = Command::new("sh");
        // A grandchild that leaves its group and ignores what it can: only the pid namespace ends it.
        command.args(["-c", &format!("trap '' TERM INT HUP; setsid sleep {mark} & wait")]);
        held.push((host.spawn("sleeper", command).unwrap(), host));
    }
    // Whoever started this may be gone.
    drop(std::io::stdout().write_all(b"ready\n"));
    std::thread::park();
    ExitCode::SUCCESS
}

fn start(what: &[&str]) -> Result<(Child, BufReader<ChildStdout>)> {
    // A shell lets what it runs in the background ignore the keys of the terminal.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,QUIT,HUP").arg(std::env::current_exe()?);
    let mut child = command.arg("--as-program").args(what).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("its standard output")?;
    Ok((child, BufReader::new(stdout)))
}

fn start_ready() -> Result<Child> {
    let (child, mut stdout) = start(&["hold"])?;
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    ensure!(line == "ready\n", "{line:?}");
    Ok(child)
}

fn all_of(mut stdout: BufReader<ChildStdout>) -> Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text)?;
    Ok(text)
}

fn pids() -> BTreeSet<u32> {
    names("/proc").iter().filter_map(|name| name.parse().ok()).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The processes among ours that descend from one, by walking up.
fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let descends = |pid: &u32| std::iter::successors(Some(*pid), |pid| parent(*pid)).any(|pid| pid == ancestor);
    pids().into_iter().filter(descends).collect()
}

fn all_gone(processes: &BTreeSet<u32>) -> Result<()> {
    eventually(LIMIT, || {
        let left: BTreeSet<_> = pids().intersection(processes).copied().collect();
        ensure!(left.is_empty(), "processes {left:?} are left");
        Ok(())
    })
}

fn exit_status(_: &Lab) -> Result<()> {
    let (mut child, _stdout) = start(&["exit-42"])?;
    ensure!(child.wait()?.code() == Some(42));
    let (mut child, _stdout) = start(&["abort"])?;
    let status = child.wait()?;
    ensure!(status.code() == Some(128 + 6), "{status}");
    Ok(())
}

fn signal(_: &Lab) -> Result<()> {
    for (signal, number) in [(Signal::Terminate, 15), (Signal::Interrupt, 2), (Signal::Hangup, 1)] {
        let mut child = start_ready()?;
        let family = eventually(LIMIT, || {
            let family = descendants(child.id());
            ensure!(family.len() == 7, "outer, init, program, two shells and two sleepers: {family:?}");
            Ok(family)
        })?;
        signal_send(Pid::new(child.id()).unwrap(), signal)?;
        let status = child.wait()?;
        ensure!(status.code() == Some(128 + number), "{status}");
        all_gone(&family)?;
    }
    Ok(())
}

fn inside(_: &Lab) -> Result<()> {
    let (mut child, stdout) = start(&["inside"])?;
    let text = all_of(stdout)?;
    ensure!(child.wait()?.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines[1] == "uid 0", "{text}");
    ensure!(lines[2] == "pids {1, 2}", "{text}");
    // `/sys` is that of the caller until a host has its own.
    ensure!(lines[4] == "run {\"lab\"}", "{text}");
    let map: Vec<&str> = lines[0].trim_start_matches("users ").split(", ").collect();
    let count =
        |map: &[&str]| -> u64 { map.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum() };
    let here = user_map()?;
    let here: Vec<&str> = here.iter().map(String::as_str).collect();
    ensure!(count(&map) == count(&here), "{map:?} but here {here:?}");
    // What container runtimes look at, to know whether they may make devices.
    ensure!(map != ["0 0 4294967295"], "the map looks like that of no user namespace");
    Ok(())
}

/// The lines of our map of user ids, with one space between fields.
fn user_map() -> Result<Vec<String>> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

fn kill_at_any_moment(_: &Lab) -> Result<()> {
    const MARK: &str = "86399";
    let mut rng = Rng::new(0x6c61_625f_6b69_6c6c);
    let (interfaces, run) = (names("/proc/sys/net/ipv4/conf"), names("/run"));
    for _ in 0..40 {
        let (mut child, _stdout) = start(&["hold", MARK])?;
        std::thread::sleep(std::time::Duration::from_micros(rng.below(150_000)));
        child.kill()?;
        let status = child.wait()?;
        ensure!(status.signal() == Some(9), "{status}");
    }
    eventually(LIMIT, || {
        let marked = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, MARK));
        let left: BTreeSet<_> = pids().into_iter().filter(marked).collect();
        ensure!(left.is_empty(), "processes {left:?} are left");
        Ok(())
    })?;
    ensure!(names("/proc/sys/net/ipv4/conf") == interfaces && names("/run") == run, "interfaces or files are left");
    Ok(())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn interfaces_vanish(lab: &Lab) -> Result<()> {
    let mut child = start_ready()?;
    let family = descendants(child.id());
    // An interface whose other end is in the program's own network namespace goes when that namespace goes.
    let host = lab.host("witness")?;
    let outer = child.id().to_string();
    host.output_ok("ip", &["link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &outer])?;
    ensure!(host.output_ok("ip", &["link"])?.contains("near"));
    child.kill()?;
    child.wait()?;
    all_gone(&family)?;
    eventually(LIMIT, || {
        let links = host.output_ok("ip", &["link"])?;
        ensure!(!links.contains("near"), "the namespace is still there: {links}");
        Ok(())
    })
}

fn unprivileged(lab: &Lab) -> Result<()> {
    // Where the program was built may be closed to others.
    let program = lab.folder().join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    let output = command.args(["--as-program", "inside"]).output().context("setpriv")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.starts_with("users 0") && text.contains("\nuid 0\n"), "{text}");
    Ok(())
}

fn refused(_: &Lab) -> Result<()> {
    let (mut child, stdout) = start(&["refused"])?;
    let text = all_of(stdout)?;
    ensure!(child.wait()?.code() == Some(3), "{text}");
    ensure!(text.lines().count() == 1 && text.contains("run it as root") && text.contains("sysctl"), "{text}");
    Ok(())
}

fn not_entered(_: &Lab) -> Result<()> {
    let (mut child, stdout) = start(&["no-enter"])?;
    let text = all_of(stdout)?;
    child.wait()?;
    ensure!(text.contains("call lab::enter() first in main"), "{text}");
    Ok(())
}
