//! One of three real web servers is stopped while ab makes requests, and comes back.
//!
//! A balancer of connections cannot save everything by itself. A server that closes its listening
//! socket makes the kernel reset the connections that it has not accepted yet, and one that is
//! killed takes the requests inside it along; nobody can tell whether it has acted on them, so only
//! a service with `<replay>` sends them to another one. These tests tell apart what must not fail
//! and what may.

use std::net::TcpStream;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::command::{finish, null};
use crate::common::program::{Program, field};
use crate::common::server::{
    Server, balance, balance_with, curl, free_address, have, tool, until_at_rest,
};
use crate::common::until;

const REQUESTS: usize = 10_000;
const AT_ONCE: usize = 16;

/// The answers of the servers; of one length, since ab takes an answer of another length for a
/// failure.
const NAMES: [&str; 3] = ["one", "two", "six"];

/// The server that is stopped, and what the log of the program calls it.
const STOPPED: usize = 1;
const STOPPED_HOST: &str = "h1";

fn web_server(name: &str) -> Server {
    Server::nginx(free_address(), &format!("location / {{ return 200 {name}; }}"))
}

/// ab, making requests through the program, each on a connection of its own.
struct Load(Child);

/// What ab says in the end.
#[derive(Debug, PartialEq, Eq)]
struct Score {
    complete: usize,
    failed: usize,
    not_good: usize,
}

impl Load {
    /// Starts, and waits until a fifth of the requests have been served.
    fn start(program: &Program) -> Load {
        let mut ab = tool("ab");
        // -r: counts what fails and goes on
        ab.args([
            "-q",
            "-r",
            "-n",
            &REQUESTS.to_string(),
            "-c",
            &AT_ONCE.to_string(),
            &format!("http://{}/", program.address()),
        ]);
        let load = Load(ab.stdin(null()).stdout(Stdio::piped()).spawn().expect("it is installed"));
        program.wait_for(&format!("session id={} ", REQUESTS / 5));
        load
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("it runs");
    }

    /// Waits for its end.
    fn score(mut self) -> Score {
        assert!(
            self.0.try_wait().unwrap().is_none(),
            "the load was over too soon to prove anything"
        );
        let Output { status, stdout, .. } = finish(&mut self.0);
        let report = String::from_utf8_lossy(&stdout);
        assert!(status.success(), "{report}");
        let figure = |label: &str| -> usize {
            let text = report.split_once(label).map_or("0", |(_, rest)| rest.trim_start());
            text.split(|letter: char| !letter.is_ascii_digit())
                .next()
                .unwrap()
                .parse()
                .expect("a number")
        };
        Score {
            complete: figure("Complete requests:"),
            failed: figure("Failed requests:"),
            not_good: figure("Non-2xx responses:"),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_request_fails_when_one_of_three_web_servers_ends_gracefully_and_comes_back() {
    if !have(&["ab", "curl", "nginx"]) {
        return;
    }
    let mut servers = NAMES.map(web_server);
    let program = balance(&servers.each_ref().map(Server::address));
    let load = Load::start(&program);
    let address = servers[STOPPED].address();
    // nginx drops what it has not accepted, so nobody knocks at the moment when it closes its door
    load.signal(Signal::SIGSTOP);
    let pids: Vec<i32> = servers.iter().map(Server::pid).chain([program.pid()]).collect();
    until_at_rest(&pids);
    servers[STOPPED].signal(Signal::SIGQUIT);
    until("it does not listen any more", || TcpStream::connect(address).is_err());
    load.signal(Signal::SIGCONT);
    assert_eq!(load.score(), Score { complete: REQUESTS, failed: 0, not_good: 0 });
    servers[STOPPED].wait();
    assert_eq!(field(&program.wait_for("state=down"), "host"), Some(STOPPED_HOST));

    let _again =
        Server::nginx(address, &format!("location / {{ return 200 {}; }}", NAMES[STOPPED]));
    let began = Instant::now();
    let up = program.wait_for("state=up");
    // checktime, and a second
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(field(&up, "host"), Some(STOPPED_HOST));
    let mut names: Vec<String> = (0..3).map(|_| curl(program.address(), "/")).collect();
    names.sort();
    assert_eq!(names, ["one", "six", "two"]);
}

#[test]
fn with_replay_no_request_fails_when_a_web_server_is_killed_under_load() {
    if !have(&["ab", "nginx"]) {
        return;
    }
    let servers = NAMES.map(web_server);
    let program =
        balance_with(&servers.each_ref().map(Server::address), "<replay bytes=\"16384\"/>");
    let load = Load::start(&program);
    servers[STOPPED].signal_all(Signal::SIGKILL);
    assert_eq!(load.score(), Score { complete: REQUESTS, failed: 0, not_good: 0 });
    assert_eq!(field(&program.wait_for("state=down"), "host"), Some(STOPPED_HOST));
    let retried = program
        .lines("session id=")
        .iter()
        .filter(|line| field(line, "tries") != Some("1"))
        .count();
    eprintln!("{retried} of {REQUESTS} sessions were moved to another host");
}

#[test]
fn only_what_is_inside_a_web_server_fails_when_it_is_killed_under_load() {
    if !have(&["ab", "nginx"]) {
        return;
    }
    let servers = NAMES.map(web_server);
    let program = balance(&servers.each_ref().map(Server::address));
    let load = Load::start(&program);
    servers[STOPPED].signal_all(Signal::SIGKILL);
    let score = load.score();
    eprintln!("{score:?}");
    assert_eq!((score.complete, score.not_good), (REQUESTS, 0));
    // ab counts one reset in three columns, and adds them up
    assert!(score.failed <= 3 * AT_ONCE, "{score:?}: more than there can have been inside");
    let sessions = program.lines("session id=");
    let is_unanswered = |line: &&String| {
        field(line, "to_client") == Some("0") && field(line, "to_server") != Some("0")
    };
    for session in sessions.iter().filter(is_unanswered) {
        assert_eq!(field(session, "host"), Some(STOPPED_HOST), "{session}");
    }
    assert_eq!(field(&program.wait_for("state=down"), "host"), Some(STOPPED_HOST));
}
