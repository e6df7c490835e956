//! What this machine allows: descriptors, threads, memory. Read by the budget before anything is started.

use std::fs;
use std::io;
use std::thread::available_parallelism;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Limits of this process, as far as they can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most open descriptors: the hard limit, which we raise ours to.
    pub descriptors: u64,
    /// Most threads.
    pub threads: u64,
    /// Bytes of memory in the machine, as far as a program can use them.
    pub memory: u64,
    /// Bytes of address space.
    pub address_space: u64,
    /// Processors that this process may use.
    pub cores: usize,
}

/// Half of what a pointer can reach: the other half is the kernel's, or holds what is not ours to plan.
const REACH: u64 = usize::MAX as u64 / 2;

impl Limits {
    /// Reads the limits. What cannot be read does not limit.
    pub fn read() -> Limits {
        Limits {
            descriptors: resource(Resource::RLIMIT_NOFILE, Hard),
            threads: threads(),
            cores: available_parallelism().map_or(1, usize::from),
            memory: memory().map_or(u64::MAX, |bytes| bytes.min(REACH)),
            address_space: resource(Resource::RLIMIT_AS, Soft).min(REACH),
        }
    }
}

/// Raises the limit of open descriptors to the hard limit; tells what it is now.
pub fn raise_descriptors() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(wide(hard))
}

/// Which of the two limits counts: the hard one only where we raise ours to it.
enum Which {
    Soft,
    Hard,
}
use Which::{Hard, Soft};

fn resource(resource: Resource, which: Which) -> u64 {
    let limit = getrlimit(resource).map(|(soft, hard)| if matches!(which, Hard) { hard } else { soft });
    limit.ok().filter(|limit| *limit != RLIM_INFINITY).map_or(u64::MAX, wide)
}

/// The system's numbers for limits are smaller on some 32-bit machines.
fn wide(limit: impl Into<u64>) -> u64 {
    limit.into()
}

/// The least of: processes of this user, threads and process ids of the kernel, the control group's limit, and what the number
/// of memory maps allows (four for a thread: its stack, its signal stack, a guard page for each).
fn threads() -> u64 {
    let maps = number("/proc/sys/vm/max_map_count").map(|maps| maps.saturating_sub(1000) / 4);
    let kernel = [
        number("/proc/sys/kernel/threads-max"),
        number("/proc/sys/kernel/pid_max"),
        control_group("pids.max", "pids", "pids.max"),
        maps,
    ];
    kernel.into_iter().flatten().fold(resource(Resource::RLIMIT_NPROC, Soft), u64::min)
}

/// A limit of the control group: its file in version 2, or a controller of version 1 with its file.
fn control_group(file: &str, controller: &str, old_file: &str) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let old = groups.lines().find_map(|line| line.split_once(&format!(":{controller}:")).map(|(_, path)| path));
    let places = [
        unified.map(|path| format!("/sys/fs/cgroup{path}/{file}")),
        old.map(|path| format!("/sys/fs/cgroup/{controller}{path}/{old_file}")),
    ];
    places.into_iter().flatten().find_map(|place| number(&place))
}

/// That of the machine, or of the control group, such as a container's.
fn memory() -> Option<u64> {
    let machine = || {
        let info = fs::read_to_string("/proc/meminfo").ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    machine().into_iter().chain(control_group("memory.max", "memory", "memory.limit_in_bytes")).min()
}

fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
