//! The program under test: a process for each configuration, which has a service for each lane.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::common::DEADLINE;
use crate::common::command::null;
use crate::common::program::{Folder, PROGRAM, field};

/// Name, `<pool>`, `<replay>`.
type Configuration = (&'static str, &'static str, &'static str);

/// What differs between the processes: any two values of two settings meet in one of them. There
/// is one host and so nobody else to ask: with `<replay>` nothing must look different.
const CONFIGURATIONS: [Configuration; 4] = [
    ("threads=many memory=enough replay=no", MANY, ""),
    ("threads=many memory=tight replay=4096", MANY_TIGHT, REPLAY),
    ("threads=1 memory=enough replay=4096", ONE, REPLAY),
    ("threads=1 memory=tight replay=no", ONE_TIGHT, ""),
];
const MANY: &str = "<pool threads=\"6\"/>";
const MANY_TIGHT: &str = "<pool threads=\"6\" memory=\"2M\"/>";
const ONE: &str = "<pool threads=\"1\"/>";
const ONE_TIGHT: &str = "<pool threads=\"1\" memory=\"1M\"/>";
const REPLAY: &str = "<replay bytes=\"4096\"/>";

/// One running process.
pub struct Way {
    pub name: &'static str,
    child: Child,
    log: Arc<Log>,
    _folder: Folder,
}

/// What the log has said.
#[derive(Default)]
struct Log {
    lanes: Mutex<Vec<Lane>>,
    news: Condvar,
}

/// What it has said of one service.
#[derive(Default, Clone)]
struct Lane {
    listen: Option<SocketAddr>,
    /// The lines of sessions that have ended since the last look.
    ended: Vec<String>,
    is_down: bool,
    /// The line by which the host was taken for failed since the last look.
    blamed: Option<String>,
}

/// The program that is tested: the one that was built with the tests, or another.
fn program() -> PathBuf {
    std::env::var_os("TCPDIRECTOR_PROGRAM").map_or_else(|| PROGRAM.into(), PathBuf::from)
}

impl Way {
    /// Starts the program in every configuration, with a service for each of these hosts.
    pub fn all(hosts: &[SocketAddr]) -> Vec<Way> {
        CONFIGURATIONS.iter().map(|configuration| Way::start(configuration, hosts)).collect()
    }

    fn start(configuration: &Configuration, hosts: &[SocketAddr]) -> Way {
        let (name, pool, replay) = *configuration;
        let service = |(number, host): (usize, &SocketAddr)| {
            format!(
                "<service name=\"{number}\"><listen ip=\"127.0.0.1:0\"/>\
                 <group name=\"main\" scheduler=\"random\"><host name=\"h\" ip=\"{host}\"/></group>\
                 {replay}</service>"
            )
        };
        let services: String = hosts.iter().enumerate().map(service).collect();
        let folder = Folder::new();
        let xml = format!("<pdconfig>{services}{pool}<checktime time=\"1s\"/></pdconfig>");
        let file = folder.write("tcpdirector.xml", &xml);
        let mut command = Command::new(program());
        command.arg("-c").arg(&file).stdin(null()).stdout(null());
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program was built");
        let log = Arc::new(Log::default());
        log.lanes.lock().resize(hosts.len(), Lane::default());
        let (noted, stderr) = (log.clone(), child.stderr.take().expect("piped"));
        thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.for_each(|line| noted.note(line));
        });
        let way = Way { name, child, log, _folder: folder };
        let all_listen = |lanes: &[Lane]| lanes.iter().all(|lane| lane.listen.is_some());
        let is_open = way.log.wait(DEADLINE, |lanes| all_listen(lanes).then_some(()));
        assert!(is_open.is_some(), "{name}: the program does not listen");
        way
    }

    pub fn address(&self, lane: usize) -> SocketAddr {
        self.log.lanes.lock()[lane].listen.expect("it listens")
    }

    /// Forgets what was said of a lane, before a script runs there.
    pub fn begin(&self, lane: usize) {
        let mut lanes = self.log.lanes.lock();
        lanes[lane].ended.clear();
        lanes[lane].blamed = None;
    }

    /// The line of a client's session if it comes within the time.
    pub fn ended(&self, lane: usize, client: SocketAddr, limit: Duration) -> Option<String> {
        let client = client.to_string();
        let is_it = |line: &&String| field(line, "client") == Some(&client);
        self.log.wait(limit, |lanes| lanes[lane].ended.iter().find(is_it).cloned())
    }

    /// The line by which the lane's host was taken for failed, if it was; waits until it is up.
    pub fn blamed(&self, lane: usize) -> Option<String> {
        let blamed = self.log.lanes.lock()[lane].blamed.take();
        self.log.wait(DEADLINE, |lanes| (!lanes[lane].is_down).then_some(()));
        blamed
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn note(&self, line: String) {
        let number = field(&line, "service").and_then(|name| name.parse::<usize>().ok());
        let mut lanes = self.lanes.lock();
        let Some(lane) = number.and_then(|number| lanes.get_mut(number)) else { return };
        if line.contains(" session ") {
            lane.ended.push(line);
        } else if line.contains(" listen ") {
            lane.listen = field(&line, "address").and_then(|address| address.parse().ok());
        } else if line.contains(" host ") {
            lane.is_down = line.contains("state=down");
            if lane.is_down {
                lane.blamed = Some(line);
            }
        }
        drop(lanes);
        self.news.notify_all();
    }

    /// Waits until the lanes give something.
    fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&[Lane]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut lanes = self.lanes.lock();
        loop {
            let found = look(&lanes);
            if found.is_some() || self.news.wait_until(&mut lanes, deadline).timed_out() {
                return found.or_else(|| look(&lanes));
            }
        }
    }
}
