//! The journal of systemd, when it reads standard error: a line says its priority there and no
//! time, which the journal knows.
//!
//! Asked by `log_output` when it opens standard error, and by `main` when it says why the program
//! ends.

use std::{env, io};

use log::Level;
use nix::sys::stat::fstat;

use super::syslog::severity;

/// Whether standard error is the journal. Programs that were started there inherit the variable
/// even with another standard error, hence the device and the inode in it: systemd.exec(5).
pub fn is_stderr() -> bool {
    let is_it = |name: String| {
        fstat(io::stderr()).is_ok_and(|about| name == format!("{}:{}", about.st_dev, about.st_ino))
    };
    env::var("JOURNAL_STREAM").is_ok_and(is_it)
}

/// What stands before a line of this level: sd-daemon(3).
pub fn prefix(level: Level) -> String {
    format!("<{}>", severity(level))
}
