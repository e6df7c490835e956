//! What passwords may cost: a hash beyond the budget is refused wherever it comes from, and a flood
//! of wrong ones from one address delays nobody else.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::admin_front::{connect_from, status};
use crate::common::admin::{HASH, get};
use crate::common::command::text;
use crate::common::left_out::may_open;
use crate::common::program::{Folder, PROGRAM, Program, field, run};
use crate::common::read_all;

/// It needs 256 MiB for a check.
const COSTLY: &str = "$y$jDT$LdJMENpBABJJ3hIHjB1Bi.$iofk68xbXBoXKsxTyMBCh2qkQuzQZ2Zik521F9TsTq6";
/// `wrong`, and the right password of `full`.
const WRONG: &str = "enp6Ondyb25n";
const RIGHT: &str = "ZnVsbDpzZWNyZXQ=";

/// One service, the user `full` with the password `secret`, and others.
fn xml(others: &str) -> String {
    format!(
        "<pdconfig><service name=\"a\"><listen ip=\"127.0.0.1:0\"/><group name=\"g\" scheduler=\"random\"/></service>\
         <admin listen=\"127.0.0.1:0\"><user name=\"full\" password=\"{HASH}\" access=\"full\"/>{others}</admin></pdconfig>"
    )
}

fn costly() -> String {
    xml(&format!("<user name=\"ann\" password=\"{COSTLY}\" access=\"full\"/>"))
}

fn admin_of(program: &Program) -> SocketAddr {
    let line = program.wait_for("admin address=");
    field(&line, "address")
        .and_then(|address| address.parse().ok())
        .expect("an address with a port")
}

/// Sends a request as a client of that address.
fn send(source: &str, to: SocketAddr, path: &str, login: &str) -> TcpStream {
    let mut stream = connect_from(source, to);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {login}\r\n\r\n");
    // who is refused while it sends has an answer all the same
    let _ = stream.write_all(request.as_bytes());
    stream
}

#[test]
fn the_check_of_a_file_prints_what_a_password_may_cost_and_refuses_a_hash_beyond_it_by_name() {
    let folder = Folder::new();
    let said = |xml: &str| {
        let output = run(&["-t", folder.write("a.xml", xml).to_str().unwrap()]);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, printed, _) = said(&xml(""));
    assert!(
        status == Some(0)
            && printed.contains("\npasswords    ")
            && printed.contains(" rounds of $6$ for one check\n"),
        "{printed}"
    );
    let (status, printed, complaints) = said(&costly());
    assert_eq!((status, printed.as_str()), (Some(78), ""));
    assert!(
        complaints.contains(
            "a.xml: the password hash of user `ann` is refused: checking it takes 268435456 bytes"
        ),
        "{complaints}"
    );
}

/// A wrong password for any name ended the program where there was less memory than one check took,
/// and all sessions with it.
#[test]
fn a_start_refuses_the_hash_and_goes_on_and_a_reload_refuses_the_file() {
    let folder = Folder::new();
    let file = folder.write("a.xml", &costly());
    let limit = "ulimit -v 200000; exec \"$0\" -c \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", limit, PROGRAM]).arg(&file);
    let program = Program::spawn(command, folder);
    let admin = admin_of(&program);
    let line = program.wait_for(" error admin state=refused");
    assert!(line.contains("user `ann` is refused: checking it takes 268435456 bytes"), "{line}");
    for name in ["ann", "nobody"] {
        let login = base64(&format!("{name}:secret"));
        assert_eq!(
            status(&String::from_utf8_lossy(&read_all(send("127.0.0.1", admin, "/", &login)))),
            "401",
            "{name}"
        );
    }
    assert!(get(admin, "/running.txt").starts_with("HTTP/1.1 200 "), "the others get in");
    let mark = program.mark();
    program.signal(Signal::SIGHUP);
    let line = program.wait_after(mark, "reload by=HUP state=refused");
    assert!(line.contains("user `ann` is refused"), "{line}");
    assert!(get(admin, "/reload").contains("user `ann` is refused"));
    let change = format!("/addUser?name=eve&access=full&password={}", COSTLY.replace('$', "%24"));
    let answer = get(admin, &change);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("user `eve`"), "{answer}");
    fs::write(&file, xml("")).unwrap();
    assert!(get(admin, "/reload").starts_with("HTTP/1.1 302 "));
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// It took 64 places and a check for each wrong password.
#[test]
fn three_hundred_connections_of_one_address_delay_neither_a_health_check_nor_a_login_of_another() {
    if !may_open(300) {
        return;
    }
    let program = Program::start(&xml(""));
    let admin = admin_of(&program);
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let slowest = thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    let many: Vec<TcpStream> =
                        (0..50).map(|_| send("127.0.1.1", admin, "/running.txt", WRONG)).collect();
                    // a connection that had to make room before it was read is reset
                    let answer = |mut stream: TcpStream| {
                        std::io::Read::read(&mut stream, &mut [0; 12]).unwrap_or(0)
                    };
                    answered.fetch_add(
                        many.into_iter()
                            .filter(|stream| answer(stream.try_clone().unwrap()) > 0)
                            .count(),
                        SeqCst,
                    );
                }
            });
        }
        // also when an answer is wrong and this panics, or the others would never end
        let _end = EndOnDrop(&over);
        crate::common::until("the flood is there", || answered.load(SeqCst) > 300);
        let ask = |source, path, expected: &str| {
            let start = Instant::now();
            let answer =
                String::from_utf8_lossy(&read_all(send(source, admin, path, RIGHT))).into_owned();
            assert!(answer.starts_with(expected), "{path}: {answer}");
            start.elapsed()
        };
        (0..20)
            .map(|_| {
                ask("127.0.0.2", "/healthz", "HTTP/1.1 503 ").max(ask(
                    "127.0.0.3",
                    "/running.txt",
                    "HTTP/1.1 200 ",
                ))
            })
            .max()
            .unwrap_or_default()
    });
    eprintln!("slowest answer beside {} wrong logins: {slowest:?}", answered.load(SeqCst));
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let checked = program.count("login by=- client=127.0.1.1 outcome=refused");
    // fewer than are free where a check takes long, which is a reason to wait, too
    assert!((1..20).contains(&checked), "{checked} passwords were checked");
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
