//! What a configuration may cost at most: threads, descriptors, address space, memory; and whether
//! this machine can give it.
//!
//! `main` prints it for `-t`; the daemon takes the pool's limits from it and refuses to start with
//! a budget that cannot fit.

use std::fmt;

use crate::admin::{self, Cost};
use crate::config::{AddressHost, Config, PoolConfig};
use crate::relay::pool::{
    self, ACCEPT_BUFFER, BUFFER, LEAST, MOST_POLLERS, PIPE_SIZE, POLLER_DESCRIPTORS, STACK,
};
use crate::system::limits::Limits;
use crate::system::thread;
use crate::traffic::{LISTENER_DESCRIPTORS, MOST_ADDRESSES, PROBES_AT_ONCE};

/// Most threads of the pool where the configuration does not say. They never wait for a socket, so
/// one for each processor is enough, and one to spare.
const DEFAULT_THREADS: usize = 64;
/// Most places in its queue where the configuration does not say.
const DEFAULT_QUEUE: usize = 1000;
/// Most pipes for bulk bytes.
const DEFAULT_PIPES: usize = 32;
/// Descriptors for everything that is not a session: the standard three, log, pid file, signals,
/// name look-ups, and some to spare.
const RESERVED_DESCRIPTORS: usize = 32;
/// Threads beside the pool's and the listeners': main, signals, manager, resolver.
const OWN_THREADS: usize = 4;
/// What a thread needs: its buffer, as much again that it has just read for a sink without room,
/// the touched part of its stack, and the kernel's stack.
const THREAD: usize = 2 * BUFFER + 32 * 1024;
/// Memory of a session, or of one that waits, with what its two flows may always hold for sinks
/// without room.
const SESSION: usize = 2 * 1024 + 2 * LEAST;
/// What the kernel needs for a pipe, without the bytes in it.
const PIPE: usize = 16 * 1024;
/// Memory to plan with where nobody says how much, and a control group may have a limit that cannot
/// be seen.
const LITTLE: u64 = 64 << 20;
/// Address space of a thread beside its stack: guard pages, and the stack for its signals.
const THREAD_SPACE: usize = 32 * 1024;
/// Address space of our own: the large stacks of the manager, the resolver, a reload and what waits
/// for its confirmation; sixteen look-ups of names with the libraries that they load; a file that
/// is read.
const OWN_SPACE: u64 = 20 << 20;

/// The largest pipe that is of use: what the kernel allows to everybody.
const LARGEST: usize = 1 << 20;

/// The most that the program will use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The limits that the pool will keep.
    pub pool: pool::PoolLimits,
    listeners: usize,
    /// What one password check may take; `None` without an admin side.
    password: Option<Cost>,
    /// Bytes of memory for each session: more where clients are kept for replay.
    session: usize,
    /// Bytes of memory for all of it.
    memory: u64,
    machine: Limits,
}

impl Budget {
    /// Works the budget out. The error names every number that does not fit. Defaults are chosen so
    /// that they fit; what the configuration asks for is not lowered.
    pub fn new(config: &Config, machine: Limits) -> Result<Budget, String> {
        let listens = config.services.iter().flat_map(|service| &service.listens);
        // a name may stand for an IPv4 and an IPv6 address
        let listeners = listens
            .map(|listen| if matches!(listen.place, AddressHost::Name(_)) { 2 } else { 1 })
            .sum();
        let replay = config
            .services
            .iter()
            .filter_map(|service| service.replay)
            .max()
            .map_or(0, usize::from);
        let asked = &config.pool;
        let threads =
            asked.threads.map_or((machine.cores + 1).clamp(2, DEFAULT_THREADS), Into::into);
        let password = config.admin.as_ref().map(|_| password(config, &machine));
        let pool = pool::PoolLimits {
            threads,
            pollers: 1,
            sessions: 0,
            queue: 0,
            pipes: 0,
            pipe_size: 0,
            held: 0,
        };
        let mut budget =
            Budget { pool, listeners, password, session: SESSION + replay, memory: 0, machine };
        budget.memory = asked.memory.map_or_else(|| budget.usual_memory(), Into::into);
        budget.divide(asked);
        let misfits = budget.misfits();
        if misfits.is_empty() { Ok(budget) } else { Err(misfits.join("; ")) }
    }

