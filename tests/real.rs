//! Real programs on both sides: what people put behind a balancer, and what they reach it with.
//!
//! Each test needs some Debian packages, and is skipped where one is missing (`.ci/run` installs
//! them all). The servers run on free ports of loopback, with their files in a folder that goes
//! with the test.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;

use crate::common::command::of_file;
use crate::common::left_out::missing;
use crate::common::program::{Folder, Program, field};
use crate::common::server::{
    Server, balance, curl, curl_within, free_address, have, run, tool, until_at_rest,
};
use crate::common::{connect, until};

/// Fails unless two files are the same.
fn compare(one: &Path, other: &Path) {
    let mut command = tool("cmp");
    command.arg(one).arg(other);
    run(command);
}

/// Makes a file of so many random bytes.
fn random_file(path: &Path, bytes: u64) {
    let mut random = of_file("/dev/urandom", File::open("/dev/urandom")).take(bytes);
    of_file(path, File::create(path).and_then(|mut file| io::copy(&mut random, &mut file)));
}

/// How many sessions of the program have gone to a host.
fn sessions_of(program: &Program, host: &str) -> usize {
    program.lines("session id=").iter().filter(|line| field(line, "host") == Some(host)).count()
}

#[test]
fn curl_gets_the_files_of_two_python_servers_in_turn() {
    if !have(&["curl", "python3"]) {
        return;
    }
    let servers = ["one", "two"].map(|name| {
        let (folder, address) = (Folder::new(), free_address());
        folder.write("name", name);
        folder.write("page.html", &"<p>the same on both</p>\n".repeat(5000));
        let mut command = tool("python3");
        command
            .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(folder.path(""));
        command.arg(address.port().to_string());
        Server::start(command, folder, address)
    });
    let program = balance(&servers.each_ref().map(Server::address));
    let mut names: Vec<String> = (0..6).map(|_| curl(program.address(), "/name")).collect();
    names.sort();
    assert_eq!(names, ["one", "one", "one", "two", "two", "two"]);
    for _ in 0..2 {
        assert_eq!(curl(program.address(), "/page.html"), "<p>the same on both</p>\n".repeat(5000));
    }
}

