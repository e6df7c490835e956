//! Where the admin pages are: a TCP address, or `unix:/path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::address::Address;

/// Where the admin pages are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AdminListen {
    /// A TCP address.
    Tcp(Address),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

/// The most bytes of the path of a Unix socket (unix(7)), less what the socket is called while it
/// is being made.
const MAX_PATH: usize = 107 - ".1234567".len();

impl AdminListen {
    /// Whether only this machine can reach it, as far as the address tells.
    pub fn is_local(&self) -> bool {
        match self {
            AdminListen::Unix(_) => true,
            AdminListen::Tcp(address) => address.is_loopback(),
        }
    }
}

impl fmt::Display for AdminListen {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Tcp(address) => address.fmt(f),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for AdminListen {
    type Err = String;

    /// Reads an address or `unix:` and a path; the error says what is wrong and how it should look.
    fn from_str(text: &str) -> Result<AdminListen, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            return Ok(AdminListen::Tcp(text.parse()?));
        };
        if path.len() < 2
            || !path.starts_with('/')
            || path.ends_with('/')
            || path.chars().any(char::is_control)
        {
            return Err(format!(
                "`{path}` is not the absolute path of a socket: write it as unix:/run/tcpdirector.sock"
            ));
        }
        match path.len() {
            0..=MAX_PATH => Ok(AdminListen::Unix(PathBuf::from(path))),
            length => Err(format!(
                "the path of a socket may have {MAX_PATH} bytes, this one has {length}"
            )),
        }
    }
}
