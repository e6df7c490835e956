//! Who may come in, and whether it was really they who asked: the one place where the routes call `auth` and `guard`.
//!
//! Owns what those two remember: wrong tries for each address, and the key of the tokens.

use std::io;
use std::time::Duration;

use super::auth::{Auth, Verdict};
use super::guard::{self, Guard};
use super::http::Request;
use crate::config::{Access, UserConfig};

/// Somebody who was let in.
pub struct Visitor {
    /// Their name; empty for somebody who was not asked for it.
    pub user: String,
    /// Whether they may change things.
    pub is_full: bool,
    /// How long to hold their answer back.
    pub delay: Duration,
}

impl Visitor {
    /// Whoever needs no password for what they ask.
    pub fn unknown() -> Visitor {
        Visitor { user: String::new(), is_full: false, delay: Duration::ZERO }
    }
}

/// The gate.
pub struct Gate {
    auth: Auth,
    guard: Guard,
}

impl Gate {
    /// A gate that remembers nobody. Fails where the kernel gives no random bytes.
    pub fn new() -> io::Result<Gate> {
        Ok(Gate { auth: Auth::new()?, guard: Guard::new()? })
    }

    /// Lets a user in whose password is right; else tells how long to hold the refusal back.
    pub fn admit(&self, request: &Request, users: &[UserConfig]) -> Result<Visitor, Duration> {
        match self.auth.check(request.authorization.as_deref(), &request.client, users) {
            Verdict::Allowed { user, access, delay } => Ok(Visitor { user, is_full: access == Access::Full, delay }),
            Verdict::Denied { delay } => Err(delay),
        }
    }

    /// What the forms of this user's pages carry.
    pub fn token(&self, visitor: &Visitor) -> String {
        self.guard.token(&visitor.user)
    }

    /// Refuses, in words, a change that another site may have made a browser ask for.
    pub fn is_meant(&self, visitor: &Visitor, request: &Request, token: Option<&str>) -> Result<(), &'static str> {
        if guard::is_cross_site(request) {
            return Err("this request comes from another site");
        }
        match token {
            Some(token) if !self.guard.token_fits(&visitor.user, token) => Err("the form is too old: load the page again"),
            None if guard::needs_token(request) => Err("the form has no token: load the page again"),
            _ => Ok(()),
        }
    }
}
