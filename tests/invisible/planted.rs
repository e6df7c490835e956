//! Whether the rules tell what they are to tell: faults that are planted in what was seen on a
//! direct connection.

use nix::errno::Errno;

use super::campaign::Bench;
use super::rules::{Kind, judge};
use super::run::Run;
use super::script::Step::{self, *};
use super::script::{Script, Side};
use super::seen::Ending;

/// What the rules say of a direct run of these scripts with a fault planted in it.
fn judged(client: &[Step], host: &[Step], plant: impl Fn(&mut Run)) -> Vec<(Kind, Side)> {
    let script = Script::new(client, host);
    let mut run = Bench::without_program().run_alone(&script, None);
    assert!(run.violations.is_empty(), "{:?}", run.violations);
    plant(&mut run);
    let found = judge(&run.client, run.host.as_ref());
    found.into_iter().map(|violation| (violation.kind, violation.side)).collect()
}

const ASK: [Step; 4] = [Send(100), HalfClose, ReadToEnd, Close];
const ANSWER: [Step; 3] = [ReadToEnd, Send(500), Close];
const CUT: [Step; 4] = [ReadToEnd, Send(500), AwaitAck, Reset];

#[test]
fn an_answer_that_is_cut_short_is_seen() {
    let found = judged(&ASK, &ANSWER, |run| run.client.received -= 1);
    assert_eq!(found, [(Kind::CleanEndOfCutStream, Side::Client)]);
}

#[test]
fn a_clean_end_of_a_stream_that_was_reset_is_seen() {
    let found = judged(&ASK, &CUT, |run| {
        let (ending, _) = run.client.end.as_mut().expect("it read to the end");
        assert_eq!(*ending, Ending::Reset);
        *ending = Ending::Eof;
    });
    assert_eq!(found, [(Kind::CleanEndOfCutStream, Side::Client)]);
}

#[test]
fn acknowledged_bytes_that_a_reset_destroys_are_seen() {
    let found = judged(&ASK, &CUT, |run| run.client.received = 499);
    assert_eq!(found, [(Kind::LostBytes, Side::Client)]);
}

#[test]
fn a_reset_in_place_of_a_good_end_is_seen() {
    let found = judged(&ASK, &ANSWER, |run| {
        run.client.end.as_mut().expect("it read to the end").0 = Ending::Reset;
    });
    assert_eq!(found, [(Kind::ResetOfGoodEnd, Side::Client)]);
}

#[test]
fn a_reset_that_only_a_write_has_seen_is_a_reset() {
    let found = judged(&ASK, &ANSWER, |run| {
        let ended = run.client.end.expect("it read to the end").1;
        let before = ended - std::time::Duration::from_nanos(1);
        run.client.write_failed = Some((Errno::ECONNRESET, before));
    });
    assert!(found.contains(&(Kind::ResetOfGoodEnd, Side::Client)), "{found:?}");
}

#[test]
fn an_end_that_nobody_has_given_yet_is_seen() {
    let found = judged(&ASK, &ANSWER, |run| {
        let host = run.host.as_ref().expect("it is connected");
        let left = host.left.expect("it has left").at;
        let end = run.client.end.as_mut().expect("it read to the end");
        end.1 = left - std::time::Duration::from_nanos(1);
    });
    assert_eq!(found, [(Kind::EarlyEnd, Side::Client)]);
}

#[test]
fn bytes_in_another_order_or_of_nobody_are_seen() {
    let found = judged(&ASK, &ANSWER, |run| run.client.wrong = Some(7));
    assert_eq!(found, [(Kind::WrongBytes, Side::Client)]);
    let found = judged(&ASK, &ANSWER, |run| {
        let host = run.host.as_mut().expect("it is connected");
        host.received += 1;
    });
    assert!(found.contains(&(Kind::WrongBytes, Side::Host)), "{found:?}");
}

#[test]
fn a_host_that_never_hears_of_its_client_is_seen() {
    let found = judged(&ASK, &ANSWER, |run| run.host = None);
    assert_eq!(found, [(Kind::NotConnected, Side::Host)]);
    let found = judged(&[Close], &[ReadToEnd, Close], |run| run.host = None);
    assert!(found.is_empty(), "a client that says nothing and goes may be unheard of: {found:?}");
}
