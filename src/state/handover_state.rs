//! What a program leaves to its successor: the health of hosts, what the operator wants of them,
//! and everything that is counted. Not what the configuration says: the successor has read that for
//! itself.
//!
//! `daemon` takes it here and puts it in there, while neither of the two accepts clients. Names and
//! addresses are compared as the configuration writes them; what is not there any more is left out,
//! what is new begins anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Director, Health, Host, Reason};
use crate::config::AdminState;
use crate::relay::CloseReason;

/// One piece; a whole state would not fit into a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the state")]
pub enum HandoverState {
    /// The number of the last session, so that numbers go on.
    #[serde(rename = "roster")]
    Sessions { last_id: u64 },
    /// How many sessions of a service have ended.
    Service { service: String, served: u64, unserved: u64 },
    /// The same by the word of the reason.
    Ended { service: String, counts: Vec<(String, u64)> },
    /// A host.
    Host(Box<HandoverHost>),
}

/// What is known of a host. Times are milliseconds before or after now: two processes share no
/// clock that can be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverHost {
    pub service: String,
    pub group: String,
    pub host: String,
    pub address: String,
    /// How long it has been up or down.
    pub age: u64,
    /// `None` when it is up.
    pub down: Option<Down>,
    #[serde(rename = "operator")]
    pub admin_state: AdminState,
    pub total: u64,
    pub failures: u64,
    pub to_server: u64,
    pub to_client: u64,
    /// What its name stands for, in case nobody can tell any more.
    pub resolved: Vec<SocketAddr>,
}

/// Why a host is down, and how long ago it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    pub reason: Reason,
    pub tried: u64,
    pub asked: bool,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// So long ago, or now where the clock does not reach back so far.
fn before(now: Instant, age: u64) -> Instant {
    now.checked_sub(Duration::from_millis(age)).unwrap_or(now)
}

impl Director {
    /// What there is to leave.
    pub fn handover_state(&self) -> Vec<HandoverState> {
        let mut all = vec![HandoverState::Sessions { last_id: self.sessions.accepted() }];
        for service in self.services() {
            all.push(HandoverState::Service {
                service: service.name().to_owned(),
                served: service.served(),
                unserved: service.unserved(),
            });
            let ended = |reason: CloseReason| (reason.word().to_owned(), service.ended(reason));
            all.push(HandoverState::Ended {
                service: service.name().to_owned(),
                counts: CloseReason::ALL.into_iter().map(ended).collect(),
            });
            for group in service.groups() {
                let host =
                    |host: &std::sync::Arc<Host>| host.handover_state(service.name(), group.name());
                all.extend(
                    group.hosts().iter().map(|one| HandoverState::Host(Box::new(host(one)))),
                );
            }
        }
        all
    }

    /// Takes over one piece. What it is about may be gone.
    pub fn inherit(&self, piece: HandoverState) {
        match piece {
            HandoverState::Sessions { last_id } => self.sessions.go_on_after(last_id),
            HandoverState::Service { service, served, unserved } => {
                if let Some(service) = self.service(&service) {
                    service.add_counts(served, unserved);
                }
            }
            HandoverState::Ended { service, counts } => {
                let Some(service) = self.service(&service) else { return };
                for (word, count) in counts {
                    let known = CloseReason::ALL.into_iter().find(|reason| reason.word() == word);
                    known.inspect(|reason| service.add_ended(*reason, count));
                }
            }
            HandoverState::Host(left) => {
                let group =
                    self.service(&left.service).and_then(|service| service.group(&left.group));
                let hosts = group.map(|group| group.hosts()).unwrap_or_default();
                let is_same = |host: &&std::sync::Arc<Host>| {
                    host.name() == left.host && host.address().to_string() == left.address
                };
                if let Some(host) = hosts.iter().find(is_same) {
                    host.inherit(&left);
                }
            }
        }
    }
}

impl Host {
    fn handover_state(&self, service: &str, group: &str) -> HandoverHost {
        let now = Instant::now();
        let (since, down) = match self.health() {
            Health::Up { since } => (since, None),
            Health::Down { since, tried, reason, asked } => {
                (since, Some(Down { reason, tried: millis(now - tried), asked }))
            }
        };
        HandoverHost {
            service: service.to_owned(),
            group: group.to_owned(),
            host: self.name().to_owned(),
            address: self.address().to_string(),
            age: millis(now.saturating_duration_since(since)),
            down,
            admin_state: self.admin_state(),
            total: self.total(),
            failures: self.failures(),
            to_server: self.meter().to_server(),
            to_client: self.meter().to_client(),
            resolved: self.resolved(),
        }
    }

