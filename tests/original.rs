//! What somebody finds who comes from Python Director: its calls as its documents and its pages
//! write them.
//!
//! Its files are in `config` and `save`, its messages in `admin_routes`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::common::admin::{Desk, HASH, Who, get_as};
use crate::common::command::of_file;
use crate::common::program::{Folder, PROGRAM, Program, field};

#[test]
fn every_call_of_its_documents_is_answered() {
    let desk = Desk::web();
    desk.take_down("a");
    for page in [
        "/",
        "/running",
        "/running.txt",
        "/running.xml",
        "/config.xml",
        "/config.txt",
        "/status.txt",
        "/pydirector.css",
    ] {
        assert_eq!(desk.get(Who::ReadOnly, page).status, 200, "{page}");
    }
    for call in [
        "/addHost?service=web&group=main&ip=127.0.0.1:81",
        "/addHost?service=web&group=main&name=x&ip=127.0.0.1:82",
        "/delHost?service=web&group=main&name=127.0.0.1:81",
        "/delHost?service=web&group=main&ip=127.0.0.1:82",
        "/retryHost?service=web&group=main&host=a",
        "/hostAdminDown?service=web&group=main&name=b",
        "/hostAdminUp?service=web&group=main&name=b",
        "/changeScheduler?service=web&group=spare&scheduler=random",
        "/enableGroup?service=web&group=spare",
        "/delAllHosts?service=web&group=main",
        "/newService?service=new&listen=127.0.0.1:9000",
        "/newGroup?service=new&group=next&scheduler=leastconns",
        "/addUser?name=x&password=rom0wh951j8Sg&access=readonly",
        "/delUser?name=x",
        "/closeLog",
        "/save?verbose=0&refresh=1&ignore=1038000000.12&resultMessage=",
        "/shutdown",
    ] {
        let (status, told) = desk.told(call);
        assert_eq!(status, 302, "{call}: {told}");
    }
}

#[test]
fn a_new_service_has_a_group_main_that_takes_turns() {
    let desk = Desk::web();
    desk.told("/newService?service=new&listen=127.0.0.1:9000");
    let new = desk.core.director.config().services.remove(1);
    assert_eq!(
        (new.enabled.as_str(), new.groups.len(), new.groups[0].name.as_str()),
        ("main", 1, "main")
    );
    assert_eq!(new.groups[0].rule.to_string(), "roundrobin");
    desk.told("/newService?service=other&listen=127.0.0.1:9001&group=g&scheduler=random");
    let other = desk.core.director.config().services.remove(2);
    assert_eq!(
        (other.enabled.as_str(), other.groups[0].rule.to_string().as_str()),
        ("g", "random")
    );
}

#[test]
fn a_name_that_no_host_has_is_an_address() {
    let desk = Desk::web();
    let names = || {
        let config = desk.core.director.config();
        config.services[0].groups[0].hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>()
    };
    // a host that is called as another one is reached
    assert_eq!(
        desk.told("/addHost?service=web&group=main&name=127.0.0.1:8002&ip=127.0.0.1:99").0,
        302
    );
    let delete = "/delHost?service=web&group=main&name=127.0.0.1:8002";
    assert_eq!(
        desk.told(delete),
        (302, "host 127.0.0.1:99 deleted (from active group!)".to_owned())
    );
    assert_eq!(names(), ["a", "b"]);
    assert_eq!(
        desk.told(delete),
        (302, "host 127.0.0.1:8002 deleted (from active group!)".to_owned())
    );
    assert_eq!(names(), ["a"]);
    // the guard of the last live host is for the same one
    assert_eq!(desk.told("/delHost?service=web&group=main&name=127.0.0.1:8001").0, 409);
    assert_eq!(
        desk.told(delete),
        (404, "NOT OK: there is no host `127.0.0.1:8002` in group `main`".to_owned())
    );
    assert_eq!(desk.told("/retryHost?service=web&group=main&host=a&name=a").0, 400);
    desk.take_down("a");
    assert_eq!(desk.told("/retryHost?service=web&group=main&host=127.0.0.1:8001").0, 302);
}

#[test]
fn refresh_is_a_switch_that_means_what_it_says() {
    let desk = Desk::web();
    let every = |text: &str| {
        let page = desk.read(&format!("/running?refresh={text}"));
        let read = |start: &str| {
            page.split_once(start)
                .and_then(|(_, rest)| rest.split(['"', ';']).next().map(str::to_owned))
        };
        (read("http-equiv=\"refresh\" content=\""), read("data-every=\""))
    };
    let seconds = |text: &str| Some(text.to_owned());
    for (text, expected) in [("1", "60"), ("yes", "60"), ("2", "2"), ("3600", "3600")] {
        assert_eq!(every(text), (seconds(expected), seconds(expected)), "{text}");
    }
    for never in ["0", "no"] {
        assert_eq!(every(never), (None, seconds("0")), "{never}");
    }
    assert_eq!(every(""), (None, None));
}

