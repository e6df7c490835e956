//! The one table of what can be asked of the admin side: path, access, parameters and what answers.
//! The loop in `admin` calls [`Routes`] for each request, on the thread `admin`; the manual page is
//! compared with [`table`].
//!
//! Checks come in this order: user (401), path (404), method (405), access and origin (403),
//! parameters (400), then the act.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::access::{AccessControl, Intent, Visitor};
use super::answer::{Format, HttpError, access_denied, done, failed, with_common_headers};
use super::control::Control;
use super::crypt;
use super::http::{Handler, Method, Request, Response};
use super::show::{self, Visit};
use crate::config::{Access, Change, Refusal, UserConfig, described};
use crate::system::logging::value;
use crate::system::terminal::MAX_PASSWORD;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody, without a password.
    Nobody,
    /// Every user.
    Read,
    /// Users with full access.
    Write,
}

/// What a route does.
#[derive(Clone, Copy)]
enum Act {
    /// Shows something.
    Show(fn(&Visit) -> Result<Response, HttpError>),
    /// Has the program do something; returns in words what was done.
    Do(fn(&Visit) -> Result<Done, HttpError>),
    /// Changes the running state as the path and the parameters say.
    Change,
}

/// What came of that.
enum Done {
    /// Something was done, in words.
    Message(String),
    /// Nothing was done but show something.
    Page(Response),
}

/// A line of the table.
#[derive(Clone, Copy)]
pub struct Route {
    /// Without the slash in front. A dot and an underscore are the same, as in the original.
    pub path: &'static str,
    /// Who may ask.
    pub needs: Needs,
    /// Their names, in any case; a `?` marks one that may be left out.
    pub parameters: &'static [&'static str],
    act: Act,
}

/// What the original's forms send along; only two of them mean anything, and only to `running`.
const VIEW: &[&str] = &["verbose?", "refresh?", "ignore?", "resultMessage?"];

/// These changes take a hash; here a password may stand in its place, which becomes one.
const ADD_USER: &[&str] = &["name", "password?", "plain?", "access"];
const CHANGE_USER: &[&str] = &["name", "password?", "plain?", "access?", "force?"];

const ROUTES: [Route; 24] = [
    show("", &[], show::index),
    show("index.html", &[], show::index),
    show("running", VIEW, show::running),
    show("running.txt", &["verbose?"], show::running_txt),
    // what the original's page of that name was to show
    show("status.txt", &["verbose?"], show::running_txt),
    show("running.xml", &["verbose?"], show::running_xml),
    show("running.json", &[], show::running_json),
    show("config.xml", &[], show::config_xml),
    show("config.txt", &[], show::config_txt),
    show("sessions", &[], show::sessions),
    show("sessions.json", &[], show::sessions_json),
    show("events", &[], show::events),
    show("events.json", &[], show::events_json),
    show("metrics", &[], show::metrics),
    Route { needs: Needs::Nobody, ..show("healthz", &[], show::healthz) },
    show("tcpdirector.css", &[], show::css),
    show("tcpdirector.js", &[], show::js),
    // the original's pages ask for its style sheet by this name
    show("pydirector.css", &[], show::css),
    command("reload", &["plan?", "confirm?"], reload),
    command("confirm", &[], |visit| Ok(Done::Message(visit.control.confirm()?))),
    command("save", VIEW, |visit| Ok(Done::Message(visit.control.save()?))),
    command("closeLog", &[], |visit| Ok(Done::Message(visit.control.reopen_log()?))),
    command("reopenLog", &[], |visit| Ok(Done::Message(visit.control.reopen_log()?))),
    command("shutdown", &[], |visit| Ok(Done::Message(visit.control.shutdown()?))),
];

const fn show(
    path: &'static str,
    parameters: &'static [&'static str],
    show: fn(&Visit) -> Result<Response, HttpError>,
) -> Route {
    Route { path, needs: Needs::Read, parameters, act: Act::Show(show) }
}

const fn command(
    path: &'static str,
    parameters: &'static [&'static str],
    run: fn(&Visit) -> Result<Done, HttpError>,
) -> Route {
    Route { path, needs: Needs::Write, parameters, act: Act::Do(run) }
}

/// Every route: those of this file, then the changes.
pub fn table() -> impl Iterator<Item = Route> {
    let change = |(path, parameters)| {
        let parameters = match path {
            "addUser" => ADD_USER,
            "changeUser" => CHANGE_USER,
            _ => parameters,
        };
        Route { path, needs: Needs::Write, parameters, act: Act::Change }
    };
    ROUTES.into_iter().chain(Change::PATHS.into_iter().map(change))
}

