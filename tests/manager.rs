//! How failed hosts come back.

use std::time::{Duration, Instant};

use crate::common::backend::Backend;
use crate::common::left_out::may_open;
use crate::common::{TestDaemon, ask, is_turned_away, one_service, until};

fn with_checktime(xml: &str, checktime: &str) -> String {
    xml.replace("</pdconfig>", &format!("<checktime time=\"{checktime}\"/></pdconfig>"))
}

#[test]
fn a_host_that_answers_again_is_taken_in_within_checktime_plus_a_second() {
    let (gone, good) = (Backend::refuse(), Backend::named("good"));
    let address = gone.address();
    let xml = with_checktime(&one_service("roundrobin", &[address, good.address()], ""), "1s");
    let daemon = TestDaemon::start(&xml);
    assert_eq!(ask(daemon.address()), "good");
    assert!(!daemon.hosts()[0].is_up());
    drop(gone);
    let back = Backend::named_at(address, "back");
    let began = Instant::now();
    until("the host is up", || daemon.hosts()[0].is_up());
    assert!(began.elapsed() <= Duration::from_secs(2), "it took {:?}", began.elapsed());
    let served = [ask(daemon.address()), ask(daemon.address())];
    assert!(served.contains(&"back".to_owned()), "{served:?}");
    drop(back);
}

#[test]
fn a_host_that_does_not_answer_stays_out_and_no_client_is_the_probe() {
    let (gone, good) = (Backend::refuse(), Backend::named("good"));
    let xml =
        with_checktime(&one_service("roundrobin", &[gone.address(), good.address()], ""), "1s");
    let daemon = TestDaemon::start(&xml);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(ask(daemon.address()), "good");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(daemon.hosts()[0].failures(), 1, "it was taken in without having answered");
}

#[test]
fn while_a_whole_group_is_down_it_is_tried_every_second() {
    let gone = Backend::refuse();
    let address = gone.address();
    let daemon = TestDaemon::start(&with_checktime(&one_service("random", &[address], ""), "1h"));
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    drop(gone);
    let back = Backend::named_at(address, "back");
    let began = Instant::now();
    until("the host is up", || daemon.hosts()[0].is_up());
    assert!(began.elapsed() <= Duration::from_millis(1500), "it took {:?}", began.elapsed());
    assert_eq!(ask(daemon.address()), "back");
    drop(back);
}

#[test]
fn a_host_that_is_silent_does_not_hold_up_the_others() {
    let (silent, gone) = (Backend::black_hole(), Backend::refuse());
    let address = gone.address();
    let xml = one_service("random", &[silent.address(), address], "<timeout connect=\"4s\"/>");
    let daemon = TestDaemon::start(&with_checktime(&xml, "1h"));
    let now = Instant::now();
    for host in daemon.hosts() {
        host.failed(tcpdirector::state::Reason::Refused, now);
    }
    drop(gone);
    let back = Backend::named_at(address, "back");
    daemon.daemon.wake_manager();
    let began = Instant::now();
    until("the other host is up", || daemon.hosts()[1].is_up());
    assert!(began.elapsed() <= Duration::from_millis(2500), "it took {:?}", began.elapsed());
    drop(back);
}

#[test]
fn hosts_of_a_group_that_is_not_enabled_are_looked_after_too() {
    let (gone, good) = (Backend::refuse(), Backend::named("good"));
    let address = gone.address();
    let xml = format!(
        "<pdconfig><service name=\"web\"><listen ip=\"127.0.0.1:0\"/>\
         <group name=\"spare\" scheduler=\"random\"><host ip=\"{address}\"/></group>\
         <group name=\"main\" scheduler=\"random\"><host ip=\"{}\"/></group><enable group=\"spare\"/></service>\
         <checktime time=\"1\"/></pdconfig>",
        good.address()
    );
    let daemon = TestDaemon::start(&xml);
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    let service = daemon.daemon.director().services()[0].clone();
    daemon.change("enableGroup?service=web&group=main").unwrap();
    assert_eq!(ask(daemon.address()), "good");
    drop(gone);
    let back = Backend::named_at(address, "back");
    until("the host of the other group is up", || service.groups()[0].hosts()[0].is_up());
    drop(back);
}

#[test]
fn many_silent_hosts_do_not_starve_the_last_one() {
    if !may_open(200) {
        return;
    }
    const SILENT: usize = 150;
    let (silent, gone) = (Backend::black_hole(), Backend::refuse());
    let address = gone.address();
    let group = |name: &str, ip: std::net::SocketAddr| {
        format!("<group name=\"{name}\" scheduler=\"random\"><host ip=\"{ip}\"/></group>")
    };
    let silents: String =
        (0..SILENT).map(|i| group(&format!("silent{i}"), silent.address())).collect();
    let xml = format!(
        "<pdconfig><service name=\"web\"><listen ip=\"127.0.0.1:0\"/>{silents}{}<enable group=\"last\"/>\
         <timeout connect=\"2s\"/></service></pdconfig>",
        group("last", address)
    );
    let daemon = TestDaemon::start(&xml);
    let service = daemon.daemon.director().services().remove(0);
    for group in service.groups() {
        group.hosts()[0].failed(tcpdirector::state::Reason::Refused, Instant::now());
    }
    drop(gone);
    let back = Backend::named_at(address, "back");
    daemon.daemon.wake_manager();
    until("the last host is up", || daemon.hosts()[0].is_up());
    drop(back);
}