#[test]
fn the_file_is_shown_as_text_where_nothing_is_open() {
    let desk = Desk::web();
    desk.told("/addHost?service=web&group=spare&name=later&ip=127.0.0.1:8004");
    let expected = "service web 127.0.0.1:8000 main\n\
                    group main enabled\nhost a 127.0.0.1:8001 - -\nhost b 127.0.0.1:8002 - -\n\
                    group spare inactive\nhost c 127.0.0.1:8003 - -\n";
    assert_eq!(desk.read("/config.txt"), expected);
    assert_eq!(desk.read("/status.txt?verbose=1"), desk.read("/running.txt"));
    assert_eq!(desk.read("/running.txt;jsessionid=1"), desk.read("/running.txt"));
}

#[test]
fn every_difference_in_the_readme_has_its_reason() {
    let readme = include_str!("../README.md");
    let (_, part) =
        readme.split_once("\n## Coming from Python Director\n").expect("the README has that part");
    let (part, _) = part.split_once("\n## ").expect("it is not the last one");
    let rows: Vec<&str> = part.lines().filter(|line| line.starts_with('|')).collect();
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
    assert!(rows.len() > 50, "this test has lost its eyes");
}

/// A file with the users `full` and `ro`, and with hashes where nobody looks for them.
fn file(host: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<!-- once: fred rom0wh951j8Sg -->\n<pdconfig>\n  <service name='web'>\n    \
         <listen ip='127.0.0.1:0'/>\n    <group name='main' scheduler='random'>{host}</group>\n  </service>\n  \
         <admin listen='127.0.0.1:0'>\n    <user name='full'\n          password='{HASH}' access='full'/>\n    \
         <user name='ro' access='readonly' password='{HASH}'/>\n    \
         <!-- <user name='gone' password='{HASH}' access='full'/> -->\n  </admin>\n</pdconfig>\n<!-- é -->\n"
    )
}

/// The program on this file, where that is, and where its pages are.
fn run(source: &[u8]) -> (Program, PathBuf, SocketAddr) {
    let folder = Folder::new();
    let path = folder.path("tcpdirector.xml");
    of_file(&path, fs::write(&path, source));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&path);
    let program = Program::spawn(command, folder);
    let line = program.wait_for("admin address=");
    let admin =
        field(&line, "address").and_then(|address| address.parse().ok()).expect("an address");
    (program, path, admin)
}

#[test]
fn config_xml_is_the_file_as_it_was_last_read_or_written() {
    let text = file("<!-- none yet -->");
    let (_program, path, admin) = run(text.as_bytes());
    let shown = |who| {
        let answer = get_as(who, admin, "/config.xml");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    };
    assert_eq!(shown(Who::Full), text);
    let public = shown(Who::ReadOnly);
    assert!(
        !public.contains("$6$") && !public.contains("saltsalt") && !public.contains("rom0wh"),
        "{public}"
    );
    assert!(
        public.starts_with(
            "<?xml version=\"1.0\"?>\n<!-- once: fred *** -->\n<pdconfig>\n  <service name='web'>\n"
        ),
        "{public}"
    );
    assert!(
        public.contains("<user name=\"ro\" access=\"readonly\"/>\n")
            && public.ends_with("</pdconfig>\n<!-- é -->\n"),
        "{public}"
    );

    // somebody edits the file, and nobody has read that yet
    let edited = text.replace("none yet", "one soon");
    fs::write(&path, &edited).unwrap();
    assert_eq!(shown(Who::Full), text);
    get_as(Who::Full, admin, "/reload");
    assert_eq!(shown(Who::Full), edited);

    // what runs is in the file after it was saved, and not before
    get_as(Who::Full, admin, "/addHost?service=web&group=main&name=one&ip=127.0.0.1:9");
    assert_eq!(shown(Who::Full), edited);
    get_as(Who::Full, admin, "/save");
    assert_eq!(shown(Who::Full), fs::read_to_string(&path).unwrap());
    assert!(shown(Who::ReadOnly).contains("<host name=\"one\" ip=\"127.0.0.1:9\"/>"));
}

#[test]
fn config_xml_is_utf_8_whatever_the_file_is() {
    let text = "<?xml version='1.0' encoding='iso-8859-1'?>".to_owned()
        + &file("").replacen("<?xml version=\"1.0\"?>", "", 1);
    let latin1: Vec<u8> =
        text.chars().map(|c| u8::try_from(c).expect("it is in Latin-1")).collect();
    let (_program, _, admin) = run(&latin1);
    for who in [Who::Full, Who::ReadOnly] {
        let answer = get_as(who, admin, "/config.xml");
        assert!(answer.contains("encoding='UTF-8'?>") && answer.contains("<!-- é -->"), "{answer}");
    }
}
