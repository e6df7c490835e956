//! A file replaced as one act: whoever opens it, whenever, finds all of the old contents or all of
//! the new ones.
//!
//! The order makes it safe to be killed at any moment. Both the copy of the old file and the new
//! contents are written under names that nobody reads, and are on the disk before anything is
//! renamed; then the copy becomes `NAME.bak`; then the new file becomes `NAME`, in the one step
//! that counts. Killed before that step, `NAME` is the old file; killed behind it, the new one; at
//! no moment is there none. The most that stays is a file `.NAME.PROCESS.NUMBER.new`, which can be
//! deleted.
//!
//! A file that is a mount point, as one that a container gets from outside, has a name that nobody
//! can give to another file. It is written in place, when its backup is on the disk; killed
//! meanwhile, `NAME` has a part of the new contents, and the backup the old.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Gives a file new contents, and keeps the old ones beside it as `NAME.bak`. The file must be
/// there.
///
/// Mode, owner and group stay as they are; where that is not allowed, it is an error. Extended
/// attributes and other hard links stay with the old contents. A symbolic link is followed: the
/// file that it names is replaced, and the backup stands beside that.
///
/// The error says which step failed on which file, and then the file is as it was, with no
/// temporary file beside it. The one exception says so itself: when the new file is in its place,
/// but the disk refuses to confirm it.
pub fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let path = &fs::canonicalize(path).map_err(|error| failed("cannot find", path, error))?;
    let old = path.metadata().map_err(|error| failed("cannot look at", path, error))?;
    let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), old.is_file()) else {
        return Err(failed(
            "cannot replace",
            path,
            io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"),
        ));
    };
    let directory =
        File::open(folder).map_err(|error| failed("cannot open the directory", folder, error))?;
    let previous = fs::read(path).map_err(|error| failed("cannot read", path, error))?;
    let backup = Temporary::write(folder, name, &previous, &old)?;
    let replacement = Temporary::write(folder, name, contents, &old)?;
    backup.rename(&with_suffix(path, ".bak"))?;
    let renamed = replacement.rename(path);
    let synced = match directory.sync_all() {
        // some file systems know no such thing for a directory
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    };
    match (renamed, synced) {
        (Err(error), Ok(())) if error.kind() == ErrorKind::ResourceBusy => {
            // of a failure, as much as can be is taken back
            overwrite(path, contents).inspect_err(|_| drop(overwrite(path, &previous)))
        }
        (Ok(()), Err(error)) => Err(failed(
            "the new file is in its place, but may be lost if the power fails: cannot sync",
            folder,
            error,
        )),
        (renamed, _) => renamed,
    }
}

