//! The admin side of the built program over sockets, as a script uses it: what each change does to
//! clients, log and file.
//!
//! What every route answers to whom is stated in `admin_routes` and `admin_views`, without a
//! program.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpdirector::system::limits::Limits;
use tcpdirector::system::socket::is_gone;

use crate::admin_front::connect_from;
use crate::common::admin::{HASH, Who};
use crate::common::backend::Backend;
use crate::common::left_out::leave_out;
use crate::common::program::{Folder, PROGRAM, Program, field};
use crate::common::{ask, connect, connect_unix, ends_by_reset, is_turned_away, pattern, until};
use crate::many::{THOUSANDS, echo_for};

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request and reads its answer to the end.
fn talk(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("the admin side takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer is whole");
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: `{answer}`"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.trim_end().to_owned() }
}

/// A request for a URL as this user sends it, with the password `secret`.
fn request(method: &str, who: Who, url: &str) -> String {
    let login = match who {
        Who::Full => "Authorization: Basic ZnVsbDpzZWNyZXQ=\r\n",
        Who::ReadOnly => "Authorization: Basic cm86c2VjcmV0\r\n",
        Who::Nobody => "",
    };
    format!("{method} {url} HTTP/1.1\r\nHost: admin\r\n{login}Connection: close\r\n\r\n")
}

/// The built program with an admin address.
struct Balancer {
    program: Program,
    admin: SocketAddr,
}

impl Balancer {
    /// With one service `web`: the hosts `h0`, `h1` and so on in the enabled group `main`, `s0` and
    /// so on in the group `spare`.
    fn start(main: &[&Backend], spare: &[&Backend]) -> Balancer {
        Balancer::with(Program::start(&xml(main, spare)))
    }

    /// On a file that belongs to the test.
    fn of_file(file: &Path, arguments: &[&str]) -> Balancer {
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(file).args(arguments);
        Balancer::with(Program::spawn(command, Folder::new()))
    }

    fn with(program: Program) -> Balancer {
        let line = program.wait_for("admin address=");
        let admin = field(&line, "address")
            .and_then(|address| address.parse().ok())
            .expect("an address with a port");
        Balancer { program, admin }
    }

    fn get(&self, who: Who, url: &str) -> Answer {
        talk(connect(self.admin), &request("GET", who, url))
    }

    /// What the full user reads there.
    fn read(&self, url: &str) -> String {
        let answer = self.get(Who::Full, url);
        assert_eq!(answer.status, 200, "{url}: {}", answer.body);
        answer.body
    }

    /// Makes a change, which must work, as the full user.
    fn change(&self, url: &str) {
        let answer = self.get(Who::Full, url);
        assert_eq!((answer.status, answer.body.as_str()), (302, "OK"), "{url}");
        assert!(
            answer.head.contains("\r\nLocation: /running?resultMessage="),
            "{url}: {}",
            answer.head
        );
    }

    /// Tries a change that must be refused with this status and leave everything as it is; gives
    /// the reason.
    fn refused(&self, status: u16, url: &str) -> String {
        let before = self.read("/running.xml");
        let answer = self.get(Who::Full, url);
        assert_eq!(answer.status, status, "{url}: {}", answer.body);
        assert_eq!(self.read("/running.xml"), before, "{url}");
        answer
            .body
            .strip_prefix("NOT OK: ")
            .unwrap_or_else(|| panic!("{url}: {}", answer.body))
            .to_owned()
    }

