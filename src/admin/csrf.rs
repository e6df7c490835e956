//! Whether a change was meant: a browser sends its user's password along with whatever another site
//! makes it ask for, and with what it loads ahead of time.
//!
//! Called by the pages before every change, on the thread `admin`. Scripts send none of the headers
//! that browsers do, and pass.

use std::fmt;
use std::hash::Hasher;
use std::io;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::http::{Method, Request};
use crate::system::random;

/// Whether a browser says that another site made it ask. What counts is the first of these that is
/// there: `Sec-Fetch-Site`, which browsers leave out on plain HTTP but for loopback; `Origin`;
/// `Referer`.
pub fn is_cross_site(request: &Request) -> bool {
    if let Some(site) = &request.sec_fetch_site {
        // `none`: the user has typed it, or it was a bookmark
        return !matches!(site.as_str(), "same-origin" | "none");
    }
    let from = request.origin.as_ref().or(request.referer.as_ref());
    from.is_some_and(|url| !is_ours(url, request.host.as_deref()))
}

/// Whether a change has to bring the token of a page of ours: a form that a browser has posted.
pub fn needs_token(request: &Request) -> bool {
    request.method == Method::Post && request.is_form && is_browser(request)
}

/// Whether a browser may ask without anybody wanting it now: what it loads ahead of time, and
/// without the token of a page of ours what comes from nowhere. That was typed, or completed from
/// what was typed once; on plain HTTP another site may have sent it, too, and kept the browser from
/// saying so.
pub fn is_unasked(request: &Request, has_token: bool) -> bool {
    let is_from_nowhere = match &request.sec_fetch_site {
        Some(site) => site == "none",
        None => is_browser(request) && request.origin.is_none() && request.referer.is_none(),
    };
    request.method == Method::Get
        && (request.sec_purpose.is_some() || is_from_nowhere && !has_token)
}

/// By what no page can keep a browser from sending; never by the name that it gives itself, which
/// scripts borrow.
fn is_browser(request: &Request) -> bool {
    request.sec_fetch_site.is_some()
        || request.origin.is_some()
        || request.accept_language.is_some()
}

/// Whether the host and port of a URL are those that were asked for.
fn is_ours(url: &str, host: Option<&str>) -> bool {
    let rest = url
        .strip_prefix("http://")
        .map(|rest| (rest, ":80"))
        .or(url.strip_prefix("https://").map(|rest| (rest, ":443")));
    let (Some((rest, port)), Some(host)) = (rest, host) else { return false };
    let origin = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    !origin.is_empty() && plain(origin) == plain(host)
}

/// The secret behind the tokens; another one in each process.
pub struct Csrf {
    key: [u8; 16],
}

impl fmt::Debug for Csrf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csrf").finish_non_exhaustive()
    }
}

impl Csrf {
    /// A new secret. Fails where the kernel gives no random bytes.
    pub fn new() -> io::Result<Csrf> {
        Ok(Csrf { key: random::secret()? })
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
        let differences =
            good.bytes().zip(token.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
        good.len() == token.len() && differences == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(site: &str, origin: &str, referer: &str, host: &str) -> Request {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Request {
            sec_fetch_site: some(site),
            origin: some(origin),
            referer: some(referer),
            host: some(host),
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
            assert!(
                is_cross_site(&request(site, origin, referer, host)),
                "{site} {origin} {referer}"
            );
        }
        assert!(is_cross_site(&request("", "http://127.0.0.1:7001", "", "")), "no Host");
    }

    #[test]
    fn our_own_pages_and_scripts_may_ask() {
        for (site, origin, referer, host) in [
            ("same-origin", "http://box:1", "", "box:1"),
            ("none", "", "", "box:1"),
            ("", "http://BOX:1", "", "box:1"),
            ("", "https://box", "", "box"),
            ("", "http://box", "", "box:80"),
            ("", "", "http://box:1/running?x=/", "box:1"),
            ("", "http://[::1]:1", "", "[::1]:1"),
            ("", "", "", ""),
        ] {
            assert!(
                !is_cross_site(&request(site, origin, referer, host)),
                "{site} {origin} {referer} {host}"
            );
        }
    }

    #[test]
    fn only_forms_that_a_browser_posts_need_a_token() {
        let browser =
            Request { is_form: true, method: Method::Post, ..request("same-origin", "", "", "") };
        assert!(needs_token(&browser));
        assert!(!needs_token(&Request { method: Method::Get, ..browser.clone() }));
        let other = Request { sec_fetch_site: None, ..browser };
        assert!(!needs_token(&other), "curl -d");
        assert!(
            needs_token(&Request { accept_language: Some("en".into()), ..other }),
            "a browser on plain HTTP"
        );
    }

    #[test]
    fn what_a_browser_loads_by_itself_or_from_nowhere_was_not_asked_for() {
        let (script, typed) = (request("", "", "", "box:1"), request("none", "", "", "box:1"));
        let ahead = |request: Request| Request {
            sec_purpose: Some("prefetch;prerender".into()),
            ..request
        };
        let plain = |request: Request| Request { accept_language: Some("de".into()), ..request };
        let link = request("same-origin", "", "http://box:1/running", "box:1");
        for (request, with_token, without) in [
            (script.clone(), false, false),
            (link.clone(), false, false),
            (typed.clone(), false, true),
            (plain(script.clone()), false, true),
            (plain(request("", "", "http://box:1/running", "box:1")), false, false),
            (ahead(script), true, true),
            (ahead(link), true, true),
            (ahead(typed.clone()), true, true),
            (Request { method: Method::Post, ..ahead(typed) }, false, false),
        ] {
            assert_eq!(
                (is_unasked(&request, true), is_unasked(&request, false)),
                (with_token, without)
            );
        }
    }

    #[test]
    fn a_token_is_good_for_one_user_and_one_process() {
        let (csrf, other) = (Csrf::new().unwrap(), Csrf::new().unwrap());
        let token = csrf.token("ann");
        assert!(csrf.token_fits("ann", &token) && token.len() == 32);
        for wrong in [
            "",
            &token[1..],
            &format!("{token}0"),
            &token.replace(|c: char| c.is_ascii_digit(), "x"),
        ] {
            assert!(!csrf.token_fits("ann", wrong), "{wrong}");
        }
        assert!(!csrf.token_fits("bob", &token) && !other.token_fits("ann", &token));
    }
}
