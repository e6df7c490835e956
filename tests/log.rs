//! The log: what lines look like where they go, what is left out with `-q`, and what becomes of
//! those that cannot be written.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal::{SIGHUP, SIGTERM, SIGUSR1};

use crate::common::admin::{HASH, get};
use crate::common::backend::Backend;
use crate::common::program::{Folder, PROGRAM, Program, run};
use crate::common::server::free_address;
use crate::common::{DEADLINE, ask, connect, is_turned_away, one_service, reset, until};

/// A service on this address, and what else the file says.
fn document(listen: SocketAddr, hosts: &[SocketAddr], more: &str) -> String {
    let xml = one_service("random", hosts, "").replace("127.0.0.1:0\"", &format!("{listen}\""));
    xml.replace("</pdconfig>", &format!("{more}</pdconfig>"))
}

/// Starts it by a shell that knows the journal by this word, and has it for standard error if the
/// word says so.
fn start_in_journal(folder: Folder, file: &Path, journal: &str) -> Program {
    let mut command = Command::new("sh");
    command.env("PROGRAM", PROGRAM).env("FILE", file);
    command.arg("-c").arg(format!("JOURNAL_STREAM={journal} exec \"$PROGRAM\" -c \"$FILE\""));
    Program::spawn(command, folder)
}

const STDERR: &str = "$(stat -L -c %d:%i /dev/fd/2)";

fn has_time(line: &str) -> bool {
    line.split(' ').next().is_some_and(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok())
}

#[test]
fn in_the_journal_lines_have_their_priority_and_no_time() {
    let (gone, folder, web) = (Backend::refuse(), Folder::new(), free_address());
    let file = folder.write("td.xml", &document(web, &[gone.address()], ""));
    let program = start_in_journal(folder, &file, STDERR);
    assert!(program.wait_for("start version").starts_with("<6>info start version="));
    program.wait_for("state=open");
    assert!(is_turned_away(web));
    assert!(program.wait_for("host service=web").starts_with("<4>warn host "));
    fs::write(&file, "<pdconfig/>").unwrap();
    program.signal(SIGHUP);
    assert!(program.wait_for("state=refused").starts_with("<3>error reload by=HUP state=refused"));
}

#[test]
fn a_start_that_fails_is_an_error_of_the_journal() {
    let folder = Folder::new();
    let file = folder.write("bad.xml", "<pdconfig/>");
    let mut program = start_in_journal(folder, &file, STDERR);
    assert_eq!(program.wait().code(), Some(78));
    assert!(program.wait_for("bad.xml:1:1").starts_with("<3>tcpdirector: "));
}

#[test]
fn another_standard_error_than_the_journals_has_lines_with_the_time() {
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    assert!(has_time(&start_in_journal(folder, &file, "1:1").wait_for("start version")));
}

#[test]
fn a_syslog_socket_may_be_a_stream_and_be_opened_anew() {
    let folder = Folder::new();
    let socket = folder.path("log");
    // lines that come to a new listener, up to one that has this text
    let hear = |listener: &UnixListener, text: &str| -> Vec<String> {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        until("it connects", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(stream).lines() {
            lines.push(line.unwrap());
            if lines.last().is_some_and(|line| line.contains(text)) {
                break;
            }
        }
        lines
    };
    let listener = UnixListener::bind(&socket).unwrap();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(file).arg("-l").arg(format!("syslog:{}", socket.display()));
    let program = Program::spawn(command, folder);
    let head = format!(" tcpdirector[{}]: info start version=", program.pid());
    let lines = hear(&listener, " error group service=web group=main state=down");
    assert!(lines[0].starts_with("<30>") && lines[0].contains(&head), "{lines:?}");
    drop(listener);
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    program.signal(SIGUSR1);
    let lines = hear(&listener, "state=reopened");
    assert!(
        lines[0].starts_with("<30>") && lines[0].ends_with(": info log state=reopened"),
        "{lines:?}"
    );
}

#[test]
fn the_form_of_the_lines_follows_the_log_at_every_reload() {
    let (folder, web) = (Folder::new(), free_address());
    let (one, two, socket) = (folder.path("one"), folder.path("two"), folder.path("syslog"));
    let syslog = UnixDatagram::bind(&socket).unwrap();
    syslog.set_read_timeout(Some(DEADLINE)).unwrap();
    let logging = |name: &str| document(web, &[], &format!("<logging file=\"{name}\"/>"));
    let file = folder.write("td.xml", &logging(one.to_str().unwrap()));
    let has = |log: &Path, text: &str| fs::read_to_string(log).is_ok_and(|log| log.contains(text));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file);
    let program = Program::spawn(command, folder);
    until("it listens", || has(&one, "state=open"));
    let told = || {
        let mut space = [0; 2048];
        let count = syslog.recv(&mut space).unwrap();
        String::from_utf8_lossy(&space[..count]).into_owned()
    };
    fs::write(&file, logging(&format!("syslog:{}", socket.display()))).unwrap();
    program.signal(SIGHUP);
    let first = told();
    assert!(
        first.starts_with("<30>")
            && first.contains(&format!("[{}]: info change by=HUP", program.pid())),
        "{first}"
    );
    fs::write(&file, logging(two.to_str().unwrap())).unwrap();
    program.signal(SIGHUP);
    until("the other file has the end of the reload", || has(&two, "state=done"));
    for log in [one, two] {
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.lines().all(has_time), "{text}");
    }
}

