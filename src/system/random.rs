//! Random bytes that nobody can guess, from the kernel: for salts and secrets. `fastrand` is for
//! everything else.

use std::fs::File;
use std::io::{self, Read};

use super::raw;

/// The device that stands in for getrandom(2) on a kernel before 3.17.
const DEVICE: &str = "/dev/urandom";

/// Fills an array, by a system call, so that no file is needed; a kernel without that call needs
/// `/dev/urandom`, which the error names.
pub fn secret<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    match raw::random(&mut bytes) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
            let read = File::open(DEVICE).and_then(|mut device| device.read_exact(&mut bytes));
            read.map_err(|e| io::Error::new(e.kind(), format!("{DEVICE}: {e}")))?;
        }
        filled => filled?,
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled_and_no_two_arrays_are_the_same() {
        let all: Vec<[u8; 32]> = (0..64).map(|_| secret().expect("the kernel has it")).collect();
        assert!((0..32).all(|at| all.iter().any(|bytes| bytes[at] != 0)));
        assert!(all.iter().enumerate().all(|(i, one)| !all[..i].contains(one)));
    }
}
