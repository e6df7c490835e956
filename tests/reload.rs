//! What a reload changes, what it leaves alone, and what `--diff` says of it beforehand; through
//! the built program.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::sys::signal::Signal::SIGHUP;

use crate::common::admin::{HASH, get};
use crate::common::backend::Backend;
use crate::common::command::output;
use crate::common::program::{Folder, PROGRAM, Program, field};
use crate::common::server::free_address;
use crate::common::{ask, connect, until};

/// A program with admin pages, and the file that it reads.
struct Reloaded {
    program: Program,
    file: PathBuf,
    admin: SocketAddr,
}

impl Reloaded {
    fn start(services: &str) -> Reloaded {
        let (folder, admin) = (Folder::new(), free_address());
        let file = folder.write("td.xml", &document(services, admin));
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&file);
        let program = Program::spawn(command, folder);
        program.wait_for(&format!("admin address={admin} state=open"));
        Reloaded { program, file, admin }
    }

    fn write(&self, services: &str) {
        fs::write(&self.file, document(services, self.admin)).unwrap();
    }

    /// Reloads by signal and waits for the line that tells how it went.
    fn hup(&self) -> String {
        let before = self.program.count("reload by=HUP state=");
        self.program.signal(SIGHUP);
        until("the reload is over", || self.program.count("reload by=HUP state=") > before);
        self.program.lines("reload by=HUP state=").remove(before)
    }

    /// The whole answer to a GET.
    fn get(&self, url: &str) -> String {
        get(self.admin, url)
    }

    /// The body of an answer: the head has the time.
    fn body(&self, url: &str) -> String {
        self.get(url).split_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    /// The configuration that runs.
    fn running(&self) -> String {
        self.body("/running.xml")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body("/running.json")).expect("JSON")
    }

    fn diff(&self, more: &[&str]) -> Output {
        output(Command::new(PROGRAM).arg("--diff").arg(&self.file).args(more))
    }
}

fn document(services: &str, admin: SocketAddr) -> String {
    let user = format!("<user name=\"full\" password=\"{HASH}\" access=\"full\"/>");
    format!("<pdconfig>\n{services}\n<admin listen=\"{admin}\">{user}</admin></pdconfig>\n")
}

fn service(name: &str, listen: SocketAddr, hosts: &[(&str, SocketAddr)]) -> String {
    let hosts: String =
        hosts.iter().map(|(name, ip)| format!("<host name=\"{name}\" ip=\"{ip}\"/>")).collect();
    format!(
        "<service name=\"{name}\"><listen ip=\"{listen}\"/><group name=\"main\" scheduler=\"roundrobin\">{hosts}</group></service>"
    )
}

/// A client whose session is up and goes on.
fn settled(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    assert!(still_there(&mut client));
    client
}

/// Whether an echo comes back.
fn still_there(client: &mut TcpStream) -> bool {
    client.write_all(b"ping").is_ok() && client.read_exact(&mut [0; 4]).is_ok()
}