#[test]
fn a_daemon_without_a_syslog_says_so_before_it_goes() {
    let folder = Folder::new();
    let (pidfile, socket) = (folder.path("pid"), folder.path("nobody"));
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let log = format!("syslog:{}", socket.display());
    let parent =
        run(&["-d", "-c", file.to_str().unwrap(), "-l", &log, "-p", pidfile.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&parent.stderr);
    assert!(parent.status.success(), "{said}");
    assert!(
        said.contains(&format!("no syslog listens at {}: ", socket.display()))
            && said.lines().count() == 1,
        "{said}"
    );
    let pid = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGTERM).unwrap();
    until("it has gone", || !pidfile.exists());
}

#[test]
fn a_piece_of_a_line_that_another_run_has_left_is_ended_before_the_next() {
    let (folder, web) = (Folder::new(), free_address());
    let log = folder.write("log", "2026-11-22T21:34:19.123+01:00 info session id=17 ser");
    let file = folder.write("td.xml", &document(web, &[], ""));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file).arg("-l").arg(&log);
    let _program = Program::spawn(command, folder);
    until("it listens", || fs::read_to_string(&log).unwrap().contains("state=open"));
    let text = fs::read_to_string(&log).unwrap();
    let second = text.lines().nth(1).unwrap();
    assert!(
        text.lines().next().unwrap().ends_with(" ser") && second.contains(" info start version="),
        "{text}"
    );
}

#[test]
fn names_cannot_turn_the_direction_of_a_line() {
    let backend = Backend::named("here");
    let xml = one_service("random", &[backend.address()], "")
        .replace("name=\"h0\"", "name=\"one\u{202e}owt\"");
    let program = Program::start(&xml);
    assert_eq!(ask(program.address()), "here");
    assert!(program.wait_for(" session ").contains(r#" host="one\u{202e}owt" "#));
}

#[test]
fn quiet_leaves_out_clients_that_were_served_and_keeps_those_that_were_not() {
    let (here, gone, folder) = (Backend::named("here"), Backend::refuse(), Folder::new());
    let (good, bad, log) = (free_address(), free_address(), folder.path("log"));
    let second = document(bad, &[gone.address()], "").replace("name=\"web\"", "name=\"ill\"");
    let second = second.replace("<pdconfig>", "").replace("</pdconfig>", "");
    let file = folder.write("td.xml", &document(good, &[here.address()], &second));
    let mut command = Command::new(PROGRAM);
    command.arg("-q").arg("-c").arg(file).arg("-l").arg(&log);
    let mut program = Program::spawn(command, folder);
    until("it listens", || TcpStream::connect(good).is_ok());
    assert_eq!(ask(good), "here");
    assert!(is_turned_away(bad));
    program.signal(SIGTERM);
    assert!(program.wait().success());
    let text = fs::read_to_string(&log).unwrap();
    for line in [
        " warn session id=",
        " warn host service=ill ",
        " error group service=ill group=main state=down",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("service=web"), "{text}");
}

#[test]
fn a_client_that_leaves_before_it_was_served_is_no_warning() {
    let silent = Backend::silent();
    let xml = one_service("random", &[silent.address()], "<replay bytes=\"100\"/>");
    let program = Program::start(&xml);
    let client = connect(program.address());
    until("its host is asked", || silent.accepted() == 1);
    reset(client);
    assert!(program.wait_for(" session ").contains(" info session "));
}

#[test]
fn a_group_is_an_error_when_it_is_enabled_and_has_no_host_whatever_has_taken_the_last_one() {
    let (one, two, admin) = (Backend::named("one"), Backend::refuse(), free_address());
    let user = format!("<user name=\"full\" password=\"{HASH}\" access=\"full\"/>");
    let spare = format!(
        "<group name=\"spare\" scheduler=\"random\"><host name=\"s\" ip=\"{}\"/></group><enable group=\"main\"/>",
        two.address()
    );
    let xml = one_service("random", &[one.address()], &spare)
        .replace("</pdconfig>", &format!("<admin listen=\"{admin}\">{user}</admin></pdconfig>"));
    let program = Program::start(&xml);
    program.wait_for(&format!("admin address={admin} state=open"));
    let change = |url: &str| assert!(get(admin, url).starts_with("HTTP/1.1 302 "), "{url}");
    change("/hostAdminDown?service=web&group=main&name=h0");
    program.wait_for(" error group service=web group=main state=down");
    change("/hostAdminUp?service=web&group=main&name=h0");
    program.wait_for(" info group service=web group=main state=up");
    change("/enableGroup?service=web&group=spare");
    assert!(!program.has("group=spare state"), "nobody knows yet that its host is down");
    assert!(is_turned_away(program.address()));
    program.wait_for(" error group service=web group=spare state=down");
    change("/newGroup?service=web&group=empty&scheduler=random");
    change("/enableGroup?service=web&group=empty");
    program.wait_for(" error group service=web group=empty state=down");
    assert_eq!(program.count(" group service="), 4);
}
