//! Edits of groups and their hosts.

use super::super::address::Address;
use super::super::change::HostKey;
use super::super::model::{Config, GroupConfig, HostConfig};
use super::{Refusal, Result, find_group, find_host, find_service};
use crate::scheduler::Rule;

pub fn add(config: &mut Config, service: &str, name: &str, rule: Rule) -> Result<String> {
    let groups = &mut find_service(config, service)?.groups;
    if groups.iter().any(|group| group.name == name) {
        return Err(Refusal::Conflict(format!(
            "there is a group `{name}` in service `{service}` already"
        )));
    }
    groups.push(GroupConfig { name: name.to_owned(), rule, hosts: Vec::new() });
    Ok(format!("group {name} added to {service}"))
}

pub fn delete(config: &mut Config, service: &str, name: &str) -> Result<String> {
    find_group(config, service, name)?;
    let found = find_service(config, service)?;
    if found.enabled == name {
        return Err(Refusal::Conflict(format!(
            "group `{name}` is enabled: enable another one first"
        )));
    }
    found.groups.retain(|group| group.name != name);
    Ok(format!("group {name} deleted from {service}"))
}

pub fn enable(config: &mut Config, service: &str, name: &str) -> Result<String> {
    find_group(config, service, name)?;
    name.clone_into(&mut find_service(config, service)?.enabled);
    Ok(format!("Group {name} enabled for service {service}"))
}

pub fn set_rule(config: &mut Config, service: &str, name: &str, rule: Rule) -> Result<String> {
    find_group(config, service, name)?.rule = rule;
    Ok(format!("scheduler of {name} / {service} is {rule}"))
}

pub fn add_host(
    config: &mut Config,
    service: &str,
    group: &str,
    host: &HostConfig,
) -> Result<String> {
    let hosts = &mut find_group(config, service, group)?.hosts;
    is_new(hosts.iter(), host, group)?;
    hosts.push(host.clone());
    Ok(format!("Host {}({}) added to {group} / {service}", host.name, host.address))
}

pub fn delete_host(
    config: &mut Config,
    service: &str,
    group: &str,
    key: &HostKey,
) -> Result<String> {
    let address = find_host(config, service, group, key)?.address.clone();
    let is_enabled = find_service(config, service)?.enabled == group;
    find_group(config, service, group)?.hosts.retain(|host| host.address != address);
    let kind = if is_enabled { "(from active group!)" } else { "from inactive group" };
    Ok(format!("host {address} deleted {kind}"))
}

pub fn change_host(
    config: &mut Config,
    (service, group): (&str, &str),
    key: &HostKey,
    name: Option<&String>,
    address: Option<&Address>,
) -> Result<String> {
    let before = find_host(config, service, group, key)?.clone();
    let after = HostConfig {
        name: name.unwrap_or(&before.name).clone(),
        address: address.unwrap_or(&before.address).clone(),
    };
    let others = find_group(config, service, group)?.hosts.iter().filter(|host| **host != before);
    is_new(others, &after, group)?;
    let words =
        format!("host {} of {group} / {service} is {}({})", before.name, after.name, after.address);
    *find_host(config, service, group, key)? = after;
    Ok(words)
}

pub fn delete_hosts(config: &mut Config, service: &str, group: &str) -> Result<String> {
    find_group(config, service, group)?;
    if find_service(config, service)?.enabled == group {
        return Err(Refusal::Conflict(format!(
            "group `{group}` is enabled: its hosts cannot all be deleted"
        )));
    }
    let gone = std::mem::take(&mut find_group(config, service, group)?.hosts);
    Ok(format!("{} hosts deleted from {group} / {service}", gone.len()))
}

/// None of the others has its name or its address.
fn is_new<'a>(
    others: impl Iterator<Item = &'a HostConfig>,
    host: &HostConfig,
    group: &str,
) -> Result<()> {
    let HostConfig { name, address } = host;
    for other in others {
        if other.name == *name {
            return Err(Refusal::Conflict(format!(
                "there is a host `{name}` in group `{group}` already"
            )));
        }
        if other.address.is_same(address) {
            let other = &other.name;
            return Err(Refusal::Conflict(format!(
                "host `{other}` in group `{group}` has the address {address} already"
            )));
        }
    }
    Ok(())
}
