//! What the admin pages do to the program around the running state: its file and its listen
//! addresses.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::admin::{HASH, get};
use crate::common::program::{Folder, PROGRAM, Program};
use crate::common::{connect, until};

/// A service on a host, and the admin pages, started from `c.xml` in this folder.
fn start(folder: Folder, host: SocketAddr) -> Program {
    let service = format!(
        "<service name=\"web\"><listen ip=\"127.0.0.1:0\"/><group name=\"main\" scheduler=\"random\">\
         <host name=\"h\" ip=\"{host}\"/></group></service>"
    );
    let user = format!("<user name=\"full\" password=\"{HASH}\" access=\"full\"/>");
    let xml =
        format!("<pdconfig>{service}<admin listen=\"127.0.0.1:0\">{user}</admin></pdconfig>\n");
    let file = folder.write("c.xml", &xml);
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(file);
    let program = Program::spawn(command, folder);
    until("it is there", || program.addresses().len() == 2);
    program
}

#[test]
fn saving_twice_keeps_the_backup_of_what_was_there_before() {
    let folder = Folder::new();
    let (file, backup) = (folder.path("c.xml"), folder.path("c.xml.bak"));
    let program = start(folder, "127.0.0.1:1".parse().unwrap());
    let admin = program.addresses()[1];
    let before = fs::read_to_string(&file).unwrap();
    assert!(
        get(admin, "/addHost?service=web&group=main&name=two&ip=127.0.0.1:2")
            .starts_with("HTTP/1.1 302 ")
    );
    for _ in 0..2 {
        assert!(get(admin, "/save").starts_with("HTTP/1.1 302 "));
        assert!(fs::read_to_string(&file).unwrap().contains("127.0.0.1:2"));
        assert_eq!(fs::read_to_string(&backup).unwrap(), before);
    }
}

#[test]
fn saving_does_not_undo_what_somebody_else_has_written_meanwhile() {
    let folder = Folder::new();
    let file = folder.path("c.xml");
    let program = start(folder, "127.0.0.1:1".parse().unwrap());
    let admin = program.addresses()[1];
    let before = fs::read_to_string(&file).unwrap();
    for edit in
        ["<pdconfig><!-- half of an edit -->", &before.replace("127.0.0.1:1", "127.0.0.1:3")]
    {
        fs::write(&file, edit).unwrap();
        let answer = get(admin, "/save");
        assert!(
            answer.starts_with("HTTP/1.1 409 ") && answer.contains("somebody has changed the file"),
            "{answer}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), edit);
    }
    // a comment changes nothing that could be undone
    let commented = before.replace("<service", "<!-- mine --><service");
    fs::write(&file, &commented).unwrap();
    assert!(get(admin, "/save").starts_with("HTTP/1.1 302 "));
    assert_eq!(fs::read_to_string(&file).unwrap(), commented);
}

#[test]
fn a_program_that_is_stopping_opens_no_new_address() {
    let backend = crate::common::backend::Backend::echo();
    let program = start(Folder::new(), backend.address());
    let [web, admin] = program.addresses()[..] else { panic!("two addresses") };
    // a session that holds up the stop
    let mut client = connect(web);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    program.signal(Signal::SIGTERM);
    until("it takes no more clients", || program.has("state=closed"));
    let answer = get(admin, "/newService?service=late&listen=127.0.0.1:0&group=g&scheduler=random");
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("stopping"), "{answer}");
}
