//! Flags, signals, log, pid file and exit status of the built program, started as a user would.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGINT, SIGTERM, SIGUSR1};

use crate::common::backend::Backend;
use crate::common::command::{finish, text};
use crate::common::left_out::{leave_out, may_open};
use crate::common::program::{Folder, PROGRAM, Program, field, run};
use crate::common::{
    DEADLINE, ask, connect, ends_by_reset, exchange, is_turned_away, one_service, until,
};

#[test]
fn version_and_help_go_to_standard_output_with_status_0() {
    for flag in ["-V", "--version"] {
        let output = run(&[flag]);
        assert!(output.status.success());
        assert_eq!(text(&output.stdout), format!("tcpdirector {}\n", env!("CARGO_PKG_VERSION")));
    }
    for flag in ["-h", "--help"] {
        let output = run(&[flag]);
        assert!(output.status.success() && text(&output.stdout).contains("usage: tcpdirector"));
    }
}

#[test]
fn a_wrong_flag_is_named_with_status_64() {
    for (arguments, named) in [
        (&["-x"][..], "-x"),
        (&["--frobnicate"], "--frobnicate"),
        (&["-p"], "-p"),
        (&["one.xml", "two.xml"], "two.xml"),
        (&["-qv"], "-q and -v"),
        (&["-d", "-l", "stderr"], "-d"),
        (&["-d", "--demo"], "--demo"),
        (&["--replace"], "-p"),
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}

#[test]
fn a_file_with_mistakes_is_refused_with_status_78_and_every_place() {
    let folder = Folder::new();
    let file =
        folder.write("bad.xml", "<pdconfig>\n  <service>\n    <listen ip=\"1.2.3.4\"/>\n  </service>\n  <foo/>\n</pdconfig>\n");
    for arguments in [&["-t", file.to_str().unwrap()][..], &["-c", file.to_str().unwrap()]] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        for place in [":2:3:", ":3:13:", ":5:3:"] {
            assert!(said.contains(&format!("bad.xml{place}")), "no {place} in\n{said}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_status_78() {
    let output = run(&["-t", "/nonexistent/nope.xml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/nonexistent/nope.xml: "), "{}", text(&output.stderr));
}

#[test]
fn checking_a_file_prints_what_it_would_listen_on_and_cost() {
    // the sample needs a thousand
    if !may_open(600) {
        return;
    }
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/tcpdirector.xml");
    let output = run(&["-t", sample]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in
        ["no mistakes", "listen ", "sessions ", "threads ", "descriptors ", "space ", "memory "]
    {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
}

/// It ended with a panic and status 101.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
    // the sample needs a thousand
    if !may_open(600) {
        return;
    }
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/tcpdirector.xml");
    let folder = Folder::new();
    let other = folder
        .write("other.xml", &one_service("random", &[SocketAddr::from(([127, 0, 0, 1], 9))], ""));
    let differ = &["--diff", other.to_str().unwrap(), sample];
    for (arguments, usual, failed) in
        [(&["-h"][..], 0, 1), (&["-V"], 0, 1), (&["-t", sample], 0, 1), (differ, 1, 69)]
    {
        let end = |place: Stdio| {
            let output = finish(
                &mut Command::new(PROGRAM)
                    .args(arguments)
                    .stdout(place)
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap(),
            );
            (output.status.code(), text(&output.stderr))
        };
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        assert_eq!(end(writer.into()), (Some(usual), String::new()), "{arguments:?}");
        let (status, said) = end(fs::File::create("/dev/full").unwrap().into());
        assert!(
            status == Some(failed) && said.contains("No space left") && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
    }
    let nobody_hears =
        Command::new(PROGRAM).arg("-x").stderr(fs::File::create("/dev/full").unwrap()).spawn();
    assert_eq!(finish(&mut nobody_hears.unwrap()).status.code(), Some(64));
}

#[test]
fn a_budget_that_cannot_fit_is_refused_with_the_numbers() {
    let folder = Folder::new();
    let xml = one_service("random", &[], "")
        .replace("</pdconfig>", "<pool threads=\"1000000\" sessions=\"1000000\"/></pdconfig>");
    let file = folder.write("huge.xml", &xml);
    let output = run(&["-t", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("it needs ") && said.contains("this machine allows "), "{said}");
}

#[test]
fn an_address_in_use_is_named_with_status_1() {
    let taken = Backend::echo();
    let folder = Folder::new();
    let xml = one_service("random", &[], "").replace("127.0.0.1:0", &taken.address().to_string());
    let file = folder.write("taken.xml", &xml);
    let output = run(&["-c", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("service `web`") && said.contains(&taken.address().to_string()),
        "{said}"
    );
}

#[test]
fn an_unknown_user_is_named_with_status_1() {
    let folder = Folder::new();
    let file = folder.write("good.xml", &one_service("random", &[], ""));
    let output = run(&["-c", file.to_str().unwrap(), "-u", "no-such-user"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such-user"), "{}", text(&output.stderr));
}

#[test]
fn a_session_leaves_one_log_line_with_pairs_in_fixed_order() {
    let backend = Backend::sink();
    let program = Program::start(&one_service("random", &[backend.address()], ""));
    let client = connect(program.address());
    let peer = client.local_addr().unwrap();
    let answer = exchange(client, &[5; 1234]);
    let line = program.wait_for(" session ");
    let keys: Vec<&str> =
        line.split(' ').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    let order =
        "id service client listen group host server tries connect duration to_server to_client end";
    assert_eq!(keys.join(" "), order);
    let expected = [
        ("service", "web".to_owned()),
        ("client", peer.to_string()),
        ("listen", program.address().to_string()),
        ("group", "main".to_owned()),
        ("host", "h0".to_owned()),
        ("server", backend.address().to_string()),
        ("tries", "1".to_owned()),
        ("to_server", "1234".to_owned()),
        ("to_client", answer.len().to_string()),
        ("end", "closed".to_owned()),
    ];
    for (key, value) in expected {
        assert_eq!(field(&line, key), Some(value.as_str()), "{line}");
    }
    let time = line.split(' ').next().unwrap();
    assert!(
        chrono::DateTime::parse_from_rfc3339(time).is_ok(),
        "`{time}` is not RFC 3339 with a zone"
    );
}

#[test]
fn the_time_in_the_log_is_that_of_the_zone() {
    for (zone, offset) in [("ABC-5:45", "+05:45"), ("ABC3:30", "-03:30"), ("UTC0", "+00:00")] {
        let folder = Folder::new();
        let mut command = Command::new(PROGRAM);
        command
            .env("TZ", zone)
            .arg("-c")
            .arg(folder.write("zone.xml", &one_service("random", &[], "")));
        let program = Program::spawn(command, folder);
        let line = program.wait_for("state=open");
        let time = line.split(' ').next().unwrap();
        let read =
            chrono::DateTime::parse_from_rfc3339(time).unwrap_or_else(|e| panic!("{time}: {e}"));
        assert!(time.ends_with(offset), "{time}");
        assert!((chrono::Utc::now() - read.to_utc()).num_seconds().abs() < 60, "{time}");
    }
}

#[test]
fn every_ending_has_its_name_in_the_log() {
    let (refuse, reset, silent) = (Backend::refuse(), Backend::reset_after(1), Backend::silent());
    let session = |host: &Backend, inside: &str, act: &dyn Fn(SocketAddr)| {
        let program = Program::start(&one_service("random", &[host.address()], inside));
        act(program.address());
        let line = program.wait_for(" session ");
        field(&line, "end").unwrap().to_owned()
    };
    assert_eq!(session(&refuse, "", &|address| assert!(is_turned_away(address))), "no-host");
    let provoke = |address| {
        let mut client = connect(address);
        client.write_all(b"!").unwrap();
        assert!(ends_by_reset(&client));
    };
    assert_eq!(session(&reset, "", &provoke), "reset-by-server");
    assert_eq!(
        session(&silent, "<timeout idle=\"50ms\"/>", &|address| assert!(ends_by_reset(&connect(
            address
        )))),
        "idle"
    );
    let reset_later = |address| {
        let client = connect(address);
        // it has had one client before this one
        until("it is connected", || silent.accepted() == 2);
        crate::common::reset(client);
    };
    assert_eq!(session(&silent, "", &reset_later), "reset-by-client");
}

#[test]
fn hosts_that_go_and_come_back_are_in_the_log_with_the_reason() {
    let gone = Backend::refuse();
    let address = gone.address();
    let program = Program::start(&one_service("random", &[address], ""));
    assert!(is_turned_away(program.address()));
    let line = program.wait_for("state=down reason");
    assert!(line.contains(" warn host service=web group=main host=h0 server="), "{line}");
    assert!(line.ends_with("state=down reason=\"connection refused\" session=1"), "{line}");
    let line = program.wait_for("session id=1");
    assert!(
        line.contains(&format!(" host=h0 server={address} tries=1 tried=h0:refused ")),
        "{line}"
    );
    program.wait_for("group service=web group=main state=down");
    drop(gone);
    let back = Backend::named_at(address, "back");
    program.wait_for("state=up after=");
    assert_eq!(ask(program.address()), "back");
    drop(back);
}

#[test]
fn names_cannot_forge_log_lines() {
    let backend = Backend::echo();
    let xml =
        one_service("random", &[backend.address()], "").replace("name=\"h0\"", "name='a b=\"c\"'");
    let program = Program::start(&xml);
    exchange(connect(program.address()), b"x");
    let line = program.wait_for(" session ");
    assert!(line.contains(r#" host="a b=\"c\"" server="#), "{line}");
}

#[test]
fn term_lets_running_sessions_finish_and_then_ends_with_0() {
    let backend = Backend::echo();
    let mut program = Program::start(&one_service("random", &[backend.address()], ""));
    let address = program.address();
    let mut client = connect(address);
    client.write_all(b"before").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    program.signal(SIGTERM);
    program.wait_for("state=closed");
    assert!(std::net::TcpStream::connect_timeout(&address, DEADLINE).is_err(), "it still accepts");
    assert_eq!(exchange(client, b"after"), b"after");
    assert!(program.wait().success());
    let line = program.wait_for("stop state=done");
    assert!(line.ends_with("reason=TERM sessions=1 silent=0 cut=0"), "{line}");
    assert_eq!(program.lines(" session ").len(), 1);
}

#[test]
fn a_second_signal_ends_the_wait_for_sessions() {
    let backend = Backend::silent();
    let mut program = Program::start(&one_service("random", &[backend.address()], ""));
    let client = connect(program.address());
    until("it is connected", || backend.accepted() == 1);
    program.signal(SIGTERM);
    program.wait_for("state=closed");
    program.signal(SIGTERM);
    assert_eq!(program.wait().code(), Some(2), "a session had to be cut");
    assert!(ends_by_reset(&client));
    program.wait_for("end=stopped");
    assert!(program.wait_for("stop state=done").ends_with("reason=TERM sessions=1 silent=0 cut=1"));
}

#[test]
fn int_ends_at_once_with_0_and_logs_every_session() {
    let backend = Backend::silent();
    let mut program = Program::start(&one_service("random", &[backend.address()], ""));
    let clients: Vec<_> = (0..5).map(|_| connect(program.address())).collect();
    until("they are connected", || backend.accepted() == 5);
    let began = Instant::now();
    program.signal(SIGINT);
    assert!(program.wait().success());
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    assert!(clients.iter().all(ends_by_reset));
    until("the log is read", || program.lines("end=stopped").len() == 5);
}

#[test]
fn usr1_reopens_the_log_without_losing_a_line() {
    let backend = Backend::sink();
    let folder = Folder::new();
    let (log, moved) = (folder.path("td.log"), folder.path("td.log.1"));
    let file = folder.write("td.xml", &one_service("random", &[backend.address()], ""));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file).arg("-l").arg(&log);
    let mut program = Program::spawn(command, folder);
    until("it listens", || fs::read_to_string(&log).is_ok_and(|log| log.contains("state=open")));
    let opened = fs::read_to_string(&log).unwrap();
    let address = opened.lines().find_map(|line| field(line, "address")?.parse().ok()).unwrap();
    let sessions = |files: &[&std::path::Path]| -> usize {
        files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .map(|log| log.matches(" session ").count())
            .sum()
    };
    for i in 0..200 {
        exchange(connect(address), b"x");
        if i == 50 {
            fs::rename(&log, &moved).unwrap();
        }
        if i == 100 {
            program.signal(SIGUSR1);
        }
    }
    until("every session is in one of the two files", || sessions(&[&log, &moved]) == 200);
    assert!(sessions(&[&moved]) >= 51 && sessions(&[&log]) >= 1);
    program.signal(SIGTERM);
    assert!(program.wait().success());
}

#[test]
fn syslog_gets_lines_of_rfc_3164() {
    let folder = Folder::new();
    let path = folder.path("devlog");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let target = format!("syslog:{}", path.display());
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(file).arg("-l").arg(target);
    let program = Program::spawn(command, folder);
    let mut space = [0; 2048];
    let count = socket.recv(&mut space).unwrap();
    let line = text(&space[..count]);
    assert!(line.starts_with("<30>"), "facility daemon, severity info: {line}");
    assert!(
        line.contains(&format!(" tcpdirector[{}]: info start version=", program.pid())),
        "{line}"
    );
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing_and_is_reported() {
    let backend = Backend::named("here");
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[backend.address()], ""));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(
        &file,
        fs::read_to_string(&file).unwrap().replace("127.0.0.1:0\"", &format!("{free}\"")),
    )
    .unwrap();
    let mut command = Command::new(PROGRAM);
    // every write to this device fails with ENOSPC
    command.arg("-c").arg(&file).args(["-l", "/dev/full"]);
    let mut program = Program::spawn(command, folder);
    until("it listens", || std::net::TcpStream::connect(free).is_ok());
    for _ in 0..20 {
        assert_eq!(ask(free), "here");
    }
    program.signal(SIGTERM);
    assert!(program.wait().success());
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let backend = Backend::named("here");
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[backend.address()], ""));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(
        &file,
        fs::read_to_string(&file).unwrap().replace("127.0.0.1:0\"", &format!("{free}\"")),
    )
    .unwrap();
    let _child =
        Killed(Command::new(PROGRAM).arg("-c").arg(&file).stderr(Stdio::piped()).spawn().unwrap());
    until("it listens", || std::net::TcpStream::connect(free).is_ok());
    // some 200 bytes each, into a pipe of 64 KiB that is never read
    for _ in 0..600 {
        assert_eq!(ask(free), "here");
    }
}

#[test]
fn the_pid_file_is_locked_and_removed_at_the_end() {
    let folder = Folder::new();
    let pidfile = folder.path("td.pid");
    let name = pidfile.to_str().unwrap().to_owned();
    let mut program = Program::start_with(&one_service("random", &[], ""), &["-p", &name]);
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), format!("{}\n", program.pid()));
    let file = folder.write("second.xml", &one_service("random", &[], ""));
    let second = run(&["-c", file.to_str().unwrap(), "-p", &name]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains(&format!("process {}", program.pid())),
        "{}",
        text(&second.stderr)
    );
    program.signal(SIGTERM);
    assert!(program.wait().success());
    assert!(!pidfile.exists());
}

#[test]
fn a_stale_pid_file_is_taken_over() {
    let folder = Folder::new();
    let pidfile = folder.write("td.pid", "999999999 and more than a number\n");
    let program =
        Program::start_with(&one_service("random", &[], ""), &["-p", pidfile.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), format!("{}\n", program.pid()));
}

#[test]
fn a_daemon_is_ready_when_its_parent_ends_with_0() {
    let backend = Backend::named("behind");
    let folder = Folder::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0\"", &format!("{free}\""));
    let file = folder.write("td.xml", &xml);
    let (log, pidfile) = (folder.path("td.log"), folder.path("td.pid"));
    let arguments = [
        "-d",
        "-c",
        file.to_str().unwrap(),
        "-l",
        log.to_str().unwrap(),
        "-p",
        pidfile.to_str().unwrap(),
    ];
    let parent = run(&arguments);
    assert!(parent.status.success(), "{}", text(&parent.stderr));
    // no waiting here: it is the promise of the exit status
    assert_eq!(ask(free), "behind");
    let pid: i32 = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    let second = run(&["-d", "-c", file.to_str().unwrap(), "-l", log.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1), "the second one cannot bind, and its parent says so");
    assert!(text(&second.stderr).contains(&free.to_string()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGTERM).unwrap();
    until("it has gone", || !pidfile.exists());
    assert!(fs::read_to_string(&log).unwrap().contains("stop state=done"));
}

#[test]
fn the_demo_serves_and_says_how_to_try_it() {
    let mut demo = Killed(
        Command::new(PROGRAM)
            .arg("--demo")
            .args(["-l", "/dev/null"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built"),
    );
    let (tell, told) = crossbeam::channel::unbounded();
    let stdout = std::io::BufReader::new(demo.0.stdout.take().unwrap());
    std::thread::spawn(move || {
        std::io::BufRead::lines(stdout).map_while(Result::ok).for_each(|line| drop(tell.send(line)))
    });
    let mut lines = std::iter::from_fn(|| told.recv_timeout(DEADLINE).ok());
    let line = lines.find(|line| line.trim_start().starts_with("curl http://")).unwrap();
    let address: std::net::SocketAddr =
        line.trim().trim_start_matches("curl http://").trim_end_matches('/').parse().unwrap();
    until("it listens", || std::net::TcpStream::connect(address).is_ok());
    // the attempts above took turns as well
    let answers: Vec<String> =
        (0..9).map(|_| text(&exchange(connect(address), b"GET / HTTP/1.0\r\n\r\n"))).collect();
    for name in ["one", "two", "three"] {
        assert!(
            answers.iter().any(|answer| answer.ends_with(&format!("hello from {name}\n"))),
            "{answers:?}"
        );
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(demo.0.id() as i32), SIGINT).unwrap();
    assert!(finish(&mut demo.0).status.success());
}

/// A child that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pid_file_that_is_a_symbolic_link_is_refused_and_what_it_leads_to_stays_as_it_is() {
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let (precious, link) = (folder.write("precious", "precious"), folder.path("pid"));
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    let output = run(&["-c", file.to_str().unwrap(), "-p", link.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("pid file"), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

/// Whoever may write to the folder of the log could have laid it there.
#[test]
fn root_writes_no_log_where_a_link_leads_and_follows_those_to_its_own_standard_error() {
    if !nix::unistd::geteuid().is_root() {
        return leave_out("only root can write where others cannot");
    }
    let folder = Folder::new();
    let (precious, soft, hard) =
        (folder.write("precious", "precious"), folder.path("soft"), folder.path("hard"));
    std::os::unix::fs::symlink(&precious, &soft).unwrap();
    fs::hard_link(&precious, &hard).unwrap();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    for (log, why) in [(soft, "it is a symbolic link"), (hard, "it is a hard link")] {
        let output = run(&["-c", file.to_str().unwrap(), "-l", log.to_str().unwrap()]);
        assert!(
            output.status.code() == Some(1) && text(&output.stderr).contains(why),
            "{}",
            text(&output.stderr)
        );
    }
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
    let program = Program::start_with(&one_service("random", &[], ""), &["-l", "/dev/stderr"]);
    program.wait_for("state=open");
}

#[test]
fn root_is_given_up_with_the_groups_of_the_user() {
    if !nix::unistd::geteuid().is_root() {
        return leave_out("only root can give up root");
    }
    let folder = Folder::new();
    let log = folder.path("td.log");
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file).arg("-l").arg(&log).args(["-u", "nobody"]);
    let program = Program::spawn(command, folder);
    until("it listens", || fs::read_to_string(&log).is_ok_and(|log| log.contains("state=open")));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let ids = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    assert_eq!(ids("Uid:"), [nobody.uid.as_raw(); 4]);
    assert_eq!(ids("Gid:"), [nobody.gid.as_raw(); 4]);
    assert!(ids("Groups:").iter().all(|id| *id == nobody.gid.as_raw()), "root's groups were kept");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        fs::metadata(&log).unwrap().uid(),
        nobody.uid.as_raw(),
        "it could not reopen its log"
    );
}

#[test]
fn a_user_who_cannot_use_the_file_is_warned_of_by_a_test_and_a_start() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root can give up root");
    }
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let read = "it cannot be read, so a reload will be refused: EACCES";
    let write = "it cannot be written, so saving will be refused: EACCES";
    let output = run(&["-t", "-u", "nobody", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.lines().count() == 2, "{said}");
    assert!(
        said.contains(&format!("{}: as user nobody, {read}", file.display()))
            && said.contains(write),
        "{said}"
    );
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file).args(["-u", "nobody"]);
    let program = Program::spawn(command, folder);
    assert!(program.wait_for(read).contains(" warn file user=nobody path="));
    program.wait_for(write);
    assert!(run(&["-t", file.to_str().unwrap()]).stderr.is_empty());
    assert_eq!(run(&["-t", "-u", "no-such-user", file.to_str().unwrap()]).status.code(), Some(1));
}

#[test]
fn being_stopped_and_continued_does_not_stretch_the_idle_time() {
    let backend = Backend::silent();
    let program =
        Program::start(&one_service("random", &[backend.address()], "<timeout idle=\"1s\"/>"));
    let began = Instant::now();
    let client = connect(program.address());
    until("it is connected", || backend.accepted() == 1);
    // each pair of signals interrupts the blocked reads
    until("the session has ended", || {
        program.signal(nix::sys::signal::Signal::SIGSTOP);
        program.signal(nix::sys::signal::Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(100));
        program.has("end=idle")
    });
    assert!(began.elapsed() < Duration::from_millis(2500), "it took {:?}", began.elapsed());
    assert!(ends_by_reset(&client));
}

#[test]
fn term_is_heard_with_a_full_queue_on_two_addresses() {
    let backend = Backend::silent();
    let xml = one_service("random", &[backend.address()], "<listen ip=\"127.0.0.1:0\"/>")
        .replace("</pdconfig>", "<pool threads=\"2\" sessions=\"1\" queue=\"20\"/></pdconfig>");
    let mut program = Program::start(&xml);
    until("both listen", || program.addresses().len() == 2);
    let addresses = program.addresses();
    let clients: Vec<_> = (0..100).map(|i| connect(addresses[i % 2])).collect();
    until("one is connected", || backend.accepted() == 1);
    program.signal(SIGTERM);
    program.wait_for("stop state=begun");
    program.signal(SIGTERM);
    assert_eq!(program.wait().code(), Some(2), "the one that is connected had to be cut");
    drop(clients);
}

#[test]
fn sessions_that_are_still_busy_when_the_grace_is_over_are_reset_and_counted() {
    let backend = Backend::with(|mut client| while client.write_all(&[7; 100]).is_ok() {});
    let xml = one_service("random", &[backend.address()], "")
        .replace("</pdconfig>", "<stop grace=\"500ms\"/></pdconfig>");
    let mut program = Program::start(&xml);
    let mut client = connect(program.address());
    client.read_exact(&mut [0; 100]).unwrap();
    let began = Instant::now();
    program.signal(SIGTERM);
    assert!(ends_by_reset(&client));
    assert_eq!(program.wait().code(), Some(2), "stopped as asked, but not all could finish");
    assert!(began.elapsed() >= Duration::from_millis(500), "it did not wait");
    assert!(program.wait_for("stop state=done").ends_with("reason=TERM sessions=1 silent=0 cut=1"));
}

#[test]
fn a_session_that_was_silent_for_ten_seconds_is_not_one_that_had_to_be_cut() {
    let backend = Backend::silent();
    let xml = one_service("random", &[backend.address()], "")
        .replace("</pdconfig>", "<stop grace=\"60s\"/></pdconfig>");
    let mut program = Program::start(&xml);
    let client = connect(program.address());
    until("it is connected", || backend.accepted() == 1);
    program.signal(SIGTERM);
    assert!(ends_by_reset(&client));
    assert!(program.wait().success());
    assert!(program.wait_for("stop state=done").ends_with("reason=TERM sessions=1 silent=1 cut=0"));
}