    /// A host of the service `web` as `running.json` has it.
    fn host(&self, name: &str) -> Value {
        let all: Value = serde_json::from_str(&self.read("/running.json")).expect("it is JSON");
        let groups = all["services"][0]["groups"].as_array().expect("it has groups").clone();
        let hosts =
            groups.iter().flat_map(|group| group["hosts"].as_array().expect("it has hosts"));
        hosts
            .into_iter()
            .find(|host| host["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("there is no host {name}"))
    }

    /// A client whose session is being relayed.
    fn client(&self) -> TcpStream {
        let client = connect(self.program.address());
        relays(&client);
        client
    }
}

/// The configuration of [`Balancer::start`]. Failed hosts rest for an hour, so that nothing comes
/// back by itself.
fn xml(main: &[&Backend], spare: &[&Backend]) -> String {
    let hosts = |letter: char, hosts: &[&Backend]| -> String {
        let host = |(i, host): (usize, &&Backend)| {
            format!("\n<host name=\"{letter}{i}\" ip=\"{}\"/>", host.address())
        };
        hosts.iter().enumerate().map(host).collect()
    };
    format!(
        "<pdconfig>\n<!-- who serves the web -->\n<service name=\"web\">\n<listen ip=\"127.0.0.1:0\"/>\n\
         <group name=\"main\" scheduler=\"roundrobin\">{}\n</group>\n\
         <group name=\"spare\" scheduler=\"random\">{}\n</group>\n<enable group=\"main\"/>\n</service>\n\
         <!-- who may change that -->\n<admin listen=\"127.0.0.1:0\">\n\
         <user name=\"full\" password=\"{HASH}\" access=\"full\"/>\n\
         <user name=\"ro\" password=\"{HASH}\" access=\"readonly\"/>\n</admin>\n<checktime time=\"1h\"/>\n</pdconfig>\n",
        hosts('h', main),
        hosts('s', spare)
    )
}

/// A round trip through an echo server.
fn relays(mut client: &TcpStream) {
    client.write_all(b"ping").expect("the session goes on");
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("the session goes on");
    assert_eq!(&answer, b"ping");
}

/// Where a service listens, as the log tells.
fn address_of(program: &Program, service: &str) -> SocketAddr {
    let line = program.wait_for(&format!("listen service={service} "));
    field(&line, "address")
        .and_then(|address| address.parse().ok())
        .expect("an address with a port")
}

#[test]
fn each_user_sees_the_state_in_every_form_and_nobody_else_does() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let balancer = Balancer::start(&[&one], &[&two]);
    for url in [
        "/",
        "/running",
        "/running.txt",
        "/running.xml",
        "/running.json",
        "/config.xml",
        "/sessions",
        "/events",
        "/metrics",
    ] {
        assert_eq!(balancer.get(Who::Full, url).status, 200, "{url}");
        assert_eq!(balancer.get(Who::ReadOnly, url).status, 200, "{url}");
        let nobody = balancer.get(Who::Nobody, url);
        assert_eq!(nobody.status, 401, "{url}");
        assert!(nobody.head.contains("\r\nWWW-Authenticate: Basic realm="), "{url}");
    }
    let (one, two) = (one.address(), two.address());
    assert_eq!(
        balancer.read("/running.txt"),
        format!(
            "service web 127.0.0.1:0 main\ngroup main enabled\nhost h0 {one} 0 -\ngroup spare inactive\nhost s0 {two} 0 -"
        )
    );
    assert!(
        balancer.read("/running.xml").contains(HASH)
            && balancer.read("/metrics").contains("tcpdirector_sessions_open 0\n")
    );
    assert!(!balancer.get(Who::ReadOnly, "/running.xml").body.contains(HASH));
    assert_eq!(balancer.host("h0")["operator"], "enabled");
}

#[test]
fn a_readonly_user_changes_nothing_and_is_in_the_log() {
    let one = Backend::named("one");
    let balancer = Balancer::start(&[&one], &[]);
    let before = balancer.read("/running.xml");
    let answer = balancer.get(Who::ReadOnly, "/addHost?service=web&group=main&ip=127.0.0.1:9");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (403, "NOT OK: user `ro` may look and not change")
    );
    assert_eq!(balancer.read("/running.xml"), before);
    let line = balancer.program.wait_for("change by=ro client=127.0.0.1 path=addHost");
    assert!(line.contains(" outcome=refused status=403 "), "{line}");
}

