//! What is right in a configuration but should not pass in silence: said at the start, at each
//! reload, and when a change by an admin URL brings it about.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::core::Core;
use crate::admin;
use crate::budget;
use crate::config::Config;
use crate::system::limits::Limits;
use crate::system::logging::value;

/// What this process could not do with its configuration file later: reload it, or save to it. The
/// path and the reason of each.
pub fn obstacles(file: &Path) -> Vec<(PathBuf, String)> {
    // what is replaced is the file behind all links
    let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = real.parent().unwrap_or(Path::new("/"));
    let read = access(file, AccessFlags::R_OK)
        .map_err(|e| (file, format!("it cannot be read, so a reload will be refused: {e}")));
    let may_write = access(folder, AccessFlags::W_OK | AccessFlags::X_OK);
    let write = may_write
        .map_err(|e| (folder, format!("it cannot be written, so saving will be refused: {e}")));
    [read, write]
        .into_iter()
        .filter_map(Result::err)
        .map(|(path, why)| (path.to_owned(), why))
        .collect()
}

/// What is weak about the admin side, a line of the log each.
fn of_admin(config: &Config) -> Vec<String> {
    let Some(admin) = &config.admin else { return Vec::new() };
    let far = (!admin.listen.is_local()).then(|| {
        let address = admin.listen.to_string();
        format!(
            "admin address={} reason=\"plain HTTP beyond this machine: put TLS in front of it\"",
            value(&address)
        )
    });
    let weak = admin.users.iter().filter_map(|user| {
        let complaint = admin::complaint(&user.password)?;
        Some(format!("admin user={} reason={}", value(&user.name), value(complaint)))
    });
    far.into_iter().chain(weak).collect()
}

impl Core {
    /// Gives every warning. A hash beyond the budget is an error: nobody gets in by it. But a start
    /// is not the moment for an outage, when all else in the file is good.
    pub(super) fn warn(&self) {
        self.warn_of_news(None);
        for why in budget::refused_hashes(&self.director.config(), &Limits::read()) {
            log::error!("admin state=refused reason={}", value(&why));
        }
        if let (Some(file), Some(user)) = (&self.environment.file, &self.environment.user) {
            for (path, why) in obstacles(file) {
                log::warn!(
                    "file user={} path={} reason={}",
                    value(user),
                    value(&path.to_string_lossy()),
                    value(&why)
                );
            }
        }
    }

    /// Gives those that this configuration gave no reason for.
    pub(super) fn warn_of_news(&self, before: Option<&Config>) {
        let known = before.map(of_admin).unwrap_or_default();
        of_admin(&self.director.config())
            .iter()
            .filter(|line| !known.contains(line))
            .for_each(|line| log::warn!("{line}"));
    }
}
