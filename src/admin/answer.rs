//! Answers: what a success, a failure and a document look like to a browser, a script that wants
//! JSON, and curl.
//!
//! `routes` and `show` build every answer here, and each leaves through [`with_common_headers`],
//! which adds the headers that all have.

use std::fmt;

use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::access::AccessError;
use super::http::Response;
use crate::config::Refusal;
use crate::system::logging::is_control;

/// What stays as it is in a query: the original's choice.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'_').remove(b'.').remove(b'-');

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What the client would like to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A browser.
    Html,
    /// A script.
    Json,
    /// Everybody else.
    Text,
}

impl Format {
    /// The first of the two that `Accept` names.
    pub fn of(accept: Option<&str>) -> Format {
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        match (accept.find("text/html"), accept.find("application/json")) {
            (Some(html), Some(json)) if json < html => Format::Json,
            (Some(_), _) => Format::Html,
            (None, Some(_)) => Format::Json,
            (None, None) => Format::Text,
        }
    }
}

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    /// 4xx or 5xx.
    pub status: u16,
    /// In words that name the wrong thing.
    pub why: String,
}

impl HttpError {
    /// A failure with a status.
    pub fn new(status: u16, why: impl Into<String>) -> HttpError {
        HttpError { status, why: why.into() }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> HttpError {
        let status = match refusal {
            Refusal::Bad(_) => 400,
            Refusal::NotFound(_) => 404,
            Refusal::Conflict(_) => 409,
        };
        HttpError::new(status, refusal.to_string())
    }
}

#[derive(Serialize)]
struct JsonOutcome<'a> {
    ok: bool,
    message: &'a str,
}

/// A document of any format in UTF-8.
pub fn document(mime: &str, body: impl Into<Vec<u8>>) -> Response {
    let response = Response { status: 200, body: body.into(), ..Response::default() };
    response.with("Content-Type", format!("{mime}; charset=utf-8"))
}

/// A page.
pub fn html(status: u16, page: &impl Template) -> Result<Response, HttpError> {
    let mut body = String::new();
    // behind `dyn`, a write is a call, and not a copy of what a string does for each piece of each
    // page
    let rendered = page.render_into(&mut body as &mut dyn fmt::Write);
    rendered.map_err(|error| HttpError::new(500, error.to_string()))?;
    Ok(Response { status, ..document("text/html", body) })
}

/// Values for a script.
pub fn json(values: &impl Serialize) -> Result<Response, HttpError> {
    let body =
        serde_json::to_string(values).map_err(|error| HttpError::new(500, error.to_string()))?;
    Ok(document("application/json", body + "\n"))
}

/// Something was done: back to the page that shows it, as the original does.
pub fn done(format: Format, message: &str) -> Result<Response, HttpError> {
    match format {
        Format::Json => json(&JsonOutcome { ok: true, message }),
        Format::Html | Format::Text => {
            let location =
                format!("/running?resultMessage={}", utf8_percent_encode(message, QUERY));
            Ok(Response::text(302, "OK\n").with("Location", location))
        }
    }
}

/// Nothing was done.
pub fn failed(format: Format, failure: &HttpError) -> Response {
    let HttpError { status, why } = failure;
    let text = || Response::text(*status, format!("NOT OK: {}\n", one_line(why)));
    match format {
        Format::Json => json(&JsonOutcome { ok: false, message: why })
            .map_or_else(|_| text(), |r| Response { status: *status, ..r }),
        Format::Html | Format::Text => text(),
    }
}

/// Nobody was let in.
pub fn access_denied(format: Format, error: &AccessError) -> Response {
    let answer = |status, why: &str| failed(format, &HttpError::new(status, why));
    match error {
        AccessError::Denied => answer(401, "a user and the right password are needed")
            .with("WWW-Authenticate", "Basic realm=\"tcpdirector\", charset=\"UTF-8\""),
        AccessError::Penalised(left) => {
            answer(429, "too many wrong passwords came from this address: try again later")
                .with("Retry-After", left.as_millis().div_ceil(1000).to_string())
        }
        AccessError::Short => answer(
            503,
            "this machine has no memory for the check of a password just now: try again",
        ),
    }
}

/// With the headers that every answer has.
pub fn with_common_headers(response: Response) -> Response {
    response
        .with("Cache-Control", "no-store")
        .with("X-Content-Type-Options", "nosniff")
        .with("Content-Security-Policy", POLICY)
        .with("Referrer-Policy", "same-origin")
}

/// A reason may quote what the client sent: its control characters do not make a second line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_a_script_and_curl_are_told_apart() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, format) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some(browser), Format::Html),
            (Some("Application/JSON"), Format::Json),
            (Some("application/json, text/html"), Format::Json),
            (Some("text/html, application/json"), Format::Html),
        ] {
            assert_eq!(Format::of(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        let failure = HttpError::new(400, "the name `a\nb\u{85}\u{202e}` is bad");
        assert_eq!(failed(Format::Text, &failure).body, b"NOT OK: the name `a b  ` is bad\n");
    }
}