#[test]
fn healthz_needs_no_password_and_names_the_service_whose_hosts_are_all_down() {
    let gone = Backend::refuse();
    let balancer = Balancer::start(&[&gone], &[]);
    let answer = balancer.get(Who::Nobody, "/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    assert!(is_turned_away(balancer.program.address()));
    let answer = balancer.get(Who::Nobody, "/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "NOT OK: no host for web"));
    let text = balancer.read("/running.txt");
    assert!(
        text.contains(&format!("\ndisabled h0 {} connection%20refused -\n", gone.address())),
        "{text}"
    );
}

#[test]
fn an_added_host_serves_and_a_deleted_one_keeps_its_running_session() {
    let (one, two) = (Backend::echo(), Backend::echo());
    let balancer = Balancer::start(&[&one], &[]);
    let first = balancer.client();
    balancer.change(&format!("/addHost?service=web&group=main&name=late&ip={}", two.address()));
    until("the added host has a session", || {
        drop(balancer.client());
        two.accepted() > 0
    });
    balancer.change("/delHost?service=web&group=main&name=h0");
    let before = one.accepted();
    for _ in 0..10 {
        drop(balancer.client());
    }
    assert_eq!(one.accepted(), before);
    relays(&first);
    assert!(
        balancer
            .refused(409, "/delHost?service=web&group=main&name=late")
            .contains("last live host")
    );
}

#[test]
fn a_drained_host_ends_its_session_by_a_reset_at_the_deadline_and_stays_disabled() {
    let (one, two) = (Backend::echo(), Backend::echo());
    let balancer = Balancer::start(&[&one], &[]);
    let running = balancer.client();
    balancer.change(&format!("/addHost?service=web&group=main&name=h1&ip={}", two.address()));
    balancer.change("/drainHost?service=web&group=main&name=h0&within=1s");
    assert_eq!(balancer.host("h0")["operator"], "draining");
    relays(&running);
    drop(balancer.client());
    assert_eq!((one.accepted(), two.accepted()), (1, 1));
    assert!(ends_by_reset(&running));
    let line = balancer.program.wait_for("end=drained");
    assert_eq!(field(&line, "host"), Some("h0"), "{line}");
    balancer.program.wait_for("state=drained cut=1");
    assert_eq!(balancer.host("h0")["operator"], "disabled");
    balancer.change("/hostAdminUp?service=web&group=main&name=h0");
    until("it serves again", || {
        drop(balancer.client());
        one.accepted() > 1
    });
}

#[test]
fn a_host_that_is_taken_out_gets_no_new_session_until_it_is_put_back() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let balancer = Balancer::start(&[&one, &two], &[]);
    balancer.change(&format!("/hostAdminDown?service=web&group=main&ip={}", one.address()));
    for _ in 0..6 {
        assert_eq!(ask(balancer.program.address()), "two");
    }
    assert!(
        balancer
            .read("/running.txt")
            .contains(&format!("\ndisabled h0 {} disabled -\n", one.address()))
    );
    balancer.change("/hostAdminUp?service=web&group=main&name=h0");
    let answers: Vec<String> = (0..2).map(|_| ask(balancer.program.address())).collect();
    assert!(answers.iter().any(|name| name == "one"), "{answers:?}");
}

#[test]
fn another_group_gets_the_new_sessions_and_leaves_the_running_ones_alone() {
    let (old, new) = (Backend::echo(), Backend::echo());
    let balancer = Balancer::start(&[&old], &[&new]);
    let running = balancer.client();
    balancer.change("/enableGroup?service=web&group=spare");
    let later = balancer.client();
    assert_eq!((old.accepted(), new.accepted()), (1, 1));
    relays(&running);
    relays(&later);
    assert!(balancer.refused(409, "/delAllHosts?service=web&group=spare").contains("enabled"));
    balancer.change("/delAllHosts?service=web&group=main");
    balancer.change("/delGroup?service=web&group=main");
    relays(&running);
}

#[test]
fn another_scheduler_keeps_the_counts() {
    let (one, two) = (Backend::echo(), Backend::echo());
    let balancer = Balancer::start(&[&one, &two], &[]);
    let clients: Vec<TcpStream> = (0..3).map(|_| balancer.client()).collect();
    let counts = || {
        ["h0", "h1"]
            .map(|name| balancer.host(name))
            .map(|host| (host["open"].clone(), host["total"].clone()))
    };
    let before = counts();
    balancer.change("/changeScheduler?service=web&group=main&scheduler=leastconns");
    assert_eq!(counts(), before);
    // three are open, so the fourth goes where there is one
    let _fourth = balancer.client();
    assert_eq!(
        [balancer.host("h0")["open"].as_u64(), balancer.host("h1")["open"].as_u64()],
        [Some(2), Some(2)]
    );
    clients.iter().for_each(relays);
}

#[test]
fn a_new_service_serves_and_a_deleted_one_closes_its_port_and_keeps_its_sessions() {
    let one = Backend::echo();
    let balancer = Balancer::start(&[&one], &[]);
    balancer.change("/newService?service=extra&listen=127.0.0.1:0&group=g&scheduler=random");
    balancer.change(&format!("/addHost?service=extra&group=g&name=x&ip={}", one.address()));
    let address = address_of(&balancer.program, "extra");
    let running = connect(address);
    relays(&running);
    balancer.change("/delService?service=extra");
    assert!(TcpStream::connect(address).is_err(), "its port is still open");
    relays(&running);
    assert!(TcpListener::bind(address).is_ok(), "its port is not free");
    assert_eq!(balancer.refused(409, "/delService?service=web"), "`web` is the last service");
}

#[test]
fn a_service_on_a_port_in_use_is_refused_and_changes_nothing() {
    let (one, other) = (Backend::named("one"), Backend::named("other"));
    let balancer = Balancer::start(&[&one], &[]);
    let taken = other.address();
    let reason = balancer.refused(
        409,
        &format!("/newService?service=extra&listen={taken}&group=g&scheduler=random"),
    );
    assert!(reason.starts_with(&format!("cannot listen on {taken}: ")), "{reason}");
    assert_eq!(ask(balancer.program.address()), "one");
}

#[test]
fn a_host_that_is_back_serves_as_soon_as_somebody_asks_to_retry_it() {
    let (gone, other) = (Backend::refuse(), Backend::named("other"));
    let address = gone.address();
    let balancer = Balancer::start(&[&gone, &other], &[]);
    for _ in 0..2 {
        assert_eq!(ask(balancer.program.address()), "other");
    }
    drop(gone);
    let _back = Backend::named_at(address, "back");
    assert_eq!(balancer.host("h0")["up"], false);
    balancer.change("/retryHost?service=web&group=main&name=h0");
    until("it is up", || balancer.host("h0")["up"] == true);
    assert!((0..2).any(|_| ask(balancer.program.address()) == "back"));
    assert_eq!(
        balancer.refused(409, "/retryHost?service=web&group=main&name=h0"),
        "host `h0` is up"
    );
}

#[test]
fn a_user_comes_in_from_when_they_are_added_until_they_are_deleted() {
    let one = Backend::named("one");
    let balancer = Balancer::start(&[&one], &[]);
    // bob:b+c d
    let bob = "GET /running.txt HTTP/1.1\r\nHost: admin\r\nAuthorization: Basic Ym9iOmIrYyBk\r\nConnection: close\r\n\r\n";
    // an address has to wait after a wrong password where checks are slow
    let status_from = |address| talk(connect_from(address, balancer.admin), bob).status;
    assert_eq!(status_from("127.0.0.2"), 401);
    balancer.change("/addUser?name=bob&plain=b%2Bc+d&access=readonly");
    assert_eq!(status_from("127.0.0.3"), 200);
    assert_eq!(
        balancer.refused(409, "/addUser?name=bob&plain=another&access=full"),
        "user bob already exists"
    );
    balancer.change("/delUser?name=bob");
    assert_eq!(status_from("127.0.0.4"), 401);
    assert!(balancer.refused(409, "/delUser?name=full").contains("another user"));
}

#[test]
fn saving_changes_the_lines_that_changed_and_a_restart_finds_the_same_state() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let folder = Folder::new();
    let original = xml(&[&one], &[&two]);
    let file = folder.write("td.xml", &original);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let mut balancer = Balancer::of_file(&file, &[]);
    balancer.change("/addHost?service=web&group=main&name=a+%26+b&ip=127.0.0.1:9");
    balancer.change("/enableGroup?service=web&group=spare");
    let running = balancer.read("/running.xml");
    assert!(balancer.read("/running.json").contains("\"changed\":true"));
    balancer.change("/save");
    assert!(balancer.read("/running.json").contains("\"changed\":false"));
    let saved = fs::read_to_string(&file).unwrap();
    let gone: Vec<&str> = original.lines().filter(|line| !saved.contains(line)).collect();
    let come: Vec<&str> =
        saved.lines().filter(|line| !original.contains(line)).map(str::trim).collect();
    assert_eq!(gone, ["<enable group=\"main\"/>"], "{saved}");
    assert_eq!(
        come,
        ["<host name=\"a &amp; b\" ip=\"127.0.0.1:9\"/>", "<enable group=\"spare\"/>"],
        "{saved}"
    );
    assert_eq!(fs::read_to_string(folder.path("td.xml.bak")).unwrap(), original);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    balancer.change("/shutdown");
    assert!(balancer.program.wait().success());
    let again = Balancer::of_file(&file, &[]);
    assert_eq!(again.read("/running.xml"), running);
    assert_eq!(ask(again.program.address()), "two");
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_everything_goes_on() {
    let one = Backend::named("one");
    let folder = Folder::new();
    let original = xml(&[&one], &[]);
    let file = folder.write("td.xml", &original);
    let mode =
        |mode| fs::set_permissions(folder.path(""), fs::Permissions::from_mode(mode)).unwrap();
    // root may write everywhere, so the program gives that up
    let as_root: &[&str] = if nix::unistd::getuid().is_root() { &["-u", "nobody"] } else { &[] };
    let balancer = Balancer::of_file(&file, as_root);
    balancer.change("/newGroup?service=web&group=more&scheduler=random");
    mode(0o555);
    let reason = balancer.refused(409, "/save");
    mode(0o755);
    assert!(reason.starts_with(&format!("cannot save {}: ", file.display())), "{reason}");
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1, "something was left behind");
    assert_eq!(fs::read_to_string(&file).unwrap(), original);
    assert!(balancer.read("/running.json").contains("\"changed\":true"));
    assert_eq!(ask(balancer.program.address()), "one");
    fs::remove_file(&file).unwrap();
    let reason = balancer.refused(409, "/save");
    assert!(reason.contains("No such file"), "{reason}");
    assert_eq!(ask(balancer.program.address()), "one");
}

