//! The running balancer: bind everything, then start everything; stop it again. Called by `main`, the demo and the tests.

mod carry;
mod control;
mod reload;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use parking_lot::Mutex;

use crate::admin::{self, control::Control};
use crate::config::{Address, Config};
use crate::relay::End;
use crate::relay::pool::{self, Pool};
use crate::state::{Director, Service};
use crate::traffic::{self, Listener, Traffic};

use control::Levers;
pub use control::Office;

/// How long a start waits for the first addresses of host names.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// Why the balancer could not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// A listen address could not be opened.
    Bind {
        /// What would have listened: a service, or the admin pages.
        who: String,
        /// The address as configured.
        address: String,
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
            StartError::Bind { who, address, error } => write!(f, "{who} cannot listen on {address}: {error}"),
            StartError::Thread { name, error } => write!(f, "cannot start the thread `{name}`: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A balancer whose sockets are open and which has no thread yet: the moment to give up root.
pub struct Bound {
    director: Arc<Director>,
    sockets: Vec<(Arc<Service>, Address, TcpListener)>,
    admin: Vec<admin::Listener>,
}

impl Bound {
    /// Opens every listen address of the configuration.
    pub fn bind(config: &Config) -> Result<Bound, StartError> {
        let director = Arc::new(Director::new(config));
        let mut sockets = Vec::new();
        for service in director.services() {
            for address in &service.listens() {
                let who = format!("service `{}`", service.name());
                let opened = traffic::bind(address);
                let opened = opened.map_err(|error| StartError::Bind { who, address: address.to_string(), error })?;
                sockets.extend(opened.into_iter().map(|socket| (service.clone(), address.clone(), socket)));
            }
        }
        let mut admin = Vec::new();
        if let Some(config) = &config.admin {
            let who = "the admin side".to_owned();
            let opened = admin::Listener::bind(&config.listen);
            admin = opened.map_err(|error| StartError::Bind { who, address: config.listen.to_string(), error })?;
        }
        Ok(Bound { director, sockets, admin })
    }

    /// The file of the admin side's Unix socket, if it has one: it must belong to whom the program becomes.
    pub fn admin_path(&self) -> Option<&Path> {
        self.admin.iter().find_map(admin::Listener::path)
    }

    /// Starts the threads: those that look after the hosts first, then those that accept clients, then the admin side.
    pub fn start(self, limits: pool::Limits, office: Office) -> Result<Daemon, StartError> {
        let thread = |name| move |error| StartError::Thread { name, error };
        let Bound { director, sockets, admin } = self;
        let (traffic, woken) = Traffic::new(Pool::new(limits), director.clone());
        let (stop_resolver, stopped) = bounded(0);
        traffic::start_manager(director.clone(), woken).map_err(thread("manager"))?;
        let wake = traffic.waker();
        traffic::start_resolver(director.clone(), wake, stopped, NAME_PATIENCE).map_err(thread("resolver"))?;
        let traffic = Arc::new(traffic);
        let levers = Arc::new_cyclic(|me| Levers {
            me: me.clone(),
            director,
            traffic,
            listeners: Mutex::default(),
            admin: Mutex::default(),
            is_closed: AtomicBool::default(),
            office,
            changing: Mutex::default(),
            pending: Mutex::default(),
        });
        let daemon = Daemon { levers, _stop_resolver: stop_resolver };
        for (service, listen, socket) in sockets {
            let listener = Listener::start(socket, listen, service, daemon.levers.traffic.clone()).map_err(thread("listen"))?;
            daemon.levers.listeners.lock().push(listener);
        }
        if !admin.is_empty() {
            let pages = daemon.levers.start_admin(admin).map_err(thread("admin"))?;
            *daemon.levers.admin.lock() = Some(pages);
        }
        Ok(daemon)
    }
}

/// A running balancer. Dropping it closes the listeners and ends the sessions.
pub struct Daemon {
    levers: Arc<Levers>,
    /// Dropping it ends the resolver.
    _stop_resolver: Sender<()>,
}

impl Daemon {
    /// Binds and starts in one go.
    pub fn start(config: &Config, limits: pool::Limits) -> Result<Daemon, StartError> {
        Bound::bind(config)?.start(limits, Office::default())
    }

    /// The running state.
    pub fn director(&self) -> &Arc<Director> {
        &self.levers.director
    }

    /// Where clients can connect, in configuration order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.levers.listeners.lock().iter().map(Listener::address).collect()
    }

    /// Sessions from accept to log line.
    pub fn open_sessions(&self) -> usize {
        self.levers.director.roster.open()
    }

    /// Threads of the pool.
    pub fn pool_threads(&self) -> usize {
        self.levers.traffic.pool.threads()
    }

    /// Makes the manager look at the hosts now.
    pub fn wake_manager(&self) {
        self.levers.traffic.wake_manager();
    }

    /// Makes the running state what the configuration file says, or refuses and changes nothing; the log tells.
    pub fn reload(&self, by: &str) {
        // the log has it already
        let _ = self.levers.reload(by, None);
    }

    /// Takes no new clients; running and waiting sessions go on.
    pub fn close(&self) {
        self.levers.is_closed.store(true, SeqCst);
        self.levers.listeners.lock().iter().for_each(Listener::stop);
    }

    /// Ends the sessions in which nothing has moved for a while; tells how many.
    pub fn cut_silent(&self) -> usize {
        self.levers.director.roster.cut(End::Stopped, |_, relay| relay.is_at_rest(traffic::DRAIN_IDLE))
    }

    /// Ends all sessions, running and waiting ones; tells how many were running.
    pub fn cut(&self) -> usize {
        let cut = self.levers.director.roster.cut_all();
        self.levers.traffic.pool.close();
        cut
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.close();
        self.cut();
        let admin = self.levers.admin.lock().take();
        drop(admin);
    }
}
