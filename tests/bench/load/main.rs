//! Load for `tests/bench/run`: a host that answers, takes and gives bytes, and clients that count
//! what they get. Everything on loopback and without threads where many sessions are open, so that
//! a session costs the same whoever is measured.
//!
//! Each mode prints one line of JSON with what it has measured. Latencies are in microseconds.

mod ask;
mod bulk;
mod connect;
mod histogram;
mod serve;

use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A request for the fixed answer, and that answer: what a small web server would say.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// How much one read or write of bulk bytes moves at most.
const CHUNK: usize = 256 * 1024;

const USAGE: &str = "usage:
  load serve ADDRESS                                     a host: answers GET /, gives N bytes for GET /N, counts what PUT brings
  load connect SECONDS AT_ONCE ADDRESS...                new connections, each with one request
  load ask SECONDS SESSIONS RATE ADDRESS...              requests on kept sessions; RATE a second in all, or 0 for as many as will go
  load fetch STREAMS BYTES TIMES ADDRESS...              bytes from hosts, shared by the streams; so many times in a row
  load send STREAMS BYTES TIMES ADDRESS...               bytes to hosts, then half-close, then the answer
  load hold SESSIONS ADDRESS...                          sessions that were used once, until the end of standard input";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("load {}: {e}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match *words {
        ["serve", address] => serve::serve(address.parse()?),
        ["connect", seconds, at_once, ref to @ ..] => {
            connect::connect(time(seconds)?, at_once.parse()?, &addresses(to)?)
        }
        ["ask", seconds, sessions, rate, ref to @ ..] => {
            ask::ask(time(seconds)?, sessions.parse()?, rate.parse()?, &addresses(to)?)
        }
        ["fetch", streams, bytes, times, ref to @ ..] => {
            bulk::fetch(streams.parse()?, bytes.parse()?, times.parse()?, &addresses(to)?)
        }
        ["send", streams, bytes, times, ref to @ ..] => {
            bulk::send(streams.parse()?, bytes.parse()?, times.parse()?, &addresses(to)?)
        }
        ["hold", sessions, ref to @ ..] => hold(sessions.parse()?, &addresses(to)?),
        _ => Err(USAGE.into()),
    }
}

fn time(seconds: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(seconds.parse()?)?)
}

fn addresses(words: &[&str]) -> Result<Vec<SocketAddr>> {
    match words {
        [] => Err(USAGE.into()),
        words => words.iter().map(|word| Ok(word.parse()?)).collect(),
    }
}

fn hold(sessions: usize, to: &[SocketAddr]) -> Result<()> {
    let held = ask::open(sessions, to)?;
    println!("{{\"held\": {}}}", held.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// What a poller is asked for: this descriptor, under this number.
fn event(interest: EpollFlags, number: usize) -> EpollEvent {
    EpollEvent::new(interest, number as u64)
}
