//! A request and its answer as plain values: what the pages see of HTTP.
//!
//! `serve` makes a [`Request`] of what comes through tiny_http, calls the one [`Handler`] on the
//! thread `admin`, and sends its [`Response`]. Nothing here does I/O; what a client wrote is
//! decoded here and nowhere else.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Answers requests. Called by one thread, one request at a time; a panic in it becomes an answer
/// with the status 500.
pub trait Handler: Send + Sync {
    /// The answer to one request. It must not wait for anything slower than a password check: other
    /// requests wait behind it.
    fn handle(&self, request: &Request) -> Response;
}

impl<F: Fn(&Request) -> Response + Send + Sync> Handler for F {
    fn handle(&self, request: &Request) -> Response {
        self(request)
    }
}

/// What may be asked for in which way. The front refuses every other method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Also stands for HEAD (see [`Request::is_head`]), whose answer the front sends without its
    /// body.
    #[default]
    Get,
    /// With a form or without.
    Post,
}

/// A clean request. Headers are absent where the client sent none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Whether the client asked by HEAD, which must change nothing.
    pub is_head: bool,
    /// Decoded, always with a slash in front, without the query.
    pub path: String,
    /// The parameters behind the question mark, decoded, in the order they came in; names may
    /// repeat.
    pub query: Vec<(String, String)>,
    /// The fields of the form that was posted, decoded; empty for every other kind of request.
    pub form: Vec<(String, String)>,
    /// Whether the body is an `application/x-www-form-urlencoded` form, even an empty one.
    pub is_form: bool,
    /// `Authorization`, for `auth` alone.
    pub authorization: Option<String>,
    /// `Accept`
    pub accept: Option<String>,
    /// `Origin`
    pub origin: Option<String>,
    /// `Referer`
    pub referer: Option<String>,
    /// `Sec-Fetch-Site`
    pub sec_fetch_site: Option<String>,
    /// `Sec-Purpose`, which a browser sends with what it loads before anybody has asked for it.
    pub sec_purpose: Option<String>,
    /// `Accept-Language`, for `csrf`: every browser sends it, and hardly any script.
    pub accept_language: Option<String>,
    /// `Host`
    pub host: Option<String>,
    /// The client's address without its port, or `unix`.
    pub client: String,
}

impl fmt::Debug for Request {
    /// Without parameters and Authorization: both may hold a password, and debug output ends up in
    /// logs and test reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Sets path and query from the target of a request. The error names what cannot be decoded.
    pub fn set_target(&mut self, target: &str) -> Result<(), String> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.path = decode(path)?;
        self.query = pairs(query)?;
        Ok(())
    }

    /// Sets the form from a body of the given type; another type is no form, and its body is not
    /// looked at.
    pub fn set_body(&mut self, content_type: &str, body: &[u8]) -> Result<(), String> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        self.is_form = self.method == Method::Post
            && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if self.is_form {
            let text = std::str::from_utf8(body).map_err(|_| "the form is not UTF-8".to_owned())?;
            self.form = pairs(text)?;
        }
        Ok(())
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// The text behind `%XX`. Nothing is replaced by a question mark: what is not UTF-8 is an error,
/// and so is a lonely `%`.
fn decode(text: &str) -> Result<String, String> {
    let mut after_percent = text.split('%').skip(1);
    if after_percent.any(|rest| {
        !rest.get(..2).is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }) {
        return Err("a % stands for itself: write it as %25".to_owned());
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if decoded.contains('\0') => Err("there is a NUL in the request".to_owned()),
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err("what the %XX of the request stand for is not UTF-8".to_owned()),
    }
}

/// An answer. `Content-Length`, `Date` and `Connection` are added on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599; anything else is sent as 500.
    pub status: u16,
    /// A header whose value has control or non-ASCII characters is left out when it is sent.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the headers.
    pub body: Vec<u8>,
}

impl Response {
    /// Plain text in UTF-8.
    pub fn text(status: u16, text: impl Into<String>) -> Response {
        Response { status, body: text.into().into_bytes(), ..Response::default() }
            .with("Content-Type", "text/plain; charset=utf-8")
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(target: &str) -> Result<Vec<(String, String)>, String> {
        let mut request = Request::default();
        request.set_target(target).map(|()| request.query)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn parameters_are_decoded_once_and_keep_their_order() {
        assert_eq!(
            query("/a?x=1&y=a+b%2Bc%20d&x=%C3%A9&&z").unwrap()[..],
            [pair("x", "1"), pair("y", "a b+c d"), pair("x", "é"), pair("z", "")]
        );
        assert_eq!(query("/?a=%2525=").unwrap(), [pair("a", "%25=")]);
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        let mut request = Request::default();
        request.set_target("/a+b%20c?").unwrap();
        assert_eq!((request.path.as_str(), request.query.len()), ("/a+b c", 0));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for target in ["/%", "/?a=%f", "/?a=%zz", "/?%ff=1", "/%00", "/?a=%C3", "/?a=%é"] {
            assert!(query(target).is_err(), "{target}");
        }
    }

    #[test]
    fn only_a_posted_form_is_a_form() {
        let form = |method, kind: &str, body: &[u8]| {
            let mut request = Request { method, ..Request::default() };
            request.set_body(kind, body).map(|()| (request.is_form, request.form.len()))
        };
        assert_eq!(
            form(Method::Post, "application/x-www-form-urlencoded; charset=UTF-8", b"a=1&b=2"),
            Ok((true, 2))
        );
        assert_eq!(form(Method::Post, "Application/X-WWW-Form-Urlencoded", b""), Ok((true, 0)));
        assert_eq!(form(Method::Get, "application/x-www-form-urlencoded", b"a=1"), Ok((false, 0)));
        assert_eq!(form(Method::Post, "text/plain", b"\xff"), Ok((false, 0)));
        assert!(form(Method::Post, "application/x-www-form-urlencoded", b"\xff").is_err());
    }

    #[test]
    fn debug_output_shows_no_parameters() {
        let mut request = Request { authorization: Some("secret".into()), ..Request::default() };
        request.set_target("/addUser?password=secret").unwrap();
        assert!(!format!("{request:?}").contains("secret"));
    }
}