#[test]
fn new_sessions_go_where_the_new_file_says_and_old_ones_go_on() {
    let (old, new, web) = (Backend::echo(), Backend::named("new"), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", old.address())]));
    let mut client = settled(web);
    reloaded.write(&service("web", web, &[("h", new.address())]));
    let told = reloaded.hup();
    assert!(told.contains("state=done message=\"reloaded: 1 change\""), "{told}");
    let change = reloaded.program.wait_for("change by=HUP path=changeHost");
    assert_eq!(field(&change, "newip"), Some(new.address().to_string().as_str()), "{change}");
    assert_eq!(ask(web), "new");
    assert!(still_there(&mut client));
}

#[test]
fn sessions_go_on_when_their_service_and_listen_address_have_gone() {
    let (echo, other, web, next) =
        (Backend::echo(), Backend::named("other"), free_address(), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", echo.address())]));
    let mut client = settled(web);
    reloaded.write(&service("another", next, &[("h", other.address())]));
    assert!(reloaded.hup().contains("state=done"));
    assert_eq!(ask(next), "other");
    until("the old address is closed", || TcpStream::connect(web).is_err());
    assert!(still_there(&mut client));
}

#[test]
fn what_stays_keeps_its_counts_and_what_is_known_of_it() {
    let (one, two, web) = (Backend::named("one"), Backend::refuse(), free_address());
    let both = service("web", web, &[("one", one.address()), ("two", two.address())]);
    let reloaded = Reloaded::start(&both);
    for _ in 0..4 {
        assert_eq!(ask(web), "one");
    }
    reloaded.program.wait_for("host=two");
    until("four sessions have ended", || reloaded.json()["services"][0]["served"] == 4);
    let three = Backend::named("three");
    reloaded.write(&both.replace(
        "</group>",
        &format!("<host name=\"three\" ip=\"{}\"/></group>", three.address()),
    ));
    assert!(reloaded.hup().contains("state=done"));
    let service = reloaded.json()["services"][0].take();
    let hosts = &service["groups"][0]["hosts"];
    assert_eq!(
        (&service["served"], &hosts[0]["total"], &hosts[2]["total"]),
        (&4.into(), &4.into(), &0.into())
    );
    assert_eq!((&hosts[1]["up"], &hosts[1]["failures"]), (&false.into(), &1.into()), "{hosts}");
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_each_is_told_with_its_place() {
    let (backend, web) = (Backend::named("here"), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    let before = reloaded.running();
    fs::write(&reloaded.file, "<pdconfig>\n<service nome='x'/>\n<wrong/>\n</pdconfig>").unwrap();
    assert!(reloaded.hup().contains("state=refused"));
    let place = format!("{}:2:", reloaded.file.display());
    reloaded.program.wait_for(&format!("error reload by=HUP state=refused reason=\"{place}"));
    reloaded.program.wait_for(&place.replace(":2:", ":3:"));
    let answer = reloaded.get("/reload");
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains(&place), "{answer}");
    assert_eq!(reloaded.running(), before);
    assert_eq!(ask(web), "here");
}

#[test]
fn a_refused_reload_is_an_event_and_shown_until_the_next_good_one() {
    let (backend, web) = (Backend::named("here"), free_address());
    let services = service("web", web, &[("h", backend.address())]);
    let reloaded = Reloaded::start(&services);
    let loaded = |text: &str| -> u64 {
        let (_, rest) = text
            .split_once("\ntcpdirector_last_reload_success_timestamp_seconds ")
            .expect("it is there");
        rest.split('\n').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let first = loaded(&reloaded.body("/metrics"));
    reloaded.write("<wrong/>");
    assert!(reloaded.hup().contains("state=refused"));
    assert_eq!(reloaded.json()["reload_refused"]["by"], "HUP");
    let events = reloaded.body("/events.json");
    assert!(events.contains("\"by\":\"HUP\",\"what\":\"reload state=refused reason="), "{events}");
    assert!(reloaded.get("/running").contains("<h1>The last reload was refused</h1>"));
    assert!(reloaded.get("/reload").starts_with("HTTP/1.1 409 "));
    let metrics = reloaded.body("/metrics");
    assert!(metrics.contains("\ntcpdirector_last_reload_successful 0\n"), "{metrics}");
    assert!(
        metrics.contains("\ntcpdirector_reloads_refused_total 2\n") && loaded(&metrics) == first,
        "{metrics}"
    );
    reloaded.write(&services);
    until("the clock goes on", || {
        std::time::SystemTime::now()
            >= std::time::UNIX_EPOCH + std::time::Duration::from_secs(first + 1)
    });
    assert!(reloaded.hup().contains("state=done"));
    let metrics = reloaded.body("/metrics");
    assert!(
        metrics.contains("\ntcpdirector_last_reload_successful 1\n") && loaded(&metrics) > first,
        "{metrics}"
    );
    assert_eq!(reloaded.json()["reload_refused"], serde_json::Value::Null);
}

#[test]
fn an_address_that_cannot_be_opened_changes_nothing_at_all() {
    let (backend, other, web, fresh) =
        (Backend::named("here"), Backend::named("other"), free_address(), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    let before = reloaded.running();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let all = [("web", web), ("fresh", fresh), ("taken", taken)];
    reloaded.write(
        &all.map(|(name, listen)| service(name, listen, &[("h", other.address())])).concat(),
    );
    let told = reloaded.hup();
    assert!(
        told.contains("state=refused") && told.contains(&format!("cannot listen on {taken}")),
        "{told}"
    );
    assert_eq!(reloaded.running(), before);
    assert_eq!(ask(web), "here");
    assert!(
        TcpStream::connect(fresh).is_err(),
        "what was opened before the refusal is closed again"
    );
}

#[test]
fn an_address_goes_from_one_service_to_another_and_no_client_is_refused() {
    let (one, two, web, side) =
        (Backend::named("one"), Backend::named("two"), free_address(), free_address());
    let named =
        |name: &str, listen, backend: &Backend| service(name, listen, &[("h", backend.address())]);
    let reloaded = Reloaded::start(&(named("a", web, &one) + &named("b", side, &two)));
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| (0..400).map(|_| ask(web)).collect::<Vec<String>>());
        for round in 0..20 {
            let (first, second) = if round % 2 == 0 { (side, web) } else { (web, side) };
            reloaded.write(&(named("a", first, &one) + &named("b", second, &two)));
            assert!(reloaded.hup().contains("state=done"));
        }
        let answers = clients.join().unwrap();
        assert!(answers.iter().all(|answer| answer == "one" || answer == "two"), "{answers:?}");
    });
    assert_eq!((ask(web), ask(side)), ("one".to_owned(), "two".to_owned()));
    assert_eq!(reloaded.program.count("state=closed"), 0, "the sockets have stayed open");
}

#[test]
fn a_wildcard_address_becomes_one_of_its_own_and_back_again() {
    let backend = Backend::named("here");
    let listen = free_address();
    let reloaded = Reloaded::start(&service("web", listen, &[("h", backend.address())]));
    let everywhere = format!("*:{}", listen.port());
    let narrow = service("web", listen, &[("h", backend.address())]);
    for file in [
        narrow.replace(&format!("listen ip=\"{listen}\""), &format!("listen ip=\"{everywhere}\"")),
        narrow,
    ] {
        reloaded.write(&file);
        let told = reloaded.hup();
        assert!(told.contains("state=done"), "{told}");
        assert_eq!(ask(listen), "here");
    }
    // what was let in for the moment of the change is kept out again
    assert!(TcpListener::bind(listen).is_err());
}

#[test]
fn edits_of_the_admin_pages_that_the_file_does_not_have_are_reported_as_overwritten() {
    let (one, two, web) = (Backend::named("one"), Backend::named("two"), free_address());
    let file = service("web", web, &[("one", one.address())]);
    let reloaded = Reloaded::start(&file);
    assert_eq!(reloaded.json()["changed"], false);
    reloaded.get(&format!("/addHost?service=web&group=main&name=two&ip={}", two.address()));
    assert_eq!(reloaded.json()["changed"], true);
    assert!(reloaded.get("/metrics").contains("\ntcpdirector_config_changed 1\n"));
    assert!(reloaded.get("/running").contains("differs from the configuration file"));
    assert!(reloaded.hup().contains("1 edit overwritten"));
    reloaded
        .program
        .wait_for("reload overwrites by=HUP path=addHost service=web group=main name=two");
    assert_eq!(reloaded.json()["changed"], false);
    // an edit that has found its way into the file is not
    reloaded.get("/changeScheduler?service=web&group=main&scheduler=random");
    reloaded.write(&file.replace("roundrobin", "random"));
    let told = reloaded.hup();
    assert!(told.contains("reloaded: 0 changes\""), "{told}");
}

#[test]
fn a_plan_shows_the_changes_and_makes_none() {
    let (backend, web) = (Backend::named("here"), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    assert!(reloaded.get("/reload?plan=1").ends_with("# nothing would change\n"));
    let before = reloaded.running();
    reloaded.write(
        &service("web", web, &[("h", backend.address())]).replace("roundrobin", "leastconns"),
    );
    let answer = reloaded.get("/reload?plan=1");
    assert!(
        answer.ends_with("\r\n\r\n/changeScheduler?service=web&group=main&scheduler=leastconns\n"),
        "{answer}"
    );
    assert_eq!(reloaded.running(), before);
}

#[test]
fn a_reload_that_nobody_confirms_is_rolled_back() {
    let (old, new, web) = (Backend::named("old"), Backend::named("new"), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", old.address())]));
    reloaded.write(&service("web", web, &[("h", new.address())]));
    assert!(reloaded.get("/reload?confirm=1").starts_with("HTTP/1.1 302 "));
    // a slow machine may be past it already
    let answer = ask(web);
    assert!(answer == "new" || reloaded.program.has("state=rolled-back"), "{answer}");
    reloaded.program.wait_for("reload by=confirm state=rolled-back");
    assert_eq!(ask(web), "old");
    assert_eq!(reloaded.json()["changed"], true);
    assert_eq!(reloaded.json()["confirm_within"], serde_json::Value::Null);
    // what runs is not what the file says, and whoever looks later has to know
    let metrics = reloaded.get("/metrics");
    assert!(metrics.contains("\ntcpdirector_last_reload_successful 0\n"), "{metrics}");
    assert!(metrics.contains("\ntcpdirector_reloads_refused_total 1\n"), "{metrics}");
    assert_eq!(reloaded.json()["reload_refused"]["reasons"][0], "nobody has confirmed it");
    let answer = reloaded.get("/confirm");
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("no reload waits"), "{answer}");
    // rolling back was nobody's edit
    assert!(!reloaded.hup().contains("overwritten"));
}

#[test]
fn hosts_that_a_roll_back_brings_back_are_as_disabled_as_they_were() {
    let (one, two, web) = (Backend::named("one"), Backend::named("two"), free_address());
    let reloaded =
        Reloaded::start(&service("web", web, &[("one", one.address()), ("two", two.address())]));
    assert!(
        reloaded.get("/hostAdminDown?service=web&group=main&name=two").starts_with("HTTP/1.1 302 ")
    );
    reloaded.write(&service("web", web, &[("one", one.address())]));
    assert!(reloaded.get("/reload?confirm=1").starts_with("HTTP/1.1 302 "));
    reloaded.program.wait_for("reload by=confirm state=rolled-back");
    reloaded
        .program
        .wait_for("change by=confirm path=hostAdminDown service=web group=main name=two");
    let hosts = reloaded.json()["services"][0]["groups"][0]["hosts"].take();
    assert_eq!(
        (&hosts[1]["name"], &hosts[1]["operator"]),
        (&"two".into(), &"disabled".into()),
        "{hosts}"
    );
    assert_eq!(hosts[0]["operator"], "enabled", "{hosts}");
}

#[test]
fn a_reload_that_is_confirmed_stays_and_until_then_there_is_no_other() {
    let (old, new, web) = (Backend::named("old"), Backend::named("new"), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", old.address())]));
    reloaded.write(&service("web", web, &[("h", new.address())]));
    assert!(reloaded.get("/reload?confirm=3600").starts_with("HTTP/1.1 302 "));
    assert!(reloaded.json()["confirm_within"].as_u64().is_some_and(|left| left > 3000));
    assert!(reloaded.get("/running").contains("/confirm"));
    assert!(reloaded.hup().contains("not confirmed yet"));
    assert!(reloaded.get("/confirm").starts_with("HTTP/1.1 302 "));
    assert_eq!(reloaded.json()["confirm_within"], serde_json::Value::Null);
    assert_eq!((ask(web), reloaded.json()["changed"].as_bool()), ("new".to_owned(), Some(false)));
    assert!(reloaded.hup().contains("state=done"));
}

#[test]
fn the_admin_pages_move_when_a_url_of_their_own_says_so() {
    let (backend, web, next) = (Backend::named("here"), free_address(), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    let answer = reloaded.get(&format!("/setAdmin?listen={next}"));
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    until("the old address is closed", || TcpStream::connect(reloaded.admin).is_err());
    assert!(get(next, "/running.txt").contains("service web"));
    // the file says that they are at the old place: back there
    assert!(reloaded.hup().contains("state=done"));
    assert!(reloaded.get("/running.txt").contains("service web"));
}

#[test]
fn the_log_goes_where_the_new_file_says() {
    let (backend, web, folder) = (Backend::named("here"), free_address(), Folder::new());
    let services = service("web", web, &[("h", backend.address())]);
    let reloaded = Reloaded::start(&services);
    let log = folder.path("log");
    reloaded.write(
        &(services.clone()
            + &format!("<logging file=\"{}\"/>", folder.path("no/such/folder").display())),
    );
    let told = reloaded.hup();
    assert!(told.contains("state=refused") && told.contains("cannot log to"), "{told}");
    reloaded.write(&(services + &format!("<logging file=\"{}\"/>", log.display())));
    reloaded.program.signal(SIGHUP);
    until("the new log tells of the reload", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("reload by=HUP state=done"))
    });
}

#[test]
fn a_fifo_that_nobody_reads_is_refused_as_the_log_and_holds_nothing_up() {
    let (backend, web, folder) = (Backend::named("here"), free_address(), Folder::new());
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    let fifo = folder.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let answer = reloaded.get(&format!("/setLogging?file={}", fifo.display()));
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("cannot log to"), "{answer}");
    assert!(reloaded.hup().contains("state=done"));
    assert_eq!(ask(web), "here");
}

#[test]
fn a_reload_that_does_not_come_to_an_end_does_not_hold_up_a_stop() {
    let (backend, web) = (Backend::named("here"), free_address());
    let mut reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    // a file that is read to its end when somebody writes it
    fs::remove_file(&reloaded.file).unwrap();
    nix::unistd::mkfifo(&reloaded.file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    reloaded.program.signal(SIGHUP);
    reloaded.program.wait_for("log state=reopened");
    assert_eq!(ask(web), "here");
    reloaded.program.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(reloaded.program.wait().code(), Some(0));
    assert!(!reloaded.program.has("reload by=HUP"));
}

#[test]
fn diff_prints_the_urls_that_lead_from_what_runs_to_the_file() {
    let (backend, other, web) = (Backend::named("here"), Backend::named("other"), free_address());
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    let url = format!("http://full:secret@{}", reloaded.admin);
    let same = reloaded.diff(&["--admin", &url]);
    assert_eq!((same.status.code(), same.stdout.as_slice()), (Some(0), b"".as_slice()), "{same:?}");
    reloaded.write(&service("web", web, &[("h", backend.address()), ("i", other.address())]));
    let different = reloaded.diff(&["--admin", &url]);
    let printed = String::from_utf8(different.stdout).unwrap();
    assert_eq!(different.status.code(), Some(1));
    assert_eq!(printed, format!("/addHost?service=web&group=main&name=i&ip={}\n", other.address()));
    for line in printed.lines() {
        assert!(reloaded.get(line).starts_with("HTTP/1.1 302 "), "{line}");
    }
    assert_eq!(reloaded.diff(&["--admin", &url]).status.code(), Some(0));
    assert_eq!(reloaded.diff(&["--admin", "127.0.0.1:1"]).status.code(), Some(64));
    let wrong = reloaded.diff(&["--admin", &url.replace("secret", "wrong")]);
    assert_eq!(wrong.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("401"), "{wrong:?}");
}

#[test]
fn diff_of_two_files_says_78_when_one_is_wrong() {
    let (folder, web) = (Folder::new(), free_address());
    let good =
        folder.write("good.xml", &format!("<pdconfig>{}</pdconfig>", service("web", web, &[])));
    let bad = folder.write("bad.xml", "<pdconfig/>");
    let diff = |old, new| output(Command::new(PROGRAM).arg("--diff").args([old, new]));
    assert_eq!(diff(&good, &good).status.code(), Some(0));
    for (old, new) in [(&good, &bad), (&bad, &good)] {
        let output = diff(old, new);
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8_lossy(&output.stderr).contains("bad.xml:1:"), "{output:?}");
    }
}

#[test]
fn more_sessions_run_at_once_as_soon_as_the_pool_may_have_them() {
    let (backend, web) = (Backend::echo(), free_address());
    let services = service("web", web, &[("h", backend.address())]);
    let reloaded = Reloaded::start(&(services.clone() + "<pool sessions=\"1\"/>"));
    let mut first = settled(web);
    let mut second = connect(web);
    second.write_all(b"ping").unwrap();
    reloaded.write(&(services + "<pool sessions=\"2\"/>"));
    assert!(reloaded.hup().contains("state=done"));
    second.read_exact(&mut [0; 4]).unwrap();
    assert!(still_there(&mut first) && still_there(&mut second));
}

#[test]
fn the_warnings_of_the_start_are_given_at_each_reload_and_when_a_url_brings_them_about() {
    let (backend, web) = (Backend::named("here"), free_address());
    let weak = "<user name=\"old\" password=\"rom0wh951j8Sg\" access=\"readonly\"/></admin>";
    let reloaded = Reloaded::start(&service("web", web, &[("h", backend.address())]));
    let warned = |count| {
        let line = " warn admin user=old reason=\"of an old kind";
        until("it warns", || reloaded.program.count(line) >= count);
        assert_eq!(reloaded.program.count(line), count);
    };
    let file = fs::read_to_string(&reloaded.file).unwrap();
    fs::write(&reloaded.file, file.replace("</admin>", weak)).unwrap();
    for count in 1..=2 {
        assert!(reloaded.hup().contains("state=done"));
        warned(count);
    }
    // what another change leaves as it was is no news
    for url in [
        "/setChecktime?time=5",
        "/delUser?name=old",
        "/addUser?name=old&password=rom0wh951j8Sg&access=readonly",
    ] {
        assert!(reloaded.get(url).starts_with("HTTP/1.1 302 "), "{url}");
    }
    warned(3);
}