#[test]
fn curl_gets_a_big_file_of_nginx_unharmed() {
    if !have(&["curl", "nginx"]) {
        return;
    }
    let files = Folder::new();
    let (original, copy) = (files.path("big"), files.path("copy"));
    random_file(&original, 50 << 20);
    let root = format!("root {};", files.path("").display());
    let servers = [free_address(), free_address()].map(|address| Server::nginx(address, &root));
    let program = balance(&servers.each_ref().map(Server::address));
    for host in ["h0", "h1"] {
        curl_within(60, program.address(), "/big", &["--output", copy.to_str().unwrap()]);
        compare(&original, &copy);
        until("the session has ended", || sessions_of(&program, host) == 1);
        fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn fastcgi_goes_on_when_one_of_two_servers_is_killed() {
    if !have(&["curl", "nginx", "fcgiwrap"]) {
        return;
    }
    let files = Folder::new();
    // it says which process runs it, what it was asked, and what it was sent
    let script = files.write(
        "script",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\necho \"pid=$PPID query=$QUERY_STRING sent=$(wc -c)\"\n",
    );
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let [first, second] = [free_address(), free_address()].map(|address| {
        let mut command = tool("fcgiwrap");
        command.arg("-f").arg("-s").arg(format!("tcp:{address}"));
        Server::start(command, Folder::new(), address)
    });
    let program = balance(&[first.address(), second.address()]);
    let front = Server::nginx(
        free_address(),
        &format!(
            "location / {{ fastcgi_pass {}; fastcgi_param SCRIPT_FILENAME {}; fastcgi_param QUERY_STRING $query_string;\n\
             fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_LENGTH $content_length; }}",
            program.address(),
            script.display()
        ),
    );
    let sent = "x".repeat(100_000);
    let body = files.write("body", &sent);
    let ask = || {
        curl_within(
            60,
            front.address(),
            "/?a=b",
            &["--data-binary", &format!("@{}", body.display())],
        )
    };
    let answer = |server: &Server| format!("pid={} query=a=b sent=100000\n", server.pid());
    let mut answers = [ask(), ask()];
    answers.sort();
    let mut expected = [answer(&first), answer(&second)];
    expected.sort();
    assert_eq!(answers, expected);
    second.signal_all(Signal::SIGKILL);
    for _ in 0..10 {
        assert_eq!(ask(), answer(&first));
    }
    program.wait_for("host=h1");
    program.wait_for("state=down");
}

#[test]
fn a_server_that_speaks_first_shows_its_own_key() {
    if !have(&["sshd", "ssh-keygen", "ssh-keyscan"]) {
        return;
    }
    // a folder that the Debian package's service makes, and that sshd asks for when it runs as root
    if nix::unistd::geteuid().is_root() && !Path::new("/run/sshd").is_dir() {
        return missing("/run/sshd");
    }
    let (folder, address) = (Folder::new(), free_address());
    let key = folder.path("key");
    let mut command = tool("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key);
    run(command);
    let shown = fs::read_to_string(folder.path("key.pub")).unwrap();
    let file = folder.write(
        "sshd_config",
        &format!(
            "ListenAddress {address}\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n",
            key.display()
        ),
    );
    let mut command = tool("sshd");
    command.arg("-D").arg("-e").arg("-f").arg(file);
    let server = Server::start(command, folder, address);
    let program = balance(&[server.address()]);
    let mut command = tool("ssh-keyscan");
    command
        .args(["-T", "20", "-t", "ed25519", "-p"])
        .arg(program.address().port().to_string())
        .arg("127.0.0.1");
    let scanned = run(command);
    // what comes before it, and where that goes, differs from one OpenSSH to the next
    let keys: Vec<&str> = scanned
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(_, key)| key)
        .collect();
    assert_eq!(keys, [shown.trim()]);
}

#[test]
fn files_go_both_ways_at_the_same_time() {
    if !have(&["socat", "cmp"]) {
        return;
    }
    let megabytes =
        std::env::var("TCPDIRECTOR_TEST_MB").map_or(64, |text| text.parse().expect("a number"));
    let bytes = megabytes << 20;
    let (folder, server_folder, address) = (roomy_folder(4 * bytes), Folder::new(), free_address());
    for name in ["up", "down"] {
        random_file(&folder.path(name), bytes);
    }
    let socat = |place: String, from: &str, to: &str| {
        let mut command = tool("socat");
        let files = format!(
            "OPEN:{},rdonly!!CREATE:{}",
            folder.path(from).display(),
            folder.path(to).display()
        );
        command.args(["-b", "65536", "-t", "30", "-T", "60", &place, &files]);
        command
    };
    let listen = format!("TCP-LISTEN:{},bind={}", address.port(), address.ip());
    let mut server = Server::start(socat(listen, "down", "up.copy"), server_folder, address);
    let program = balance(&[address]);
    let began = Instant::now();
    run(socat(format!("TCP:{}", program.address()), "up", "down.copy"));
    server.wait();
    eprintln!("{megabytes} MB each way at the same time in {:.2} s", began.elapsed().as_secs_f64());
    let session = program.wait_for("session id=");
    let figure = bytes.to_string();
    assert_eq!(
        [field(&session, "to_server"), field(&session, "to_client")],
        [Some(figure.as_str()); 2]
    );
    assert_eq!(field(&session, "end"), Some("closed"));
    compare(&folder.path("up"), &folder.path("up.copy"));
    compare(&folder.path("down"), &folder.path("down.copy"));
}

/// A folder in memory where that has room for so many bytes and half as many again, else in the
/// usual place.
fn roomy_folder(bytes: u64) -> Folder {
    let memory = Path::new("/dev/shm");
    let has_room = |found: nix::sys::statvfs::Statvfs| {
        found.blocks_available() as f64 * found.fragment_size() as f64 > bytes as f64 * 1.5
    };
    if statvfs(memory).is_ok_and(has_room) { Folder::inside(memory) } else { Folder::new() }
}

#[test]
fn a_client_that_does_not_read_costs_no_memory_and_stops_nobody() {
    if !have(&["curl", "nginx"]) {
        return;
    }
    let files = Folder::new();
    files.write("small", "small");
    File::create(files.path("huge"))
        .and_then(|file| file.set_len(1 << 30))
        .expect("it takes no room");
    let server = Server::nginx(free_address(), &format!("root {};", files.path("").display()));
    let program = balance(&[server.address()]);
    assert_eq!(curl(program.address(), "/small"), "small");
    let before = program.status("RssAnon");

    let mut client = connect(program.address());
    client.write_all(b"GET /huge HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(client.peek(&mut [0]).unwrap(), 1, "the answer has begun");
    until_at_rest(&[program.pid(), server.pid()]);
    let during = program.status("RssAnon");
    eprintln!("a client that does not read: from {before} to {during} kB");
    assert!(during < before + 1024, "from {before} to {during} kB");

    assert_eq!(curl_within(2, program.address(), "/small", &[]), "small");
    until("both short sessions have ended", || sessions_of(&program, "h0") == 2);
}