    /// The memory to plan with where the configuration does not say: half of what there is, as far
    /// as the address space has room.
    fn usual_memory(&self) -> u64 {
        let half = self.machine.memory / 2;
        let half = if self.machine.is_memory_hidden { half.min(LITTLE) } else { half };
        half.min(self.machine.address_space.saturating_sub(self.fixed_space()) / 3 * 2)
    }

    /// Divides the memory among what the pool needs, as far as the configuration leaves that open.
    fn divide(&mut self, asked: &PoolConfig) {
        let (memory, machine) = (self.memory, &self.machine);
        // no more than a share of the memory or of the descriptors, and one at least
        let within =
            |most: usize, share: u64| most.min(usize::try_from(share).unwrap_or(usize::MAX)).max(1);
        let threads = asked
            .threads
            .map_or_else(|| within(self.pool.threads, memory / 4 / THREAD as u64), Into::into);
        let pipes = within(
            DEFAULT_PIPES,
            (memory / 16 / (PIPE + PIPE_SIZE) as u64).min(machine.descriptors / 64),
        );
        let queue = within(
            DEFAULT_QUEUE,
            (memory / 16 / self.session as u64).min(machine.descriptors / 64),
        );
        self.pool = pool::PoolLimits {
            threads,
            pollers: machine.cores.clamp(1, MOST_POLLERS).min(threads.saturating_sub(1).max(1)),
            sessions: 0,
            queue: asked.queue.map_or(queue, Into::into),
            pipes,
            pipe_size: within(LARGEST, memory / 16 / pipes as u64).max(PIPE_SIZE),
            held: 0,
        };
        self.pool.sessions = asked.sessions.map_or_else(|| self.room_for_sessions(), Into::into);
        self.pool.held =
            usize::try_from(memory.saturating_sub(self.needed())).unwrap_or(usize::MAX);
    }

    /// As many sessions as the descriptors, and half of the memory, allow beside everything else;
    /// one at least. The other half is for what they hold.
    fn room_for_sessions(&self) -> usize {
        let by_descriptors = self.machine.descriptors.saturating_sub(self.descriptors()) / 2;
        let by_memory = self.memory.saturating_sub(self.needed()) / 2 / self.session as u64;
        usize::try_from(by_descriptors.min(by_memory)).unwrap_or(usize::MAX).clamp(1, 1_000_000)
    }

    fn misfits(&self) -> Vec<String> {
        let checks = [
            ("threads", self.threads(), self.machine.threads),
            ("descriptors", self.descriptors(), self.machine.descriptors),
            ("bytes of address space", self.space(), self.machine.address_space),
            ("bytes of memory", self.memory.max(self.needed()), self.machine.memory),
        ];
        let misfit = |(what, needed, allowed): &(&str, u64, u64)| {
            (needed > allowed)
                .then(|| format!("it needs {needed} {what}, and this machine allows {allowed}"))
        };
        let mut misfits: Vec<String> = checks.iter().filter_map(misfit).collect();
        if self.needed() > self.memory {
            misfits.push(format!(
                "it needs {} bytes of memory for sessions, and may have {}",
                self.needed(),
                self.memory
            ));
        }
        misfits
    }

    /// What could not be read or had, in words, and what is assumed instead.
    pub fn doubts(&self) -> impl Iterator<Item = &str> {
        self.machine.doubts.iter().map(String::as_str)
    }

    /// Most threads of the process.
    pub fn threads(&self) -> u64 {
        let admin = if self.password.is_some() { admin::THREADS } else { 0 };
        (self.pool.threads + self.listeners + OWN_THREADS + admin) as u64
    }

    /// Most open descriptors: two for each session and each pipe, one for each client that waits or
    /// is being handed over, and ours.
    pub fn descriptors(&self) -> u64 {
        let admin = if self.password.is_some() { admin::DESCRIPTORS } else { 0 };
        let ours = LISTENER_DESCRIPTORS * self.listeners
            + PROBES_AT_ONCE
            + MOST_ADDRESSES
            + admin
            // those of pollers that a reload has closed, too
            + POLLER_DESCRIPTORS * self.machine.cores.clamp(1, MOST_POLLERS)
            + RESERVED_DESCRIPTORS;
        2 * (self.pool.sessions as u64 + self.pool.pipes as u64)
            + self.pool.queue as u64
            + ours as u64
    }

