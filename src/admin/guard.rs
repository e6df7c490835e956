//! Whether a change was meant: a browser sends its user's password along with whatever another site makes it ask for.
//!
//! Called by the pages before every change, on the thread `admin`. Scripts send none of the headers that browsers do, and pass.

use std::fmt;
use std::hash::Hasher;
use std::io;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::http::{Method, Request};
use crate::system::random;

/// Whether a browser says, or leaves open, that another site made it ask.
///
/// What counts is the first of these that is there: `Sec-Fetch-Site`, which browsers leave out on plain HTTP but for loopback;
/// `Origin`; `Referer`. A request with none of them is a script's, unless it calls itself a browser: a page can keep its
/// browser from sending a Referer.
pub fn is_cross_site(request: &Request) -> bool {
    if let Some(site) = &request.sec_fetch_site {
        // `none`: the user has typed it, or it was a bookmark
        return !matches!(site.as_str(), "same-origin" | "none");
    }
    match request.origin.as_ref().or(request.referer.as_ref()) {
        Some(url) => !is_ours(url, request.host.as_deref()),
        None => is_browser(request),
    }
}

/// Whether a change has to bring the token of a page of ours: a form that a browser has posted.
pub fn needs_token(request: &Request) -> bool {
    let from_browser = request.sec_fetch_site.is_some() || request.origin.is_some() || is_browser(request);
    request.method == Method::Post && request.is_form && from_browser
}

fn is_browser(request: &Request) -> bool {
    request.user_agent.as_ref().is_some_and(|agent| agent.starts_with("Mozilla/"))
}

/// Whether the host and port of a URL are those that were asked for.
fn is_ours(url: &str, host: Option<&str>) -> bool {
    let rest = url.strip_prefix("http://").map(|rest| (rest, ":80")).or(url.strip_prefix("https://").map(|rest| (rest, ":443")));
    let (Some((rest, port)), Some(host)) = (rest, host) else { return false };
    let origin = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    !origin.is_empty() && plain(origin) == plain(host)
}

/// The secret behind the tokens; another one in each process.
pub struct Guard {
    key: [u8; 16],
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    /// A new secret. Fails where the kernel gives no random bytes.
    pub fn new() -> io::Result<Guard> {
        Ok(Guard { key: random::secret()? })
    }

    /// What the forms of a user's pages bring along, in a field called `token`.
    pub fn token(&self, user: &str) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(user.as_bytes());
        format!("{:032x}", hasher.finish128().as_u128())
    }

    /// Whether it is the token of this user; takes the same time for every wrong one.
    pub fn token_fits(&self, user: &str, token: &str) -> bool {
        let good = self.token(user);
        let differences = good.bytes().zip(token.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
        good.len() == token.len() && differences == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(site: &str, origin: &str, referer: &str, host: &str, agent: &str) -> Request {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Request {
            sec_fetch_site: some(site),
            origin: some(origin),
            referer: some(referer),
            host: some(host),
            user_agent: some(agent),
            ..Request::default()
        }
    }

    #[test]
    fn a_browser_that_another_site_has_sent_is_found_out() {
        let host = "127.0.0.1:7001";
        for (site, origin, referer) in [
            ("cross-site", "", ""),
            ("same-site", "", ""),
            ("Same-Origin", "", ""),
            ("cross-site", "http://127.0.0.1:7001", "http://127.0.0.1:7001/"),
            ("", "http://evil.example", ""),
            ("", "null", ""),
            ("", "http://127.0.0.1:7002", "http://127.0.0.1:7001/"),
            ("", "http://127.0.0.1:7001.evil.example", ""),
            ("", "ftp://127.0.0.1:7001", ""),
            ("", "", "http://evil.example/?http://127.0.0.1:7001/"),
            ("", "", "http://127.0.0.1:7001@evil.example/"),
        ] {
            assert!(is_cross_site(&request(site, origin, referer, host, "")), "{site} {origin} {referer}");
        }
        assert!(is_cross_site(&request("", "", "", host, "Mozilla/5.0 (X11)")), "no Referer by request of the page");
        assert!(is_cross_site(&request("", "http://127.0.0.1:7001", "", "", "")), "no Host");
    }

    #[test]
    fn our_own_pages_and_scripts_may_ask() {
        for (site, origin, referer, host, agent) in [
            ("same-origin", "http://box:1", "", "box:1", "Mozilla/5.0"),
            ("none", "", "", "box:1", "Mozilla/5.0"),
            ("", "http://BOX:1", "", "box:1", "Mozilla/5.0"),
            ("", "https://box", "", "box", "Mozilla/5.0"),
            ("", "http://box", "", "box:80", "Mozilla/5.0"),
            ("", "", "http://box:1/running?x=/", "box:1", "Mozilla/5.0"),
            ("", "http://[::1]:1", "", "[::1]:1", ""),
            ("", "", "", "box:1", "curl/8"),
            ("", "", "", "", ""),
        ] {
            assert!(!is_cross_site(&request(site, origin, referer, host, agent)), "{site} {origin} {referer} {host} {agent}");
        }
    }

    #[test]
    fn only_forms_that_a_browser_posts_need_a_token() {
        let browser = Request { is_form: true, method: Method::Post, ..request("same-origin", "", "", "", "") };
        assert!(needs_token(&browser));
        assert!(!needs_token(&Request { method: Method::Get, ..browser.clone() }));
        assert!(!needs_token(&Request { sec_fetch_site: None, ..browser.clone() }), "curl -d");
        assert!(needs_token(&Request { sec_fetch_site: None, user_agent: Some("Mozilla/5.0".into()), ..browser }));
    }

    #[test]
    fn a_token_is_good_for_one_user_and_one_process() {
        let (guard, other) = (Guard::new().unwrap(), Guard::new().unwrap());
        let token = guard.token("ann");
        assert!(guard.token_fits("ann", &token) && token.len() == 32);
        for wrong in ["", &token[1..], &format!("{token}0"), &token.replace(|c: char| c.is_ascii_digit(), "x")] {
            assert!(!guard.token_fits("ann", wrong), "{wrong}");
        }
        assert!(!guard.token_fits("bob", &token) && !other.token_fits("ann", &token));
    }
}