#[test]
fn a_unix_socket_is_an_admin_address_and_the_log_is_reopened_over_it() {
    let one = Backend::named("one");
    let folder = Folder::new();
    let (socket, log, moved) =
        (folder.path("admin"), folder.path("td.log"), folder.path("td.log.1"));
    let address = format!("<admin listen=\"unix:{}\"", socket.display());
    let file = folder
        .write("td.xml", &xml(&[&one], &[]).replace("<admin listen=\"127.0.0.1:0\"", &address));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file).arg("-l").arg(&log);
    let mut program = Program::spawn(command, Folder::new());
    until("it listens", || UnixStream::connect(&socket).is_ok());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let change = |url| {
        let answer = talk(connect_unix(&socket), &request("POST", Who::Full, url));
        assert_eq!((answer.status, answer.body.as_str()), (302, "OK"), "{url}");
    };
    fs::rename(&log, &moved).unwrap();
    change("/closeLog");
    change("/newGroup?service=web&group=more&scheduler=random");
    until("the new log has the change", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("path=newGroup"))
    });
    assert!(!fs::read_to_string(&moved).unwrap().contains("path=newGroup"));
    change("/shutdown");
    assert!(program.wait().success());
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn shutdown_lets_sessions_finish_and_ends_with_0() {
    let one = Backend::echo();
    let mut balancer = Balancer::start(&[&one], &[]);
    let client = balancer.client();
    balancer.change("/shutdown");
    balancer.program.wait_for("listen service=web address");
    balancer.program.wait_for("state=closed");
    relays(&client);
    drop(client);
    assert!(balancer.program.wait().success());
    balancer.program.wait_for("stop state=done reason=TERM sessions=1 silent=0 cut=0");
}

