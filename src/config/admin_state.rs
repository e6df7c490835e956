//! What the operator wants of a host, as opposed to what the checks have found. It is about today,
//! so no file has it. As JSON it is what a program tells its successor.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// New sessions may go to it.
    Enabled,
    /// No new sessions; running ones go on.
    Disabled,
    /// No new sessions; idle ones are ended, and the rest when the time is up; then it is disabled.
    Draining {
        /// How long sessions may go on.
        #[serde(rename = "left", with = "millis")]
        within: Duration,
    },
}

impl AdminState {
    /// Whether new sessions may go to the host.
    pub fn is_enabled(self) -> bool {
        self == AdminState::Enabled
    }

    /// What of it is left after this time.
    pub fn after(self, time: Duration) -> AdminState {
        match self {
            AdminState::Draining { within } => {
                AdminState::Draining { within: within.saturating_sub(time) }
            }
            other => other,
        }
    }

    /// The word of the pages, the log and JSON.
    pub fn word(self) -> &'static str {
        match self {
            AdminState::Enabled => "enabled",
            AdminState::Disabled => "disabled",
            AdminState::Draining { .. } => "draining",
        }
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A duration in whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