impl Route {
    /// How it may be asked for.
    pub fn methods(&self) -> &'static [Method] {
        match self.needs {
            Needs::Write => &[Method::Get, Method::Post],
            Needs::Nobody | Needs::Read => &[Method::Get],
        }
    }

    fn of(path: &str) -> Option<Route> {
        // the original cuts off what is behind a semicolon, too
        let path = path.strip_prefix('/')?.split(';').next()?.replace('.', "_");
        table().find(|route| route.path.replace('.', "_") == path)
    }

    fn knows(&self, argument: &str) -> bool {
        self.parameters.iter().any(|name| name.trim_end_matches('?').eq_ignore_ascii_case(argument))
    }

    /// Refuses arguments that are unknown or given twice; those of changes are checked by `Change`
    /// itself.
    fn check(&self, arguments: &[(String, String)]) -> Result<(), HttpError> {
        for (i, (name, _)) in arguments.iter().enumerate() {
            if !self.knows(name) {
                return Err(HttpError::new(400, format!("unknown argument `{name}`")));
            }
            if arguments.iter().take(i).any(|(other, _)| other == name) {
                return Err(HttpError::new(400, format!("argument `{name}` is given twice")));
            }
        }
        Ok(())
    }
}

/// Answers every request.
pub struct Routes {
    control: Arc<dyn Control>,
    access: AccessControl,
}

impl Handler for Routes {
    fn handle(&self, request: &Request) -> Response {
        with_common_headers(self.answer(request))
    }
}

impl Routes {
    /// Routes to this program. Fails where the kernel gives no random bytes.
    pub fn new(control: Arc<dyn Control>) -> io::Result<Routes> {
        Ok(Routes { control, access: AccessControl::new()? })
    }

    fn answer(&self, request: &Request) -> Response {
        let route = Route::of(&request.path);
        self.admit(route, request)
            .map_or_else(|refusal| refusal, |visitor| self.answer_to(visitor, route, request))
    }

    fn answer_to(&self, visitor: Visitor, route: Option<Route>, request: &Request) -> Response {
        let format = Format::of(request.accept.as_deref());
        let Some(route) = route else {
            return failed(
                format,
                &HttpError::new(404, format!("there is no page `{}`", request.path)),
            );
        };
        if !route.methods().contains(&request.method) {
            return failed(format, &HttpError::new(405, "this page can only be read: use GET"))
                .with("Allow", "GET, HEAD");
        }
        if request.is_head && matches!(route.act, Act::Do(_) | Act::Change) {
            return failed(format, &HttpError::new(405, "this changes something: use GET or POST"))
                .with("Allow", "GET, POST");
        }
        let named = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let (tokens, arguments): (Vec<_>, Vec<_>) = request
            .query
            .iter()
            .chain(&request.form)
            .map(named)
            .partition(|(name, _)| name == "token");
        let token = self.access.token(&visitor);
        let visit = Visit { control: &*self.control, request, format, visitor, token, arguments };
        match route.act {
            Act::Show(show) => {
                let answer = route.check(&visit.arguments).and_then(|()| show(&visit));
                answer.unwrap_or_else(|failure| failed(format, &failure))
            }
            Act::Do(_) | Act::Change => {
                self.write(&route, &visit, tokens.first().map(|(_, token)| token.as_str()))
            }
        }
    }

    fn admit(&self, route: Option<Route>, request: &Request) -> Result<Visitor, Response> {
        if route.is_some_and(|route| route.needs == Needs::Nobody) {
            return Ok(Visitor::unknown());
        }
        self.access
            .admit(request, &*self.control)
            .map_err(|error| access_denied(Format::of(request.accept.as_deref()), &error))
    }