    /// Most bytes of address space. The allocator needs half as much again as is in use: what is
    /// freed out of turn leaves gaps.
    pub fn space(&self) -> u64 {
        self.fixed_space().saturating_add(self.memory.saturating_add(self.memory / 2))
    }

    /// Address space that does not depend on the memory for sessions.
    fn fixed_space(&self) -> u64 {
        // what is asked for may be more than 32 bits can count
        let pool = self.pool.threads as u64 * (STACK + THREAD_SPACE) as u64;
        let listeners =
            self.listeners as u64 * (ACCEPT_BUFFER + thread::SMALL + THREAD_SPACE) as u64;
        let admin = admin::SPACE + admin::THREADS * THREAD_SPACE;
        let admin = self.password.map_or(0, |password| password.memory + admin as u64);
        self.machine.image + OWN_SPACE + pool + listeners + admin
    }

    /// Memory for all sessions, the threads that carry them, and the pipes, without what may be
    /// held beyond the least.
    fn needed(&self) -> u64 {
        let pool::PoolLimits { threads, sessions, queue, pipes, pipe_size, .. } = self.pool;
        threads as u64 * THREAD as u64
            + pipes as u64 * (PIPE + pipe_size) as u64
            + (sessions as u64 + queue as u64) * self.session as u64
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = |limit: u64| {
            if limit == u64::MAX { "no limit".to_owned() } else { format!("{limit} allowed") }
        };
        writeln!(f, "sessions     {} at once, {} waiting", self.pool.sessions, self.pool.queue)?;
        writeln!(f, "threads      {} ({})", self.threads(), allowed(self.machine.threads))?;
        writeln!(f, "descriptors  {} ({})", self.descriptors(), allowed(self.machine.descriptors))?;
        writeln!(
            f,
            "space        {} bytes of address space at most ({})",
            self.space(),
            allowed(self.machine.address_space)
        )?;
        writeln!(
            f,
            "memory       {} bytes at most ({})",
            self.memory,
            allowed(self.machine.memory)
        )?;
        write!(
            f,
            "             {} for sessions and threads, {} for slow readers",
            self.needed(),
            self.pool.held
        )?;
        self.password.iter().try_for_each(|password| write!(f, "\npasswords    {password}"))?;
        self.doubts().try_for_each(|doubt| write!(f, "\ndoubt        {doubt}"))
    }
}

/// What one password check may take: half of the memory that is not for sessions, and a quarter of
/// the address space, as far as [`Cost::limit`] goes.
pub fn password(config: &Config, machine: &Limits) -> Cost {
    let memory =
        if machine.is_memory_hidden { machine.memory.min(2 * LITTLE) } else { machine.memory };
    let sessions = config.pool.memory.map_or(memory / 2, Into::into);
    Cost::limit((memory.saturating_sub(sessions) / 2).min(machine.address_space / 4))
}

