//! `--demo`: three little web servers in this process, balanced on loopback, to see it work without
//! anything else.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use tcpdirector::config::{self, Config};
use tcpdirector::system::{shortage, thread};

/// Where the demo listens when it can.
const PORT: u16 = 8080;
/// Where its admin page is when it can be there.
const ADMIN_PORT: u16 = 7001;
/// A client of the little servers that says nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The servers run; what is left is to balance them.
pub struct Demo {
    config: Config,
    xml: String,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Demo {
    /// Starts the servers on free ports of loopback and writes a configuration for them.
    pub fn start() -> io::Result<Demo> {
        let mut hosts = String::new();
        for name in ["one", "two", "three"] {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let _ = write!(
                hosts,
                "\n            <host name=\"{name}\" ip=\"{}\"/>",
                server.local_addr()?
            );
            thread::start(format!("demo {name}"), thread::LARGE, move || {
                answer_all(&server, name)
            })?;
        }
        let address = free_address(PORT, "the demo")?;
        let admin = free_address(ADMIN_PORT, "its page")?;
        let xml = format!(
            "<pdconfig>\n    <service name=\"demo\">\n        <listen ip=\"{address}\"/>\n        \
             <group name=\"main\" scheduler=\"roundrobin\">{hosts}\n        </group>\n    </service>\n    \
             <admin listen=\"{admin}\">\n        \
             <user name=\"demo\" password=\"{}\" access=\"full\"/>\n    </admin>\n    \
             <checktime time=\"5\"/>\n</pdconfig>",
            tcpdirector::admin::hash("demo")?
        );
        let config =
            config::read::parse(Path::new("--demo"), xml.as_bytes()).map_err(io::Error::other)?;
        Ok(Demo { config, xml, address, admin })
    }

    /// The configuration that balances the servers.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// What there is to try.
    pub fn introduction(&self) -> String {
        let Demo { address, admin, xml, .. } = self;
        format!(
            "Three little web servers run in this process, balanced by this configuration:\n\n{xml}\n\n\
             Try it from another terminal; Ctrl-C ends it:\n\n  \
             curl http://{address}/\n  \
             for i in 1 2 3 4 5 6; do curl -s http://{address}/; done\n  \
             curl -u demo:demo http://{admin}/running.txt\n\n\
             The page that shows and changes it all is http://{admin}/running (user demo, password demo).\n"
        )
    }
}

/// The usual port, or another one with a word about it.
fn free_address(port: u16, what: &str) -> io::Result<SocketAddr> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(e) => {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let _ = writeln!(
                io::stdout(),
                "{usual} cannot be used ({e}), so {what} listens on {other}.\n"
            );
            Ok(other)
        }
    }
}

fn answer_all(server: &TcpListener, name: &'static str) {
    for client in server.incoming() {
        match client {
            Ok(client) => drop(thread::start("demo client", thread::LARGE, move || {
                drop(answer(client, name))
            })),
            // of descriptors, most likely
            Err(_) => shortage::rest(),
        }
    }
}

/// Reads a request to its blank line and says who answers.
fn answer(client: TcpStream, name: &str) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(&client).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = format!("hello from {name}\n");
    write!(
        &client,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
