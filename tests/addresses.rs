//! How an address may be written, and what it means to listen on it or to connect to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal::SIGHUP;
use tcpdirector::config::HostConfig;
use tcpdirector::daemon::Daemon;
use tcpdirector::relay::pool::PoolLimits;
use tcpdirector::state::{Health, Host, Reason};
use tcpdirector::system::interfaces;

use crate::common::admin::{HASH, get};
use crate::common::backend::Backend;
use crate::common::command::output;
use crate::common::left_out::leave_out;
use crate::common::program::{Folder, PROGRAM, Program, field, installed};
use crate::common::replaceable::Replaceable;
use crate::common::server::free_address;
use crate::common::{TestDaemon, ask, config, connect, one_service, until};

/// A service on one address with one host, by the way that they are written.
fn service(listen: &str, host: &str) -> String {
    format!(
        "<pdconfig><service name=\"web\"><listen ip=\"{listen}\"/><group name=\"main\" scheduler=\"random\">\
         <host name=\"h\" ip=\"{host}\"/></group></service></pdconfig>"
    )
}

fn mapped(address: SocketAddr) -> String {
    format!("[::ffff:{}]:{}", address.ip(), address.port())
}

/// A link-local address of this machine with its interface, if it has one.
fn link_local() -> Option<SocketAddr> {
    let found = interfaces::addresses()
        .into_iter()
        .find(|address| matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0));
    if found.is_none() {
        leave_out("this machine has no link-local address");
    }
    found
}

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address_for_listening_and_for_connecting() {
    let (backend, listen) = (Backend::named("four"), free_address());
    let program = Program::start(&service(&mapped(listen), &mapped(backend.address())));
    assert_eq!(program.address(), listen);
    assert_eq!(ask(listen), "four");
    let session = program.wait_for("session id=");
    assert_eq!(field(&session, "listen"), Some(listen.to_string().as_str()));
    assert_eq!(field(&session, "server"), Some(backend.address().to_string().as_str()));
}

#[test]
fn a_socket_from_systemd_fits_an_address_however_it_is_written() {
    let backend = Backend::named("web");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = socket.local_addr().unwrap();
    let folder = Folder::new();
    let file = folder.write("td.xml", &service(&mapped(listen), &backend.address().to_string()));
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$PROGRAM\" -c \"$FILE\"";
    command.env("PROGRAM", PROGRAM).env("FILE", file).arg("-c").arg(script);
    let program =
        Program::spawn_with(command, Stdio::from(std::os::fd::OwnedFd::from(socket)), folder);
    program.wait_for("listen service=web");
    assert_eq!(ask(listen), "web");
}

#[test]
fn a_successor_takes_the_socket_of_an_address_that_it_writes_in_another_way() {
    let (backend, listen) = (Backend::named("web"), free_address());
    let host = backend.address().to_string();
    let balancer = Replaceable::start(&service(&listen.to_string(), &host));
    for listen_now in [mapped(listen), listen.to_string()] {
        std::fs::write(balancer.path("td.xml"), service(&listen_now, &host)).unwrap();
        balancer.replace();
        assert_eq!(ask(listen), "web");
    }
}

#[test]
fn a_reload_takes_an_address_that_is_written_in_another_way() {
    let (backend, listen) = (Backend::named("web"), free_address());
    let host = backend.address().to_string();
    let folder = Folder::new();
    let file = folder.write("td.xml", &service(&listen.to_string(), &host));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file);
    let program = Program::spawn(command, folder);
    program.wait_for("listen service=web");
    for listen_now in [mapped(listen), listen.to_string()] {
        let mark = program.mark();
        std::fs::write(&file, service(&listen_now, &host)).unwrap();
        program.signal(SIGHUP);
        let told = program.wait_after(mark, "reload by=HUP state=");
        assert!(told.contains("state=done"), "{told}");
        assert_eq!(ask(listen), "web");
    }
}

#[test]
fn a_link_local_address_works_on_both_sides_with_its_interface() {
    let Some(address) = link_local() else { return };
    let backend = Backend::named_at(address, "near");
    let daemon = TestDaemon::start(&service(&address.to_string(), &backend.address().to_string()));
    let listen = daemon.address();
    assert!(
        matches!((listen, address), (SocketAddr::V6(one), SocketAddr::V6(other)) if one.scope_id() == other.scope_id())
    );
    assert_eq!(ask(listen), "near");
}

#[test]
fn a_link_local_address_without_its_interface_works_where_there_is_only_one() {
    let Some(address) = link_local() else { return };
    let scope =
        |address: &SocketAddr| if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
    if interfaces::addresses().iter().any(|other| ![0, scope(&address)].contains(&scope(other))) {
        return leave_out("several interfaces of this machine have link-local addresses");
    }
    let backend = Backend::named_at(address, "near");
    let host = format!("[{}]:{}", address.ip(), backend.address().port());
    let daemon = TestDaemon::start(&service(&format!("[{}]:0", address.ip()), &host));
    assert_eq!(ask(daemon.address()), "near");
}

