//! Carries changes out, or refuses them with a reason. The one way to edit the running state,
//! whoever asks: the configuration that describes it is edited, and the state follows.

use std::sync::Arc;

use super::{Director, Group, Host, Names, Service};
use crate::config::{Change, Config, HostKey, Refusal};
use crate::system::interfaces;

type Result<T> = std::result::Result<T, Refusal>;

/// Changes that are possible now, and what they would lead to.
pub struct Preview<'a> {
    changes: &'a [Change],
    words: Vec<String>,
    /// What the configuration would be.
    pub config: Config,
}

impl Director {
    /// What these changes would lead to, or why one of them is refused. Changes nothing.
    pub fn preview<'a>(&self, changes: &'a [Change]) -> Result<Preview<'a>> {
        let mut config = self.config();
        let words = changes.iter().map(|change| {
            self.permit(change)?;
            change.edit(&mut config)
        });
        let words = words.collect::<Result<_>>()?;
        // what this machine's addresses have made so meanwhile is nothing that these changes do
        match config.first_new_own_host(&self.config(), &interfaces::addresses) {
            Some(why) => Err(Refusal::Conflict(why)),
            None => Ok(Preview { changes, words, config }),
        }
    }

    /// Carries the changes out; tells in words what each one did. What they leave as it is goes on
    /// undisturbed. Nothing else may have been changed since the preview: the caller has a lock for
    /// that. `names` are addresses of host names that were looked up for new hosts. Listen
    /// addresses and the log are not opened or closed here: `daemon` does that around this call.
    pub fn apply(&self, preview: Preview<'_>, names: &Names) -> Vec<String> {
        self.follow(&preview.config, names);
        preview.changes.iter().for_each(|change| self.act(change));
        preview.words
    }

    /// What the running state has against a change, whatever the configuration says.
    fn permit(&self, change: &Change) -> Result<()> {
        match change {
            Change::DelHost { service, group, host, force: false } => {
                match self.find(service, group, host) {
                    Some((service, group, host)) => is_not_the_last(&service, &group, &host),
                    None => Ok(()),
                }
            }
            Change::RetryHost { service, group, host } => match self.find(service, group, host) {
                Some((.., host)) if host.is_up() => {
                    Err(Refusal::Conflict(format!("host `{}` is up", host.name())))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What is no matter of configuration.
    fn act(&self, change: &Change) {
        match change {
            Change::SetHost { service, group, host, state } => {
                self.find(service, group, host).inspect(|(.., host)| host.set_admin_state(*state));
            }
            Change::RetryHost { service, group, host } => {
                self.find(service, group, host).inspect(|(.., host)| host.try_soon());
            }
            _ => {}
        }
    }

    fn find(
        &self,
        service: &str,
        group: &str,
        key: &HostKey,
    ) -> Option<(Arc<Service>, Arc<Group>, Arc<Host>)> {
        let service = self.service(service)?;
        let group = service.group(group)?;
        let hosts = group.hosts();
        let host = hosts
            .get(key.position(hosts.iter().map(|host| (host.name(), host.address())))?)?
            .clone();
        Some((service, group, host))
    }
}

fn is_not_the_last(service: &Service, group: &Arc<Group>, host: &Arc<Host>) -> Result<()> {
    let others_live =
        group.hosts().iter().any(|other| !Arc::ptr_eq(other, host) && other.is_available());
    if !service.is_enabled(group) || !host.is_available() || others_live {
        return Ok(());
    }
    let (host, group) = (host.name(), group.name());
    Err(Refusal::Conflict(format!(
        "host `{host}` is the last live host of the enabled group `{group}`"
    )))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;
    use crate::config::{GroupConfig, HostConfig, ServiceConfig, arbitrary};
    use crate::relay::Timeouts;

    /// What the admin side makes of a URL.
    fn read(url: &str) -> Change {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let decoded =
            |text: &str| percent_decode_str(text).decode_utf8().expect("it is UTF-8").into_owned();
        let pair =
            |pair: &str| pair.split_once('=').map(|(name, text)| (name.to_owned(), decoded(text)));
        let query: Vec<(String, String)> = query.split('&').filter_map(pair).collect();
        Change::from_query(path.trim_start_matches('/'), &query)
            .expect("it is a change")
            .expect("it is a good one")
    }

    fn apply(director: &Director, changes: &[Change]) -> Result<Vec<String>> {
        Ok(director.apply(director.preview(changes)?, &Names::new()))
    }

    /// The services of the configuration, put together from what runs.
    fn described(director: &Director) -> Vec<ServiceConfig> {
        let host = |host: &Arc<Host>| HostConfig {
            name: host.name().to_owned(),
            address: host.address().clone(),
        };
        let group = |group: &Arc<Group>| {
            let hosts = group.hosts().iter().map(host).collect();
            GroupConfig { name: group.name().to_owned(), rule: group.rule(), hosts }
        };
        let service = |service: &Arc<Service>| {
            let terms =
                director.config().services.into_iter().find(|config| config.name == service.name());
            let groups = service.groups().iter().map(group).collect();
            let (listens, enabled) = (service.listens(), service.enabled().name().to_owned());
            let (connect, replay) = (service.connect_limit(), service.replay_limit());
            ServiceConfig {
                listens,
                groups,
                enabled,
                connect,
                replay,
                ..terms.expect("it is in the configuration")
            }
        };
        director.services().iter().map(service).collect()
    }

    fn hosts(director: &Director) -> Vec<(String, String, String, Arc<Host>)> {
        let mut hosts = Vec::new();
        for (service, group) in director.groups() {
            let named = |host: Arc<Host>| {
                (service.name().to_owned(), group.name().to_owned(), host.name().to_owned(), host)
            };
            hosts.extend(group.hosts().into_iter().map(named));
        }
        hosts
    }

    proptest! {
        #![proptest_config(arbitrary::runs())]

        #[test]
        fn the_difference_makes_of_any_state_any_other((old, new) in arbitrary::two()) {
            let director = Director::new(&old);
            let applied = apply(&director, &Change::between(&old, &new));
            prop_assert!(applied.is_ok(), "{:?}", applied);
            prop_assert_eq!(described(&director), new.services.clone());
            prop_assert_eq!(director.config(), new.clone());
            prop_assert_eq!(director.differs_from_file(), old != new);
        }

        #[test]
        fn the_urls_of_the_difference_do_the_same_one_by_one((old, new) in arbitrary::two()) {
            let director = Director::new(&old);
            for change in Change::between(&old, &new) {
                let applied = apply(&director, &[read(&change.to_string())]);
                prop_assert!(applied.is_ok(), "{}: {:?}", change, applied);
            }
            prop_assert_eq!(director.config(), new);
        }

        #[test]
        fn hosts_that_stay_are_not_touched((old, new) in arbitrary::two()) {
            let director = Director::new(&old);
            let before = hosts(&director);
            apply(&director, &Change::between(&old, &new)).expect("it is possible");
            for (service, group, name, host) in hosts(&director) {
                let same = |(s, g, n, h): &&(String, String, String, Arc<Host>)| {
                    *s == service && *g == group && *n == name && h.address() == host.address()
                };
                prop_assert!(before.iter().find(same).is_none_or(|(.., old)| Arc::ptr_eq(old, &host)), "{}", name);
            }
        }
    }

    #[test]
    fn one_refusal_among_several_changes_leaves_all_as_it_was() {
        let config = any_one();
        let director = Director::new(&config);
        let service =
            config.services.first().map(|service| service.name.clone()).unwrap_or_default();
        let connect = Some(Duration::from_millis(7));
        let good = Change::SetTimeout { service, connect, idle: None, half: None, dead: None };
        let bad = Change::DelService { service: "nobody".to_owned(), force: false };
        assert!(apply(&director, &[good.clone(), bad]).is_err());
        assert_eq!(director.config(), config);
        assert!(apply(&director, &[good]).is_ok() && director.config() != config);
    }

    #[test]
    fn the_next_session_finds_the_limits_that_were_set_last() {
        let director = Director::new(&any_one());
        let service = director.service("s").expect("it is there");
        let limits = || {
            let Timeouts { idle, half, dead } = *service.timeouts();
            (idle.as_secs(), half.as_secs(), dead)
        };
        assert_eq!(limits(), (3600, 3600, Some(Duration::from_secs(120))));
        for (url, expected) in [
            (
                "/setTimeout?service=s&half=5m&dead=1500ms",
                (3600, 300, Some(Duration::from_secs(2))),
            ),
            ("/setTimeout?service=s&idle=1m", (60, 60, Some(Duration::from_secs(2)))),
            ("/setTimeout?service=s&idle=10m&dead=0", (600, 300, None)),
            (
                "/setTimeout?service=s&half=0&dead=18h",
                (600, 600, Some(Duration::from_secs(64_800))),
            ),
        ] {
            assert!(apply(&director, &[read(url)]).is_ok());
            assert_eq!(limits(), expected, "{url}");
        }
    }

    fn any_one() -> Config {
        let text = "<pdconfig><service name='s'><listen ip=':1'/><group name='g' scheduler='random'/></service></pdconfig>";
        crate::config::read::parse(std::path::Path::new("f.xml"), text.as_bytes())
            .expect("it is right")
    }
}
