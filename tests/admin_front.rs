//! The acceptor of the admin pages as one client meets it: what it passes on, what it refuses, its
//! deadlines, how it ends.
//!
//! The admin side runs in this process with a stub for its pages, which [`crate::admin_attacks`]
//! uses as well.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
use tcpdirector::admin::{self, Admin, AdminSocket, Method, Request, Response};
use tcpdirector::system::inherited::Inherited;

use crate::common::command::{finish, output};
use crate::common::left_out::leave_out;
use crate::common::program::{Folder, PROGRAM, Program, field};
use crate::common::{DEADLINE, connect, connect_unix, pattern, read_all};

pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub const SECOND: Duration = Duration::from_secs(1);

/// Pages that tell what has been asked for.
pub fn pages(request: &Request) -> Response {
    match request.path.as_str() {
        "/panic" => panic!("a page that fails, as this test wants it"),
        "/large" => Response { status: 200, body: pattern(4 << 20), ..Response::default() },
        "/split" => Response::text(200, "ok").with("X-Bad", "a\r\nX-Evil: b").with("X-Good", "c"),
        "/slow" => {
            thread::sleep(Duration::from_millis(300));
            Response::text(200, "slow\n")
        }
        _ => Response::text(200, described(request))
            .with("Content-Security-Policy", "default-src 'none'"),
    }
}

fn described(request: &Request) -> String {
    let Request { path, query, form, authorization, host, client, .. } = request;
    let method = if request.method == Method::Post { "POST" } else { "GET" };
    format!("{method} {path} {query:?} {form:?} {authorization:?} {host:?} {client}\n")
}

fn start() -> Admin {
    start_with(pages)
}

fn start_with(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Admin {
    let listeners =
        AdminSocket::open(&"127.0.0.1:0".parse().unwrap(), &mut Inherited::default()).unwrap();
    admin::start(listeners, Arc::new(handler)).unwrap()
}

fn address(admin: &Admin) -> SocketAddr {
    admin.addresses()[0]
}

/// Sends bytes and reads all of the answer, without closing first.
pub fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    String::from_utf8_lossy(&read_all(stream)).into_owned()
}

pub fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

/// Asks for a page as anybody would from an address that is not the attackers', and must get it
/// within a few seconds: the kernel takes one where its queue was full, and no client is waited for
/// any longer than ten.
pub fn answers_soon(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let mut stream = connect_from("127.0.0.2", address);
    stream.write_all(GET).unwrap();
    let answer = String::from_utf8_lossy(&read_all(stream)).into_owned();
    let time = start.elapsed();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(time < 4 * SECOND, "the answer took {time:?}");
    time
}

#[test]
fn a_request_reaches_the_pages_decoded_and_its_answer_comes_back_whole() {
    let admin = start();
    let answer = ask(
        address(&admin),
        b"POST /a%20b?x=%C3%A9+1&x=2 HTTP/1.1\r\nhost: box:1\r\nX-Tcpdirector-Client: 6.6.6.6\r\nAuthorization: Basic eA==\r\n\
          Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\nConnection: keep-alive\r\nTE: chunked\r\n\r\nf=g%26h+i",
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        "POST /a b [(\"x\", \"é 1\"), (\"x\", \"2\")] [(\"f\", \"g&h i\")] Some(\"Basic eA==\") Some(\"box:1\") 127.0.0.1\n"
    );
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n")
            && head.contains("\r\nContent-Security-Policy: default-src 'none'"),
        "{head}"
    );
    assert!(
        head.contains("\r\nConnection: close")
            && head.contains(&format!("\r\nContent-Length: {}", body.len())),
        "{head}"
    );
    assert!(!head.to_ascii_lowercase().contains("server:"), "{head}");
}

