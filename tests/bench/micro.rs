//! Micro benchmarks, run by `cargo bench`: what one pick costs, what the list of open sessions
//! costs when many are open, what a hand-over costs, and what one session, one message and one
//! megabyte cost in a balancer inside this process. The other way, whole programs side by side:
//! `tests/bench/run`.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Sender, unbounded};
use divan::Bencher;

use tcpdirector::budget::Budget;
use tcpdirector::config::{self, Address, Config, GroupConfig, HostConfig};
use tcpdirector::daemon::Daemon;
use tcpdirector::relay::Direction;
use tcpdirector::relay::pool::{Pool, PoolLimits, Space};
use tcpdirector::relay::task::{Job, Next, Task};
use tcpdirector::scheduler::Rule;
use tcpdirector::state::{Group, Names, Service, Sessions};
use tcpdirector::system::limits;

fn main() {
    divan::main();
}

/// A rule and the size of the group that it picks from.
struct Case(Rule, u16);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.0, self.1)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    Rule::ALL.into_iter().flat_map(|(_, rule)| [3, 100, 1000].map(|hosts| Case(rule, hosts)))
}

fn group(Case(rule, hosts): &Case) -> Group {
    let host = |i| HostConfig {
        name: format!("h{i}"),
        address: Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, i))),
    };
    Group::new(
        &GroupConfig { name: "main".into(), rule: *rule, hosts: (1..=*hosts).map(host).collect() },
        &Names::new(),
    )
}

/// One client after the other, each from an address of its own.
fn next_client() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Ipv4Addr::from_bits(NEXT.fetch_add(1, Relaxed)).into()
}

/// A pick and its count, given back. With two threads, how much they wait for each other.
#[divan::bench(args = cases(), threads = [1, 2])]
fn pick(bencher: Bencher, case: &Case) {
    let group = group(case);
    // as many sessions as hosts, so that the fewest is not always none
    let _held: Vec<_> = (0..case.1).filter_map(|_| group.pick(next_client(), &[])).collect();
    bencher.bench(|| group.pick(next_client(), &[]));
}

/// A session in the list of open ones, entered and struck out, while so many others are open.
#[divan::bench(args = [10, 1000, 10_000])]
fn enter_and_leave_beside(bencher: Bencher, open: usize) {
    let sessions = Arc::new(Sessions::default());
    let service = Arc::new(Service::new(&config("").services[0], &Names::new()));
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let _open: Vec<_> = (0..open).map(|_| sessions.insert(service.clone(), client)).collect();
    bencher.bench(|| sessions.insert(service.clone(), client));
}

/// A session that tells that it was run.
struct Told(Sender<()>);

impl Job for Told {
    fn run(&self, _: Direction, _: &Arc<Task>, _: &mut Space) -> Next {
        let _ = self.0.send(());
        Next::Over
    }

    fn on_timer(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// From an accept thread to a session's first step, and word of it: on that thread itself, or on a
/// thread of the pool that waits.
#[divan::bench(args = ["here", "in the pool"])]
fn hand_over(bencher: Bencher, place: &str) {
    let pool = Pool::new(PoolLimits {
        threads: 2,
        pollers: 2,
        sessions: 9,
        queue: 9,
        pipes: 0,
        pipe_size: 0,
        held: 0,
    })
    .unwrap();
    let (tell, told) = unbounded();
    let mut worker = pool.accept_worker();
    // the first one starts a thread
    pool.submit(Box::new(Told(tell.clone())));
    told.recv().unwrap();
    bencher.bench_local(|| {
        let session = Box::new(Told(tell.clone()));
        match place {
            "here" => pool.run_or_submit(session, &mut worker),
            _ => pool.submit(session),
        }
        told.recv().unwrap();
    });
}

/// One service with these hosts.
fn config(hosts: &str) -> Config {
    let xml = format!(
        "<pdconfig><service name=\"web\"><listen ip=\"127.0.0.1:0\"/><group name=\"main\" scheduler=\"leastconns\">{hosts}\
         </group></service></pdconfig>"
    );
    config::read::parse(Path::new("bench.xml"), xml.as_bytes()).unwrap()
}

/// A balancer with one host that echoes.
static BALANCER: LazyLock<(Daemon, SocketAddr)> = LazyLock::new(|| {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let ip = host.local_addr().unwrap();
    thread::spawn(move || {
        host.incoming().flatten().for_each(|client| drop(thread::spawn(move || echo(client))))
    });
    let config = config(&format!("<host ip=\"{ip}\"/>"));
    let budget = Budget::new(&config, limits::Limits::read()).unwrap();
    let daemon = Daemon::start(&config, budget.pool).unwrap();
    let address = daemon.addresses()[0];
    (daemon, address)
});

fn echo(mut client: TcpStream) {
    client.set_nodelay(true).unwrap();
    let mut space = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = client.read(&mut space) {
        let _ = client.write_all(&space[..count]);
    }
}

fn client() -> TcpStream {
    let stream = TcpStream::connect(BALANCER.1).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, message: &[u8], space: &mut [u8]) {
    stream.write_all(message).unwrap();
    stream.read_exact(space).unwrap();
}

/// Accept, hand-over to the pool, pick, connect, one message each way, close. The host's thread for
/// it is part of the time.
#[divan::bench]
fn session(bencher: Bencher) {
    bencher.bench(|| exchange(&mut client(), b"x", &mut [0]));
}

/// One small message each way on a kept session: the flow loop and the waking of threads.
#[divan::bench]
fn round_trip(bencher: Bencher) {
    let mut stream = client();
    bencher.bench_local(|| exchange(&mut stream, b"x", &mut [0]));
}

/// A megabyte each way on a kept session: the flow loop, busy.
#[divan::bench]
fn megabyte(bencher: Bencher) {
    let (mut stream, sent) = (client(), vec![1; 1 << 20]);
    let mut sender = stream.try_clone().unwrap();
    let mut space = vec![0; 1 << 20];
    bencher.counter(divan::counter::BytesCount::new(2_usize << 20)).bench_local(|| {
        thread::scope(|scope| {
            scope.spawn(|| sender.write_all(&sent).unwrap());
            stream.read_exact(&mut space).unwrap();
        });
    });
}
