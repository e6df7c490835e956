//! Makes changes with all that goes with them: listen addresses, the log, the admin pages, the
//! limits of the pool.
//!
//! Everything new is opened before anything is changed, so that a refusal leaves all as it was. The
//! caller holds `Core::changing`.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::core::Core;
use crate::admin::{self, Admin};
use crate::budget::Budget;
use crate::config::{Address, AddressHost, Change, Config, Refusal, ServiceConfig};
use crate::relay::pool;
use crate::state::{Director, Names, Service};
use crate::system::inherited::Inherited;
use crate::system::limits::Limits;
use crate::system::log_output;
use crate::system::logging::value;
use crate::system::thread;
use crate::traffic::{self, Listener};

/// How long a change waits for the addresses of new host names.
const NAME_TIMEOUT: Duration = Duration::from_secs(3);

/// What was opened for a change and is not used yet. Dropping it closes all of it.
struct Opened {
    limits: Option<pool::PoolLimits>,
    names: Names,
    listeners: Vec<Listener>,
    log: Option<log_output::Open>,
    admin: Option<NewAdmin>,
}

/// The admin pages are to go, and perhaps to come back elsewhere.
struct NewAdmin {
    pages: Option<Admin>,
    /// Ends the old ones: not the thread that is called, since that may be one of theirs.
    reaper: Sender<Option<Admin>>,
}

fn cannot<T>(what: impl Display, why: impl Display) -> Result<T, Refusal> {
    Err(Refusal::Conflict(format!("cannot {what}: {why}")))
}

impl Core {
    /// Makes changes, all of them or none; returns in words what each one did.
    pub(super) fn reconfigure(&self, changes: &[Change]) -> Result<Vec<String>, Refusal> {
        self.refuse_when_replaced()?;
        let preview = self.director.preview(changes)?;
        let opened = self.open(&preview.config)?;
        let words = self.director.apply(preview, &opened.names);
        self.commit(opened);
        traffic::report_groups(&self.director);
        // a host to retry or to drain is the manager's business, now rather than at its next look
        self.traffic.wake_manager();
        Ok(words)
    }

    /// From now on nothing is changed; a change that is being made comes first.
    pub(super) fn announce_replacement(&self) -> Result<(), String> {
        let _one_at_a_time = self.changing.lock();
        if self.pending.lock().is_some() {
            return Err(
                "the last reload is not confirmed yet, and the new program could not roll it back"
                    .to_owned(),
            );
        }
        self.is_replaced.store(true, SeqCst);
        Ok(())
    }

    /// What is changed now would not be in the new program.
    pub(super) fn refuse_when_replaced(&self) -> Result<(), Refusal> {
        match self.is_replaced.load(SeqCst) {
            true => Err(Refusal::Conflict(
                "the program is being replaced: ask again when the new one serves".into(),
            )),
            false => Ok(()),
        }
    }

    fn open(&self, config: &Config) -> Result<Opened, Refusal> {
        let now = self.director.config();
        let listens = |config: &Config| {
            config.services.iter().map(|service| service.listens.len()).sum::<usize>()
        };
        let is_larger =
            listens(config) > listens(&now) || (now.admin.is_none() && config.admin.is_some());
        let is_another = is_larger || config.pool != now.pool;
        let budget = is_another
            .then(|| Budget::new(config, Limits::read()))
            .transpose()
            .map_err(Refusal::Conflict)?;
        let names = self.new_names(config);
        let listeners = self.open_listens(config)?;
        let log = if config.logging == now.logging {
            None
        } else {
            self.open_log(config.logging.as_deref())?
        };
        let admin_listen =
            |config: &Config| config.admin.as_ref().map(|admin| admin.listen.clone());
        let admin = if admin_listen(config) == admin_listen(&now) {
            None
        } else {
            Some(self.open_admin(config)?)
        };
        Ok(Opened { limits: budget.map(|budget| budget.pool), names, listeners, log, admin })
    }

    /// Opens another log, where the configuration decides about that.
    fn open_log(&self, name: Option<&str>) -> Result<Option<log_output::Open>, Refusal> {
        let Some(target) = &self.environment.target else { return Ok(None) };
        let open = log_output::Open::new(target(name));
        open.map(Some).or_else(|e| cannot(format_args!("log to {}", name.unwrap_or("stderr")), e))
    }

