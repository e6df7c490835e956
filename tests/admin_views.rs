//! What the admin side shows: the text grammar, metrics, health, and the page, also under names
//! that want to break them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::Ordering::Relaxed;

use tcpdirector::admin::http::Request;
use tcpdirector::admin::metrics;
use tcpdirector::relay::CloseReason;
use tcpdirector::state::snapshot::Snapshot;

use crate::common::admin::{Desk, Who, body, request};
use crate::common::backend::Backend;
use crate::common::command::finish;
use crate::common::server::{have, tool};
use crate::common::{TestDaemon, ask, is_turned_away, one_service};

/// Names that would break a page, a line or a label; control characters cannot come in.
const HOSTILE: &str = "<script>alert(1)</script>\"'>&amp; \\ %41 {{x}}";

fn as_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn hostile() -> Desk {
    let name = as_xml(HOSTILE);
    Desk::new(&format!(
        r#"<service name="{name}"><listen ip="127.0.0.1:8000"/><group name="{name}" scheduler="random">
        <host name="{name}" ip="127.0.0.1:8001"/><host name="b" ip="127.0.0.1:8002"/></group><enable group="{name}"/></service>"#
    ))
}

fn many(count: usize) -> Desk {
    let host = |i| format!("<host name=\"backend-{i:02}\" ip=\"192.168.100.{i}:8080\"/>");
    let hosts: String = (1..=count).map(host).collect();
    Desk::new(&format!(
        "<service name=\"web\"><listen ip=\"127.0.0.1:8000\"/><group name=\"main\" scheduler=\"random\">{hosts}</group>\
         <enable group=\"main\"/></service>"
    ))
}

#[test]
fn the_text_has_the_grammar_of_the_original() {
    let desk = Desk::web();
    desk.take_down("b");
    desk.get(Who::Full, "/hostAdminDown?service=web&group=spare&name=c");
    let expected = "service web 127.0.0.1:8000 main\n\
                    group main enabled\n\
                    host a 127.0.0.1:8001 0 -\n\
                    disabled b 127.0.0.1:8002 connection%20refused -\n\
                    group spare inactive\n\
                    disabled c 127.0.0.1:8003 disabled -\n";
    assert_eq!(desk.read("/running.txt"), expected);
    desk.get(Who::Full, "/drainHost?service=web&group=main&name=b");
    assert!(
        desk.read("/running.txt")
            .contains("\ndisabled b 127.0.0.1:8002 draining,%20connection%20refused -\n")
    );
}

#[test]
fn one_line_of_the_text_is_one_thing_whatever_the_names() {
    let text = hostile().read("/running.txt");
    let fields: Vec<usize> = text.lines().map(|line| line.split(' ').count()).collect();
    assert_eq!(fields, [4, 3, 5, 5], "{text}");
    assert!(text.contains("%2541"), "what looks encoded is encoded again: {text}");
}

#[test]
fn health_says_which_service_has_no_host_and_nothing_more() {
    let desk = Desk::web();
    desk.take_down("a");
    assert_eq!(desk.read("/healthz"), "OK\n");
    desk.get(Who::Full, "/hostAdminDown?service=web&group=main&name=b");
    let response = desk.get(Who::Nobody, "/healthz");
    assert_eq!((response.status, body(&response).as_str()), (503, "NOT OK: no host for web\n"));
}

/// Reads one sample: its name, its labels unescaped, its value.
fn sample(line: &str) -> (String, BTreeMap<String, String>, u64) {
    let (head, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
    let mut rest = labels.strip_suffix('}').expect("labels end");
    let mut read = BTreeMap::new();
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let (mut text, mut escaped, mut end) = (String::new(), false, None);
        for (i, c) in quoted.char_indices() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = Some(i);
                    break;
                }
                (true, c) => {
                    text.push(if c == 'n' { '\n' } else { c });
                    escaped = false;
                }
                (false, c) => text.push(c),
            }
        }
        read.insert(label.trim_start_matches(',').to_owned(), text);
        rest = &quoted[end.expect("the label ends") + 1..];
    }
    (name.to_owned(), read, value.parse().expect("a number"))
}

#[test]
fn metrics_are_families_of_samples_with_help_and_type() {
    for desk in [Desk::web(), hostile()] {
        let text = desk.read("/metrics");
        let (mut kinds, mut family, mut seen) = (BTreeMap::new(), String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap().to_owned();
                assert!(!kinds.contains_key(&family), "{family} is there twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                kinds.insert(family.clone(), kind.to_owned());
            } else {
                let (name, labels, _) = sample(line);
                assert_eq!(name, family, "{line}");
                assert!(
                    name.starts_with("tcpdirector_")
                        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                );
                assert!(seen.insert((name, labels)), "{line} is there twice");
            }
        }
        assert!(text.ends_with('\n') && kinds.len() > 15);
    }
}

