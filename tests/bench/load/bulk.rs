//! Bulk bytes, both ways. A blocked thread for each stream: there are few, and nothing costs less.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{CHUNK, Result};

/// Silence for so long means that the bytes will not come.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn fetch(streams: usize, bytes: u64, to: &[SocketAddr]) -> Result<()> {
    let share = bytes / streams as u64;
    on_threads(streams, to, |address| {
        let mut stream = open(address)?;
        write!(stream, "GET /{share} HTTP/1.1\r\n\r\n")?;
        let mut space = vec![0; CHUNK];
        let mut got = 0;
        while got < share {
            match stream.read(&mut space)? {
                0 => return Ok((got, 0)),
                count => got += count as u64,
            }
        }
        Ok((got, 1))
    })
}

pub fn send(streams: usize, bytes: u64, times: u64, to: &[SocketAddr]) -> Result<()> {
    let share = bytes / streams as u64;
    on_threads(streams, to, |address| {
        let sent = (0..times).map(|_| send_one(address, share).unwrap_or(false));
        let answered = sent.filter(|is_answered| *is_answered).count() as u64;
        Ok((share * answered, answered))
    })
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

/// Does the work once for each stream, all at once, and prints the sums of what each tells: bytes moved, and how often all went well.
fn on_threads(streams: usize, to: &[SocketAddr], work: impl Fn(SocketAddr) -> io::Result<(u64, u64)> + Sync) -> Result<()> {
    let began = Instant::now();
    let addresses: Vec<SocketAddr> = to.iter().copied().cycle().take(streams).collect();
    let results = thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = addresses.into_iter().map(|address| scope.spawn(move || work(address))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(Ok((0, 0)))).collect::<io::Result<Vec<_>>>()
    })?;
    let (moved, well) = results.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"seconds\": {seconds:.4}, \"bytes\": {moved}, \"rate\": {:.0}, \"well\": {well}}}", moved as f64 / seconds);
    Ok(())
}
