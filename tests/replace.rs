//! Replacing the program while it runs: no client notices, nothing is lost on the way, nobody is
//! left behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal::{SIGTERM, SIGUSR2};

use crate::common::admin::HASH;
use crate::common::backend::Backend;
use crate::common::command::output;
use crate::common::left_out::{leave_out, may_open};
use crate::common::program::{Folder, PROGRAM, field, run};
use crate::common::replaceable::{Load, Replaceable, runs};
use crate::common::server::free_address;
use crate::common::{
    ask, connect, connect_unix, ends_by_reset, exchange, one_service, pattern, until,
};

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn twenty_times_in_a_row_under_load_no_client_fails_and_no_transfer_breaks() {
    if !may_open(450) {
        return;
    }
    const PIECE: usize = 10_000;
    let backend = Backend::echo();
    let balancer = Replaceable::start(&one_service("random", &[backend.address()], ""));
    let (address, load, bytes) = (balancer.address(), Load::default(), pattern(20 * PIECE));
    let (open, threads) = (descriptors(balancer.pid()), balancer.program.status("Threads"));
    let step = |client: &mut TcpStream, round: usize| {
        let piece = &bytes[round * PIECE..][..PIECE];
        let mut back = vec![0; PIECE];
        client.write_all(piece).unwrap();
        client.read_exact(&mut back).unwrap();
        assert!(back == piece, "a long transfer is broken");
    };
    std::thread::scope(|scope| {
        let _end = load.guard();
        load.run(scope, address);
        let mut long: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
        for round in 0..20 {
            long.iter_mut().for_each(|client| step(client, round));
            let old = balancer.pid();
            balancer.replace();
            load.check();
            // each generation but the first has one session that outlives it
            assert!(round > 0 || runs(old));
            if round < 19 {
                long.push(connect(address));
                let newest = long.last_mut().unwrap();
                (0..=round).for_each(|round| step(newest, round));
            }
        }
        long.into_iter().for_each(|client| assert!(exchange(client, b"the end") == b"the end"));
    });
    let now = balancer.pid();
    until("the old ones have gone", || {
        balancer.pids().into_iter().all(|pid| pid == now || !runs(pid))
    });
    assert!(runs(now) && balancer.pids().len() == 21);
    until("the last one has no more open than the first had", || descriptors(now) <= open);
    let of_pool = |comm: String| comm.starts_with("worker ");
    let tasks = || {
        fs::read_dir(format!("/proc/{now}/task"))
            .unwrap()
            .flatten()
            .map(|task| task.path().join("comm"))
    };
    let others =
        tasks().filter(|comm| !of_pool(fs::read_to_string(comm).unwrap_or_default())).count();
    assert!(others <= threads, "{others} threads, and the first had {threads}");
    // what they have said last may still be on its way
    until("each one has said that it was replaced", || {
        balancer.program.count("stop state=done reason=replaced") == 20
    });
    assert!(
        balancer
            .program
            .lines("stop state=done")
            .iter()
            .all(|line| line.ends_with("silent=0 cut=0"))
    );
}

#[test]
fn the_pid_file_is_locked_and_names_a_living_process_at_every_moment() {
    let backend = Backend::echo();
    let balancer = Replaceable::start(&one_service("random", &[backend.address()], ""));
    let file = balancer.path("td.pid");
    std::thread::scope(|scope| {
        let replacements = scope.spawn(|| {
            for _ in 0..5 {
                balancer.replace();
            }
        });
        while !replacements.is_finished() {
            let lock = Flock::lock(File::open(&file).unwrap(), FlockArg::LockSharedNonblock);
            assert!(lock.is_err(), "the lock was free");
            let read = || fs::read_to_string(&file).unwrap();
            let text = read();
            // one that has nothing left to do ends soon after it was replaced
            assert!(runs(text.trim().parse().unwrap()) || read() != text, "{text:?}");
        }
    });
    balancer.signal(SIGTERM);
    until("the last one takes the file along", || !file.exists());
}

