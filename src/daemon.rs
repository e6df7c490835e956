//! The running balancer: bind everything, then start everything; stop it again. Called by `main`, the demo and the tests.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use crate::config::{Address, Config};
use crate::relay::pool::{self, Pool};
use crate::state::{Director, Service};
use crate::traffic::{self, Listener, Traffic};

/// How long a start waits for the first addresses of host names.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// Why the balancer could not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// A listen address could not be opened.
    Bind {
        /// The service's name.
        service: String,
        /// The address as configured.
        address: Address,
        /// What the system said.
        error: io::Error,
    },
    /// The system gave no thread.
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { service, address, error } => write!(f, "service `{service}` cannot listen on {address}: {error}"),
            StartError::Thread { name, error } => write!(f, "cannot start the thread `{name}`: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A balancer whose sockets are open and which has no thread yet: the moment to give up root.
pub struct Bound {
    director: Arc<Director>,
    sockets: Vec<(Arc<Service>, TcpListener)>,
}

impl Bound {
    /// Opens every listen address of the configuration.
    pub fn bind(config: &Config) -> Result<Bound, StartError> {
        let director = Arc::new(Director::new(config));
        let mut sockets = Vec::new();
        for service in director.services() {
            for address in service.listens() {
                let opened = traffic::bind(address).map_err(|error| StartError::Bind {
                    service: service.name().to_owned(),
                    address: address.clone(),
                    error,
                })?;
                sockets.extend(opened.into_iter().map(|socket| (service.clone(), socket)));
            }
        }
        Ok(Bound { director, sockets })
    }

    /// Starts the threads: those that look after the hosts first, then those that accept clients.
    pub fn start(self, limits: pool::Limits) -> Result<Daemon, StartError> {
        let thread = |name| move |error| StartError::Thread { name, error };
        let Bound { director, sockets } = self;
        let (traffic, woken) = Traffic::new(Pool::new(limits), director.clone());
        let (stop_resolver, stopped) = bounded(0);
        traffic::start_manager(director.clone(), woken).map_err(thread("manager"))?;
        let wake = traffic.waker();
        traffic::start_resolver(director.clone(), wake, stopped, NAME_PATIENCE).map_err(thread("resolver"))?;
        let mut daemon = Daemon { director, traffic: Arc::new(traffic), listeners: Vec::new(), _stop_resolver: stop_resolver };
        for (service, socket) in sockets {
            let listener = Listener::start(socket, service, daemon.traffic.clone()).map_err(thread("listen"))?;
            daemon.listeners.push(listener);
        }
        Ok(daemon)
    }
}

/// A running balancer. Dropping it closes the listeners and ends the sessions.
pub struct Daemon {
    director: Arc<Director>,
    traffic: Arc<Traffic>,
    listeners: Vec<Listener>,
    /// Dropping it ends the resolver.
    _stop_resolver: Sender<()>,
}

impl Daemon {
    /// Binds and starts in one go.
    pub fn start(config: &Config, limits: pool::Limits) -> Result<Daemon, StartError> {
        Bound::bind(config)?.start(limits)
    }

    /// The running state.
    pub fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// Where clients can connect, in configuration order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Sessions from accept to log line.
    pub fn open_sessions(&self) -> usize {
        self.director.roster.open()
    }

    /// Sessions that were ever accepted.
    pub fn accepted_sessions(&self) -> u64 {
        self.director.roster.accepted()
    }

    /// Threads of the pool.
    pub fn pool_threads(&self) -> usize {
        self.traffic.pool.threads()
    }

    /// Makes the manager look at the hosts now.
    pub fn wake_manager(&self) {
        self.traffic.wake_manager();
    }

    /// Takes no new clients; running and waiting sessions go on.
    pub fn close(&self) {
        self.listeners.iter().for_each(Listener::stop);
    }

    /// Ends all sessions, running and waiting ones.
    pub fn cut(&self) {
        self.director.roster.cut_all();
        self.traffic.pool.close();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.close();
        self.cut();
    }
}
