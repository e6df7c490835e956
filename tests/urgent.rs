//! What happens to urgent bytes: they keep their place among the others, in both directions, as
//! bytes like any other.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use crossbeam::channel::bounded;
use nix::sys::socket::{MsgFlags, send};

use crate::common::backend::Backend;
use crate::common::{DEADLINE, TestDaemon, one_service, pattern, read_out};

/// Kept until the host answers, and not at all.
const INSIDE: [&str; 2] = ["", "<replay bytes=\"1000\"/>"];

fn send_urgent(stream: &TcpStream, byte: u8) {
    assert_eq!(send(stream.as_raw_fd(), &[byte], MsgFlags::MSG_OOB), Ok(1));
}

/// Says it with every capital letter urgent, and ends.
fn speak(mut stream: &TcpStream, words: &[u8]) {
    for word in words.chunk_by(|a, b| !a.is_ascii_uppercase() && !b.is_ascii_uppercase()) {
        match word {
            [letter] if letter.is_ascii_uppercase() => send_urgent(stream, *letter),
            _ => stream.write_all(word).unwrap(),
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Sends so many pieces, each of them with an urgent byte behind it, and ends; returns all of it.
fn pour(mut stream: &TcpStream, pieces: usize) -> Vec<u8> {
    let piece = pattern(200_000);
    for _ in 0..pieces {
        stream.write_all(&piece).unwrap();
        send_urgent(stream, b'!');
    }
    stream.shutdown(Shutdown::Write).unwrap();
    [&piece[..], b"!"].concat().repeat(pieces)
}

/// Has both sides speak at the same time; what the host and the client have heard.
fn heard(inside: &str, speak: impl Fn(&TcpStream) + Clone + Send + Sync + 'static) -> [Vec<u8>; 2] {
    let (tell, told) = bounded(1);
    let speaks = speak.clone();
    let backend = Backend::with(move |client| {
        thread::scope(|scope| {
            scope.spawn(|| speaks(&client));
            tell.send(read_out(&client)).unwrap();
        });
    });
    let daemon = TestDaemon::start(&one_service("random", &[backend.address()], inside));
    let client = daemon.connect();
    let answer = thread::scope(|scope| {
        scope.spawn(|| speak(&client));
        read_out(&client)
    });
    let question = told.recv_timeout(DEADLINE).unwrap();
    daemon.settle();
    [question, answer].map(|(bytes, ends_by_reset)| {
        assert!(!ends_by_reset, "it was cut after {} bytes", bytes.len());
        bytes
    })
}

#[test]
fn urgent_bytes_keep_their_place_in_both_directions() {
    for inside in INSIDE {
        for words in [&b"before U after"[..], b"before U", b"U after", b"U", b"one U two V three W"]
        {
            assert_eq!(heard(inside, |stream| speak(stream, words)), [words, words], "`{inside}`");
        }
    }
}

#[test]
fn two_urgent_bytes_at_the_very_start_are_not_lost() {
    // the second one would drive out the first, if the socket did not keep both in line from the
    // start
    for inside in INSIDE {
        for _ in 0..20 {
            let words = b"UV and more";
            assert_eq!(heard(inside, |stream| speak(stream, words)), [words, words], "`{inside}`");
        }
    }
}

#[test]
fn urgent_bytes_keep_their_place_in_bulk() {
    const PIECES: usize = 40;
    for inside in INSIDE {
        let sent = [&pattern(200_000)[..], b"!"].concat().repeat(PIECES);
        let got = heard(inside, |stream| {
            pour(stream, PIECES);
        });
        let lengths = got.each_ref().map(Vec::len);
        assert!(
            got.iter().all(|got| *got == sent),
            "{lengths:?} bytes of {}, or changed",
            sent.len()
        );
    }
}
