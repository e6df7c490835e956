//! Memory that may not be there: what others decide the size of is asked for in a way that can
//! fail. Called by whatever keeps bytes from outside.

use std::hint::black_box;
use std::io;

/// A copy of these bytes.
pub fn copy(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Puts these bytes behind others.
pub fn append(bytes: &mut Vec<u8>, more: &[u8]) -> io::Result<()> {
    bytes.try_reserve(more.len())?;
    bytes.extend_from_slice(more);
    Ok(())
}

/// Whether so many bytes could be had now: before work that would end the program if it ran out of
/// them.
pub fn check(bytes: usize) -> io::Result<()> {
    let mut space: Vec<u8> = Vec::new();
    space.try_reserve_exact(bytes)?;
    // or the compiler would leave out the allocation and its end
    black_box(&space);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        // with 32 bits, half of the address space may well be had
        let too_much = if usize::BITS > 32 { isize::MAX as usize - 4096 } else { usize::MAX };
        assert_eq!(check(too_much).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert!(check(1 << 20).is_ok());
    }

    #[test]
    fn a_copy_takes_no_more_than_its_bytes() {
        let mut bytes = copy(b"one").unwrap();
        assert_eq!((&bytes[..], bytes.capacity()), (&b"one"[..], 3));
        append(&mut bytes, b" more").unwrap();
        assert_eq!(bytes, b"one more");
    }
}
