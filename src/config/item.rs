//! A configuration as the elements that say it: what `write` prints and what `merge` compares with
//! a file.
//!
//! [`Item::of`] is the other direction of `read`. What need not be said, because a reader would
//! assume it anyway, is marked as implied, so that a file in which it stands can keep it, and one
//! in which it does not stand does not get it.

use std::time::Duration;

use super::duration;
use super::language;
use super::model::{
    AdminConfig, Config, DEFAULT_CHECKTIME, DEFAULT_CONNECT, DEFAULT_DEAD, DEFAULT_GRACE,
    DEFAULT_IDLE, GroupConfig, HostConfig, PoolConfig, ServiceConfig, UserConfig,
};
use super::value;

/// One element.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// The name of the element.
    pub kind: &'static str,
    /// Its attributes in the order of the language.
    pub fields: Vec<Field>,
    /// The elements in it: equal kinds side by side, the kinds in the order of the language.
    pub items: Vec<Item>,
    /// Whether a file without this element says the same.
    pub implied: bool,
}

/// One attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its value, in its only normal spelling: two fields mean the same when their values are
    /// equal.
    pub value: String,
    /// Whether an element without this attribute says the same.
    pub implied: bool,
}

impl Item {
    /// The root element of a configuration. Without `hashes` the passwords of users are left out,
    /// and it does not load.
    pub fn of(config: &Config, hashes: bool) -> Item {
        let mut items: Vec<Item> = config.services.iter().map(service).collect();
        items.extend(config.admin.iter().map(|one| admin(one, hashes)));
        items.extend(config.logging.iter().map(|file| Item::new("logging").field("file", file)));
        items.push(checktime(config.checktime));
        items.push(pool(config.pool));
        items.push(stop(config.grace));
        Item { items, ..Item::new(language::ROOT) }
    }

    /// The value of the attribute of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.name == name).map(|field| field.value.as_str())
    }

    /// Whether it would be an element that says nothing at all.
    pub fn is_silent(&self) -> bool {
        self.implied && self.fields.iter().all(|field| field.implied)
    }

    fn new(kind: &'static str) -> Item {
        Item { kind, fields: Vec::new(), items: Vec::new(), implied: false }
    }

    fn field(self, name: &'static str, value: impl ToString) -> Item {
        self.field_unless(false, name, value)
    }

    fn field_unless(mut self, implied: bool, name: &'static str, value: impl ToString) -> Item {
        self.fields.push(Field { name, value: value.to_string(), implied });
        self
    }
}

fn service(config: &ServiceConfig) -> Item {
    let ServiceConfig { name, listens, groups, enabled, replay, .. } = config;
    let mut items: Vec<Item> =
        listens.iter().map(|listen| Item::new("listen").field("ip", listen)).collect();
    items.extend(groups.iter().map(group));
    items.push(Item { implied: groups.len() == 1, ..Item::new("enable").field("group", enabled) });
    items.push(timeout(config));
    items.extend(replay.map(|bytes| Item::new("replay").field("bytes", bytes)));
    Item { items, ..Item::new("service").field("name", name) }
}

fn timeout(config: &ServiceConfig) -> Item {
    let ServiceConfig { connect, idle, half, dead, .. } = *config;
    let limits = [
        ("connect", connect == DEFAULT_CONNECT, duration::format(connect)),
        ("idle", idle == DEFAULT_IDLE, duration::format(idle)),
        ("half", half.is_none(), duration::format_limit(half)),
        ("dead", dead == DEFAULT_DEAD, duration::format_limit(dead)),
    ];
    let add = |item: Item, (name, implied, text)| item.field_unless(implied, name, text);
    let item = limits.into_iter().fold(Item::new("timeout"), add);
    Item { implied: item.fields.iter().all(|field| field.implied), ..item }
}

fn group(config: &GroupConfig) -> Item {
    let GroupConfig { name, rule, hosts } = config;
    let items = hosts.iter().enumerate().map(|(position, one)| host(position, one)).collect();
    Item { items, ..Item::new("group").field("name", name).field("scheduler", rule) }
}

/// A host that is called by its position needs no name, and would get the same one again: as nobody
/// else has that name, and no nameless host before it was called by a later position, it is free
/// when its turn comes.
fn host(position: usize, config: &HostConfig) -> Item {
    let HostConfig { name, address } = config;
    Item::new(language::HOST)
        .field_unless(*name == format!("host.{position}"), "name", name)
        .field("ip", address)
}

fn admin(config: &AdminConfig, hashes: bool) -> Item {
    let AdminConfig { listen, users } = config;
    let items = users.iter().map(|one| user(one, hashes)).collect();
    Item { items, ..Item::new("admin").field("listen", listen.to_string()) }
}

fn user(config: &UserConfig, hashes: bool) -> Item {
    let UserConfig { name, password, access } = config;
    let item = Item::new("user").field("name", name);
    let item = if hashes { item.field("password", password) } else { item };
    item.field("access", access)
}

/// In the original's bare seconds where that is exact.
fn checktime(time: Duration) -> Item {
    let text =
        if time.subsec_nanos() == 0 { time.as_secs().to_string() } else { duration::format(time) };
    Item { implied: time == DEFAULT_CHECKTIME, ..Item::new("checktime").field("time", text) }
}

fn pool(config: PoolConfig) -> Item {
    let PoolConfig { threads, sessions, memory, queue } = config;
    let limits = [("threads", threads), ("sessions", sessions), ("queue", queue)];
    let limits = limits.map(|(name, limit)| (name, limit.map(|limit| limit.to_string())));
    let item = limits.into_iter().chain([("memory", memory.map(value::format_bytes))]);
    let item = item.filter_map(|(name, limit)| Some((name, limit?)));
    let item = item.fold(Item::new("pool"), |item, (name, limit)| item.field(name, limit));
    Item { implied: item.fields.is_empty(), ..item }
}

fn stop(grace: Duration) -> Item {
    let implied = grace == DEFAULT_GRACE;
    Item { implied, ..Item::new("stop").field_unless(implied, "grace", duration::format(grace)) }
}
