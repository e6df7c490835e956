//! What an end may see of the other on one TCP connection, given what both have done.
//!
//! The rules speak of facts that the ends observed themselves, not of what a script had in mind, so
//! they hold for any timing. A direct connection keeps them all; see the first test.

use std::fmt;

use super::script::Side;
use super::seen::{Ending, Seen};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Bytes that the peer did not send, or not at that place.
    WrongBytes,
    /// Bytes that the sender saw acknowledged did not arrive, though the reader read on to the end.
    LostBytes,
    /// An end of stream, though the peer did not end its stream, or had sent more.
    CleanEndOfCutStream,
    /// A reset or a failed write, though the peer ended in good order and read everything.
    ResetOfGoodEnd,
    /// An end that came before the peer gave cause for it.
    EarlyEnd,
    /// The client could not connect, or the host never heard of it.
    NotConnected,
    /// The outcome is certain, and it is not that of the direct connection.
    NotAsDirect,
    /// The host got more than one connection.
    SecondConnection,
    /// The program took the host for failed.
    HostBlamed,
    /// A wait came to its limit.
    Hang,
    /// Both ends have left, and the session goes on.
    NotLetGo,
}

/// A rule that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    pub kind: Kind,
    /// Who saw it.
    pub side: Side,
    pub text: String,
}

impl Kind {
    /// Whether a machine under load may be the cause: what is measured is time.
    pub fn is_about_time(self) -> bool {
        matches!(self, Kind::Hang | Kind::NotLetGo)
    }

    pub fn violation(self, side: Side, text: impl Into<String>) -> Violation {
        Violation { kind: self, side, text: text.into() }
    }
}

/// Every rule that was broken on one connection. `host` is `None` if no connection came to it.
pub fn judge(client: &Seen, host: Option<&Seen>) -> Vec<Violation> {
    let Some(host) = host else { return judge_alone(client) };
    let mut found = one_way(host, client, Side::Client);
    found.extend(one_way(client, host, Side::Host));
    found
}

/// The host hears of a client unless that has left again with nothing said and nothing heard. (A
/// direct connection would be there even then.)
fn judge_alone(client: &Seen) -> Vec<Violation> {
    let mut found = stuck(client, Side::Client);
    let acked = client.left.map_or(client.sent, |left| left.acked);
    if acked > 0 || client.end.is_some() {
        let text = format!("no connection came from a client that has {acked} bytes acknowledged");
        found.push(Kind::NotConnected.violation(Side::Host, text));
    }
    found
}

/// What the reader may see of the sender.
fn one_way(sender: &Seen, reader: &Seen, side: Side) -> Vec<Violation> {
    let mut found = stuck(reader, side);
    let mut add = |kind: Kind, text: String| found.push(kind.violation(side, text));
    let (sent, received) = (sender.sent, reader.received);
    let so_far = format!("after {received} of {sent} bytes");
    if let Some(wrong) = reader.wrong {
        add(Kind::WrongBytes, format!("byte {wrong} is not the one that was sent"));
    }
    if received > sent {
        add(Kind::WrongBytes, format!("read {received} bytes of {sent}"));
    }
    let is_read_out = !sender.may_have_reset(reader.sent);
    match reader.ending() {
        Some((Ending::Eof, at)) => match sender.ended_well() {
            None => add(Kind::CleanEndOfCutStream, "end of stream of a peer that reset".to_owned()),
            Some(_) if received < sent => {
                add(Kind::CleanEndOfCutStream, format!("end of stream {so_far}"));
            }
            Some(ended) if at < ended => {
                add(Kind::EarlyEnd, format!("end of stream {:?} early", ended - at));
            }
            Some(_) => {}
        },
        Some((Ending::Reset, at)) => {
            let Some(left) = sender.left else { return found };
            if received < left.acked {
                let text = format!("a reset {so_far}, {} of them acknowledged", left.acked);
                add(Kind::LostBytes, text);
            }
            if at < left.at {
                add(Kind::EarlyEnd, format!("a reset {:?} early", left.at - at));
            }
            if is_read_out {
                let text = format!("a reset {so_far} of a peer that read all and closed");
                add(Kind::ResetOfGoodEnd, text);
            } else if left.is_end_acked {
                let text = "a reset, though the end of the stream was acknowledged";
                add(Kind::ResetOfGoodEnd, text.to_owned());
            }
        }
        None => {}
    }
    if let Some((errno, _)) = reader.write_failed.filter(|_| is_read_out) {
        add(Kind::ResetOfGoodEnd, format!("{errno:?} on a write to a peer that read all"));
    }
    found
}

fn stuck(seen: &Seen, side: Side) -> Vec<Violation> {
    let hang = |step| Kind::Hang.violation(side, format!("`{step}` hangs"));
    seen.stuck.map(hang).into_iter().collect()
}

/// What the reader saw at last, if the rules leave it no choice: how much, and how it ended.
pub fn certain(sender: &Seen, reader: &Seen) -> Option<(usize, Ending)> {
    let (ending, _) = reader.ending()?;
    let left = sender.left?;
    let is_whole = left.is_end_acked || !sender.may_have_reset(reader.sent);
    let is_cut = left.is_reset && sender.half_closed.is_none();
    (is_whole || is_cut && left.acked == sender.sent).then_some((reader.received, ending))
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at the {}: {}", self.kind, self.side, self.text)
    }
}
