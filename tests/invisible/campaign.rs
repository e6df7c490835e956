//! Many scripts at a time: each is run directly and through every configuration of the program.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::rules::{Kind, Violation, certain};
use super::run::{Lane, Run};
use super::script::{Script, Side};
use super::ways::Way;

/// Scripts at the same time: most of their time is waiting.
const LANES: usize = 24;

/// What is a hang when many run, and when one runs alone.
const HANG: Duration = Duration::from_secs(10);
const HANG_ALONE: Duration = Duration::from_secs(3);

/// Where scripts are run.
pub struct Bench {
    pub lanes: Vec<Lane>,
    pub ways: Vec<Way>,
}

/// A run that broke a rule.
pub struct Fault {
    pub name: String,
    pub script: Script,
    /// Which way it was run; `None`: directly.
    pub way: Option<usize>,
    pub run: Run,
}

impl Bench {
    /// With the program in every configuration.
    pub fn with_program() -> Bench {
        let lanes: Vec<Lane> = (0..LANES).map(Lane::new).collect();
        let hosts: Vec<SocketAddr> = lanes.iter().map(Lane::address).collect();
        Bench { ways: Way::all(&hosts), lanes }
    }

    /// For direct connections only.
    pub fn without_program() -> Bench {
        Bench { ways: Vec::new(), lanes: (0..LANES).map(Lane::new).collect() }
    }

    /// Runs so many scripts, and collects what broke a rule.
    pub fn run_all<F>(&self, count: usize, script: F) -> Vec<Fault>
    where
        F: Fn(usize) -> (String, Script) + Sync,
    {
        let next = AtomicUsize::new(0);
        let faults = Mutex::new(Vec::new());
        let work = |lane: &Lane| {
            loop {
                let number = next.fetch_add(1, SeqCst);
                if number >= count {
                    return;
                }
                let (name, script) = script(number);
                let found = self.run_everywhere(lane, &name, &script);
                faults.lock().extend(found);
            }
        };
        thread::scope(|scope| self.lanes.iter().for_each(|lane| drop(scope.spawn(|| work(lane)))));
        faults.into_inner()
    }

    fn run_everywhere(&self, lane: &Lane, name: &str, script: &Script) -> Vec<Fault> {
        let direct = lane.run(script, None, HANG);
        let mut faults = Vec::new();
        for (number, way) in self.ways.iter().enumerate() {
            let mut run = lane.run(script, Some(way), HANG);
            run.violations.extend(not_as_direct(&direct, &run));
            faults.push((Some(number), run));
        }
        faults.push((None, direct));
        let is_fault = |(_, run): &(Option<usize>, Run)| !run.violations.is_empty();
        let fault = |(way, run)| Fault { name: name.to_owned(), script: script.clone(), way, run };
        faults.into_iter().filter(is_fault).map(fault).collect()
    }

    /// Runs a script alone, and once directly for comparison.
    pub fn run_alone(&self, script: &Script, way: Option<usize>) -> Run {
        self.run_on(&self.lanes[0], script, way, HANG_ALONE)
    }

    /// Runs a script on all lanes at the same time.
    pub fn run_crowd(&self, script: &Script, way: Option<usize>) -> Vec<Run> {
        thread::scope(|scope| {
            let run = |lane| scope.spawn(move || self.run_on(lane, script, way, HANG));
            let running: Vec<_> = self.lanes.iter().map(run).collect();
            running.into_iter().filter_map(|run| run.join().ok()).collect()
        })
    }

    fn run_on(&self, lane: &Lane, script: &Script, way: Option<usize>, limit: Duration) -> Run {
        let direct = lane.run(script, None, limit);
        let Some(way) = way.and_then(|way| self.ways.get(way)) else { return direct };
        let mut run = lane.run(script, Some(way), limit);
        run.violations.extend(not_as_direct(&direct, &run));
        run
    }

    pub fn name(&self, way: Option<usize>) -> &'static str {
        way.and_then(|way| self.ways.get(way)).map_or("direct", |way| way.name)
    }
}

/// Where the outcome is certain on both ways, it is the same. Says nothing of a run that is at
/// fault anyway.
fn not_as_direct(direct: &Run, run: &Run) -> Vec<Violation> {
    let hosts = direct.host.as_ref().zip(run.host.as_ref());
    let Some((direct_host, host)) = hosts.filter(|_| run.violations.is_empty()) else {
        return Vec::new();
    };
    let at_client = (certain(direct_host, &direct.client), certain(host, &run.client));
    let at_host = (certain(&direct.client, direct_host), certain(&run.client, host));
    let differs = |(side, (expected, seen))| match (expected, seen) {
        (Some(expected), Some(seen)) if expected != seen => {
            Some(Kind::NotAsDirect.violation(side, format!("{seen:?}, and directly {expected:?}")))
        }
        _ => None,
    };
    [(Side::Client, at_client), (Side::Host, at_host)].into_iter().filter_map(differs).collect()
}
