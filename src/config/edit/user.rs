//! Edits of who may use the admin pages.

use super::super::model::{Access, Config, UserConfig};
use super::{Refusal, Result};

/// The users; without admin pages there can be none.
fn users(config: &mut Config) -> Result<&mut Vec<UserConfig>> {
    let admin = config
        .admin
        .as_mut()
        .ok_or_else(|| Refusal::Conflict("there are no admin pages to be a user of".to_owned()))?;
    Ok(&mut admin.users)
}

fn not_found(name: &str) -> Refusal {
    Refusal::NotFound(format!("user {name} not found"))
}

/// Somebody is left who may change something, unless that is not to matter.
fn somebody_is_left(users: &[UserConfig], name: &str, force: bool) -> Result<()> {
    match force || users.iter().any(|user| user.access == Access::Full) {
        true => Ok(()),
        false => Err(Refusal::Conflict(format!("user {name} is the last one with full access"))),
    }
}

pub fn add(config: &mut Config, user: &UserConfig) -> Result<String> {
    let users = users(config)?;
    if users.iter().any(|other| other.name == user.name) {
        return Err(Refusal::Conflict(format!("user {} already exists", user.name)));
    }
    users.push(user.clone());
    Ok(format!("user {} added", user.name))
}

pub fn delete(config: &mut Config, name: &str, force: bool) -> Result<String> {
    let users = users(config)?;
    let mut others = users.clone();
    others.retain(|user| user.name != name);
    if others.len() == users.len() {
        return Err(not_found(name));
    }
    somebody_is_left(&others, name, force)?;
    *users = others;
    Ok(format!("user {name} deleted"))
}

pub fn change(
    config: &mut Config,
    name: &str,
    password: Option<&String>,
    access: Option<Access>,
    force: bool,
) -> Result<String> {
    let users = users(config)?;
    let mut changed = users.clone();
    let user = changed.iter_mut().find(|user| user.name == name).ok_or_else(|| not_found(name))?;
    user.access = access.unwrap_or(user.access);
    password.into_iter().for_each(|password| user.password.clone_from(password));
    somebody_is_left(&changed, name, force)?;
    *users = changed;
    Ok(format!("user {name} changed"))
}