#[test]
fn sessions_and_events_tell_who_is_connected_and_what_happened() {
    let (one, gone) = (Backend::echo(), Backend::refuse());
    let balancer = Balancer::start(&[&one, &gone], &[]);
    let clients = [balancer.client(), balancer.client()];
    let sessions: Value = serde_json::from_str(&balancer.read("/sessions.json")).unwrap();
    assert_eq!(sessions.as_array().map(Vec::len), Some(2));
    let session = &sessions[0];
    assert_eq!(session["client"], clients[0].local_addr().unwrap().to_string());
    assert_eq!((&session["service"], &session["host"]), (&"web".into(), &"h0".into()));
    assert_eq!((&session["to_server"], &session["to_client"]), (&4.into(), &4.into()));
    balancer.change("/hostAdminDown?service=web&group=main&name=h1");
    let events: Value = serde_json::from_str(&balancer.read("/events.json")).unwrap();
    let tell = |i: usize| (events[i]["by"].as_str().unwrap(), events[i]["what"].as_str().unwrap());
    let (by, what) = tell(0);
    assert!(
        by == "full@127.0.0.1" && what.contains("path=hostAdminDown") && what.contains("name=h1"),
        "{events}"
    );
    let (by, what) = tell(1);
    assert!(by == "session" && what.contains("host=h1") && what.contains("state=down"), "{events}");
    let page = balancer.read("/sessions");
    assert!(page.contains(&clients[0].local_addr().unwrap().to_string()), "{page}");
}