    /// The addresses of names that no host has had until now.
    fn new_names(&self, config: &Config) -> Names {
        let mut names = known_names(&self.director);
        let hosts = config
            .services
            .iter()
            .flat_map(|service| &service.groups)
            .flat_map(|group| &group.hosts);
        let new = hosts.filter_map(|host| match &host.address.place {
            AddressHost::Name(name) if !names.contains_key(name) => Some(name.clone()),
            _ => None,
        });
        let new: HashSet<String> = new.collect();
        names.extend(traffic::look_up_all(new, NAME_TIMEOUT));
        names
    }

    /// Opens what nobody here listens on yet.
    fn open_listens(&self, config: &Config) -> Result<Vec<Listener>, Refusal> {
        let mut open: Vec<Address> =
            self.listeners.lock().iter().map(|listener| listener.listen().clone()).collect();
        let mut listeners = Vec::new();
        for service in &config.services {
            for listen in &service.listens {
                match open.iter().position(|other| other == listen) {
                    // the system has chosen one port for each
                    Some(at) if listen.port == 0 => drop(open.remove(at)),
                    Some(_) => {}
                    None => listeners.extend(
                        self.open_listen(config, service, listen)
                            .or_else(|e| cannot(format_args!("listen on {listen}"), e))?,
                    ),
                }
            }
        }
        Ok(listeners)
    }

    fn open_listen(
        &self,
        config: &Config,
        service: &ServiceConfig,
        listen: &Address,
    ) -> io::Result<Vec<Listener>> {
        self.refuse_when_closed()?;
        // it gets its real service when that is there
        let nobody = Arc::new(Service::new(service, &Names::new()));
        let sockets = match traffic::bind(listen) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                traffic::bind_beside(listen, &self.leaving(listen.port, config))?
            }
            opened => opened?,
        };
        sockets
            .into_iter()
            .map(|socket| {
                Listener::paused(socket, listen.clone(), nobody.clone(), self.traffic.clone())
            })
            .collect()
    }

    fn refuse_when_closed(&self) -> io::Result<()> {
        if self.is_closed.load(SeqCst) {
            Err(io::Error::other("the program is stopping"))
        } else {
            Ok(())
        }
    }

    /// The sockets on this port that the configuration does not want any more.
    fn leaving(&self, port: u16, config: &Config) -> Vec<Arc<TcpListener>> {
        let is_wanted = |listen: &Address| {
            config.services.iter().any(|service| service.listens.contains(listen))
        };
        let listeners = self.listeners.lock();
        let leaving = listeners
            .iter()
            .filter(|listener| listener.address().port() == port && !is_wanted(listener.listen()));
        leaving.filter_map(Listener::socket).collect()
    }

    fn open_admin(&self, config: &Config) -> Result<NewAdmin, Refusal> {
        let (reaper, old) = bounded(1);
        let reap = move || drop(old.recv());
        let spawned = thread::start("admin change", thread::SMALL, reap);
        spawned.or_else(|e| cannot("change the admin pages", e))?;
        let Some(admin) = &config.admin else { return Ok(NewAdmin { pages: None, reaper }) };
        let listeners = self
            .refuse_when_closed()
            .and_then(|()| admin::AdminSocket::open(&admin.listen, &mut Inherited::default()));
        let pages = listeners.and_then(|listeners| self.start_admin(listeners));
        let pages = pages
            .or_else(|e| cannot(format_args!("have the admin pages on {}", admin.listen), e))?;
        Ok(NewAdmin { pages: Some(pages), reaper })
    }

    /// Starts the admin pages on open addresses.
    pub(super) fn start_admin(&self, listeners: Vec<admin::AdminSocket>) -> io::Result<Admin> {
        let me = self.me.upgrade().ok_or_else(|| io::Error::other("the program is stopping"))?;
        admin::start(listeners, Arc::new(admin::routes::Routes::new(me)?))
    }

    /// Closes a listen address that is not to be opened again.
    pub(super) fn close(&self, listener: &Listener) {
        listener.stop();
        self.warn_if_activated(Some(listener.address()));
    }

    /// Warns of an address that is closed here, if it is open elsewhere.
    pub(super) fn warn_if_activated(&self, address: Option<SocketAddr>) {
        if address.is_some_and(|address| self.activated.contains(&address)) {
            warn_of_unwanted(address);
        }
    }

    /// Puts what was opened to use, and closes what is left over. Nothing can fail any more.
    fn commit(&self, opened: Opened) {
        let Opened { limits, listeners, log, admin, .. } = opened;
        if let (Some(output), Some(open)) = (&self.environment.log, log) {
            output.switch(open);
        }
        limits.into_iter().for_each(|limits| self.traffic.pool.set_limits(limits));
        let mut all = std::mem::take(&mut *self.listeners.lock());
        all.extend(listeners);
        let kept = assign(&self.director, &mut all);
        kept.iter().for_each(Listener::resume);
        kept.iter().for_each(Listener::announce);
        *self.listeners.lock() = kept;
        // what nobody wants any more; its sessions go on
        all.iter().for_each(|listener| self.close(listener));
        if self.is_closed.load(SeqCst) {
            self.listeners.lock().iter().for_each(Listener::stop);
        }
        if let Some(NewAdmin { pages, reaper }) = admin {
            pages.iter().for_each(Admin::announce);
            let old = std::mem::replace(&mut *self.admin.lock(), pages);
            old.iter()
                .flat_map(Admin::listeners)
                .for_each(|listener| self.warn_if_activated(listener.address()));
            let _ = reaper.send(old);
        }
    }
}

