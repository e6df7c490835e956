//! Bulk bytes, both ways. A blocked thread for each stream: there are few, and nothing costs less.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{CHUNK, Result};

/// Silence for so long means that the bytes will not come.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn fetch(streams: usize, bytes: u64, times: u64, to: &[SocketAddr]) -> Result<()> {
    on_threads(streams, bytes, times, to, fetch_one)
}

pub fn send(streams: usize, bytes: u64, times: u64, to: &[SocketAddr]) -> Result<()> {
    on_threads(streams, bytes, times, to, send_one)
}

/// Asks for so much, and tells whether all of it came.
fn fetch_one(address: SocketAddr, bytes: u64) -> io::Result<bool> {
    let mut stream = open(address)?;
    write!(stream, "GET /{bytes} HTTP/1.1\r\n\r\n")?;
    let mut space = vec![0; CHUNK];
    let mut got = 0;
    while got < bytes {
        match stream.read(&mut space)? {
            0 => return Ok(false),
            count => got += count as u64,
        }
    }
    Ok(true)
}

/// Sends, ends its sending side, and tells whether the host's answer names as many bytes.
fn send_one(address: SocketAddr, bytes: u64) -> io::Result<bool> {
    let mut stream = open(address)?;
    stream.write_all(b"PUT / HTTP/1.1\r\n\r\n")?;
    let space = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
        left -= stream.write(space.get(..next).unwrap_or_default())? as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.trim_end().parse() == Ok(bytes))
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Does the work so many times in a row on each stream, with its share of the bytes, and prints the
/// sums: bytes moved, and how often all went well.
fn on_threads(
    streams: usize,
    bytes: u64,
    times: u64,
    to: &[SocketAddr],
    work: fn(SocketAddr, u64) -> io::Result<bool>,
) -> Result<()> {
    let (began, share) = (Instant::now(), bytes / streams as u64);
    let addresses: Vec<SocketAddr> = to.iter().copied().cycle().take(streams).collect();
    let well: u64 = thread::scope(|scope| {
        let all_of =
            |address| (0..times).filter(|_| work(address, share).unwrap_or(false)).count() as u64;
        let running: Vec<_> =
            addresses.into_iter().map(|address| scope.spawn(move || all_of(address))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    let (seconds, moved) = (began.elapsed().as_secs_f64(), well * share);
    println!(
        "{{\"seconds\": {seconds:.4}, \"bytes\": {moved}, \"rate\": {:.0}, \"well\": {well}}}",
        moved as f64 / seconds
    );
    Ok(())
}
