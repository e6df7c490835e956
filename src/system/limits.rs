//! What this machine allows: descriptors, threads, memory, address space. Read by the budget before
//! anything is started, and again when a change asks for more.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::available_parallelism;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::sysinfo::sysinfo;

use super::control_group;
use super::raw;

/// Limits of this process, as far as they can be known. `u64::MAX`: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most open descriptors.
    pub descriptors: u64,
    /// Most threads.
    pub threads: u64,
    /// Bytes of memory that a program can use: of the machine, or of a control group, such as a
    /// container's.
    pub memory: u64,
    /// Whether a control group may allow less, and cannot be seen.
    pub is_memory_hidden: bool,
    /// Bytes of address space.
    pub address_space: u64,
    /// Bytes of it that this program and its libraries take.
    pub image: u64,
    /// Processors that this process may use.
    pub cores: usize,
    /// What could not be read or had, in words, and what is assumed instead.
    pub doubts: Vec<String>,
}

/// What a pointer can reach without the half that is the kernel's, or holds what is not ours to
/// plan.
const REACH: u64 = if usize::BITS < u64::BITS { usize::MAX as u64 / 2 } else { u64::MAX };
/// For `kernel.pid_max`: what a kernel begins with on up to 32 processors.
const PIDS: u64 = 32_768;
/// For `vm.max_map_count`: what a kernel begins with.
const MAPS: u64 = 65_530;
/// For the program and its libraries: three times what they take.
const IMAGE: u64 = 16 << 20;
/// A kernel begins with one of so many bytes of memory for `kernel.threads-max`: an eighth of it
/// for stacks of 16 KiB.
const MEMORY_OF_A_THREAD: u64 = 128 * 1024;

impl Limits {
    /// Raises the limit of open descriptors to the hard limit, and reads all limits.
    pub fn read() -> Limits {
        let mut reader = LimitsReader { root: Path::new("/"), doubts: Vec::new() };
        if let Err(e) = raise_descriptors() {
            reader
                .doubts
                .push(format!("the limit of descriptors stays as it is: it cannot be raised: {e}"));
        }
        reader.limits()
    }
}

/// Raises the limit of open descriptors to the hard limit.
pub fn raise_descriptors() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Where the address space is limited, has the allocator make do with one arena: it reserves 64 MiB
/// for each thread otherwise (glibc's arena.c, HEAP_MAX_SIZE). Must be called before the first
/// thread is started.
pub fn save_address_space() {
    if address_space() < REACH {
        raw::use_one_arena();
    }
}

/// Private memory that can be written to, which is most of the address space, may have a limit of
/// its own.
fn address_space() -> u64 {
    [Resource::RLIMIT_AS, Resource::RLIMIT_DATA].map(resource).into_iter().fold(REACH, u64::min)
}

fn resource(resource: Resource) -> u64 {
    getrlimit(resource)
        .ok()
        .filter(|(soft, _)| *soft != RLIM_INFINITY)
        .map_or(u64::MAX, |(soft, _)| wide(soft))
}

/// The system's numbers for limits are smaller on some 32-bit machines.
fn wide(limit: impl Into<u64>) -> u64 {
    limit.into()
}

/// Reads files of the kernel, and notes those that cannot be read.
struct LimitsReader<'a> {
    /// Where `proc` and `sys` are.
    root: &'a Path,
    doubts: Vec<String>,
}

impl LimitsReader<'_> {
    fn limits(mut self) -> Limits {
        let before = self.doubts.len();
        let memory = self
            .machine()
            .min(self.group("memory", &["memory.max", "memory.high", "memory.limit_in_bytes"]));
        let is_memory_hidden = self.doubts.len() > before;
        Limits {
            descriptors: resource(Resource::RLIMIT_NOFILE),
            threads: self.threads(memory),
            memory,
            is_memory_hidden,
            address_space: address_space(),
            image: self.image(),
            cores: available_parallelism().map_or(1, usize::from),
            doubts: self.doubts,
        }
    }

    /// The memory of the machine. The file may have less than the system call: of a container, by
    /// lxcfs(1).
    fn machine(&mut self) -> u64 {
        let file = self.kilobytes("proc/meminfo", "MemTotal:");
        let call = sysinfo().ok().map(|info| info.ram_total());
        let known = file.into_iter().chain(call).min();
        if known.is_none() {
            self.doubts.push("the memory of this machine cannot be read".to_owned());
        }
        known.unwrap_or(u64::MAX)
    }

    /// The least of: processes of this user, threads and process ids of the kernel, the control
    /// groups' limits, and what the number of memory maps allows (four for a thread: its stack, its
    /// signal stack, a guard page for each).
    fn threads(&mut self, memory: u64) -> u64 {
        let maps = self.number("proc/sys/vm/max_map_count", MAPS).saturating_sub(1000) / 4;
        self.number("proc/sys/kernel/threads-max", memory / MEMORY_OF_A_THREAD)
            .min(self.number("proc/sys/kernel/pid_max", PIDS))
            .min(self.group("pids", &["pids.max"]))
            .min(resource(Resource::RLIMIT_NPROC))
            .min(maps)
    }

    /// What is mapped from files. Does not grow while the program runs.
    fn image(&mut self) -> u64 {
        let maps = fs::read_to_string(self.root.join("proc/self/maps")).unwrap_or_default();
        let address = |text: &str| u64::from_str_radix(text, 16).ok();
        let size = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            address(end)?.checked_sub(address(start)?)
        };
        match maps.lines().filter(|line| line.contains(" /")).filter_map(size).sum() {
            0 => self.assume("proc/self/maps", IMAGE),
            image => image,
        }
    }

    fn number(&mut self, file: &str, otherwise: u64) -> u64 {
        let text = fs::read_to_string(self.root.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or_else(|_| self.assume(file, otherwise))
    }

    /// What a file of keys has in kilobytes, in bytes.
    fn kilobytes(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.root.join(file)).ok()?;
        let value =
            text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix("kB")?;
        value.trim().parse().ok().map(|kilobytes: u64| kilobytes * 1024)
    }

    fn assume(&mut self, file: &str, otherwise: u64) -> u64 {
        self.doubts.push(format!("/{file} cannot be read: {otherwise} is assumed"));
        otherwise
    }

    fn group(&mut self, controller: &str, files: &[&str]) -> u64 {
        let least = control_group::least(self.root, controller, files).unwrap_or_else(|why| {
            self.doubts.push(format!(
                "the limit of {controller} of the control groups cannot be read: {why}"
            ));
            None
        });
        least.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_tells_nothing_is_taken_for_a_small_one_and_what_it_does_not_tell_is_named() {
        let reader = LimitsReader { root: Path::new("/nonexistent"), doubts: Vec::new() };
        let limits = reader.limits();
        assert!(
            limits.memory < 1 << 50 && limits.threads < MAPS / 4 && limits.image == IMAGE,
            "{limits:?}"
        );
        assert!(limits.is_memory_hidden);
        for word in ["memory", "pids", "max_map_count", "threads-max", "pid_max", "self/maps"] {
            assert!(
                limits.doubts.iter().any(|doubt| doubt.contains(word)),
                "no {word} in {:?}",
                limits.doubts
            );
        }
    }

    #[test]
    fn the_image_does_not_grow_with_what_the_program_takes() {
        let before = Limits::read().image;
        let taken = std::hint::black_box(vec![1; 32 << 20]);
        assert!(before > 1 << 20 && Limits::read().image < before + (8 << 20), "{before}");
        drop(taken);
    }
}
