//! What answers the routes that only show something: one function each, from a visit to a response.
//! `routes` calls them after all checks but those of values.

use super::access::Visitor;
use super::answer::{Format, HttpError, document, html, json};
use super::control::Control;
use super::http::{Request, Response};
use super::page::{EventsPage, Frame, IndexPage, Message, QuestionPage, RunningPage, SessionsPage};
use super::{metrics as prometheus, text};
use crate::state::Director;
use crate::state::snapshot::{self, SessionView, Snapshot};
use crate::system::memory;

/// Bytes that a session takes in a list of them, on all its ways to the client together: as values,
/// as text that grows, in the hands of tiny_http, of the front.
const LISTED: usize = 2048;

type Answer = Result<Response, HttpError>;

/// A request that was let in.
pub struct Visit<'a> {
    /// The program.
    pub control: &'a dyn Control,
    /// What was asked.
    pub request: &'a Request,
    /// How the answer should look.
    pub format: Format,
    /// Who asks.
    pub visitor: Visitor,
    /// For the forms of the page.
    pub token: String,
    /// The parameters of query and form, names in lower case.
    pub arguments: Vec<(String, String)>,
}

impl Visit<'_> {
    fn director(&self) -> &Director {
        self.control.director()
    }

    fn state(&self) -> Snapshot {
        Snapshot::take(self.director(), self.control.lost_lines())
    }

    /// Who asks, for the log and the events.
    pub fn by(&self) -> String {
        format!("{}@{}", self.visitor.user, self.request.client)
    }

    /// A parameter.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn frame(&self, here: &'static str) -> Frame<'_> {
        Frame::new(&self.visitor.user, self.visitor.is_full.then_some(&self.token), here)
    }
}

pub fn index(visit: &Visit) -> Answer {
    let state = visit.state();
    html(200, &IndexPage { frame: visit.frame("/"), state: &state })
}

pub fn running(visit: &Visit) -> Answer {
    if visit.format == Format::Json {
        return running_json(visit);
    }
    let refresh =
        visit.argument("refresh").filter(|text| !text.is_empty()).map(refresh).transpose()?;
    let message = visit.argument("resultmessage").map(|text| Message { text, is_error: false });
    let state = visit.state();
    html(
        200,
        &RunningPage::new(
            visit.frame("/running"),
            &state,
            visit.director().users(),
            message,
            refresh,
        ),
    )
}

/// The page with the reason why something was not done.
pub fn refused(visit: &Visit, failure: &HttpError) -> Answer {
    let state = visit.state();
    let message = Some(Message { text: &failure.why, is_error: true });
    html(
        failure.status,
        &RunningPage::new(visit.frame("/running"), &state, visit.director().users(), message, None),
    )
}

/// What a change would do, with a button for it, since nobody may have asked for it yet; a script
/// gets words.
pub fn question(visit: &Visit, path: &str, what: &str) -> Answer {
    match visit.format {
        Format::Json => Err(HttpError::new(
            403,
            "nothing was changed: a browser has asked by itself, and the page has a form for this",
        )),
        Format::Html | Format::Text => html(
            200,
            &QuestionPage {
                frame: visit.frame(""),
                path,
                what,
                token: &visit.token,
                arguments: &visit.arguments,
            },
        ),
    }
}

/// After how many seconds the page is to be loaded again; 0 is never. `1` is no second but yes, as
/// the original's page says it.
fn refresh(text: &str) -> Result<u64, HttpError> {
    match (text, text.parse()) {
        ("1" | "yes", _) => Ok(60),
        ("no", _) => Ok(0),
        (_, Ok(seconds)) if seconds <= 3600 => Ok(seconds),
        _ => Err(HttpError::new(
            400,
            format!("refresh: `{text}` must be yes, no, or seconds from 2 to 3600"),
        )),
    }
}

pub fn running_txt(visit: &Visit) -> Answer {
    Ok(document("text/plain", text::running(&visit.state())))
}

pub fn running_xml(visit: &Visit) -> Answer {
    Ok(document("application/xml", visit.control.running_xml(visit.visitor.is_full)))
}

pub fn running_json(visit: &Visit) -> Answer {
    json(&visit.state())
}

pub fn config_xml(visit: &Visit) -> Answer {
    Ok(document("application/xml", visit.control.config_xml(visit.visitor.is_full)))
}

pub fn config_txt(visit: &Visit) -> Answer {
    Ok(document("text/plain", text::config(&visit.director().saved())))
}

/// What a reload would change, one URL a line.
pub fn plan(visit: &Visit) -> Answer {
    let changes = visit.control.plan()?;
    if changes.is_empty() {
        return Ok(document("text/plain", "# nothing would change\n"));
    }
    Ok(document(
        "text/plain",
        changes.iter().map(|change| format!("{change}\n")).collect::<String>(),
    ))
}

pub fn sessions(visit: &Visit) -> Answer {
    if visit.format == Format::Json {
        return sessions_json(visit);
    }
    html(200, &SessionsPage::new(visit.frame("/sessions"), listed(visit)?))
}

pub fn sessions_json(visit: &Visit) -> Answer {
    json(&listed(visit)?)
}

/// All sessions, if there is memory for so many.
fn listed(visit: &Visit) -> Result<Vec<SessionView>, HttpError> {
    let director = visit.director();
    let room = memory::check(director.sessions.open().saturating_mul(LISTED));
    room.map_err(|_| {
        HttpError::new(503, "this machine is short of memory for a list of all sessions")
    })?;
    Ok(snapshot::sessions(director))
}

pub fn events(visit: &Visit) -> Answer {
    if visit.format == Format::Json {
        return events_json(visit);
    }
    html(
        200,
        &EventsPage { frame: visit.frame("/events"), events: snapshot::events(visit.director()) },
    )
}

pub fn events_json(visit: &Visit) -> Answer {
    json(&snapshot::events(visit.director()))
}

pub fn metrics(visit: &Visit) -> Answer {
    Ok(document(prometheus::MIME, prometheus::render(visit.director(), &visit.state())))
}

pub fn healthz(visit: &Visit) -> Answer {
    match text::health(&visit.state()) {
        Ok(fine) => Ok(document("text/plain", format!("{fine}\n"))),
        Err(why) => Err(HttpError::new(503, why)),
    }
}

pub fn css(_: &Visit) -> Answer {
    Ok(document("text/css", include_str!("assets/tcpdirector.css")))
}

pub fn js(_: &Visit) -> Answer {
    Ok(document("text/javascript", include_str!("assets/tcpdirector.js")))
}