/// The page of an admin side at a Unix socket.
fn get(path: &std::path::Path, url: &str) -> String {
    let mut stream = connect_unix(path);
    write!(stream, "GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ZnVsbDpzZWNyZXQ=\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// `running.json` with its hosts and the tally of its only service.
fn running(path: &std::path::Path) -> serde_json::Value {
    let answer = get(path, "/running.json");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

#[test]
fn states_totals_and_session_numbers_go_on_and_the_admin_socket_too() {
    let (good, gone) = (Backend::echo(), Backend::refuse());
    let folder = Folder::new();
    let socket = folder.path("admin.sock");
    let admin = format!(
        "<admin listen=\"unix:{}\"><user name=\"full\" password=\"{HASH}\" access=\"full\"/></admin><checktime time=\"1h\"/>",
        socket.display()
    );
    let third = "127.0.0.1:9".parse().unwrap();
    let xml = one_service("roundrobin", &[good.address(), gone.address(), third], "");
    let balancer = Replaceable::start(&xml.replace("</pdconfig>", &format!("{admin}</pdconfig>")));
    // nobody is connected to it, so this is over at once, and it stays disabled
    get(&socket, "/drainHost?service=web&group=main&name=h2&within=1h");
    balancer.program.wait_for("state=drained");
    for _ in 0..5 {
        assert_eq!(exchange(connect(balancer.address()), b"12345"), b"12345");
    }
    balancer.program.wait_for("session id=5 ");
    let before = running(&socket);
    balancer.replace();
    until("the admin side is there", || balancer.program.count("admin address=") == 2);
    let after = running(&socket);
    for key in ["served", "unserved", "enabled"] {
        assert_eq!(before["services"][0][key], after["services"][0][key], "{key}");
    }
    for host in 0..3 {
        let of = |all: &serde_json::Value| all["services"][0]["groups"][0]["hosts"][host].clone();
        for key in
            ["name", "up", "reason", "operator", "total", "failures", "to_server", "to_client"]
        {
            assert_eq!(of(&before)[key], of(&after)[key], "host {host} {key}");
        }
        let (then, now) =
            (of(&before)["since"].as_u64().unwrap(), of(&after)["since"].as_u64().unwrap());
        assert!(
            (then..then + 20).contains(&now),
            "host {host} is up or down since {now}, not {then}"
        );
    }
    let hosts = &after["services"][0]["groups"][0]["hosts"];
    assert_eq!(
        (&hosts[0]["total"], &hosts[1]["up"], &hosts[2]["operator"]),
        (&5.into(), &false.into(), &"disabled".into())
    );
    exchange(connect(balancer.address()), b"x");
    balancer.program.wait_for("session id=6 ");
    balancer.signal(SIGTERM);
    until("the last one removes its socket", || !socket.exists());
}

#[test]
fn addresses_that_are_new_are_opened_and_those_that_are_gone_are_closed() {
    let backend = Backend::named("web");
    let (first, second) = (free_address(), free_address());
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0\"", &format!("{first}\""));
    let balancer = Replaceable::start(&xml);
    assert_eq!(ask(first), "web");
    fs::write(balancer.path("td.xml"), xml.replace(&first.to_string(), &second.to_string()))
        .unwrap();
    balancer.replace();
    assert_eq!(ask(second), "web");
    until("the old address is closed", || TcpStream::connect(first).is_err());
    balancer.program.wait_for(&format!("address={first} state=closed"));
    balancer.replace();
    balancer.program.wait_for(&format!("address={second} state=handed-over"));
    assert_eq!(ask(second), "web");
}

#[test]
fn more_addresses_than_fit_into_one_message_are_all_handed_over() {
    if !may_open(400) {
        return;
    }
    const MORE: usize = 149;
    let backend = Backend::named("web");
    let listens = "<listen ip=\"127.0.0.1:0\"/>".repeat(MORE);
    let xml = one_service("random", &[backend.address()], "")
        .replace("<group ", &format!("{listens}<group "));
    let balancer = Replaceable::start(&xml);
    until("all are open", || balancer.program.count("state=open") > MORE);
    balancer.replace();
    until("all are open", || balancer.program.count("state=open") == 2 * (MORE + 1));
    let addresses = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| field(line, "address").unwrap().to_owned()).collect()
    };
    let open = addresses(balancer.program.lines("state=open"));
    let (mut before, mut after) = (open[..=MORE].to_vec(), open[MORE + 1..].to_vec());
    before.sort();
    after.sort();
    assert_eq!(before, after);
    assert!(after.iter().all(|address| ask(address.parse().unwrap()) == "web"));
}

#[test]
fn a_replaced_program_that_is_told_to_stop_does_so_like_any_other() {
    let backend = Backend::echo();
    let xml = one_service("random", &[backend.address()], "")
        .replace("</pdconfig>", "<stop grace=\"300ms\"/></pdconfig>");
    let mut balancer = Replaceable::start(&xml);
    let mut client = connect(balancer.address());
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let old = balancer.pid();
    balancer.replace();
    balancer.program.signal(SIGUSR2);
    balancer.program.wait_for("this program was replaced already");
    assert!(runs(old));
    balancer.program.signal(SIGTERM);
    assert!(ends_by_reset(&client));
    assert_eq!(balancer.program.wait().code(), Some(2));
    assert!(
        balancer
            .program
            .wait_for("stop state=done")
            .ends_with("reason=replaced sessions=1 silent=0 cut=1")
    );
    assert_eq!(exchange(connect(balancer.address()), b"new"), b"new", "the new one goes on");
}

