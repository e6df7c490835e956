//! A listen address: what happens to clients when it is stopped, paused, or given to another
//! service.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tcpdirector::config::Address;
use tcpdirector::relay::pool::{Pool, PoolLimits};
use tcpdirector::state::Director;
use tcpdirector::system::socket;
use tcpdirector::traffic::{Listener, Traffic};

use crate::common::backend::Backend;
use crate::common::left_out::may_open;
use crate::common::{DEADLINE, accept, ask, config, connect, exchange, until};

/// A listener for the first of two services, `web` and `mail`, each with one host.
struct Setting {
    listener: Listener,
    director: Arc<Director>,
    traffic: Arc<Traffic>,
}

impl Setting {
    fn new(web: SocketAddr, mail: SocketAddr, limits: PoolLimits) -> Setting {
        Setting::at(socket::listen("127.0.0.1:0".parse().unwrap()).unwrap(), web, mail, limits)
    }

    fn at(socket: TcpListener, web: SocketAddr, mail: SocketAddr, limits: PoolLimits) -> Setting {
        let service = |name: &str, host: SocketAddr| {
            format!(
                "<service name=\"{name}\"><listen ip=\"127.0.0.1:0\"/>\
                 <group name=\"main\" scheduler=\"random\"><host name=\"h0\" ip=\"{host}\"/></group></service>"
            )
        };
        let xml = format!("<pdconfig>{}{}</pdconfig>", service("web", web), service("mail", mail));
        let director = Arc::new(Director::new(&config(&xml)));
        let (traffic, _) = Traffic::new(Pool::new(limits).unwrap(), director.clone());
        let traffic = Arc::new(traffic);
        let listen: Address = "localhost:0".parse().unwrap();
        let listener =
            Listener::start(socket, listen, director.services()[0].clone(), traffic.clone())
                .unwrap();
        Setting { listener, director, traffic }
    }

    fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    fn accepted(&self) -> u64 {
        self.director.sessions.accepted()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.director.sessions.cut_all();
        self.traffic.pool.close();
    }
}

const ROOM: PoolLimits = PoolLimits {
    threads: 4,
    pollers: 2,
    sessions: 200,
    queue: 200,
    pipes: 4,
    pipe_size: 1 << 20,
    held: 1 << 20,
};

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, DEADLINE).is_err()
}

#[test]
fn it_is_closed_when_stop_returns_and_never_before_its_clients_are_in() {
    if !may_open(200) {
        return;
    }
    let backend = Backend::named("web");
    let setting = Setting::new(backend.address(), backend.address(), ROOM);
    // nobody is accepted before the stop, so all of them are in the kernel's queue
    setting.listener.pause();
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(setting.address())).collect();
    setting.listener.resume();
    setting.listener.stop();
    assert!(refuses(setting.address()), "the address is still open");
    for client in clients {
        assert_eq!(exchange(client, b"who?"), b"web");
    }
    setting.listener.stop();
    setting.listener.resume();
    assert!(refuses(setting.address()) && setting.listener.socket().is_none());
}

#[test]
fn a_paused_one_accepts_nobody_and_refuses_nobody() {
    let backend = Backend::named("web");
    let setting = Setting::new(backend.address(), backend.address(), ROOM);
    for round in 1..=20 {
        setting.listener.pause();
        let before = setting.accepted();
        let clients: Vec<TcpStream> = (0..5).map(|_| connect(setting.address())).collect();
        // a successor that shares the socket finds them all
        let socket = setting.listener.socket().unwrap();
        let theirs = accept(&socket);
        drop((theirs, socket));
        assert_eq!(setting.accepted(), before, "round {round}");
        setting.listener.resume();
        for client in clients.into_iter().skip(1) {
            assert_eq!(exchange(client, b"who?"), b"web");
        }
    }
}

#[test]
fn one_that_is_stopped_while_paused_leaves_its_clients_to_whoever_has_the_socket() {
    let backend = Backend::named("web");
    let setting = Setting::new(backend.address(), backend.address(), ROOM);
    setting.listener.pause();
    let socket = setting.listener.socket().unwrap();
    let _client = connect(setting.address());
    setting.listener.stop();
    assert_eq!(setting.accepted(), 0);
    drop(accept(&socket));
    assert!(!refuses(setting.address()), "the address was closed for the other one, too");
}

#[test]
fn pausing_and_stopping_do_not_wait_for_a_full_queue() {
    let backend = Backend::silent();
    let setting = Setting::new(
        backend.address(),
        backend.address(),
        PoolLimits {
            threads: 1,
            pollers: 2,
            sessions: 1,
            queue: 2,
            pipes: 0,
            pipe_size: 1 << 20,
            held: 1 << 20,
        },
    );
    let clients: Vec<TcpStream> = (0..10).map(|_| connect(setting.address())).collect();
    // one runs, two wait, and the accept thread holds one until there is room
    until("the accept thread is stuck", || setting.accepted() == 4);
    setting.listener.pause();
    setting.listener.resume();
    setting.listener.stop();
    assert!(refuses(setting.address()));
    drop(clients);
}

#[test]
fn clients_that_come_while_it_is_paused_and_resumed_all_the_time_are_all_served() {
    let backend = Backend::named("web");
    let setting = Setting::new(backend.address(), backend.address(), ROOM);
    let (address, is_over) = (setting.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..100).all(|_| ask(address) == "web"))).collect();
        let pauses = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                setting.listener.pause();
                setting.listener.resume();
            }
        });
        let all = clients.into_iter().all(|client| client.join().is_ok_and(|served| served));
        is_over.store(true, SeqCst);
        pauses.join().unwrap();
        assert!(all, "a client was not served");
    });
}

#[test]
fn after_a_move_new_clients_belong_to_the_other_service() {
    let (web, mail) = (Backend::named("web"), Backend::named("mail"));
    let setting = Setting::new(web.address(), mail.address(), ROOM);
    assert_eq!(setting.listener.listen().to_string(), "localhost:0");
    assert_eq!(ask(setting.address()), "web");
    setting.listener.serve(setting.director.services()[1].clone());
    assert_eq!(setting.listener.service().name(), "mail");
    assert_eq!(ask(setting.address()), "mail");
}

#[test]
fn a_client_that_came_while_the_program_started_is_reset_like_any_other_when_no_host_is_there() {
    let nobody = Backend::refuse();
    let socket = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let early = connect(socket.local_addr().unwrap());
    let setting = Setting::at(socket, nobody.address(), nobody.address(), ROOM);
    // the reset may come before connect(2) has returned
    for client in [Ok(early), TcpStream::connect(setting.address())] {
        let end = client.and_then(|mut client| {
            client.set_read_timeout(Some(DEADLINE))?;
            client.read(&mut [0])
        });
        let end = end.expect_err("it must not look like an empty answer");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
}