#[test]
fn an_interface_that_is_missing_is_that_hosts_state_and_not_a_failure_to_start() {
    let good = Backend::named("good");
    let xml = one_service("roundrobin", &[good.address()], "")
        .replace("<host ", "<host name=\"far\" ip=\"[fe80::1%nosuch0]:80\"/><host ");
    let daemon = TestDaemon::start(&xml);
    assert_eq!((ask(daemon.address()), ask(daemon.address())), ("good".into(), "good".into()));
    let Health::Down { reason, .. } = daemon.hosts()[0].health() else { panic!("it is up") };
    assert_eq!(reason, Reason::NoInterface);
    assert_eq!(reason.to_string(), "its network interface is missing or not named");
}

#[test]
fn an_interface_that_is_missing_is_a_failure_to_listen_that_names_it() {
    let limits = PoolLimits {
        threads: 2,
        pollers: 1,
        sessions: 4,
        queue: 4,
        pipes: 1,
        pipe_size: 1 << 16,
        held: 100_000,
    };
    let failure = Daemon::start(&config(&service("[fe80::1%nosuch0]:80", "10.0.0.1:80")), limits)
        .map(drop)
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        "service `web` cannot listen on [fe80::1%nosuch0]:80: there is no network interface `nosuch0`"
    );
}

