//! What the service manager is told (sd_notify(3)): nothing at all unless it has asked by the
//! variable `NOTIFY_SOCKET`.
//!
//! Called by `main` and `daemon`. A message that cannot be sent is not worth an interruption: it is
//! a debug line.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Whether the service manager listens.
pub fn is_wanted() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The program serves; `status` is a short text for people.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={}", short(status)));
}

/// What people are told meanwhile.
pub fn status(status: &str) {
    tell(&format!("STATUS={}", short(status)));
}

/// A reload has begun. [`ready`] says that it is over.
pub fn reloading() {
    // the service manager tells by the time which reload this is about
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(|now| now.tv_sec() as i128 * 1_000_000 + now.tv_nsec() as i128 / 1000);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", now.unwrap_or_default()));
}

/// systemd ignores messages of more than 4096 bytes, and a line end would begin something else.
fn short(status: &str) -> String {
    status.chars().filter(|c| !c.is_control()).take(1000).collect()
}

/// The program stops, and will have ended, or say so again, within the time: for so long the
/// service manager is asked to wait, even beyond its own limit.
pub fn stopping(status: &str, within: Duration) {
    tell(&format!(
        "STOPPING=1\nSTATUS={}\nEXTEND_TIMEOUT_USEC={}",
        short(status),
        within.as_micros()
    ));
}

/// Another process is the service from now on. Only the one that was it so far is believed.
pub fn main_process_is(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

fn tell(message: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(e) = send(&name, message) {
        log::debug!("notify state=lost reason=\"{e}\"");
    }
}

fn send(name: &OsStr, message: &str) -> io::Result<()> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}
