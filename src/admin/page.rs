//! The pages for people: what the templates in `templates/` show. Everything that is text in them
//! is escaped by askama, and nowhere else; `show` makes a page for each request.

use std::hash::{DefaultHasher, Hash, Hasher};

use askama::Template;

use super::human;
use super::plot::{Plot, plots};
use super::text::why_not;
use crate::config::{AdminState, UserConfig};
use crate::scheduler::Rule;
use crate::state::snapshot::{EventView, HostView, ServiceView, SessionView, Snapshot};

/// How many sessions the page shows; `sessions.json` has them all.
const SHOWN_SESSIONS: usize = 500;
/// How many of the things that are wrong the summary names.
const SHOWN_TROUBLES: usize = 4;

/// What stands around every page.
pub struct Frame<'a> {
    user: &'a str,
    /// For the forms; `None` for whoever sees no forms.
    token: Option<&'a String>,
    here: &'static str,
    machine: String,
}

impl<'a> Frame<'a> {
    /// Of the page at the path `here`, for a user; the token makes the forms appear.
    pub fn new(user: &'a str, token: Option<&'a String>, here: &'static str) -> Frame<'a> {
        let machine = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default();
        Frame { user, token, here, machine }
    }
}

/// What the last act led to.
pub struct Message<'a> {
    /// In words.
    pub text: &'a str,
    /// Whether nothing was done.
    pub is_error: bool,
}

/// `/`
#[derive(Template)]
#[template(path = "index.html", config = "src/admin/askama.toml")]
pub struct IndexPage<'a> {
    pub frame: Frame<'a>,
    pub state: &'a Snapshot,
}

/// `/running`
#[derive(Template)]
#[template(path = "running.html", config = "src/admin/askama.toml")]
pub struct RunningPage<'a> {
    frame: Frame<'a>,
    state: &'a Snapshot,
    users: Vec<UserConfig>,
    message: Option<Message<'a>>,
    refresh: Option<u64>,
    summary: Summary,
}

impl<'a> RunningPage<'a> {
    /// The page for this moment; `refresh` is after how many seconds it is loaded again; 0 is
    /// never.
    pub fn new(
        frame: Frame<'a>,
        state: &'a Snapshot,
        users: Vec<UserConfig>,
        message: Option<Message<'a>>,
        refresh: Option<u64>,
    ) -> RunningPage<'a> {
        RunningPage { frame, state, users, message, refresh, summary: Summary::of(state) }
    }

    /// Stands for all that the forms depend on: while it stays the same, the script may exchange
    /// the numbers alone.
    fn shape(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for service in &self.state.services {
            (&service.name, &service.listens, service.groups.len()).hash(&mut hasher);
            for group in &service.groups {
                (&group.name, &group.scheduler, group.enabled, group.hosts.is_empty())
                    .hash(&mut hasher);
            }
        }
        self.state.confirm_within.is_some().hash(&mut hasher);
        for user in &self.users {
            (&user.name, user.access.to_string()).hash(&mut hasher);
        }
        format!("{:x}", hasher.finish())
    }

    fn rules(&self) -> impl Iterator<Item = &'static str> + use<> {
        Rule::ALL.into_iter().map(|(name, _)| name)
    }

    fn plots(&self, service: &ServiceView) -> [Plot; 2] {
        plots(&service.history)
    }
}

/// What the page says of a host in one word, which is also its class.
fn state_of(host: &HostView) -> &'static str {
    match (host.admin_state, host.up) {
        (AdminState::Enabled, true) => "up",
        (AdminState::Enabled, false) => "down",
        (state, _) => state.word(),
    }
}

/// What stands below that word: since when and why, and until when.
fn story_of(host: &HostView) -> String {
    let since = human::age(host.since);
    let health = match (&host.reason, host.admin_state.is_enabled()) {
        (Some(reason), true) => format!("for {since}: {reason}"),
        (Some(reason), false) => format!("down for {since}: {reason}"),
        (None, true) => format!("for {since}"),
        (None, false) => format!("answers for {since}"),
    };
    match host.deadline {
        Some(left) => format!("{health}; ends in {}", human::age(left)),
        None => health,
    }
}

/// For how long no byte has moved, as far as there is a relay.
fn silence_of(session: &SessionView) -> String {
    session.idle.map_or_else(|| "-".to_owned(), human::age)
}

/// One look says whether all is well.
struct Summary {
    /// `good`, `warn` or `bad`.
    class: &'static str,
    headline: String,
    /// What is wrong, the worst first.
    troubles: Vec<String>,
    /// How many more are wrong.
    more: usize,
}

impl Summary {
    fn of(state: &Snapshot) -> Summary {
        let sick: Vec<&str> =
            state.services.iter().filter(|s| !s.is_healthy()).map(|s| s.name.as_str()).collect();
        let (mut troubles, mut minor) = (Vec::new(), Vec::new());
        let (mut down, mut out) = (0, 0);
        for service in &state.services {
            for (group, host) in service
                .groups
                .iter()
                .flat_map(|group| group.hosts.iter().map(move |host| (group, host)))
            {
                down += usize::from(!host.up && host.admin_state.is_enabled());
                out += usize::from(!host.admin_state.is_enabled());
                if let Some(why) = why_not(host) {
                    let is_felt = group.enabled && !service.is_healthy();
                    let list = if is_felt { &mut troubles } else { &mut minor };
                    list.push(format!("{} / {} / {}: {why}", service.name, group.name, host.name));
                }
            }
        }
        troubles.append(&mut minor);
        let is = if down == 1 { "is" } else { "are" };
        let (class, headline) = match (sick.is_empty(), down, out) {
            (false, ..) => ("bad", format!("No host for {}", sick.join(", "))),
            (true, 1.., _) => ("warn", format!("{} {is} down", human::count(down, "host"))),
            (true, 0, _) if state.reload_refused.is_some() => {
                ("warn", "The last reload was refused".to_owned())
            }
            (true, 0, 0) => ("good", "All is well".to_owned()),
            (true, 0, _) => {
                ("good", format!("All is well, {} taken out", human::count(out, "host")))
            }
        };
        let more = troubles.len().saturating_sub(SHOWN_TROUBLES);
        troubles.truncate(SHOWN_TROUBLES);
        Summary { class, headline, troubles, more }
    }
}

/// `/sessions`
#[derive(Template)]
#[template(path = "sessions.html", config = "src/admin/askama.toml")]
pub struct SessionsPage<'a> {
    frame: Frame<'a>,
    sessions: Vec<SessionView>,
    all: usize,
}

impl<'a> SessionsPage<'a> {
    /// The page for these sessions, the oldest of which are shown.
    pub fn new(frame: Frame<'a>, mut sessions: Vec<SessionView>) -> SessionsPage<'a> {
        let all = sessions.len();
        sessions.truncate(SHOWN_SESSIONS);
        SessionsPage { frame, sessions, all }
    }
}

/// `/events`
#[derive(Template)]
#[template(path = "events.html", config = "src/admin/askama.toml")]
pub struct EventsPage<'a> {
    pub frame: Frame<'a>,
    pub events: Vec<EventView>,
}

/// A change that was not made yet.
#[derive(Template)]
#[template(path = "question.html", config = "src/admin/askama.toml")]
pub struct QuestionPage<'a> {
    pub frame: Frame<'a>,
    pub path: &'a str,
    /// In words, without passwords.
    pub what: &'a str,
    pub token: &'a str,
    pub arguments: &'a [(String, String)],
}
