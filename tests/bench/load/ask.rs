//! Requests on kept sessions: as many as will go, or at a fixed rate. At a fixed rate a request is
//! due at its time whether or not earlier ones were answered, and its latency counts from then: a
//! slow balancer must not slow its own measurement down.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::histogram::Histogram;
use super::{ANSWER, REQUEST, Result, event};

/// The number under which the poller knows the clock.
const CLOCK: usize = usize::MAX;

/// A session that has proved itself by one request.
pub struct Session {
    stream: TcpStream,
    asked: Instant,
    got: usize,
}

/// Opens sessions, so many at a time that no backlog overflows.
pub fn open(sessions: usize, to: &[SocketAddr]) -> Result<Vec<Session>> {
    let mut opened = Vec::new();
    for address in to.iter().cycle().take(sessions) {
        let mut stream = TcpStream::connect_timeout(address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(REQUEST)?;
        stream.read_exact(&mut [0; ANSWER.len()])?;
        opened.push(Session { stream, asked: Instant::now(), got: 0 });
    }
    Ok(opened)
}

pub fn ask(time: Duration, sessions: usize, rate: u32, to: &[SocketAddr]) -> Result<()> {
    let mut load = Load {
        sessions: open(sessions, to)?,
        poller: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        idle: (0..sessions).collect(),
        due: VecDeque::new(),
        histogram: Histogram::new(),
    };
    for (number, session) in load.sessions.iter().enumerate() {
        session.stream.set_nonblocking(true)?;
        load.poller.add(&session.stream, event(EpollFlags::EPOLLIN, number))?;
    }
    let began = Instant::now();
    match rate {
        0 => load.run(time, None)?,
        rate => load.run(time, Some(Duration::from_secs(1) / rate))?,
    }
    let reached = load.histogram.count() as f64 / began.elapsed().as_secs_f64();
    println!("{{\"rate\": {reached:.0}, {}}}", load.histogram);
    Ok(())
}

struct Load {
    sessions: Vec<Session>,
    poller: Epoll,
    /// Sessions that wait for something to ask, by number.
    idle: VecDeque<usize>,
    /// When the requests were due that no session was free for.
    due: VecDeque<Instant>,
    histogram: Histogram,
}

impl Load {
    fn run(&mut self, time: Duration, every: Option<Duration>) -> Result<()> {
        let began = Instant::now();
        let clock = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        if let Some(every) = every {
            clock.set(Expiration::Interval(every.into()), TimerSetTimeFlags::empty())?;
            self.poller.add(&clock, event(EpollFlags::EPOLLIN, CLOCK))?;
        } else {
            self.due.extend(vec![began; self.sessions.len()]);
        }
        let mut next_due = began;
        let mut events = [EpollEvent::empty(); 256];
        while began.elapsed() < time {
            self.ask_what_is_due()?;
            let count = self.poller.wait(&mut events, EpollTimeout::from(100_u8))?;
            for ready in events.iter().take(count) {
                let number = ready.data() as usize;
                if number == CLOCK {
                    let _ = clock.wait();
                } else if self.listen(number)? && every.is_none() {
                    self.due.push_back(Instant::now());
                }
            }
            while let Some(every) = every.filter(|_| next_due <= Instant::now()) {
                self.due.push_back(next_due);
                next_due += every;
            }
        }
        Ok(())
    }

    fn ask_what_is_due(&mut self) -> Result<()> {
        while !self.due.is_empty() {
            let Some(session) =
                self.idle.pop_front().and_then(|number| self.sessions.get_mut(number))
            else {
                break;
            };
            session.asked = self.due.pop_front().unwrap_or(session.asked);
            session.got = 0;
            session.stream.write_all(REQUEST)?;
        }
        Ok(())
    }

    /// Whether the session has its whole answer.
    fn listen(&mut self, number: usize) -> Result<bool> {
        let Some(session) = self.sessions.get_mut(number) else { return Ok(false) };
        let mut space = [0; 1024];
        match session.stream.read(&mut space) {
            Ok(0) => return Err("a session was closed".into()),
            Ok(count) => session.got += count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        let is_all = session.got >= ANSWER.len();
        if is_all {
            self.histogram.note(session.asked.elapsed());
            self.idle.push_back(number);
        }
        Ok(is_all)
    }
}
