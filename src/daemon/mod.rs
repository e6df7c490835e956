//! The running balancer: bind everything, then start everything; stop it again, or leave it to a
//! successor. Called by `main`, the demo and the tests.

mod aside;
mod control;
mod handover;
mod message;
mod reconfigure;
mod reload;
mod takeover;
mod warnings;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::admin::{self, Admin};
use crate::config::{Address, Config};
use crate::relay::CloseReason;
use crate::relay::pool::{self, Pool};
use crate::state::{Director, Service};
use crate::system::inherited::Inherited;
use crate::traffic::{self, Listener, Traffic};

use aside::{LOOK, aside};
use control::Core;
pub use control::{Environment, Targeting};
pub use takeover::{InheritedSockets, Predecessor};
pub use warnings::obstacles;

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
            StartError::Bind { who, address, error } => {
                write!(f, "{who} cannot listen on {address}: {error}")
            }
            StartError::Thread { name, error } => {
                write!(f, "cannot start the thread `{name}`: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// A balancer whose sockets are open and which has no thread yet: the moment to give up root.
pub struct Bound {
    director: Arc<Director>,
    sockets: Vec<(Arc<Service>, Address, TcpListener)>,
    admin: Vec<admin::AdminSocket>,
    lent: Vec<SocketAddr>,
}

impl Bound {
    /// Opens every listen address of the configuration; those that are open already are taken. An
    /// error closes what was opened. What systemd has opened and nothing here listens on is closed,
    /// and the log warns of it.
    pub fn bind(config: &Config, inherited: &mut Inherited) -> Result<Bound, StartError> {
        let director = Arc::new(Director::new(config));
        let lent = inherited.lent().to_vec();
        let mut sockets = Vec::new();
        for service in director.services() {
            for address in &service.listens() {
                let who = format!("service `{}`", service.name());
                let opened = traffic::open(address, inherited);
                let opened = opened.map_err(|error| StartError::Bind {
                    who,
                    address: address.to_string(),
                    error,
                })?;
                sockets.extend(
                    opened.into_iter().map(|socket| (service.clone(), address.clone(), socket)),
                );
            }
        }
        let mut admin = Vec::new();
        if let Some(config) = &config.admin {
            let who = "the admin side".to_owned();
            let opened = admin::AdminSocket::open(&config.listen, inherited);
            admin = opened.map_err(|error| StartError::Bind {
                who,
                address: config.listen.to_string(),
                error,
            })?;
        }
        inherited.close_unwanted().into_iter().for_each(reconfigure::warn_of_lent);
        Ok(Bound { director, sockets, admin, lent })
    }

    /// The same where the start may be told to end meanwhile: the name of an address may take long
    /// to be looked up. `is_called_off` is asked now and then, and `None` tells that it said so.
    pub fn bind_unless(
        config: &Config,
        inherited: &mut Inherited,
        is_called_off: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bound>, StartError> {
        let (config, mut theirs) = (config.clone(), std::mem::take(inherited));
        let bind = move || (Bound::bind(&config, &mut theirs), theirs);
        let done = aside("bind", bind, is_called_off)
            .map_err(|error| StartError::Thread { name: "bind", error })?;
        let Some((bound, left)) = done else { return Ok(None) };
        *inherited = left;
        bound.map(Some)
    }

    /// The file of the admin side's Unix socket, if it has one: it must belong to whom the program
    /// becomes.
    pub fn admin_path(&self) -> Option<&Path> {
        self.admin.iter().find_map(admin::AdminSocket::path)
    }

    /// Starts the threads: those that look after the hosts first, then those that will accept
    /// clients. Nobody is accepted before [`Daemon::open`].
    pub fn prepare(
        self,
        limits: pool::PoolLimits,
        environment: Environment,
    ) -> Result<Daemon, StartError> {
        let thread = |name| move |error| StartError::Thread { name, error };
        let Bound { director, sockets, admin: admin_sockets, lent } = self;
        let pool = Pool::new(limits).map_err(thread("pool"))?;
        let (traffic, woken) = Traffic::new(pool, director.clone());
        let (stop_resolver, stopped) = bounded(0);
        traffic::start_manager(director.clone(), woken).map_err(thread("manager"))?;
        let wake = traffic.waker();
        let named =
            traffic::start_resolver(director.clone(), wake, stopped).map_err(thread("resolver"))?;
        let traffic = Arc::new(traffic);
        let core = Arc::new_cyclic(|me| Core {
            me: me.clone(),
            director,
            traffic,
            listeners: Mutex::default(),
            admin: Mutex::default(),
            is_closed: AtomicBool::default(),
            is_replaced: AtomicBool::default(),
            environment,
            lent,
            changing: Mutex::default(),
            pending: Mutex::default(),
        });
        let daemon = Daemon { core, admin_sockets, named, stop_resolver: Some(stop_resolver) };
        for (service, listen, socket) in sockets {
            let listener = Listener::paused(socket, listen, service, daemon.core.traffic.clone())
                .map_err(thread("listen"))?;
            daemon.core.listeners.lock().push(listener);
        }
        Ok(daemon)
    }

    /// Starts everything.
    pub fn start(
        self,
        limits: pool::PoolLimits,
        environment: Environment,
    ) -> Result<Daemon, StartError> {
        let mut daemon = self.prepare(limits, environment)?;
        daemon.await_names(&mut || false);
        daemon.open()?;
        Ok(daemon)
    }
}

/// A running balancer. Dropping it closes the listeners and ends the sessions.
pub struct Daemon {
    core: Arc<Core>,
    /// The sockets of the admin side while that waits to be opened.
    admin_sockets: Vec<admin::AdminSocket>,
    /// Tells when the names of hosts have been looked up for the first time, if there are any.
    named: Option<Receiver<()>>,
    /// Dropping it ends the resolver.
    stop_resolver: Option<Sender<()>>,
}

impl Daemon {
    /// Binds and starts in one go.
    pub fn start(config: &Config, limits: pool::PoolLimits) -> Result<Daemon, StartError> {
        Bound::bind(config, &mut Inherited::default())?.start(limits, Environment::default())
    }

    /// Waits until the names of hosts have been looked up, for 5 seconds at most; what is found
    /// later is taken in then. `is_called_off` is asked now and then: if it says so, nobody waits
    /// any more. Tells whether it has not.
    pub fn await_names(&self, is_called_off: &mut dyn FnMut() -> bool) -> bool {
        let Some(named) = &self.named else { return true };
        let deadline = Instant::now() + NAME_PATIENCE;
        while Instant::now() < deadline
            && named.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout)
        {
            if is_called_off() {
                return false;
            }
        }
        true
    }

    /// Starts the admin side, which may fail, and accepts clients, which may not.
    pub fn open(&mut self) -> Result<(), StartError> {
        if !self.admin_sockets.is_empty() {
            let thread = |error| StartError::Thread { name: "admin", error };
            let pages =
                self.core.start_admin(std::mem::take(&mut self.admin_sockets)).map_err(thread)?;
            *self.core.admin.lock() = Some(pages);
        }
        let listeners = self.core.listeners.lock();
        listeners.iter().for_each(Listener::resume);
        listeners.iter().for_each(Listener::announce);
        drop(listeners);
        self.core.admin.lock().iter().for_each(Admin::announce);
        traffic::report_groups(self.director());
        Ok(())
    }

    /// Tells the log what is right in the configuration but should not pass in silence.
    pub fn warn(&self) {
        self.core.warn();
    }

    /// This process is the service: what a predecessor has made in the file system is its own.
    pub fn own(&self) {
        self.core
            .admin
            .lock()
            .iter()
            .flat_map(Admin::listeners)
            .for_each(|listener| listener.set_ours(true));
    }

    /// The running state.
    pub fn director(&self) -> &Arc<Director> {
        &self.core.director
    }

    /// What the service manager shows of it.
    pub fn status(&self) -> String {
        self.core.status()
    }

    /// Where clients can connect, in configuration order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.core.listeners.lock().iter().map(Listener::address).collect()
    }

    /// Sessions from accept to log line.
    pub fn open_sessions(&self) -> usize {
        self.core.director.sessions.open()
    }

    /// Threads of the pool.
    pub fn pool_threads(&self) -> usize {
        self.core.traffic.pool.threads()
    }

    /// Makes the manager look at the hosts now.
    pub fn wake_manager(&self) {
        self.core.traffic.wake_manager();
    }

    /// Makes the running state what the configuration file says, or refuses and changes nothing;
    /// the log tells. A thread of its own does it, because files and host names may take their
    /// time. `is_called_off` is asked now and then: if it says so, nobody waits any more, and the
    /// reload opens no new address. Tells whether it is over.
    pub fn reload(&self, by: &'static str, is_called_off: &mut dyn FnMut() -> bool) -> bool {
        let core = self.core.clone();
        // the log has the outcome already
        let reload = move || drop(core.reload_file(by, None));
        let done = aside("reload", reload, is_called_off);
        if let Err(e) = &done {
            self.core.note_refused(by, &format!("the thread `reload`: {e}"));
        }
        let is_over = !matches!(done, Ok(None));
        if !is_over {
            // what it has not opened by now stays closed
            self.core.is_closed.store(true, SeqCst);
        }
        is_over
    }

    /// Takes no new clients; running and waiting sessions go on.
    pub fn close(&self) {
        self.core.is_closed.store(true, SeqCst);
        self.core.listeners.lock().iter().for_each(Listener::stop);
    }

    /// Ends the sessions in which nothing has moved for a while; tells how many.
    pub fn cut_silent(&self) -> usize {
        self.core
            .director
            .sessions
            .cut(CloseReason::Stopped, |_, relay| relay.is_at_rest(traffic::DRAIN_IDLE))
    }

    /// Ends all sessions, running and waiting ones; tells how many were running.
    pub fn cut(&self) -> usize {
        let cut = self.core.director.sessions.cut_all();
        self.core.traffic.pool.close();
        cut
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.close();
        self.cut();
        let admin = self.core.admin.lock().take();
        drop(admin);
    }
}
