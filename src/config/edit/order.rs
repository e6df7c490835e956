//! Where something stands among its like.

use super::super::change::ElementKey;
use super::super::model::Config;
use super::{HostKey, Refusal, Result, find_group, find_host, find_service};

/// Puts an item at a position among its like; those behind it move up.
pub fn put(config: &mut Config, item: &ElementKey, at: usize) -> Result<String> {
    let name = match item {
        ElementKey::Service { service } => {
            find_service(config, service)?;
            shift(&mut config.services, |other| other.name == *service, service, at)?;
            service.clone()
        }
        ElementKey::Listen { service, listen } => {
            let listens = &mut find_service(config, service)?.listens;
            shift(
                listens,
                |other| other == listen,
                &format!("{listen} of service `{service}`"),
                at,
            )?;
            listen.to_string()
        }
        ElementKey::Group { service, group } => {
            find_group(config, service, group)?;
            shift(
                &mut find_service(config, service)?.groups,
                |other| other.name == *group,
                group,
                at,
            )?;
            group.clone()
        }
        ElementKey::Host { service, group, name } => {
            find_host(config, service, group, &HostKey::Name(name.clone()))?;
            shift(
                &mut find_group(config, service, group)?.hosts,
                |other| other.name == *name,
                name,
                at,
            )?;
            name.clone()
        }
        ElementKey::User { name } => {
            let mut nobody = Vec::new();
            let users = config.admin.as_mut().map_or(&mut nobody, |admin| &mut admin.users);
            shift(users, |other| other.name == *name, name, at)?;
            name.clone()
        }
    };
    Ok(format!("{name} is at position {at}"))
}

/// The last of those that are meant: of listen addresses with a port that the system chooses,
/// several may look the same.
fn shift<T>(list: &mut Vec<T>, is_meant: impl Fn(&T) -> bool, what: &str, at: usize) -> Result<()> {
    let from = list
        .iter()
        .rposition(is_meant)
        .ok_or_else(|| Refusal::NotFound(format!("there is no `{what}`")))?;
    let last = list.len() - 1;
    if at > last {
        return Err(Refusal::Bad(format!("at: the last position is {last}")));
    }
    let item = list.remove(from);
    list.insert(at, item);
    Ok(())
}
