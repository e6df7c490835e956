//! Who may come in, and whether it was really they who asked: the one place where the routes call
//! `auth` and `csrf`.
//!
//! Owns what those two remember: wrong tries for each address, and the key of the tokens.

use std::io;
use std::time::Duration;

use super::auth::{Auth, Verdict};
use super::control::Control;
use super::csrf::{self, Csrf};
use super::http::Request;
use crate::config::Access;

/// Somebody who was let in.
pub struct Visitor {
    /// Their name; empty for somebody who was not asked for it.
    pub user: String,
    /// Whether they may change things.
    pub is_full: bool,
}

/// Why nobody was let in.
pub enum AccessError {
    /// No user, or a wrong password.
    Denied,
    /// Too many wrong ones: nothing was looked at, and will be after this time.
    Penalised(Duration),
    /// This machine has no memory for the check.
    Short,
}

/// What is to become of a change.
pub enum Intent {
    /// It was meant.
    Meant,
    /// Perhaps nobody wants it now: whoever does can press a button.
    Unasked,
}

impl Visitor {
    /// Whoever needs no password for what they ask.
    pub fn unknown() -> Visitor {
        Visitor { user: String::new(), is_full: false }
    }
}

/// Passwords and tokens, checked.
pub struct AccessControl {
    auth: Auth,
    csrf: Csrf,
}

impl AccessControl {
    /// One that remembers nobody. Fails where the kernel gives no random bytes.
    pub fn new() -> io::Result<AccessControl> {
        Ok(AccessControl { auth: Auth::new()?, csrf: Csrf::new()? })
    }

    /// Lets a user in whose password is right.
    pub fn admit(&self, request: &Request, control: &dyn Control) -> Result<Visitor, AccessError> {
        let (authorization, users) = (request.authorization.as_deref(), control.director().users());
        match self.auth.check(authorization, &request.client, &users, || control.password_limit()) {
            Verdict::Allowed { user, access } => {
                Ok(Visitor { user, is_full: access == Access::Full })
            }
            Verdict::Denied => Err(AccessError::Denied),
            Verdict::Penalised(left) => Err(AccessError::Penalised(left)),
            Verdict::Short => Err(AccessError::Short),
        }
    }

    /// What the forms of this user's pages carry.
    pub fn token(&self, visitor: &Visitor) -> String {
        self.csrf.token(&visitor.user)
    }

    /// Refuses, in words, a change that another site may have made a browser ask for.
    pub fn intent(
        &self,
        visitor: &Visitor,
        request: &Request,
        token: Option<&str>,
    ) -> Result<Intent, &'static str> {
        if csrf::is_cross_site(request) {
            return Err("this request comes from another site");
        }
        match token {
            Some(token) if !self.csrf.token_fits(&visitor.user, token) => {
                Err("the form is too old: load the page again")
            }
            None if csrf::needs_token(request) => Err("the form has no token: load the page again"),
            _ if csrf::is_unasked(request, token.is_some()) => Ok(Intent::Unasked),
            _ => Ok(Intent::Meant),
        }
    }
}