#[test]
fn other_good_requests_are_served_too() {
    let admin = start();
    let body = |request: &[u8]| {
        let answer = ask(address(&admin), request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert_eq!(status(head), "200", "{answer}");
        body.to_owned()
    };
    assert!(
        body(b"GET http://other:9/x?y=z HTTP/1.1\r\nHost: box\r\n\r\n")
            .starts_with("GET /x [(\"y\", \"z\")] [] None Some(\"other:9\")")
    );
    assert!(body(b"GET http://other HTTP/1.1\r\nHost: box\r\n\r\n").starts_with("GET / []"));
    assert!(body(b"GET / HTTP/1.0\r\n\r\n").starts_with("GET / [] [] None None"));
    assert!(body(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("POST / [] []"));
    assert_eq!(body(b"HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n"), "");
    let mut pipelined = GET.to_vec();
    pipelined.extend(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!body(&pipelined).contains("second"), "one request a connection");
}

#[test]
fn a_client_that_waits_for_a_word_gets_it_before_it_sends_the_body() {
    let admin = start();
    let mut stream = connect(address(&admin));
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut line = [0; 25];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"a=b").unwrap();
    let answer = String::from_utf8(read_all(stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("(\"a\", \"b\")"), "{answer}");
}

#[test]
fn a_request_may_come_a_byte_at_a_time_and_its_sender_may_close_its_side() {
    let admin = start();
    let mut stream = connect(address(&admin));
    for byte in GET {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(stream).starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn a_large_answer_comes_whole_to_a_slow_reader() {
    let admin = start();
    let mut stream = connect(address(&admin));
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    thread::sleep(Duration::from_millis(200));
    let answer = read_all(stream);
    assert!(answer.ends_with(&pattern(4 << 20)));
}

#[test]
fn what_is_not_clean_http_is_refused_in_words() {
    let admin = start();
    let with =
        |header: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n").into_bytes();
    let huge = [b"GET /".as_slice(), &[b'a'; 9000], b" HTTP/1.1\r\n\r\n"].concat();
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(100)).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("501", with("Transfer-Encoding: chunked")),
        ("501", with("transfer-encoding: identity, chunked\r\nContent-Length: 5")),
        ("501", with("Transfer-Encoding: \r\nContent-Length: 5")),
        ("400", with("Transfer-Encoding : chunked")),
        ("400", with("Content-Length: 5\r\nContent-Length: 5")),
        ("400", with("Content-Length: 5, 5")),
        ("400", with("Content-Length: +5")),
        ("400", with("Content-Length: 0x5")),
        ("400", with("Content-Length: ")),
        ("413", with("Content-Length: 65537")),
        ("413", with("Content-Length: 99999999999999999999999999999")),
        ("400", with("A: b\r\n folded: c")),
        ("400", with("A: b\nContent-Length: 5")),
        ("400", with("A: b\rContent-Length: 5")),
        ("400", with("A: b\0c")),
        ("400", with("Ä: b")),
        ("400", with("Authorization: Bäsic")),
        ("400", with("Host: b")),
        ("400", with("A b: c")),
        ("400", with(": c")),
        ("400", with("no colon")),
        ("417", with("Expect: everything")),
        ("400", b"GET /\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/0.9\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/2.0\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/1.99999\r\n\r\n".to_vec()),
        ("400", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/1.1\n\n".to_vec()),
        ("400", b"\r\n\r\n".to_vec()),
        ("400", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("400", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("400", b"GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("400", b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("400", b"GET /?a=%ff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("400", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("400", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("405", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("405", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("405", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("431", huge),
        ("431", many),
    ];
    for (expected, request) in cases {
        let shown = String::from_utf8_lossy(&request).into_owned();
        let answer = ask(address(&admin), &request);
        assert_eq!(status(&answer), expected, "{shown:?}: {answer}");
        assert!(answer.contains("\r\n\r\nNOT OK: "), "{shown:?}: {answer}");
        assert_eq!(
            answer.contains("\r\nAllow: GET, HEAD, POST\r\n"),
            expected == "405",
            "{answer}"
        );
    }
    let mut stream = connect(address(&admin));
    stream.write_all(b"GET / HT").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(stream).starts_with(b"HTTP/1.1 400 "));
    answers_soon(address(&admin));
}

#[test]
fn a_page_that_panics_and_a_header_that_would_split_the_answer_do_no_harm() {
    let admin = start();
    let answer = ask(address(&admin), b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("NOT OK: "), "{answer}");
    let answer = ask(address(&admin), b"GET /split HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains("X-Good: c") && !answer.contains("X-Evil"), "{answer}");
    answers_soon(address(&admin));
}

#[test]
fn a_request_has_ten_seconds_for_all_of_it() {
    let admin = start();
    let start = Instant::now();
    let silent = connect(address(&admin));
    let mut slow = connect(address(&admin));
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let answer = loop {
        let mut space = [0; 4096];
        let _ = slow.write_all(b"G");
        match slow.read(&mut space) {
            Ok(count) => break String::from_utf8_lossy(&space[..count]).into_owned(),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                assert!(start.elapsed() < 15 * SECOND, "still open")
            }
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(start.elapsed() > 9 * SECOND, "{:?}", start.elapsed());
    assert_eq!(read_all(silent), b"", "a client that said nothing is told nothing");
}

#[test]
fn a_unix_socket_serves_its_owner_only_and_is_removed() {
    let folder = Folder::new();
    let path = folder.path("admin.sock");
    // what a crash leaves behind
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display()).parse().unwrap();
    let mut admin = admin::start(
        AdminSocket::open(&listen, &mut Inherited::default()).unwrap(),
        Arc::new(pages),
    )
    .unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let mut stream = connect_unix(&path);
    stream.write_all(GET).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(" unix\n"), "{answer}");
    let taken = AdminSocket::open(&listen, &mut Inherited::default()).err().map(|e| e.kind());
    assert_eq!(taken, Some(ErrorKind::AddrInUse), "a second one");
    admin.stop();
    assert!(!path.exists());
    folder.write("admin.sock", "somebody's file");
    assert!(AdminSocket::open(&listen, &mut Inherited::default()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's file");
}

#[test]
fn stopping_delivers_the_last_answer_and_leaves_nothing_behind() {
    let (asked, is_asked) = crossbeam::channel::bounded(1);
    let mut admin = start_with(move |request| {
        asked.send(()).unwrap();
        pages(request)
    });
    let target = address(&admin);
    let _silent = connect(target);
    let last = thread::spawn(move || ask(target, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"));
    is_asked.recv_timeout(DEADLINE).expect("the last request has come");
    let start = Instant::now();
    admin.stop();
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert!(last.join().unwrap().ends_with("slow\n"));
    assert!(TcpStream::connect(target).is_err());
}

/// A connection from an address of this machine that is not the usual one.
pub fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket =
        socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
            .unwrap();
    socket::bind(socket.as_raw_fd(), &format!("{source}:0").parse::<SockaddrIn>().unwrap())
        .unwrap();
    socket::connect(socket.as_raw_fd(), &to.to_string().parse::<SockaddrIn>().unwrap()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// One address had the places of all, and the health check behind it.
#[test]
fn an_address_has_its_share_of_the_places_and_neither_another_one_nor_a_health_check_waits_behind_it()
 {
    let (seen, is_seen) = crossbeam::channel::unbounded();
    let (go, may_go) = crossbeam::channel::bounded::<()>(0);
    let admin = start_with(move |request| {
        seen.send(format!("{} {}", request.path, request.client)).unwrap();
        if request.path == "/first" {
            let _ = may_go.recv_timeout(DEADLINE);
        }
        Response::text(200, "ok\n")
    });
    let send = |mut stream: TcpStream, path: &str| {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let usual = |path| send(connect(address(&admin)), path);
    let answer = |stream| String::from_utf8(read_all(stream)).unwrap();
    let first = usual("/first");
    assert_eq!(is_seen.recv_timeout(DEADLINE).unwrap(), "/first 127.0.0.1");
    let waiting: Vec<TcpStream> = (0..8).map(|_| usual("/share")).collect();
    let health = usual("/healthz?");
    let other = send(connect_from("127.0.0.2", address(&admin)), "/other");
    let refused = answer(usual("/beyond"));
    assert!(
        refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n")
            && refused.contains("\r\nRetry-After: 1\r\n"),
        "{refused}"
    );
    go.send(()).unwrap();
    for stream in waiting.into_iter().chain([first, health, other]) {
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    let order: Vec<String> = is_seen.try_iter().collect();
    assert_eq!(
        order[..3],
        ["/other 127.0.0.2", "/healthz 127.0.0.1", "/share 127.0.0.1"],
        "{order:?}"
    );
    assert_eq!(order.len(), 10);
}

/// It began with a folder there, and each kill of the program left one.
#[test]
fn the_admin_side_needs_no_folder_for_temporary_files_and_no_device() {
    let folder = Folder::new();
    let xml = "<pdconfig><service name='a'><listen ip='127.0.0.1:0'/><group name='g' scheduler='random'/></service>\
               <admin listen='127.0.0.1:0'/></pdconfig>";
    let file = folder.write("a.xml", xml);
    let hidden = |script: &str| {
        let hide = "exec 3<\"$1\"; shift; for at in /tmp /dev; do mount -t tmpfs -o ro none $at || exit; done; ";
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            &(hide.to_owned() + script),
            "sh",
            PROGRAM,
        ]);
        command
    };
    if !output(&mut hidden("")).status.success() {
        return leave_out("this user may not hide folders in a namespace");
    }
    // neither by its path, which may be hidden
    let mut command = hidden("exec /proc/self/fd/3 \"$@\"");
    command.args(["-c", "/proc/self/fd/0"]);
    let program = Program::spawn_with(command, std::fs::File::open(&file).unwrap().into(), folder);
    let line = program.wait_for("admin address=");
    let at = field(&line, "address")
        .and_then(|address| address.parse().ok())
        .expect("an address with a port");
    assert_eq!(status(&ask(at, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")), "503");
    assert_eq!(status(&ask(at, GET)), "401");
}

#[test]
fn passwd_prints_a_hash_of_the_line_it_reads() {
    let run = |input: &[u8]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--passwd").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finish(&mut child)
    };
    let output = run("päss wörd\nmore".as_bytes());
    let hash = String::from_utf8(output.stdout).unwrap();
    assert!(hash.starts_with("$6$") && hash.ends_with('\n') && hash.lines().count() == 1, "{hash}");
    assert!(pwhash::unix::verify("päss wörd", hash.trim_end()));
    let output = run(b"\n");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the password is empty"));
}