/// Writes into the file that is there.
fn overwrite(path: &Path, contents: &[u8]) -> io::Result<()> {
    let failed = |error| failed("cannot write into", path, error);
    let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.write_all(contents).map_err(failed)?;
    file.set_len(contents.len() as u64).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// The step, the file, the reason.
fn failed(step: &str, file: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{step} {}: {error}", file.display()))
}

/// A file under a name that nobody reads, with all its contents on the disk; removed when it is
/// dropped.
struct Temporary {
    path: PathBuf,
    /// Whether `path` is still ours: after a rename, another thread may use that name.
    is_there: bool,
}

impl Temporary {
    /// Writes a file with the mode and the owner of another.
    fn write(
        folder: &Path,
        name: &OsStr,
        contents: &[u8],
        like: &Metadata,
    ) -> io::Result<Temporary> {
        let (temporary, mut file) = Temporary::create(folder, name)?;
        let path = &temporary.path;
        file.write_all(contents).map_err(|error| failed("cannot write", path, error))?;
        let made = file.metadata().map_err(|error| failed("cannot look at", path, error))?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))
                .map_err(|error| failed("cannot keep the owner on", path, error))?;
        }
        // after the owner: a change of owner can take bits away
        let mode = Permissions::from_mode(like.mode() & 0o7777);
        file.set_permissions(mode)
            .map_err(|error| failed("cannot keep the mode on", path, error))?;
        file.sync_all().map_err(|error| failed("cannot sync", path, error))?;
        Ok(temporary)
    }

    /// A new file that only we may read: what is in it may be secret.
    fn create(folder: &Path, name: &OsStr) -> io::Result<(Temporary, File)> {
        let mut number = 0_u32;
        loop {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            let path =
                with_suffix(&folder.join(hidden), &format!(".{}.{number}.new", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((Temporary { path, is_there: true }, file)),
                // another thread of ours, or what a killed process of our number left
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => {
                    number += 1
                }
                Err(error) => return Err(failed("cannot create", &path, error)),
            }
        }
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to).map_err(|error| failed("cannot replace", to, error))?;
        self.is_there = false;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_there {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A directory of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            let name = format!(
                "tcpdirector-replace-{}-{}",
                std::process::id(),
                NUMBER.fetch_add(1, Ordering::Relaxed)
            );
            let path = fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
            fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn with(contents: &[u8]) -> (Folder, PathBuf) {
            let folder = Folder::new();
            let file = folder.0.join("a.xml");
            fs::write(&file, contents).unwrap();
            (folder, file)
        }

        /// The names in it, sorted.
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = entries.collect();
            names.sort_unstable();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::set_permissions(&self.0, Permissions::from_mode(0o700));
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A file system of its own; `None`, with a word about it, where we may not have one.
    struct Disk(Folder);

    impl Disk {
        fn new() -> Option<Disk> {
            let disk = Disk(Folder::new());
            let is_there = nix::unistd::geteuid().is_root()
                && disk.mount(&["-o", "size=64k", "-t", "tmpfs", "tmpfs"]);
            if !is_there {
                eprintln!("skipped: only root may mount a small file system here");
            }
            is_there.then_some(disk)
        }

        fn mount(&self, arguments: &[&str]) -> bool {
            Command::new("mount")
                .args(arguments)
                .arg(&self.0.0)
                .output()
                .is_ok_and(|output| output.status.success())
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0.0).output();
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_new_contents_stand_there_and_the_old_ones_beside_them() {
        let (folder, file) = Folder::with(b"one");
        for (new, old) in [("two", "one"), ("three", "two"), ("", "three"), ("four", "")] {
            replace_file(&file, new.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), new);
            assert_eq!(fs::read_to_string(folder.0.join("a.xml.bak")).unwrap(), old);
            assert_eq!(folder.names(), ["a.xml", "a.xml.bak"]);
        }
    }

    #[test]
    fn who_has_it_open_keeps_the_old_contents() {
        let (_folder, file) = Folder::with(b"one");
        let open = File::open(&file).unwrap();
        replace_file(&file, b"two").unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "one");
    }

    #[test]
    fn at_no_moment_is_there_none_or_a_part_of_one() {
        let (_folder, file) = Folder::with(&[b'x'; 100_000]);
        std::thread::scope(|scope| {
            let writers = [b'y', b'z'].map(|byte| {
                let file = &file;
                scope.spawn(move || {
                    (0..20).for_each(|_| replace_file(file, &[byte; 100_000]).unwrap())
                })
            });
            while !writers.iter().all(|writer| writer.is_finished()) {
                let contents = fs::read(&file).unwrap();
                assert!(
                    contents.len() == 100_000
                        && contents.iter().all(|byte| Some(byte) == contents.first())
                );
            }
        });
    }

    #[test]
    fn the_mode_stays_on_the_file_and_its_backup() {
        for wanted in [0o600, 0o640, 0o444] {
            let (folder, file) = Folder::with(b"one");
            fs::set_permissions(&file, Permissions::from_mode(wanted)).unwrap();
            replace_file(&file, b"two").unwrap();
            assert_eq!((mode(&file), mode(&folder.0.join("a.xml.bak"))), (wanted, wanted));
        }
    }

    #[test]
    fn the_owner_stays_when_root_replaces_a_file() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root can give a file away");
        }
        let (folder, file) = Folder::with(b"one");
        std::os::unix::fs::chown(&file, Some(12_345), Some(23_456)).unwrap();
        replace_file(&file, b"two").unwrap();
        for path in [file, folder.0.join("a.xml.bak")] {
            let owner = fs::metadata(path).unwrap();
            assert_eq!((owner.uid(), owner.gid()), (12_345, 23_456));
        }
    }

    #[test]
    fn a_link_is_followed_to_the_file() {
        let (folder, file) = Folder::with(b"one");
        let other = Folder::new();
        let link = other.0.join("link");
        symlink(&file, &link).unwrap();
        replace_file(&link, b"two").unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), file);
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(
            (folder.names(), other.names()),
            (vec!["a.xml".into(), "a.xml.bak".into()], vec!["link".into()])
        );
    }

    #[test]
    fn a_temporary_file_that_somebody_left_is_no_obstacle() {
        let (folder, file) = Folder::with(b"one");
        let left = format!(".a.xml.{}.0.new", std::process::id());
        fs::write(folder.0.join(&left), "left").unwrap();
        replace_file(&file, b"two").unwrap();
        assert_eq!(folder.names(), [left.as_str(), "a.xml", "a.xml.bak"]);
        assert_eq!(fs::read(folder.0.join(&left)).unwrap(), b"left");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = Folder::new();
        for (name, missing) in [("a.xml", "a.xml"), ("no/a.xml", "no/a.xml")] {
            let file = folder.0.join(name);
            let error = replace_file(&file, b"two").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let start = format!("cannot find {}: ", folder.0.join(missing).display());
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone() {
        let folder = Folder::new();
        for path in [Path::new("/dev/null"), &folder.0, Path::new("/")] {
            let error = replace_file(path, b"two").unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot replace {}: it is not a regular file", path.display())
            );
        }
        assert_eq!(folder.names(), [""; 0]);
    }

    /// A container that gets one file from outside has it so, and no other file can be given the
    /// name of such a one (EBUSY).
    #[test]
    fn a_file_that_is_a_mount_point_is_written_in_place_beside_its_backup() {
        let (outside, file) = Folder::with(b"much longer than what comes after it");
        let (folder, there) = Folder::with(b"");
        let mount = |program: &str, arguments: &[&Path]| {
            Command::new(program)
                .args(arguments)
                .output()
                .is_ok_and(|output| output.status.success())
        };
        if !nix::unistd::geteuid().is_root()
            || !mount("mount", &[Path::new("--bind"), &file, &there])
        {
            return eprintln!("skipped: only root may mount a file here");
        }
        let replaced = [&b"two"[..], b"three"].map(|contents| replace_file(&there, contents));
        let (backup, names) = (fs::read(folder.0.join("a.xml.bak")), folder.names());
        assert!(mount("umount", &[&there]));
        assert!(replaced.iter().all(Result::is_ok), "{replaced:?}");
        assert_eq!(
            (fs::read(&file).unwrap(), backup.unwrap()),
            (b"three".to_vec(), b"two".to_vec())
        );
        assert_eq!(
            (names, outside.names()),
            (vec!["a.xml".into(), "a.xml.bak".into()], vec!["a.xml".into()])
        );
    }

    #[test]
    fn a_backup_that_cannot_be_made_stops_it() {
        let (folder, file) = Folder::with(b"one");
        fs::create_dir(folder.0.join("a.xml.bak")).unwrap();
        let error = replace_file(&file, b"two").unwrap_err();
        let start = format!("cannot replace {}: ", folder.0.join("a.xml.bak").display());
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert_eq!(folder.names(), ["a.xml", "a.xml.bak"]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_stops_it() {
        if nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: root may write into every directory");
        }
        let (folder, file) = Folder::with(b"one");
        fs::set_permissions(&folder.0, Permissions::from_mode(0o555)).unwrap();
        let error = replace_file(&file, b"two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("cannot create "), "{error}");
        assert_eq!(
            (fs::read(&file).unwrap(), folder.names()),
            (b"one".to_vec(), vec!["a.xml".to_owned()])
        );
    }

    #[test]
    fn a_disk_that_is_full_or_read_only_stops_it() {
        let Some(disk) = Disk::new() else { return };
        let file = disk.0.0.join("a.xml");
        fs::write(&file, "one").unwrap();
        let error = replace_file(&file, &[0; 128 << 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(
            (fs::read(&file).unwrap(), disk.0.names()),
            (b"one".to_vec(), vec!["a.xml".to_owned()])
        );
        assert!(disk.mount(&["-o", "remount,ro"]));
        let error = replace_file(&file, b"two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
        assert_eq!(
            (fs::read(&file).unwrap(), disk.0.names()),
            (b"one".to_vec(), vec!["a.xml".to_owned()])
        );
    }
}