#[test]
fn each_session_is_counted_by_the_reason_for_which_it_ended() {
    let host = Backend::named("one");
    let daemon = TestDaemon::start(&one_service("random", &[host.address()], ""));
    assert_eq!(ask(daemon.address()), "one");
    daemon.change("hostAdminDown?service=web&group=main&name=h0").unwrap();
    assert!(is_turned_away(daemon.address()) && is_turned_away(daemon.address()));
    daemon.settle();
    let director = daemon.daemon.director();
    let text = metrics::render(director, &Snapshot::take(director, 0));
    let ended = text.lines().filter(|line| line.starts_with("tcpdirector_service_ended_sessions"));
    let ended: Vec<(String, u64)> =
        ended.map(sample).map(|(_, labels, count)| (labels["reason"].clone(), count)).collect();
    let expected = |reason| match reason {
        CloseReason::Closed => 1,
        CloseReason::NoHost => 2,
        _ => 0,
    };
    assert_eq!(ended, CloseReason::ALL.map(|reason| (reason.word().to_owned(), expected(reason))));
}

#[test]
fn prometheus_finds_nothing_wrong_with_the_metrics() {
    if !have(&["promtool"]) {
        return;
    }
    let mut check = tool("promtool");
    check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = check.spawn().unwrap();
    child.stdin.take().unwrap().write_all(hostile().read("/metrics").as_bytes()).unwrap();
    let output = finish(&mut child);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn metrics_say_what_is_so() {
    let desk = hostile();
    desk.take_down("b");
    let text = desk.read("/metrics");
    let value = |name: &str, host: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample);
        let mut found = samples.filter(|(n, labels, _)| {
            n == name && labels.get("host").is_none_or(|label| label == host)
        });
        found.next().map(|(_, _, value)| value)
    };
    for (name, host, expected) in [
        ("tcpdirector_host_up", "b", 0),
        ("tcpdirector_host_up", HOSTILE, 1),
        ("tcpdirector_host_available", HOSTILE, 1),
        ("tcpdirector_host_failures_total", "b", 1),
        ("tcpdirector_service_healthy", "", 1),
        ("tcpdirector_group_enabled", "", 1),
        ("tcpdirector_build_info", "", 1),
    ] {
        assert_eq!(value(name, host), Some(expected), "{name} {host}\n{text}");
    }
}

#[test]
fn one_look_at_the_page_says_whether_all_is_well() {
    let desk = Desk::web();
    let banner = |class: &str, words: &str| {
        let page = desk.read("/running");
        assert!(
            page.contains(&format!("class=\"live {class}\""))
                && page.contains(&format!("<h1>{words}</h1>")),
            "{words}"
        );
    };
    banner("good", "All is well");
    desk.get(Who::Full, "/hostAdminDown?service=web&group=main&name=a");
    banner("good", "All is well, 1 host taken out");
    desk.take_down("c");
    banner("warn", "1 host is down");
    desk.take_down("b");
    banner("bad", "No host for web");
}

#[test]
fn a_refused_reload_stands_on_the_page_until_the_next_good_one() {
    let desk = Desk::web();
    let metric = |line: &str| {
        assert!(desk.read("/metrics").contains(&format!("\ntcpdirector_{line}\n")), "{line}")
    };
    metric("last_reload_successful 1");
    let reasons: String = (1..=6).map(|line| format!("td.xml:{line}:1: <b>wrong</b>\n")).collect();
    desk.core.director.reloads.note_refused("HUP", &reasons);
    let page = desk.read("/running");
    assert!(
        page.contains("class=\"live warn\"")
            && page.contains("<h1>The last reload was refused</h1>"),
        "{page}"
    );
    for words in [
        "The reload by HUP at ",
        "<li>td.xml:4:1: &#60;b&#62;wrong",
        "<li>and 2 more, in the log</li>",
    ] {
        assert!(page.contains(words), "no {words} in {page}");
    }
    metric("last_reload_successful 0");
    metric("reloads_refused_total 1");
    let json: serde_json::Value = serde_json::from_str(&desk.read("/running.json")).unwrap();
    assert_eq!(
        (&json["reload_refused"]["by"], &json["reload_refused"]["more"]),
        (&"HUP".into(), &2.into())
    );
    // what is worse comes first
    desk.take_down("b");
    assert!(desk.read("/running").contains("<h1>1 host is down</h1>"));
    desk.core.director.reloads.note_done();
    assert!(!desk.read("/running").contains("was refused"));
    metric("last_reload_successful 1");
    metric("reloads_refused_total 1");
}

