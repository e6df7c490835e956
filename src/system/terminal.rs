//! Asking for a password: on a terminal without echo, from anything else one line. Called by `main`
//! for `--passwd` and `--diff`.
//!
//! The terminal echoes again at any end, a signal's too: while it is silent, a thread waits for the
//! signals that end programs.

use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

use super::thread;

/// The longest password, in bytes, as crypt(3) has it.
pub const MAX_PASSWORD: usize = 511;

/// Reads a password that is not empty. The prompt goes to standard error, so that standard output
/// is the caller's alone.
pub fn read_password() -> io::Result<String> {
    if !io::stdin().is_terminal() {
        return read_line(io::stdin().lock());
    }
    let _silence = Silence::start()?;
    ask("Password: ")
}

/// Reads one that is new, and so from a terminal twice.
pub fn read_new_password() -> io::Result<String> {
    if !io::stdin().is_terminal() {
        return read_line(io::stdin().lock());
    }
    let silence = Silence::start()?;
    let first = ask("Password: ")?;
    let second = ask("The same again: ")?;
    drop(silence);
    match first == second {
        true => Ok(first),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "the two passwords differ")),
    }
}

fn ask(prompt: &str) -> io::Result<String> {
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let password = read_line(io::stdin().lock());
    // the end of the line was not echoed either
    stderr.write_all(b"\n")?;
    password
}

/// One line without its end, checked.
fn read_line(input: impl BufRead) -> io::Result<String> {
    let wrong = |why: &str| Err(io::Error::new(ErrorKind::InvalidInput, why.to_owned()));
    let mut line = Vec::new();
    input.take(MAX_PASSWORD as u64 + 3).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match String::from_utf8(line) {
        Ok(password) if password.is_empty() => wrong("the password is empty"),
        Ok(password) if password.len() > MAX_PASSWORD => {
            wrong("the password is longer than 511 bytes")
        }
        Ok(password) if password.contains('\0') => wrong("the password has a NUL in it"),
        Ok(password) => Ok(password),
        Err(_) => wrong("the password is not UTF-8"),
    }
}

/// A terminal without echo, until this is dropped.
struct Silence {
    before: Termios,
    signals: Handle,
}

impl Silence {
    fn start() -> io::Result<Silence> {
        let before = tcgetattr(io::stdin())?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
        let silence = Silence { before: before.clone(), signals: signals.handle() };
        thread::start("signals", thread::LARGE, move || {
            if let Some(signal) = signals.forever().next() {
                let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
                let _ = emulate_default_handler(signal);
            }
        })?;
        let mut silent = silence.before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(silence)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
        self.signals.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_without_its_end() {
        for (input, password) in [("a b\n", "a b"), ("a\r\nb\n", "a"), ("é", "é"), (" \n", " ")] {
            assert_eq!(read_line(input.as_bytes()).unwrap(), password);
        }
        let longest = "x".repeat(MAX_PASSWORD);
        assert_eq!(read_line(format!("{longest}\r\n").as_bytes()).unwrap(), longest);
    }

    #[test]
    fn what_no_password_can_be_is_refused() {
        let long = "x".repeat(100_000);
        for input in ["", "\n", "a\0b\n", long.as_str()] {
            assert_eq!(read_line(input.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(read_line(&b"\xff\n"[..]).is_err());
    }
}
