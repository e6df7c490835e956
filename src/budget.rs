//! What a configuration may cost at most: threads, descriptors, stacks, buffers; and whether this machine can give it.
//!
//! `main` prints it for `-t`; the daemon takes the pool's limits from it and refuses to start with a budget that cannot fit.

use std::fmt;

use crate::admin;
use crate::config::{Config, Place};
use crate::relay::pool::{self, BUFFER, STACK};
use crate::system::limits::Limits;
use crate::traffic::{MOST_ADDRESSES, PROBES_AT_ONCE};

/// Threads of the pool and places in its queue where the configuration names none and the machine has room.
const DEFAULT_THREADS: usize = 1000;
const DEFAULT_QUEUE: usize = 1000;
/// Descriptors for everything that is not a session: the standard three, log, pid file, signals, name look-ups, and some to spare.
const RESERVED_DESCRIPTORS: usize = 32;
/// Threads beside the pool's and the listeners': main, signals, manager, resolver.
const OWN_THREADS: usize = 4;
/// What a thread needs beside its buffer: the touched part of its stack, and the kernel's stack.
const STACK_TOUCHED: usize = 32 * 1024;

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
        let has_admin = config.admin.is_some();
        let mut threads = config.pool.threads.map_or(DEFAULT_THREADS, Into::into);
        let mut queue = config.pool.queue.map_or(DEFAULT_QUEUE, Into::into);
        loop {
            let budget = Budget { pool: pool::Limits { threads, queue }, listeners, has_admin, machine };
            let misfits = budget.misfits();
            if misfits.is_empty() {
                return Ok(budget);
            }
            let threads_can_shrink = config.pool.threads.is_none() && threads > 2;
            let queue_can_shrink = config.pool.queue.is_none() && queue > 1;
            if !threads_can_shrink && !queue_can_shrink {
                return Err(misfits.join("; "));
            }
            if threads_can_shrink {
                threads = (threads / 2).max(2);
            }
            if queue_can_shrink {
                queue /= 2;
            }
        }
    }

    fn misfits(&self) -> Vec<String> {
        let checks = [
            ("threads", self.threads(), self.machine.threads),
            ("descriptors", self.descriptors(), self.machine.descriptors),
            ("bytes of address space for stacks", self.stack_bytes(), self.machine.address_space),
            ("bytes of memory for buffers and stacks", self.memory(), self.machine.memory),
        ];
        let misfit = |(what, needed, allowed): &(&str, u64, u64)| {
            (needed > allowed).then(|| format!("it needs {needed} {what}, and this machine allows {allowed}"))
        };
        checks.iter().filter_map(misfit).collect()
    }

    /// Sessions that can run at the same time.
    pub fn sessions(&self) -> u64 {
        self.pool.threads as u64 / 2
    }

    /// Most threads of the process.
    pub fn threads(&self) -> u64 {
        let admin = if self.has_admin { admin::THREADS } else { 0 };
        (self.pool.threads + self.listeners + OWN_THREADS + admin) as u64
    }

    /// Most open descriptors: two for each session, one for each client that waits or is being handed over, and ours.
    pub fn descriptors(&self) -> u64 {
        let admin = if self.has_admin { admin::DESCRIPTORS } else { 0 };
        // a listener has its socket, its bell, and the client that it is handing on
        let ours = 3 * self.listeners + PROBES_AT_ONCE + MOST_ADDRESSES + admin + RESERVED_DESCRIPTORS;
        2 * self.sessions() + (self.pool.queue + ours) as u64
    }

    /// Address space for the pool's stacks.
    pub fn stack_bytes(&self) -> u64 {
        self.pool.threads as u64 * STACK as u64
    }

    /// Memory for the sessions' buffers when every one has been full once.
    pub fn buffer_bytes(&self) -> u64 {
        self.pool.threads as u64 * BUFFER as u64
    }

    fn memory(&self) -> u64 {
        self.buffer_bytes() + self.pool.threads as u64 * STACK_TOUCHED as u64
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = |limit: u64| if limit == u64::MAX { "no limit".to_owned() } else { format!("{limit} allowed") };
        writeln!(f, "sessions     {} at once, {} waiting", self.sessions(), self.pool.queue)?;
        writeln!(f, "threads      {} ({})", self.threads(), allowed(self.machine.threads))?;
        writeln!(f, "descriptors  {} ({})", self.descriptors(), allowed(self.machine.descriptors))?;
        writeln!(f, "stacks       {} bytes of address space, used as far as touched", self.stack_bytes())?;
        write!(f, "buffers      {} bytes of memory when all have been full", self.buffer_bytes())
    }
}
