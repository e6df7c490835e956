//! What the program says when it ends, and with which status. Used by `main` and `commands` before,
//! or instead of, all threads.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use log::Level;

use tcpdirector::system::journal;

/// The program could not start.
pub const CANNOT_START: u8 = 1;
/// With `--diff`, 1 says that there are changes; that nobody could be asked is EX_UNAVAILABLE of
/// sysexits(3).
pub const NO_ANSWER: u8 = 69;
/// EX_USAGE of sysexits(3).
pub const USAGE: u8 = 64;
/// EX_CONFIG of sysexits(3).
pub const CONFIG: u8 = 78;

/// The one place that reports why the program ends with a status other than 0.
pub fn fail(status: u8, message: impl Display) -> ExitCode {
    // where nobody reads it, the status says it
    complain(Level::Error, message);
    ExitCode::from(status)
}

/// Writes a message to standard error, past the log.
pub fn complain(level: Level, message: impl Display) {
    let prefix = if journal::is_stderr() { journal::prefix(level) } else { String::new() };
    for line in message.to_string().lines() {
        let _ = writeln!(io::stderr(), "{prefix}tcpdirector: {line}");
    }
}

/// An exit status and what to say.
pub struct ExitError(pub u8, pub String);

pub fn cannot(what: impl Display) -> impl Fn(&dyn Display) -> ExitError {
    move |why| ExitError(CANNOT_START, format!("{what}: {why}"))
}

/// Writes a line, or more, to standard output. Whoever reads there may have seen enough.
pub fn say(text: impl Display) -> Result<(), ExitError> {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(cannot("cannot write to standard output")(&e))
        }
        _ => Ok(()),
    }
}