#[test]
fn lines_that_the_log_has_lost_are_on_the_page_and_in_the_metrics() {
    let desk = Desk::web();
    assert!(!desk.read("/running").contains("could not be written"));
    desk.core.lost_lines.store(3, Relaxed);
    assert!(desk.read("/running").contains("; 3 log lines could not be written</p>"));
    assert!(desk.read("/metrics").contains("\ntcpdirector_log_lost_lines_total 3\n"));
    assert!(desk.read("/running.json").contains("\"log_lost\":3,"));
}

#[test]
fn the_page_names_what_leaves_a_service_without_a_host_before_anything_else() {
    let service = |name, port| {
        format!(
            "<service name='{name}'><listen ip='127.0.0.1:{port}'/><group name='main' scheduler='random'>\
             <host name='{name}-1' ip='127.0.0.1:1'/><host name='{name}-2' ip='127.0.0.1:2'/></group></service>"
        )
    };
    let desk = Desk::new(&(service("web", 8000) + &service("mail", 8001)));
    ["web-1", "mail-1", "mail-2"].iter().for_each(|host| desk.take_down(host));
    let page = desk.read("/running");
    let place = |host| page.find(&format!("<li>{host}")).expect("it is named");
    assert!(place("mail / main / mail-2") < place("web / main / web-1"), "{page}");
}

#[test]
fn nothing_on_a_page_can_become_markup() {
    let desk = hostile();
    desk.take_down(HOSTILE);
    let hit = "%3Cscript%3Ealert(1)%3C/script%3E%22'";
    let failing = format!("/enableGroup?service={hit}&group=x");
    let browser = Request { accept: Some("text/html,*/*".into()), ..request(Who::Full, &failing) };
    let refused = desk.ask(&browser);
    assert_eq!(refused.status, 404);
    desk.core.director.events.note("<b>", HOSTILE.to_owned());
    let mut pages = vec![body(&refused)];
    pages.extend(
        [format!("/running?resultMessage={hit}"), "/events".into(), "/sessions".into(), "/".into()]
            .map(|u| desk.read(&u)),
    );
    for page in pages {
        let rest = page.replacen("<script src=\"/tcpdirector.js\" defer></script>", "", 1);
        assert!(
            !rest.contains("<script") && !rest.contains("<b>") && !rest.contains("\"'"),
            "{rest}"
        );
    }
}

#[test]
fn a_page_has_no_inline_script_or_style_and_nothing_from_elsewhere() {
    for path in ["/", "/running", "/sessions", "/events"] {
        let page = Desk::web().read(path);
        for forbidden in
            [" style=", " onclick=", "<style", "javascript:", "http://", "https://", "src=\"//"]
        {
            assert!(!page.contains(forbidden), "{path} has {forbidden}");
        }
    }
}

#[test]
fn a_readonly_user_sees_no_forms() {
    let page = body(&Desk::web().get(Who::ReadOnly, "/running"));
    assert!(
        !page.contains("formaction")
            && !page.contains("name=\"token\"")
            && !page.contains("<button>")
    );
    assert!(page.contains("127.0.0.1:8001") && page.contains("may look, not change"));
}

#[test]
fn the_page_of_50_hosts_is_smaller_than_50_kb() {
    let desk = many(50);
    for i in 1..=25 {
        desk.take_down(&format!("backend-{i:02}"));
    }
    let service = desk.core.director.service("web").unwrap();
    for i in 0..60 {
        service
            .history
            .note((i, i as u64 * 123_456, i as u64 * 7_654_321), std::time::Duration::from_secs(5));
    }
    let page = desk.read("/running");
    assert!(page.len() < 50_000, "{} bytes", page.len());
    assert_eq!(page.matches("formaction=\"/delHost\"").count(), 50);
}

#[test]
fn the_plot_says_in_words_what_it_shows() {
    let desk = Desk::web();
    let service = desk.core.director.service("web").unwrap();
    service.history.note((3, 0, 0), std::time::Duration::from_secs(5));
    service.history.note((2, 10_000, 5_000_000), std::time::Duration::from_secs(5));
    let page = desk.read("/running");
    for words in [
        "<title>Open sessions in the last five minutes; open: now 2, at most 3</title>",
        "to clients: now 1.0 MB/s, at most 1.0 MB/s; to servers: now 2.0 kB/s",
    ] {
        assert!(page.contains(words), "no {words}");
    }
}

#[test]
fn the_page_refreshes_itself_only_when_it_is_asked_to() {
    let desk = Desk::web();
    assert!(!desk.read("/running").contains("http-equiv"));
    assert!(
        desk.read("/running?refresh=30")
            .contains("<noscript><meta http-equiv=\"refresh\" content=\"30;")
    );
    for wrong in ["-1", "3601", "x", "1;url=//evil"] {
        assert_eq!(
            desk.get(Who::Full, &format!("/running?refresh={wrong}")).status,
            400,
            "{wrong}"
        );
    }
}