#[test]
fn a_link_that_leads_to_another_version_is_followed() {
    let backend = Backend::echo();
    let balancer = Replaceable::start(&one_service("random", &[backend.address()], ""));
    let (name, one, two) =
        (balancer.path("tcpdirector"), balancer.path("one"), balancer.path("two"));
    fs::hard_link(&name, &two).unwrap();
    fs::rename(&name, &one).unwrap();
    let file = |pid| fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let link_to = |version| {
        let _ = fs::remove_file(&name);
        std::os::unix::fs::symlink(version, &name).unwrap();
    };
    for version in [&one, &two, &one] {
        link_to(version);
        assert_eq!(file(balancer.replace()), *version);
    }
}

#[test]
fn edits_that_are_not_in_the_file_are_warned_of() {
    let backend = Backend::echo();
    let folder = Folder::new();
    let socket = folder.path("admin.sock");
    let user = format!("<user name=\"full\" password=\"{HASH}\" access=\"full\"/>");
    let admin = format!("<admin listen=\"unix:{}\">{user}</admin></pdconfig>", socket.display());
    let balancer = Replaceable::start(
        &one_service("random", &[backend.address()], "").replace("</pdconfig>", &admin),
    );
    balancer.replace();
    assert!(!balancer.program.has("not in the file"));
    until("the admin side is there", || balancer.program.count("admin address=") == 2);
    get(&socket, "/addHost?service=web&group=main&name=two&ip=127.0.0.1:9");
    assert!(get(&socket, "/running.json").contains("127.0.0.1:9"));
    balancer.replace();
    balancer.program.wait_for("edits since the last load are not in the file");
}

/// The kernel had only seen to that when root was given up.
#[test]
fn no_process_of_its_user_may_look_into_a_program_that_has_replaced_another() {
    if !nix::unistd::geteuid().is_root() {
        return leave_out("only root can give up root");
    }
    let balancer = Replaceable::start_with(
        &one_service("random", &[], ""),
        "chmod 777 .;",
        &[("FLAGS", "-u nobody")],
    );
    // what is in /proc belongs to the user of a process, unless that may not be looked into
    // (proc(5))
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}/stat")).unwrap().uid();
    assert_eq!(owner(balancer.pid()), 0);
    assert_eq!(owner(balancer.replace()), 0);
}

/// Root was in its own home when it started the program. That could not be replaced ever after.
#[test]
fn a_program_whose_user_may_not_enter_the_folder_of_its_start_is_replaced_in_another_one() {
    if !nix::unistd::geteuid().is_root() {
        return leave_out("only root can give up root");
    }
    let prefix = "chmod 777 .; mkdir -m 700 home; cd home;";
    let balancer =
        Replaceable::start_with(&one_service("random", &[], ""), prefix, &[("FLAGS", "-u nobody")]);
    let folder = || fs::read_link(format!("/proc/{}/cwd", balancer.pid())).unwrap();
    assert_eq!(folder(), balancer.path("home"));
    balancer.replace();
    assert_eq!(folder().as_os_str(), "/");
}

#[test]
fn a_daemon_is_replaced_where_it_is() {
    let backend = Backend::named("web");
    let folder = Folder::new();
    let address = free_address();
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0\"", &format!("{address}\""));
    folder.write("td.xml", &xml);
    // relative names: the successor has to start in the folder that the daemon has left
    let arguments = ["-d", "-c", "td.xml", "-l", "td.log", "-p", "td.pid"];
    let started = output(Command::new(PROGRAM).args(arguments).current_dir(folder.path("")));
    assert!(started.status.success(), "{started:?}");
    let pid =
        || -> i32 { fs::read_to_string(folder.path("td.pid")).unwrap().trim().parse().unwrap() };
    let first = pid();
    for _ in 0..2 {
        let output = run(&["--replace", "-p", folder.path("td.pid").to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", pid()));
        assert_eq!(ask(address), "web");
    }
    until("the first one has gone", || !runs(first));
    until("it has let go of the folder", || {
        fs::read_link(format!("/proc/{}/cwd", pid())).unwrap().as_os_str() == "/"
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid()), SIGTERM).unwrap();
    until("it has gone", || !folder.path("td.pid").exists());
    let log = fs::read_to_string(folder.path("td.log")).unwrap();
    assert_eq!(
        log.lines().filter(|line| field(line, "state") == Some("refused")).count(),
        0,
        "{log}"
    );
}
