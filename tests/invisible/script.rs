//! A script: what the two ends of one connection do, as two lists of steps that run side by side.

use std::fmt;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Client,
    Host,
}

/// One thing that an end does. Every wait has a limit; see `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Sends so many bytes of its stream.
    Send(usize),
    /// Sends the next byte of its stream as urgent (MSG_OOB).
    Urgent,
    /// Does nothing for so many milliseconds; above all, it does not read.
    Pause(u64),
    /// Waits for so many more bytes, or for the end of the stream.
    Read(usize),
    /// The same in eight pieces, with a pause after each.
    ReadSlowly(usize),
    /// Waits until there is something to read, and leaves it unread.
    AwaitBytes,
    /// Waits until the kernel of the peer has acknowledged everything, for a bounded time.
    AwaitAck,
    /// shutdown(2) of the sending side.
    HalfClose,
    ReadToEnd,
    /// The same in small pieces, with a pause after each.
    ReadToEndSlowly,
    /// close(2). Not an end in good order when bytes are unread: the kernel resets then.
    Close,
    /// close(2) with SO_LINGER 0, which resets.
    Reset,
}

/// What both ends do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub client: Vec<Step>,
    pub host: Vec<Step>,
}

/// What one of the two ends may send in all: as much as the kernel takes while nobody reads.
pub const MODEST: usize = 200_000;

impl Side {
    pub const BOTH: [Side; 2] = [Side::Client, Side::Host];

    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Host,
            Side::Host => Side::Client,
        }
    }
}

impl Step {
    /// Bytes that it sends.
    pub fn sends(self) -> usize {
        match self {
            Step::Send(count) => count,
            Step::Urgent => 1,
            _ => 0,
        }
    }

    pub fn is_leaving(self) -> bool {
        matches!(self, Step::Close | Step::Reset)
    }

    fn ends_stream(self) -> bool {
        self.is_leaving() || self == Step::HalfClose
    }
}

impl Script {
    pub fn new(client: &[Step], host: &[Step]) -> Script {
        Script { client: client.to_vec(), host: host.to_vec() }
    }

    pub fn steps(&self, side: Side) -> &[Step] {
        match side {
            Side::Client => &self.client,
            Side::Host => &self.host,
        }
    }

    pub fn steps_mut(&mut self, side: Side) -> &mut Vec<Step> {
        match side {
            Side::Client => &mut self.client,
            Side::Host => &mut self.host,
        }
    }

    /// How much there is to it: steps first, then bytes and pauses.
    pub fn weight(&self) -> (usize, usize) {
        let weight = |step: &Step| match step {
            Step::Send(count) => *count,
            Step::Pause(millis) => *millis as usize,
            Step::ReadSlowly(_) | Step::ReadToEndSlowly => 2,
            Step::Read(count) => 1 + count.min(&1),
            _ => 1,
        };
        let steps = self.client.iter().chain(&self.host);
        (self.client.len() + self.host.len(), steps.map(weight).sum())
    }

    /// Whether both ends come to their last step on any connection: each leaves at its end and
    /// not before, sends nothing after its own end of stream, and waits only for what the other
    /// will have sent by then.
    pub fn is_sound(&self) -> bool {
        let sent = Side::BOTH.map(|side| total(self.steps(side)));
        Side::BOTH.iter().all(|side| is_in_order(self.steps(*side)))
            && sent.iter().min() <= Some(&MODEST)
            && self.comes_to_its_end()
    }

    /// Runs both lists with nothing but counts.
    fn comes_to_its_end(&self) -> bool {
        let lists = [&self.client, &self.host];
        let (mut at, mut read) = ([0, 0], [0, 0]);
        loop {
            let before = at;
            for me in [0, 1] {
                let done = &lists[1 - me][..at[1 - me]];
                let (sent, has_ended) = (total(done), done.iter().any(|step| step.ends_stream()));
                let Some(step) = lists[me].get(at[me]) else { continue };
                let can_go_on = match step {
                    Step::Read(count) | Step::ReadSlowly(count) => {
                        let wanted = read[me] + count;
                        has_ended || sent >= wanted
                    }
                    Step::AwaitBytes => has_ended || sent > read[me],
                    Step::ReadToEnd | Step::ReadToEndSlowly => has_ended,
                    _ => true,
                };
                if can_go_on {
                    if let Step::Read(count) | Step::ReadSlowly(count) = step {
                        read[me] += count;
                    }
                    at[me] += 1;
                }
            }
            if at == before {
                return at == [self.client.len(), self.host.len()];
            }
        }
    }
}

fn total(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.sends()).sum()
}

fn is_in_order(steps: &[Step]) -> bool {
    let end = steps.iter().position(|step| step.ends_stream()).unwrap_or(steps.len());
    let after = steps.get(end + 1..).unwrap_or_default();
    steps.iter().position(|step| step.is_leaving()) == steps.len().checked_sub(1)
        && after.iter().all(|step| step.sends() == 0 && *step != Step::HalfClose)
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Side::Client { "client" } else { "host" })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Send(count) => write!(f, "send {count}"),
            Step::Urgent => f.write_str("send an urgent byte"),
            Step::Pause(millis) => write!(f, "pause {millis} ms"),
            Step::Read(count) => write!(f, "read {count}"),
            Step::ReadSlowly(count) => write!(f, "read {count} slowly"),
            Step::AwaitBytes => f.write_str("wait for bytes"),
            Step::AwaitAck => f.write_str("wait for acknowledgement"),
            Step::HalfClose => f.write_str("half-close"),
            Step::ReadToEnd => f.write_str("read to the end"),
            Step::ReadToEndSlowly => f.write_str("read to the end slowly"),
            Step::Close => f.write_str("close"),
            Step::Reset => f.write_str("reset"),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for side in Side::BOTH {
            let steps: Vec<String> = self.steps(side).iter().map(Step::to_string).collect();
            writeln!(f, "    {side:6} {}", steps.join(", "))?;
        }
        Ok(())
    }
}
