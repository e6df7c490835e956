//! Edits of services as a whole, of what they listen on and of where the admin pages are.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::super::address::Address;
use super::super::admin_listen::AdminListen;
use super::super::model::{
    AdminConfig, Config, DEFAULT_CONNECT, DEFAULT_DEAD, DEFAULT_IDLE, GroupConfig, ServiceConfig,
};
use super::{Refusal, Result, find_service};
use crate::scheduler::Rule;

pub fn add(
    config: &mut Config,
    name: &str,
    listen: &Address,
    group: &str,
    rule: Rule,
) -> Result<String> {
    if config.services.iter().any(|service| service.name == name) {
        return Err(Refusal::Conflict(format!("there is a service `{name}` already")));
    }
    is_free(config, listen)?;
    config.services.push(ServiceConfig {
        name: name.to_owned(),
        listens: vec![listen.clone()],
        groups: vec![GroupConfig { name: group.to_owned(), rule, hosts: Vec::new() }],
        enabled: group.to_owned(),
        connect: DEFAULT_CONNECT,
        idle: DEFAULT_IDLE,
        half: None,
        dead: DEFAULT_DEAD,
        replay: None,
    });
    Ok(format!("service {name} added on {listen}"))
}

pub fn delete(config: &mut Config, name: &str, force: bool) -> Result<String> {
    find_service(config, name)?;
    if config.services.len() == 1 && !force {
        return Err(Refusal::Conflict(format!("`{name}` is the last service")));
    }
    config.services.retain(|service| service.name != name);
    Ok(format!("service {name} deleted"))
}

pub fn add_listen(config: &mut Config, service: &str, listen: &Address) -> Result<String> {
    find_service(config, service)?;
    is_free(config, listen)?;
    find_service(config, service)?.listens.push(listen.clone());
    Ok(format!("service {service} listens on {listen}"))
}

pub fn delete_listen(
    config: &mut Config,
    service: &str,
    listen: &Address,
    force: bool,
) -> Result<String> {
    let listens = &mut find_service(config, service)?.listens;
    let at = listens.iter().position(|other| other == listen);
    let at = at.ok_or_else(|| {
        Refusal::NotFound(format!("service `{service}` does not listen on {listen}"))
    })?;
    if listens.len() == 1 && !force {
        return Err(Refusal::Conflict(format!(
            "{listen} is the last listen address of service `{service}`"
        )));
    }
    listens.remove(at);
    Ok(format!("service {service} does not listen on {listen} any more"))
}

pub fn set_timeout(
    config: &mut Config,
    name: &str,
    connect: Option<Duration>,
    idle: Option<Duration>,
    half: Option<Option<Duration>>,
    dead: Option<Option<Duration>>,
) -> Result<String> {
    let service = find_service(config, name)?;
    (service.connect, service.idle) =
        (connect.unwrap_or(service.connect), idle.unwrap_or(service.idle));
    (service.half, service.dead) = (half.unwrap_or(service.half), dead.unwrap_or(service.dead));
    Ok(format!("timeout of {name} set"))
}

pub fn set_replay(
    config: &mut Config,
    service: &str,
    bytes: Option<NonZeroUsize>,
) -> Result<String> {
    find_service(config, service)?.replay = bytes;
    Ok(format!("replay of {service} set"))
}

pub fn set_admin(config: &mut Config, listen: Option<&AdminListen>) -> Result<String> {
    let Some(listen) = listen else {
        config.admin = None;
        return Ok("admin pages taken away".to_owned());
    };
    if config.admin.as_ref().is_none_or(|admin| admin.listen != *listen) {
        if let AdminListen::Tcp(address) = listen {
            is_free(config, address)?;
        }
    }
    let users = config.admin.take().map(|admin| admin.users).unwrap_or_default();
    config.admin = Some(AdminConfig { listen: listen.clone(), users });
    Ok(format!("admin pages are on {listen}"))
}

/// Nobody listens there yet, as far as the configuration tells. Port 0 is another port each time.
fn is_free(config: &Config, listen: &Address) -> Result<()> {
    let service = config
        .services
        .iter()
        .find(|service| service.listens.iter().any(|other| other.is_same(listen)));
    let is_here = |admin: &AdminConfig| matches!(&admin.listen, AdminListen::Tcp(other) if other.is_same(listen));
    let is_admin = config.admin.as_ref().is_some_and(is_here);
    let who = match service {
        _ if listen.port == 0 => return Ok(()),
        Some(service) => format!("service `{}` listens", service.name),
        None if is_admin => "the admin pages are".to_owned(),
        None => return Ok(()),
    };
    Err(Refusal::Conflict(format!("{who} on {listen} already")))
}