#[test]
fn every_change_is_in_the_log_with_user_address_and_outcome_and_without_passwords() {
    let one = Backend::named("one");
    let balancer = Balancer::start(&[&one], &[]);
    let changes = [
        "/newGroup?service=web&group=more&scheduler=random",
        "/addHost?service=web&group=more&name=x&ip=127.0.0.1:9",
        "/hostAdminDown?service=web&group=more&name=x",
        "/drainHost?service=web&group=more&name=x",
        "/hostAdminUp?service=web&group=more&name=x",
        "/changeScheduler?service=web&group=more&scheduler=leastconns",
        "/enableGroup?service=web&group=more",
        "/enableGroup?service=web&group=main",
        "/delHost?service=web&group=more&name=x",
        "/delAllHosts?service=web&group=more",
        "/delGroup?service=web&group=more",
        "/newService?service=extra&listen=127.0.0.1:0&group=g&scheduler=random",
        "/delService?service=extra",
        "/addUser?name=ann&plain=open-sesame&access=full",
        "/addUser?name=bob&password=%246%24not-to-be-told%24x&access=full",
        "/delUser?name=ann",
        "/closeLog",
        "/save",
    ];
    for url in changes {
        balancer.change(url);
    }
    balancer.refused(404, "/delUser?name=nobody");
    balancer.refused(400, "/addUser?name=eve&plain=open-sesame&access=nonsense");
    balancer.program.wait_for("path=addUser name=eve");
    let lines = balancer.program.lines(" change ");
    assert_eq!(lines.len(), changes.len() + 2);
    for (url, line) in changes.iter().zip(&lines) {
        let path = url.split(['/', '?']).nth(1).unwrap();
        assert!(
            line.contains(&format!(" change by=full client=127.0.0.1 path={path} ")),
            "{url}: {line}"
        );
        assert!(line.contains(" outcome=done message="), "{url}: {line}");
    }
    assert!(
        lines[changes.len()].contains(" outcome=refused status=404 "),
        "{}",
        lines[changes.len()]
    );
    for password in ["open-sesame", "not-to-be-told", "secret", "ZnVsbDpzZWNyZXQ="] {
        assert!(!balancer.program.has(password), "`{password}` is in the log");
    }
    assert!(!balancer.read("/events.json").contains("not-to-be-told"));
}

