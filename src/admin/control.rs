//! What the admin pages need of the program above them, so that they know no listener, no pool and
//! no file.
//!
//! `daemon` implements it; the tests have one of their own. Called on the thread `admin`, one call
//! at a time.

use std::time::Duration;

use super::crypt::Cost;
use crate::config::{Change, Refusal};
use crate::state::Director;

/// What the admin side asks the running program to do. Each method returns in words what it did, or
/// refuses and has changed nothing. The caller logs the outcome and notes it among the events;
/// implementations do neither, but a reload reports itself and each of its changes as well.
pub trait Control: Send + Sync {
    /// The running state, for looking at it.
    fn director(&self) -> &Director;
    /// What the check of one password may take at most, as things are.
    fn password_limit(&self) -> Cost;
    /// Carries out a change.
    fn apply(&self, change: &Change) -> Result<String, Refusal>;
    /// What a reload would change now.
    fn plan(&self) -> Result<Vec<Change>, Refusal>;
    /// Makes the running state what the configuration file says; with a time to confirm in, only
    /// until that is over, unless somebody confirms it. `by` is for the log.
    fn reload(&self, by: &str, confirm: Option<Duration>) -> Result<String, Refusal>;
    /// Confirms the last reload.
    fn confirm(&self) -> Result<String, Refusal>;
    /// Writes the running state to the configuration file.
    fn save(&self) -> Result<String, Refusal>;
    /// Lines that could not be written to the log, since the start.
    fn lost_lines(&self) -> usize;
    /// Opens the log anew, after somebody has moved the file.
    fn reopen_log(&self) -> Result<String, Refusal>;
    /// Begins to stop the program; the answer to whoever asked is still sent.
    fn shutdown(&self) -> Result<String, Refusal>;
    /// The configuration file as it was last read or written; hashes of passwords only where they
    /// may be seen.
    fn config_xml(&self, with_hashes: bool) -> String;
    /// The configuration that describes the running state, as a file; hashes likewise.
    fn running_xml(&self, with_hashes: bool) -> String;
}
