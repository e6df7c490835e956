//! `--diff`: what would have to be changed to make one configuration another, as admin URLs, one a
//! line.
//!
//! The first configuration is a file, or what a running program says over its admin pages.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};

use tcpdirector::config::{Address, Config, read};
use tcpdirector::system::terminal;

/// The program may be busy, or not be one.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any configuration that loads.
const MOST_BYTES: u64 = 16 << 20;

/// Where admin pages are, and who asks.
pub struct AdminUrl<'a> {
    is_unix: bool,
    at: &'a str,
    user: &'a str,
    password: String,
}

impl AdminUrl<'_> {
    /// Reads `http://USER[:PASSWORD]@HOST:PORT` or `unix://USER[:PASSWORD]@/PATH`; asks for a
    /// password that is not in it. The error is a sentence, here and below.
    pub fn parse(url: &str) -> Result<AdminUrl<'_>, String> {
        let form = "write it as http://USER@HOST:PORT or unix://USER@/PATH";
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| format!("`{url}` is no URL: {form}"))?;
        let is_unix = match scheme {
            "http" => false,
            "unix" => true,
            _ => return Err(format!("`{scheme}` is no way to the admin pages: {form}")),
        };
        let (who, at) =
            rest.rsplit_once('@').ok_or_else(|| format!("`{url}` names no user: {form}"))?;
        let (user, password) = who
            .split_once(':')
            .map_or((who, None), |(user, password)| (user, Some(password.to_owned())));
        let password = match password {
            Some(password) => password,
            None => terminal::read_password().map_err(|e| format!("no password: {e}"))?,
        };
        Ok(AdminUrl {
            is_unix,
            at: if is_unix { at } else { at.trim_end_matches('/') },
            user,
            password,
        })
    }

    /// What runs behind these admin pages.
    pub fn running(&self) -> Result<Config, String> {
        let (head, body) = self.get("/running.xml").map_err(|e| format!("{}: {e}", self.name()))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status != "200" {
            return Err(format!(
                "{}: the answer is {}",
                self.name(),
                head.lines().next().unwrap_or("empty")
            ));
        }
        let text = String::from_utf8_lossy(&body);
        if text.contains("<user ") && !text.contains(" password=\"") {
            return Err(format!(
                "{}: only a user with full access sees the whole configuration",
                self.name()
            ));
        }
        read::parse(Path::new(&self.name()), &body).map_err(|mistakes| mistakes.to_string())
    }

    /// Without the password.
    fn name(&self) -> String {
        format!("{}://{}", if self.is_unix { "unix" } else { "http" }, self.at)
    }

    /// The status line with the headers, and the body.
    fn get(&self, path: &str) -> io::Result<(String, Vec<u8>)> {
        if self.is_unix {
            let stream = UnixStream::connect(self.at)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            return self.exchange(stream, path);
        }
        let mut failure = io::Error::new(ErrorKind::NotFound, "it has no address here");
        for address in addresses(self.at)? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    return self.exchange(stream, path);
                }
                Err(e) => failure = e,
            }
        }
        Err(failure)
    }

    fn exchange(&self, mut stream: impl Read + Write, path: &str) -> io::Result<(String, Vec<u8>)> {
        let who = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        // HTTP/1.0: the answer comes in one piece, and its end is the end of the stream
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: tcpdirector\r\nAuthorization: Basic {who}\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer)?;
        let broken =
            || io::Error::new(ErrorKind::UnexpectedEof, "this is not the answer of admin pages");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).map_err(|_| broken())?;
        let lengths = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        match lengths.into_iter().next_back() {
            Some((_, length)) if length.trim().parse() != Ok(body.len()) => Err(broken()),
            _ => Ok((head, body)),
        }
    }
}

/// Where `HOST:PORT` of a URL leads, in which a zone is behind `%25` (RFC 6874), or behind `%`, as
/// people write it.
fn addresses(at: &str) -> io::Result<Vec<SocketAddr>> {
    let address: Address = at.replace("%25", "%").parse().map_err(io::Error::other)?;
    match address.targets() {
        found if found.is_empty() && !address.is_link_local() => {
            Ok(at.to_socket_addrs()?.collect())
        }
        found => Ok(found),
    }
}
