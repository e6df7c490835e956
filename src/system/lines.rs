//! LineWriter on their way into something that takes bytes: a file, a pipe, a stream socket. Used by
//! `log_output` and `syslog`, on whichever thread logs; owns no lock.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::unistd;

/// Remembers whether the last line was cut, as a full disk does, so that the next one does not go
/// on where it ends.
#[derive(Default)]
pub(super) struct LineWriter {
    is_cut: AtomicBool,
}

impl LineWriter {
    /// For what this file has already: whoever wrote there before may have left a piece of a line.
    pub fn after(file: &File, path: &Path) -> LineWriter {
        LineWriter { is_cut: AtomicBool::new(ends_within_a_line(file, path).unwrap_or(false)) }
    }

    /// Writes a line with its end, with one call, so that lines of several threads do not mix. An
    /// error says that it was lost, or a part of it.
    pub fn write(&self, place: impl AsFd, line: &str) -> io::Result<()> {
        let was_cut = self.is_cut.load(Relaxed);
        let ended = was_cut.then(|| format!("\n{line}"));
        let bytes = ended.as_deref().unwrap_or(line).as_bytes();
        let written = bytes.get(..unistd::write(place, bytes)?).unwrap_or_default();
        let is_cut = written.last().map_or(was_cut, |last| *last != b'\n');
        if is_cut != was_cut {
            self.is_cut.store(is_cut, Relaxed);
        }
        if written.len() == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}

/// Looks by a descriptor of its own: that of the log can only write, and a FIFO must not get a
/// reader by this.
fn ends_within_a_line(file: &File, path: &Path) -> io::Result<bool> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, about.len() - 1)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        let (place, mut reader) = UnixStream::pair().unwrap();
        place.set_nonblocking(true).unwrap();
        let lines = LineWriter::default();
        // more than the socket has room for
        let long = "x".repeat(4 << 20) + "\n";
        assert!(lines.write(&place, &long).is_err());
        let mut space = vec![0; 1 << 20];
        let mut read = Vec::new();
        reader.set_nonblocking(true).unwrap();
        while let Ok(count) = reader.read(&mut space) {
            read.extend_from_slice(&space[..count]);
        }
        assert!(!read.is_empty() && !read.contains(&b'\n'));
        lines.write(&place, "next\n").unwrap();
        lines.write(&place, "one more\n").unwrap();
        let count = reader.read(&mut space).unwrap();
        assert_eq!(&space[..count], b"\nnext\none more\n");
    }
}