    fn inherit(&self, left: &HandoverHost) {
        let now = Instant::now();
        let since = before(now, left.age);
        let health = match &left.down {
            None => Health::Up { since },
            Some(down) => Health::Down {
                since,
                tried: before(now, down.tried),
                reason: down.reason,
                asked: down.asked,
            },
        };
        self.set_admin_state(left.admin_state);
        if self.resolved().is_empty() {
            self.set_resolved(left.resolved.clone());
        }
        self.restore(health, left.total, left.failures);
        self.meter().restore(left.to_server, left.to_client);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read;

    /// A service with three hosts, the last of them by a name.
    fn director() -> Director {
        let xml = r#"<pdconfig><service name="web"><listen ip="127.0.0.1:0"/><group name="main" scheduler="random">
            <host name="a" ip="127.0.0.1:1"/><host name="b" ip="127.0.0.1:2"/><host name="c" ip="c.example:3"/>
            </group></service></pdconfig>"#;
        Director::new(&read::parse(Path::new("x.xml"), xml.as_bytes()).unwrap())
    }

    fn hosts(director: &Director) -> Vec<std::sync::Arc<Host>> {
        director.services()[0].groups()[0].hosts()
    }

    /// What goes through a packet and comes out again.
    fn pass(old: &Director, new: &Director) {
        for piece in old.handover_state() {
            new.inherit(serde_json::from_slice(&serde_json::to_vec(&piece).unwrap()).unwrap());
        }
    }

    #[test]
    fn everything_that_is_known_and_counted_arrives() {
        let (old, new) = (director(), director());
        let [a, b, c] = &hosts(&old)[..] else { panic!("three hosts") };
        a.set_admin_state(AdminState::Draining { within: Duration::from_secs(3600) });
        b.failed(Reason::Other(libc::EPERM), Instant::now());
        b.try_soon();
        b.set_admin_state(AdminState::Disabled);
        c.set_resolved(vec!["10.0.0.3:3".parse().unwrap()]);
        // more than a machine of 32 bits counts in one word
        c.meter().restore(7, 5 << 32);
        old.services()[0].add_counts(40, 2);
        old.services()[0].add_ended(CloseReason::Idle, 3);
        old.sessions.go_on_after(42);
        pass(&old, &new);
        let [a, b, c] = &hosts(&new)[..] else { panic!("three hosts") };
        let AdminState::Draining { within } = a.admin_state() else {
            panic!("{:?}", a.admin_state())
        };
        assert!(within > Duration::from_secs(3500) && a.is_up());
        let health = b.health();
        assert!(
            matches!(health, Health::Down { reason: Reason::Other(libc::EPERM), asked: true, .. }),
            "{health:?}"
        );
        assert_eq!((b.admin_state(), b.failures()), (AdminState::Disabled, 1));
        assert_eq!(
            (c.resolved().len(), c.meter().to_server(), c.meter().to_client()),
            (1, 7, 5 << 32)
        );
        let service = &new.services()[0];
        assert_eq!((service.served(), service.unserved(), new.sessions.accepted()), (40, 2, 42));
        let ended = CloseReason::ALL.map(|reason| service.ended(reason));
        assert_eq!((service.ended(CloseReason::Idle), ended.iter().sum::<u64>()), (3, 3));
    }

    #[test]
    fn other_versions_read_and_write_the_same_words() {
        let text = r#"{"host":{"service":"web","group":"main","host":"a","address":"127.0.0.1:1","age":5,"down":{"reason":{"Other":1},"tried":7,"asked":true},"operator":{"draining":{"left":9}},"total":1,"failures":2,"to_server":3,"to_client":4,"resolved":["127.0.0.1:1"]}}"#;
        let more = [
            r#"{"roster":{"last_id":42}}"#,
            r#"{"service":{"service":"web","served":40,"unserved":2}}"#,
            r#"{"ended":{"service":"web","counts":[["closed",42]]}}"#,
        ];
        let [up, disabled] = [
            text.replace(r#"{"reason":{"Other":1},"tried":7,"asked":true}"#, "null")
                .replace(r#"{"draining":{"left":9}}"#, r#""enabled""#),
            text.replace(r#"{"Other":1}"#, r#""Refused""#)
                .replace(r#"{"draining":{"left":9}}"#, r#""disabled""#),
        ];
        for text in more.into_iter().chain([text, &up, &disabled]) {
            let read: HandoverState = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn what_is_another_host_now_begins_anew() {
        let (old, new) = (director(), director());
        hosts(&old)[0].failed(Reason::Refused, Instant::now());
        for piece in old.handover_state() {
            let text = serde_json::to_string(&piece).unwrap().replace("127.0.0.1:1", "127.0.0.1:5");
            new.inherit(serde_json::from_str(&text).unwrap());
        }
        assert!(hosts(&new)[0].is_up());
    }
}
