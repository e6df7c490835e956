//! The control groups that this process is in, with all that they are in themselves, and their
//! limits: version 1, version 2, or both.
//!
//! Read by [`limits`](super::limits), from files that the kernel writes: cgroups(7), proc(5).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The least of the limits of one kind that the groups have which can be seen; `None` where nothing
/// limits. `files` are all names that a limit of the kind has in the folder of a group, in either
/// version. An error says that there are groups, or may be, whose limits cannot be seen: it names
/// the reason.
pub fn least(root: &Path, controller: &str, files: &[&str]) -> Result<Option<u64>, String> {
    let groups = match read(&root.join("proc/self/cgroup")) {
        // a kernel without control groups
        Err(_) if root.join("proc/self").exists() => return Ok(None),
        groups => groups?,
    };
    let mounts = read(&root.join("proc/self/mountinfo"))?;
    // a controller of version 1 is none of version 2
    let Some(group) = groups
        .lines()
        .filter_map(Group::read)
        .filter(|group| group.has(controller))
        .min_by_key(Group::is_unified)
    else {
        return Ok(None);
    };
    let seen = mounts.lines().filter_map(Mount::read).filter(|mount| mount.has(controller, &group));
    let seen = seen
        .map(|mount| (mount.root, mount.folders(root, &group)))
        .filter(|(_, folders)| !folders.is_empty());
    // a container may see its own group at the top, by a path that is not true inside
    let (own, other): (Vec<_>, Vec<_>) = seen.partition(|(top, _)| group.path.starts_with(top));
    let seen = if own.is_empty() { other } else { own };
    if seen.is_empty() {
        return Err(format!(
            "no file system of the control groups with `{controller}` can be seen"
        ));
    }
    let limits = seen.iter().flat_map(|(_, folders)| folders).flat_map(|folder| {
        let named =
            files.iter().filter_map(|file| number(&fs::read_to_string(folder.join(file)).ok()?));
        named.chain(above(folder))
    });
    Ok(limits.min())
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e: io::Error| format!("{}: {e}", file.display()))
}

/// `max` is no number, and no limit.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// What version 1 says of the memory of groups that lie beyond what is mounted here, as those
/// around a container do.
fn above(group: &Path) -> Option<u64> {
    let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
    number(stat.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "))?)
}

/// One group of this process. In version 2 there is one, with all controllers.
struct Group<'a> {
    controllers: &'a str,
    path: &'a Path,
}