/// How many sessions are relayed during the attack, and how long it takes.
const SESSIONS: usize = 1000;
const ATTACK: Duration = Duration::from_secs(4);
/// An attacker of the slow kind sends a byte that often.
const SLOW: Duration = Duration::from_millis(500);

/// Holds 200 silent and 50 slow connections, and replaces those that are dropped.
fn hold(target: SocketAddr, end: Instant) {
    let open = || TcpStream::connect(target).expect("the kernel takes it");
    let mut all: Vec<TcpStream> = (0..250).map(|_| open()).collect();
    for byte in request("GET", Who::Nobody, "/running").bytes().cycle() {
        if Instant::now() >= end {
            return;
        }
        for (i, stream) in all.iter_mut().enumerate() {
            if is_gone(stream) || i < 50 && stream.write_all(&[byte]).is_err() {
                *stream = open();
            }
        }
        thread::sleep(SLOW);
    }
}

/// Sends garbage from one new connection after the other, a thousand in a second at most; tells how
/// many. Without that bound it would be measured how this machine shares its processors between
/// attackers, clients, servers and the program.
fn flood(target: SocketAddr, end: Instant, garbage: &[u8]) -> usize {
    let connections =
        std::iter::from_fn(|| (Instant::now() < end).then(|| TcpStream::connect(target)));
    let send = |mut stream: TcpStream| {
        let _ = stream.write_all(garbage);
        thread::sleep(Duration::from_millis(1));
    };
    connections.flatten().map(send).count()
}

#[test]
fn an_attack_on_the_admin_address_fails_no_session_and_delays_no_good_request() {
    let _turn = THOUSANDS.lock();
    let machine = Limits::read();
    if machine.descriptors < 3 * SESSIONS as u64 + 1000 {
        return leave_out(&format!("this machine allows {} descriptors", machine.descriptors));
    }
    let balancer = Balancer::with(Program::start(&xml(&[], &[])));
    balancer
        .change(&format!("/addHost?service=web&group=main&name=echo&ip={}", echo_for(SESSIONS)));
    let (program, target) = (&balancer.program, balancer.admin);
    let clients: Vec<TcpStream> = (0..SESSIONS).map(|_| connect(program.address())).collect();
    clients.iter().for_each(relays);
    let before = program.status("RssAnon");
    let (mut slowest, mut most, mut rounds) = (Duration::ZERO, before, 0);
    let end = Instant::now() + ATTACK;
    let attackers = thread::scope(|scope| {
        scope.spawn(|| hold(target, end));
        let floods =
            [&pattern(5000)[..], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\nabc"]
                .map(<[u8]>::to_vec)
                .map(|garbage| scope.spawn(move || flood(target, end, &garbage)));
        while Instant::now() < end {
            for some in clients.chunks(SESSIONS / 10) {
                let start = Instant::now();
                assert!(balancer.read("/running.txt").contains("\nhost echo "));
                slowest = slowest.max(start.elapsed());
                some.iter().for_each(relays);
                most = most.max(program.status("RssAnon"));
            }
            rounds += 1;
        }
        floods.map(|flood| flood.join().unwrap()).iter().sum::<usize>()
    });
    eprintln!(
        "{attackers} connections of garbage beside 200 silent and 50 slow ones: {rounds} rounds of {SESSIONS} sessions, \
         slowest good answer {slowest:?}, resident {before} kB before and {most} kB at most"
    );
    assert!(slowest < Duration::from_secs(1), "a good request took {slowest:?}");
    assert!(most < before + 8_000, "{most} kB of memory, {before} kB before");
    clients.iter().for_each(relays);
    drop(clients);
    until("all have ended", || program.count(" session ") == SESSIONS);
    assert_eq!(program.count("end=closed"), SESSIONS);
}
