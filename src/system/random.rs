//! Random bytes that nobody can guess, from the kernel: for salts and secrets. `fastrand` is for everything else.

use std::fs::File;
use std::io::{self, Read};

/// Fills an array; fails where there is no `/dev/urandom` to read.
pub fn secret<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