    /// Does what changes something, and notes in the log and the events who did it.
    fn write(&self, route: &Route, visit: &Visit, token: Option<&str>) -> Response {
        let Visitor { user, .. } = &visit.visitor;
        let by = visit.by();
        let known = visit.arguments.iter().filter(|(name, _)| route.knows(name));
        let what = described(route.path, known.map(|(name, text)| (name.as_str(), text.as_str())));
        let outcome = self.permit(route, visit, token).and_then(|intent| match intent {
            Intent::Meant => act(route, visit),
            Intent::Unasked => show::question(visit, route.path, &what).map(Done::Page),
        });
        let (user, client) = (value(user), value(&visit.request.client));
        match outcome {
            Ok(Done::Page(response)) => response,
            Ok(Done::Message(message)) => {
                log::info!(
                    "change by={user} client={client} {what} outcome=done message={}",
                    value(&message)
                );
                visit
                    .control
                    .director()
                    .events
                    .note(&by, format!("change {what} message={}", value(&message)));
                done(visit.format, &message)
                    .unwrap_or_else(|failure| failed(visit.format, &failure))
            }
            Err(failure) => {
                let HttpError { status, why } = &failure;
                log::info!(
                    "change by={user} client={client} {what} outcome=refused status={status} reason={}",
                    value(why)
                );
                match visit.format {
                    // a person sees the reason above the page that they were on
                    Format::Html => show::refused(visit, &failure)
                        .unwrap_or_else(|_| failed(Format::Text, &failure)),
                    Format::Json | Format::Text => failed(visit.format, &failure),
                }
            }
        }
    }

    fn permit(
        &self,
        route: &Route,
        visit: &Visit,
        token: Option<&str>,
    ) -> Result<Intent, HttpError> {
        if !visit.visitor.is_full {
            return Err(HttpError::new(
                403,
                format!("user `{}` may look and not change", visit.visitor.user),
            ));
        }
        let intent = self
            .access
            .intent(&visit.visitor, visit.request, token)
            .map_err(|why| HttpError::new(403, why))?;
        // a plan changes nothing
        let is_plan = route.path == "reload" && visit.argument("plan").is_some();
        Ok(if is_plan { Intent::Meant } else { intent })
    }
}

fn act(route: &Route, visit: &Visit) -> Result<Done, HttpError> {
    if let Act::Do(run) = route.act {
        route.check(&visit.arguments)?;
        return run(visit);
    }
    let none = || Err(Refusal::NotFound(format!("there is no change `{}`", route.path)));
    let arguments = hashed(route, &visit.arguments)?;
    let change = Change::from_query(route.path, &arguments).unwrap_or_else(none)?;
    match &change {
        Change::DelUser { name, .. } if *name == visit.visitor.user => {
            Err(HttpError::new(409, format!("you are user `{name}`: let another user delete you")))
        }
        Change::ChangeUser { name, access: Some(Access::ReadOnly), .. }
            if *name == visit.visitor.user =>
        {
            Err(HttpError::new(
                409,
                format!("you are user `{name}`: let another user take your rights away"),
            ))
        }
        Change::AddUser { user: UserConfig { name, password, .. } }
        | Change::ChangeUser { name, password: Some(password), .. } => {
            match crypt::refusal(name, password, visit.control.password_limit()) {
                Some(why) => Err(HttpError::new(400, why)),
                None => Ok(Done::Message(visit.control.apply(&change)?)),
            }
        }
        _ => Ok(Done::Message(visit.control.apply(&change)?)),
    }
}

/// `reload`, `reload?plan=1`, `reload?confirm=SECONDS`
fn reload(visit: &Visit) -> Result<Done, HttpError> {
    let seconds = |text: &str| {
        let seconds = text
            .parse()
            .ok()
            .filter(|seconds| (1..=86_400).contains(seconds))
            .map(Duration::from_secs);
        seconds.ok_or_else(|| {
            HttpError::new(400, format!("confirm: `{text}` must be seconds from 1 to 86400"))
        })
    };
    let confirm = visit.argument("confirm").map(seconds).transpose()?;
    match visit.argument("plan") {
        None => Ok(Done::Message(visit.control.reload(&visit.by(), confirm)?)),
        Some("1") => Ok(Done::Page(show::plan(visit)?)),
        Some(text) => Err(HttpError::new(400, format!("plan: `{text}` must be 1"))),
    }
}

/// The arguments with `password=HASH` in the place of `plain=PASSWORD`, for the route that takes
/// it.
fn hashed(
    route: &Route,
    arguments: &[(String, String)],
) -> Result<Vec<(String, String)>, HttpError> {
    let hashed = |(name, text): &(String, String)| {
        if name != "plain" || !route.knows(name) {
            return Ok((name.clone(), text.clone()));
        }
        if text.is_empty() || text.len() > MAX_PASSWORD {
            return Err(HttpError::new(
                400,
                format!("plain: a password has 1 to {MAX_PASSWORD} bytes"),
            ));
        }
        let hash = crypt::hash(text)
            .map_err(|error| HttpError::new(500, format!("no hash could be made: {error}")))?;
        Ok(("password".to_owned(), hash))
    };
    arguments.iter().map(hashed).collect()
}
