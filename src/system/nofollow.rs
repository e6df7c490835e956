//! Opening files in folders where others may write: whoever may lay a link there could have another file written to by it, with our
//! rights.
//!
//! Used by `sink` and `pidfile` on the thread that starts the program, or changes its log.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

/// Opens a file that is called by this path and by no other. Fails for a symbolic link, whatever it leads to, and for a plain file with
/// a second name. The flags are those of open(2) that `options` has no word for.
pub fn open(options: &OpenOptions, flags: i32, path: &Path) -> io::Result<File> {
    let file = options.clone().custom_flags(flags | libc::O_NOFOLLOW).open(path).map_err(|e| match e.raw_os_error() {
        Some(number) if number == Errno::ELOOP as i32 => refusal("it is a symbolic link, which is not followed"),
        _ => e,
    })?;
    let about = file.metadata()?;
    match about.nlink() {
        2.. if about.is_file() => Err(refusal("the file has another name, too: it is a hard link")),
        _ => Ok(file),
    }
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
        let folder = std::env::temp_dir().join(format!("tcpdirector-nofollow-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let [file, soft, hard] = ["file", "soft", "hard"].map(|name| folder.join(name));
        let append = |path: &Path| open(OpenOptions::new().append(true).create(true), 0, path).map_err(|e| e.to_string());
        append(&file).unwrap();
        symlink(&file, &soft).unwrap();
        assert!(append(&soft).unwrap_err().contains("symbolic link"));
        fs::hard_link(&file, &hard).unwrap();
        assert!(append(&hard).unwrap_err().contains("hard link"));
        fs::remove_file(&hard).unwrap();
        append(&file).unwrap();
        append(Path::new("/dev/null")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