/// Warns of a socket that systemd has opened and that is closed here: clients that come there wait
/// for nobody. `None` stands for one without a TCP address.
pub(super) fn warn_of_unwanted(address: Option<SocketAddr>) {
    let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let reason = "not in the configuration, but systemd goes on listening there: take it out of the socket unit";
    log::warn!("listen address={address} state=unwanted reason={}", value(reason));
}

/// What the names of the hosts stand for: several hosts may have one name.
fn known_names(director: &Director) -> Names {
    let mut names = Names::new();
    for host in director.groups().iter().flat_map(|(_, group)| group.hosts()) {
        let AddressHost::Name(name) = &host.address().place else { continue };
        let known = names.entry(name.clone()).or_default();
        for mut address in host.resolved() {
            address.set_port(0);
            if !known.contains(&address) && known.len() < traffic::MOST_ADDRESSES {
                known.push(address);
            }
        }
    }
    names
}

/// Takes out the listeners that the services want, in their order, and gives each to its service.
/// An address may have gone from one service to another; the listener that a service has had is the
/// first to be taken.
fn assign(director: &Director, all: &mut Vec<Listener>) -> Vec<Listener> {
    let services = director.services().into_iter();
    let mut wanted: Vec<(Arc<Service>, Address)> = services
        .flat_map(|service| {
            service.listens().into_iter().map(move |listen| (service.clone(), listen))
        })
        .collect();
    let places = wanted.clone();
    let mut kept = Vec::new();
    for is_same in [true, false] {
        wanted.retain(|(service, listen)| {
            let fits = |listener: &Listener| {
                listener.listen() == listen
                    && (!is_same || listener.service().name() == service.name())
            };
            let place = places
                .iter()
                .position(|(other, address)| Arc::ptr_eq(other, service) && address == listen);
            let before = kept.len();
            // a name may stand for several addresses
            while let Some(at) = all.iter().position(fits) {
                let listener = all.remove(at);
                listener.serve(service.clone());
                kept.push((place, listener));
                if listen.port == 0 && !matches!(listen.place, AddressHost::Name(_)) {
                    break;
                }
            }
            kept.len() == before
        });
    }
    kept.sort_unstable_by_key(|(place, _)| *place);
    kept.into_iter().map(|(_, listener)| listener).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read;

    #[test]
    fn a_name_of_several_hosts_has_each_address_once_and_no_more_than_are_used() {
        let xml = "<pdconfig><service name='s'><listen ip=':1'/><group name='g' scheduler='random'>
            <host name='a' ip='x.example:1'/><host name='b' ip='x.example:2'/></group></service></pdconfig>";
        let director =
            Director::new(&read::parse(Path::new("x.xml"), xml.as_bytes()).expect("it is right"));
        let hosts: Vec<_> = director.groups().iter().flat_map(|(_, group)| group.hosts()).collect();
        let addresses = |range: std::ops::Range<u8>| {
            range.map(|last| SocketAddr::from(([10, 0, 0, last], 1))).collect()
        };
        assert!(hosts.iter().all(|host| host.set_resolved(addresses(0..2))));
        assert_eq!(
            known_names(&director)["x.example"],
            [[10, 0, 0, 0], [10, 0, 0, 1]].map(|ip| SocketAddr::from((ip, 0)))
        );
        assert!(
            hosts
                .iter()
                .zip([0..6, 6..12])
                .all(|(host, range)| host.set_resolved(addresses(range)))
        );
        assert_eq!(known_names(&director)["x.example"].len(), traffic::MOST_ADDRESSES);
    }
}