/// The users whose hashes take more than that, and what: one line each.
pub fn refused_hashes(config: &Config, machine: &Limits) -> Vec<String> {
    let users = config.admin.as_ref().map_or(&[][..], |admin| &admin.users);
    admin::refusals(users, password(config, machine)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read;

    const BOX: Limits = Limits {
        descriptors: 20_000,
        threads: 10_000,
        memory: 8 << 30,
        is_memory_hidden: false,
        address_space: u64::MAX,
        image: 5 << 20,
        cores: 2,
        doubts: Vec::new(),
    };

    fn budget(pool: &str, machine: Limits) -> Result<Budget, String> {
        let xml = format!(
            "<pdconfig><service name='a'><listen ip='*:1'/><group name='g' scheduler='random'/></service>{pool}</pdconfig>"
        );
        Budget::new(&read::parse(Path::new("a.xml"), xml.as_bytes()).unwrap(), machine)
    }

    #[test]
    fn descriptors_bound_the_sessions_of_a_large_machine() {
        let budget = budget("", BOX).unwrap();
        assert!((9500..10_000).contains(&budget.pool.sessions), "{budget}");
        assert!(
            budget.descriptors() <= BOX.descriptors
                && (budget.pool.threads, budget.pool.pollers) == (3, 2),
            "{budget}"
        );
    }

    #[test]
    fn memory_bounds_the_sessions_of_a_small_one_and_nothing_needs_more() {
        for megabytes in [1, 4, 16, 64] {
            let given = budget(&format!("<pool memory='{megabytes}M'/>"), BOX).unwrap();
            assert_eq!(given.needed() + given.pool.held as u64, megabytes << 20);
            let small = budget("", Limits { memory: megabytes << 21, ..BOX }).unwrap();
            assert_eq!(small.pool, given.pool);
        }
        assert!(budget("<pool memory='16M'/>", BOX).unwrap().pool.sessions > 1500);
    }

    #[test]
    fn a_password_check_gets_what_the_sessions_leave_and_a_hash_that_takes_more_is_refused_by_name()
    {
        let user = |name, rest| {
            format!(
                "<user name='{name}' password='$y${rest}$salt${}' access='full'/>",
                "x".repeat(43)
            )
        };
        let users = [user("ann", "j9T"), user("bob", "jDT")].concat();
        let config = |pool| {
            let xml = format!(
                "<pdconfig><service name='a'><listen ip='*:1'/><group name='g' scheduler='random'/></service>\
                 <admin listen='127.0.0.1:1'>{users}</admin>{pool}</pdconfig>"
            );
            read::parse(Path::new("a.xml"), xml.as_bytes()).unwrap()
        };
        let small = || Limits { memory: 64 << 20, ..BOX };
        for (pool, machine, memory, refused) in [
            ("", BOX, 64 << 20, &["bob"][..]),
            ("", small(), 16 << 20, &["bob"]),
            ("<pool memory='8M'/>", small(), 28 << 20, &["bob"]),
            ("<pool memory='60M'/>", small(), 2 << 20, &["ann", "bob"]),
            ("", Limits { address_space: 60 << 20, ..BOX }, 15 << 20, &["ann", "bob"]),
        ] {
            let config = config(pool);
            assert_eq!(password(&config, &machine).memory, memory, "{pool}");
            let lines = refused_hashes(&config, &machine);
            assert_eq!(lines.len(), refused.len(), "{lines:?}");
            assert!(
                lines
                    .iter()
                    .zip(refused)
                    .all(|(line, user)| line.contains(&format!("user `{user}`"))),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn what_is_chosen_fits_an_address_space_that_is_limited_and_what_is_asked_for_is_refused_when_it_does_not()
     {
        for kilobytes in [60_000, 100_000, 150_000] {
            let machine = || Limits { address_space: kilobytes * 1024, ..BOX };
            let given = budget("", machine()).unwrap();
            assert!(given.space() <= kilobytes * 1024 && given.pool.sessions > 1000, "{given}");
            assert!(
                budget("<pool memory='100M'/>", machine())
                    .is_err_and(|e| e.contains("bytes of address space, and"))
            );
        }
    }

    #[test]
    fn little_is_planned_with_where_a_limit_may_be_hidden_unless_more_is_asked_for() {
        let machine = || Limits { is_memory_hidden: true, ..BOX };
        assert_eq!(budget("", machine()).unwrap().memory, LITTLE);
        assert_eq!(budget("<pool memory='1G'/>", machine()).unwrap().memory, 1 << 30);
        assert_eq!(budget("", Limits { memory: 32 << 20, ..machine() }).unwrap().memory, 16 << 20);
    }

    #[test]
    fn a_number_that_does_not_fit_the_memory_is_refused() {
        assert!(
            budget("<pool memory='16M' sessions='100000'/>", BOX)
                .is_err_and(|e| e.contains("and may have 16777216"))
        );
        assert!(
            budget("<pool memory='16G'/>", BOX)
                .is_err_and(|e| e.contains("this machine allows 8589934592"))
        );
        assert!(budget("<pool memory='16M' sessions='1000' threads='8' queue='10'/>", BOX).is_ok());
    }
}
