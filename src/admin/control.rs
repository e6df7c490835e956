//! What the admin pages need of the program above them, so that they know no listener, no pool and no file.
//!
//! `daemon` implements it; the tests have one of their own. Called on the thread `admin`, one call at a time.

use crate::config::{Change, Refusal};
use crate::state::Director;

/// The levers of the running program. Each tells in words what it did, or refuses and has changed nothing. The caller logs the
/// outcome and notes it among the events; implementations do neither.
pub trait Control: Send + Sync {
    /// The running state, for looking at it.
    fn director(&self) -> &Director;
    /// Carries out a change.
    fn apply(&self, change: &Change) -> Result<String, Refusal>;
    /// Writes the running state to the configuration file.
    fn save(&self) -> Result<String, Refusal>;
    /// Opens the log anew, after somebody has moved the file.
    fn reopen_log(&self) -> Result<String, Refusal>;
    /// Begins to stop the program; the answer to whoever asked is still sent.
    fn shutdown(&self) -> Result<String, Refusal>;
    /// The configuration of the start, as a file; hashes of passwords only where they may be seen.
    fn config_xml(&self, with_hashes: bool) -> String;
    /// The configuration that describes the running state, as a file; hashes likewise.
    fn running_xml(&self, with_hashes: bool) -> String;
}
