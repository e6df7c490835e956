//! What a configuration may cost at most: threads, descriptors, stacks, memory; and whether this machine can give it.
//!
//! `main` prints it for `-t`; the daemon takes the pool's limits from it and refuses to start with a budget that cannot fit.

use std::fmt;

use crate::admin;
use crate::config::{Config, Place};
use crate::relay::pool::{self, BUFFER, POLLER_DESCRIPTORS, STACK};
use crate::system::limits::Limits;
use crate::traffic::{MOST_ADDRESSES, PROBES_AT_ONCE};

/// Most threads of the pool where the configuration does not say. They never wait for a socket, so more than processors are no use.
const DEFAULT_THREADS: usize = 64;
/// Most places in its queue where the configuration does not say.
const DEFAULT_QUEUE: usize = 1000;
/// Most pipes for bulk bytes.
const DEFAULT_PIPES: usize = 32;
/// Descriptors for everything that is not a session: the standard three, log, pid file, signals, name look-ups, and some to spare.
const RESERVED_DESCRIPTORS: usize = 32;
/// Threads beside the pool's and the listeners': main, signals, manager, resolver.
const OWN_THREADS: usize = 4;
/// What a thread needs beside its buffer: the touched part of its stack, and the kernel's stack.
const STACK_TOUCHED: usize = 32 * 1024;
/// Memory of a session without what it may hold for a slow reader; one that waits needs as much.
const SESSION: usize = 2 * 1024;

/// The most that the program will use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The limits that the pool will keep.
    pub pool: pool::Limits,
    listeners: usize,
    has_admin: bool,
    machine: Limits,
}

impl Budget {
    /// Works the budget out. The error names every number that does not fit. Defaults are lowered until they fit; what the
    /// configuration asks for is not.
    pub fn new(config: &Config, machine: Limits) -> Result<Budget, String> {
        let listens = config.services.iter().flat_map(|service| &service.listens);
        // a name may stand for an IPv4 and an IPv6 address
        let listeners = listens.map(|listen| if matches!(listen.place, Place::Name(_)) { 2 } else { 1 }).sum();
        let asked = config.pool;
        let threads = asked.threads.map_or(machine.cores.clamp(2, DEFAULT_THREADS), Into::into);
        let queue = machine.descriptors / 64;
        let queue = asked.queue.map_or(usize::try_from(queue).unwrap_or(usize::MAX).clamp(1, DEFAULT_QUEUE), Into::into);
        let pool = pool::Limits { threads, sessions: 0, queue, pipes: 2 * queue.min(DEFAULT_PIPES / 2) };
        let mut budget = Budget { pool, listeners, has_admin: config.admin.is_some(), machine };
        budget.pool.sessions = asked.sessions.map_or_else(|| budget.room_for_sessions(), Into::into);
        let misfits = budget.misfits();
        if misfits.is_empty() { Ok(budget) } else { Err(misfits.join("; ")) }
    }

    /// As many sessions as the descriptors and half of the memory allow beside everything else; one at least.
    fn room_for_sessions(&self) -> usize {
        let by_descriptors = self.machine.descriptors.saturating_sub(self.descriptors()) / 2;
        let by_memory = (self.machine.memory / 2).saturating_sub(self.memory()) / SESSION as u64;
        usize::try_from(by_descriptors.min(by_memory)).unwrap_or(usize::MAX).clamp(1, 1_000_000)
    }

    fn misfits(&self) -> Vec<String> {
        let checks = [
            ("threads", self.threads(), self.machine.threads),
            ("descriptors", self.descriptors(), self.machine.descriptors),
            ("bytes of address space for stacks", self.stack_bytes(), self.machine.address_space),
            ("bytes of memory", self.memory(), self.machine.memory),
        ];
        let misfit = |(what, needed, allowed): &(&str, u64, u64)| {
            (needed > allowed).then(|| format!("it needs {needed} {what}, and this machine allows {allowed}"))
        };
        checks.iter().filter_map(misfit).collect()
    }

    /// Most threads of the process.
    pub fn threads(&self) -> u64 {
        let admin = if self.has_admin { admin::THREADS } else { 0 };
        (self.pool.threads + self.listeners + OWN_THREADS + admin) as u64
    }

    /// Most open descriptors: two for each session and each pipe, one for each client that waits or is being handed over, and ours.
    pub fn descriptors(&self) -> u64 {
        let admin = if self.has_admin { admin::DESCRIPTORS } else { 0 };
        // a listener has its socket, its bell, and the client that it is handing on
        let ours = 3 * self.listeners + PROBES_AT_ONCE + MOST_ADDRESSES + admin + POLLER_DESCRIPTORS + RESERVED_DESCRIPTORS;
        (2 * (self.pool.sessions + self.pool.pipes) + self.pool.queue + ours) as u64
    }

    /// Address space for the pool's stacks.
    pub fn stack_bytes(&self) -> u64 {
        self.pool.threads as u64 * STACK as u64
    }

    /// Memory for all sessions while none has a slow reader, and for the threads that carry them.
    pub fn memory(&self) -> u64 {
        self.pool.threads as u64 * (BUFFER + STACK_TOUCHED) as u64
            + (self.pool.sessions + self.pool.queue) as u64 * SESSION as u64
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = |limit: u64| if limit == u64::MAX { "no limit".to_owned() } else { format!("{limit} allowed") };
        writeln!(f, "sessions     {} at once, {} waiting", self.pool.sessions, self.pool.queue)?;
        writeln!(f, "threads      {} ({})", self.threads(), allowed(self.machine.threads))?;
        writeln!(f, "descriptors  {} ({})", self.descriptors(), allowed(self.machine.descriptors))?;
        writeln!(f, "stacks       {} bytes of address space, used as far as touched", self.stack_bytes())?;
        write!(f, "memory       {} bytes for sessions and their threads ({})", self.memory(), allowed(self.machine.memory))
    }
}