impl<'a> Group<'a> {
    /// `4:memory:/a/b`, or `0::/a/b` in version 2.
    fn read(line: &'a str) -> Option<Group<'a>> {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        Some(Group { controllers, path: Path::new(path) })
    }

    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    fn has(&self, controller: &str) -> bool {
        self.is_unified() || self.controllers.split(',').any(|name| name == controller)
    }
}

/// A place where groups can be seen: those from `root` downwards.
struct Mount<'a> {
    root: &'a Path,
    point: String,
    is_unified: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `36 35 0:30 /root /point rw,nosuid - cgroup cgroup rw,memory`
    fn read(line: &'a str) -> Option<Mount<'a>> {
        let (place, system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut system = system.split(' ');
        let is_unified = match system.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        Some(Mount {
            root: Path::new(root),
            point: point.replace("\\040", " "),
            is_unified,
            options: system.nth(1)?,
        })
    }

    /// Whether it shows groups that have the controller, this process's among them. One from
    /// outside of a cgroup namespace begins with `/..`, and where in it the own group is cannot be
    /// known (cgroup_namespaces(7)).
    fn has(&self, controller: &str, group: &Group) -> bool {
        let has = self.is_unified || self.options.split(',').any(|option| option == controller);
        has && self.is_unified == group.is_unified() && !self.root.starts_with("/..")
    }

    /// The folder of this process's group, and those of all around it, as far as something else is
    /// not mounted over them.
    fn folders(&self, root: &Path, group: &Group) -> Vec<PathBuf> {
        let top = root.join(self.point.trim_start_matches('/'));
        let own = top.join(group.path.strip_prefix(self.root).unwrap_or(Path::new("")));
        let around = own.ancestors().take_while(|folder| folder.starts_with(&top));
        // each group of either version has that file
        around.filter(|folder| folder.join("cgroup.procs").exists()).map(Path::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    const VERSION_1: &str = "34 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
35 31 0:31 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory";
    const VERSION_2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    /// A folder with /proc and /sys as they might be, gone when it is dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn new(groups: &str, mounts: &str, limits: &[(&str, &str)]) -> Machine {
            static LAST: AtomicUsize = AtomicUsize::new(0);
            let name =
                format!("tcpdirector-groups-{}-{}", std::process::id(), LAST.fetch_add(1, Relaxed));
            let machine = Machine(std::env::temp_dir().join(name));
            for (file, text) in
                [("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts)].iter().chain(limits)
            {
                let file = machine.0.join(file);
                let folder = file.parent().unwrap();
                fs::create_dir_all(folder).unwrap();
                fs::write(folder.join("cgroup.procs"), "1\n").unwrap();
                fs::write(file, format!("{text}\n")).unwrap();
            }
            machine
        }

        fn memory(&self) -> Result<Option<u64>, String> {
            least(&self.0, "memory", &["memory.max", "memory.limit_in_bytes"])
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_least_limit_of_a_group_and_of_those_around_it_counts_in_both_versions() {
        let (own, slice) =
            ("sys/fs/cgroup/a.slice/b.service/memory.max", "sys/fs/cgroup/a.slice/memory.max");
        let machine = |own_limit, limit| {
            Machine::new("0::/a.slice/b.service", VERSION_2, &[(own, own_limit), (slice, limit)])
        };
        assert_eq!(machine("max", "700").memory(), Ok(Some(700)));
        assert_eq!(machine("600", "700").memory(), Ok(Some(600)));
        assert_eq!(machine("max", "max").memory(), Ok(None));
        let (own, around) = (
            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
        );
        let limits = [
            (own, "9223372036854771712"),
            (around, "700"),
            ("sys/fs/cgroup/pids/a/memory.max", "1"),
        ];
        assert_eq!(
            Machine::new("8:pids:/a\n4:memory:/a/b\n0::/", VERSION_1, &limits).memory(),
            Ok(Some(700))
        );
    }

    #[test]
    fn a_group_that_a_container_sees_at_the_top_is_found_there() {
        let mounts = "35 31 0:31 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,cpu,memory";
        let limit = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "700");
        assert_eq!(
            Machine::new("4:cpu,memory:/docker/1", mounts, &[limit]).memory(),
            Ok(Some(700))
        );
        // by a path from outside
        assert_eq!(
            Machine::new("4:cpu,memory:/kubepods/2", mounts, &[limit]).memory(),
            Ok(Some(700))
        );
        let stat =
            ("sys/fs/cgroup/memory/memory.stat", "cache 5\nhierarchical_memory_limit 600\nrss 7");
        assert_eq!(
            Machine::new("4:cpu,memory:/docker/1", mounts, &[limit, stat]).memory(),
            Ok(Some(600))
        );
        let limit = ("sys/fs/cgroup/memory.max", "700");
        assert_eq!(Machine::new("0::/", VERSION_2, &[limit]).memory(), Ok(Some(700)));
        assert_eq!(Machine::new("0::/../1", VERSION_2, &[limit]).memory(), Ok(Some(700)));
    }

    #[test]
    fn a_group_that_is_mounted_elsewhere_and_is_not_ours_does_not_count() {
        let mounts = format!("{VERSION_1}\n36 31 0:31 /b /mnt rw - cgroup cgroup rw,memory");
        let limits = [
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "700"),
            ("mnt/memory.limit_in_bytes", "600"),
        ];
        assert_eq!(Machine::new("4:memory:/a", &mounts, &limits).memory(), Ok(Some(700)));
    }

    #[test]
    fn groups_that_cannot_be_seen_are_told_from_groups_that_are_not_there() {
        assert_eq!(Machine::new("", VERSION_1, &[]).memory(), Ok(None));
        for (groups, mounts) in [("0::/", ""), ("4:memory:/a\n0::/", VERSION_2)] {
            let nowhere = Machine::new(groups, mounts, &[]).memory().unwrap_err();
            assert!(nowhere.contains("no file system"), "{nowhere}");
        }
        let from_outside = VERSION_2.replace("0:26 / ", "0:26 /../.. ");
        let outside = Machine::new("0::/", &from_outside, &[("sys/fs/cgroup/memory.max", "700")])
            .memory()
            .unwrap_err();
        assert!(outside.contains("can be seen"), "{outside}");
        // something is mounted over it
        let hidden = Machine::new("4:memory:/a", VERSION_1, &[]).memory().unwrap_err();
        assert!(hidden.contains("can be seen"), "{hidden}");
        let machine = Machine::new("", "", &[]);
        fs::remove_file(machine.0.join("proc/self/cgroup")).unwrap();
        assert_eq!(machine.memory(), Ok(None));
        fs::remove_dir_all(machine.0.join("proc")).unwrap();
        assert!(machine.memory().unwrap_err().contains("proc/self/cgroup: No such file"));
    }
}