#[test]
fn what_a_name_stands_for_keeps_its_interface() {
    let address = "far.example:80".parse().unwrap();
    let host = Host::new(&HostConfig { name: "far".to_owned(), address });
    assert!(host.set_found(&["[fe80::1%7]:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap()]));
    assert_eq!(
        host.resolved(),
        ["[fe80::1%7]:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap()]
    );
    // the same address on another network is another one
    assert!(host.set_found(&["[fe80::1%8]:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap()]));
    assert_eq!(host.why_no_address(), Reason::NoAddress);
}

#[test]
fn a_zone_goes_through_the_admin_pages_as_it_is_written() {
    let (folder, admin) = (Folder::new(), free_address());
    let pages = format!(
        "<admin listen=\"{}\"><user name=\"full\" password=\"{HASH}\" access=\"full\"/></admin>",
        mapped(admin)
    );
    let file = folder.write(
        "td.xml",
        &service("127.0.0.1:0", "10.0.0.1:80").replace("</service>", &format!("</service>{pages}")),
    );
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file);
    let program = Program::spawn(command, folder);
    program.wait_for(&format!("admin address={admin} state=open"));
    assert!(
        get(admin, "/addHost?service=web&group=main&name=z&ip=%5Bfe80::9%25nosuch0%5D:80")
            .contains("302")
    );
    let host = "[fe80::9%nosuch0]:80";
    for page in ["/running", "/running.json", "/running.xml"] {
        assert!(get(admin, page).contains(host), "{page}");
    }
    assert!(get(admin, "/running.txt").contains("z [fe80::9%25nosuch0]:80 "));
    assert!(get(admin, "/save").contains("302"));
    assert!(std::fs::read_to_string(&file).unwrap().contains(&format!("ip=\"{host}\"")));
    assert!(
        get(admin, "/delHost?service=web&group=main&ip=%5Bfe80::9%25nosuch0%5D:80").contains("302")
    );
    let refused = get(admin, "/addHost?service=web&group=main&name=m&ip=%5B::ffff:10.0.0.1%5D:80");
    assert!(
        refused.contains("409") && refused.contains("has the address [::ffff:10.0.0.1]:80 already"),
        "{refused}"
    );
    let twice = output(Command::new(PROGRAM).arg("--diff").arg(&file).arg(&file));
    assert!(twice.stdout.is_empty() && twice.status.success());
}

/// A network of its own, with an interface that comes and goes, for which a test has to be root.
struct Network(String);

impl Network {
    fn new() -> Option<Network> {
        if !installed("ip") {
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            leave_out("only root makes networks");
            return None;
        }
        let network = Network(format!("tcpdirector-{}", std::process::id()));
        if !network.ip(&["netns", "add", &network.0]) {
            leave_out("root may make no networks here");
            return None;
        }
        network.inside(&["link", "set", "lo", "up"]).then_some(network)
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        output(Command::new("ip").args(arguments)).status.success()
    }

    fn inside(&self, arguments: &[&str]) -> bool {
        self.ip(&[&["-n", &self.0], arguments].concat())
    }

    /// The built program in that network.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, PROGRAM]).args(arguments);
        command
    }

    /// The same as a balancer that listens.
    fn start(&self, xml: &str) -> Program {
        let folder = Folder::new();
        let file = folder.write("td.xml", xml);
        let program = Program::spawn(self.command(&["-c", file.to_str().unwrap()]), folder);
        program.wait_for("listen service=web");
        program
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.ip(&["netns", "del", &self.0]);
    }
}

#[test]
fn a_host_comes_back_with_its_interface() {
    let Some(network) = Network::new() else { return };
    let far = "[fe80::7%tcpd0]:9";
    let more = "</service><admin listen=\"127.0.0.1:7001\"/><checktime time=\"1\"/>";
    let xml = service("127.0.0.1:0", far).replace("</service>", more);
    let program = network.start(&xml);
    let port = program.address().port();
    // whoever connects in that network is turned away, and the host is down
    let folder = Folder::new();
    let file = folder.write("td.xml", &xml);
    let file = file.to_str().unwrap();
    let client = output(&mut network.command(&[
        "--diff",
        file,
        "--admin",
        &format!("http://a:b@127.0.0.1:{port}"),
    ]));
    assert!(!client.status.success());
    program.wait_for("state=down reason=\"its network interface is missing or not named\"");
    assert!(network.inside(&["link", "add", "tcpd0", "type", "veth", "peer", "name", "tcpd1"]));
    assert!(network.inside(&["addr", "add", "fe80::7/64", "dev", "tcpd0", "nodad"]));
    assert!(
        network.inside(&["link", "set", "tcpd1", "up"])
            && network.inside(&["link", "set", "tcpd0", "up"])
    );
    // it passes everything on to the admin pages of the other one, which wait for a request
    let server = network.start(&service(far, "127.0.0.1:7001"));
    assert!(matches!(server.address(), SocketAddr::V6(v6) if v6.scope_id() > 1));
    program.wait_for(&format!("server={far} state=up"));
}

#[test]
fn a_host_that_is_the_program_itself_is_refused_whatever_brings_it() {
    let (listen, backend) = (free_address(), Backend::named("web"));
    let port = listen.port();
    let daemon = TestDaemon::start(&service(&format!("*:{port}"), &backend.address().to_string()));
    for url in [
        format!("addHost?service=web&group=main&name=x&ip=localhost:{port}"),
        format!("addHost?service=web&group=main&name=x&ip=[::ffff:127.0.0.9]:{port}"),
        format!("changeHost?service=web&group=main&name=h&newip=*:{port}"),
        format!("newService?service=x&listen={}&group=g&scheduler=random", backend.address()),
        format!("addListen?service=web&listen={}", mapped(backend.address())),
        format!("setAdmin?listen=0.0.0.0:{}", backend.address().port()),
    ] {
        let refusal = daemon.change(&url).unwrap_err().to_string();
        assert!(
            refusal.starts_with("the host `") && refusal.contains("would be this program itself"),
            "{url}: {refusal}"
        );
    }
    daemon
        .change(&format!(
            "addHost?service=web&group=main&name=x&ip=127.0.0.1:{}",
            free_address().port()
        ))
        .unwrap();
    assert_eq!(ask((Ipv4Addr::LOCALHOST, port).into()), "web");
}

#[test]
fn an_address_of_this_machine_is_the_program_itself_where_it_listens_on_all() {
    let is_other = |address: &SocketAddr| !address.ip().is_loopback() && address.is_ipv4();
    let Some(mut address) = interfaces::addresses().into_iter().find(is_other) else {
        return leave_out("this machine has only loopback addresses");
    };
    address.set_port(free_address().port());
    let folder = Folder::new();
    let file =
        folder.write("td.xml", &service(&format!("*:{}", address.port()), &address.to_string()));
    let output = output(Command::new(PROGRAM).arg("--test").arg(file));
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(":1:") && said.contains("(line 1): this machine has that address"),
        "{said}"
    );
}

#[test]
fn a_reload_that_would_go_in_circles_changes_nothing_and_a_port_may_pass_from_host_to_listen_address()
 {
    let (listen, other, backend) = (free_address(), free_address(), Backend::named("web"));
    let folder = Folder::new();
    let xml = |listen: SocketAddr, dead: SocketAddr| {
        let dead = format!("<host name=\"dead\" ip=\"{dead}\"/></group>");
        service(&listen.to_string(), &backend.address().to_string()).replace("</group>", &dead)
    };
    let file = folder.write("td.xml", &xml(listen, other));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file);
    let program = Program::spawn(command, folder);
    program.wait_for("listen service=web");
    let reload = |text: &str| {
        let mark = program.mark();
        std::fs::write(&file, text).unwrap();
        program.signal(SIGHUP);
        program.wait_after(mark, "reload by=HUP state=")
    };
    let refused = reload(&xml(listen, listen));
    assert!(
        refused.contains("state=refused") && refused.contains("would be this program itself"),
        "{refused}"
    );
    assert_eq!(ask(listen), "web");
    assert!(reload(&xml(other, listen)).contains("state=done"));
    until("it serves at the other address", || ask(other) == "web");
    drop(connect(other));
}
