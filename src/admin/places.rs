//! Who has a place at the admin address, and whose turn it is: no address takes what is for all,
//! and a health check finds a place.
//!
//! Rules over the clients of the moment, for the front, which calls them on its thread.

use std::net::IpAddr;
use std::time::Instant;

use super::client::Client;
use super::wire::{Refused, TOO_MANY};

/// The most clients at a time.
pub const MAX_CLIENTS: usize = 64;
/// The most requests of one address that wait at a time, for `/healthz` and for all else; what
/// comes beyond is answered 429.
const SHARE: usize = 8;
/// The places that requests for something else than `/healthz` leave free, however many addresses
/// they come from.
const RESERVED: usize = 8;

/// Why a client's request cannot wait here, if that is so.
pub fn excess(client: &Client, clients: &[Client]) -> Option<Refused> {
    if !client.is_ready() {
        return None;
    }
    let is_before = |other: &&Client| {
        other.is_ready() && other.id < client.id && other.is_for_health() == client.is_for_health()
    };
    let before = || clients.iter().filter(is_before);
    if before().filter(|other| other.source == client.source).count() >= SHARE {
        return Some(Refused(429, "too many requests of this address are waiting: try again"));
    }
    (!client.is_for_health() && before().count() >= MAX_CLIENTS - RESERVED).then_some(TOO_MANY)
}

/// Who makes room for a newcomer: one that has had its answer, else the one that came first, of
/// those whose address has the most clients here, so that one address cannot push out the others.
/// Whoever waits for us is never dropped.
pub fn whom_to_drop(clients: &[Client], now: Instant) -> Option<usize> {
    if let Some(done) = clients.iter().position(|client| client.is_lingering() || client.is_over())
    {
        return Some(done);
    }
    let of_source =
        |source: IpAddr| clients.iter().filter(|client| client.source == source).count();
    let candidates = clients.iter().enumerate().filter(|(_, client)| client.may_be_dropped());
    let rank =
        |client: &Client| (of_source(client.source), now.saturating_duration_since(client.since));
    candidates.max_by_key(|(_, client)| rank(client)).map(|(number, _)| number)
}

/// Whose request is served next, after one from `last`: addresses take turns, so that a flood from
/// one does not make another wait for all of it; then health checks, then who came first.
pub fn next(clients: &mut [Client], last: Option<IpAddr>) -> Option<&mut Client> {
    let rank =
        |client: &&mut Client| (Some(client.source) == last, !client.is_for_health(), client.id);
    clients.iter_mut().filter(|client| client.is_ready()).min_by_key(rank)
}
