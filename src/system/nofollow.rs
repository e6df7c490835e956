//! Opening files in folders where others may write: whoever may lay a link there could have another
//! file written to by it, with our rights.
//!
//! Used by `log_output`, `pidfile` and `process` on the thread that starts the program, or changes
//! its log.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

/// How often a file may be exchanged while it is opened.
const TRIES: usize = 16;

/// For open(2): a FIFO that nobody reads or writes holds up nobody, and a terminal does not become
/// ours. They mean nothing to a plain file.
pub const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens a file that is called by this path and by no other, with [`FLAGS`]. Fails for a symbolic
/// link, whatever it leads to, and for a plain file with a second name.
pub fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = options.clone().custom_flags(FLAGS | libc::O_NOFOLLOW).open(path).map_err(
            |e| match e.raw_os_error() {
                Some(number) if number == Errno::ELOOP as i32 => {
                    refusal("it is a symbolic link, which is not followed")
                }
                _ => e,
            },
        )?;
        match at(&file, path) {
            Some(there) if there.is_file() && there.nlink() > 1 => {
                return Err(refusal("the file has another name, too: it is a hard link"));
            }
            Some(_) => return Ok(file),
            None => {}
        }
    }
    Err(refusal("another file is put there again and again"))
}

/// What is at a path, if that is this open file. One call tells both whether it is and how many
/// names it has, so a link that is laid for a moment never makes this path the only one.
pub fn at(file: &File, path: &Path) -> Option<Metadata> {
    let open = file.metadata().ok()?;
    fs::symlink_metadata(path)
        .ok()
        .filter(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
}

fn refusal(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_opened_by_its_only_name_and_by_no_link() {
        let folder =
            std::env::temp_dir().join(format!("tcpdirector-nofollow-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let [file, soft, hard] = ["file", "soft", "hard"].map(|name| folder.join(name));
        let append = |path: &Path| {
            open(OpenOptions::new().append(true).create(true), path).map_err(|e| e.to_string())
        };
        append(&file).unwrap();
        symlink(&file, &soft).unwrap();
        assert!(append(&soft).unwrap_err().contains("symbolic link"));
        fs::hard_link(&file, &hard).unwrap();
        assert!(append(&hard).unwrap_err().contains("hard link"));
        fs::remove_file(&hard).unwrap();
        append(&file).unwrap();
        append(Path::new("/dev/null")).unwrap();
        let open = append(&file).unwrap();
        assert_eq!(at(&open, &file).map(|there| there.nlink()), Some(1));
        fs::rename(&file, &hard).unwrap();
        assert!(at(&open, &file).is_none() && at(&open, &hard).is_some());
        fs::remove_dir_all(&folder).unwrap();
    }
}
