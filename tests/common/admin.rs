//! The admin side without a network: a handler over a director, asked by a full user, a readonly
//! one, or nobody.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tcpdirector::admin::Cost;
use tcpdirector::admin::control::Control;
use tcpdirector::admin::http::{Handler, Method, Request, Response};
use tcpdirector::admin::routes::Routes;
use tcpdirector::config::{Change, Refusal};
use tcpdirector::state::{Director, Reason};

/// A crypt(3) hash of `secret`.
pub const HASH: &str = "$6$rounds=1000$saltsalt$LAV5VE5Y7w1d73x1mFNspYWUpazfmwv2SoepNXNKJ/otop/Zok96Hr8Q13LEv0DRY/x8v0/crpIjl8NJSAqXV/";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Full,
    ReadOnly,
    Nobody,
}

/// A core that only notes what it was asked to do.
pub struct TestCore {
    pub director: Director,
    pub asked: Mutex<Vec<&'static str>>,
    pub lost_lines: AtomicUsize,
}

impl TestCore {
    fn pull(&self, name: &'static str) -> Result<String, Refusal> {
        self.asked.lock().push(name);
        Ok(format!("{name} it is"))
    }
}

impl Control for TestCore {
    fn director(&self) -> &Director {
        &self.director
    }

    fn password_limit(&self) -> Cost {
        Cost::limit(32 << 20)
    }

    fn apply(&self, change: &Change) -> Result<String, Refusal> {
        super::apply(&self.director, change)
    }

    fn plan(&self) -> Result<Vec<Change>, Refusal> {
        Ok(vec![Change::DelUser { name: "ro".to_owned(), force: true }])
    }

    fn reload(&self, by: &str, confirm: Option<Duration>) -> Result<String, Refusal> {
        self.pull("reload")
            .map(|words| format!("{words}, by {by}, to be confirmed within {confirm:?}"))
    }

    fn confirm(&self) -> Result<String, Refusal> {
        self.pull("confirm")
    }

    fn save(&self) -> Result<String, Refusal> {
        self.pull("save")
    }

    fn lost_lines(&self) -> usize {
        self.lost_lines.load(SeqCst)
    }

    fn reopen_log(&self) -> Result<String, Refusal> {
        self.pull("reopen_log")
    }

    fn shutdown(&self) -> Result<String, Refusal> {
        self.pull("shutdown")
    }

    fn config_xml(&self, with_hashes: bool) -> String {
        format!("<pdconfig at=\"start\" hashes=\"{with_hashes}\"/>")
    }

    fn running_xml(&self, with_hashes: bool) -> String {
        format!("<pdconfig at=\"now\" hashes=\"{with_hashes}\"/>")
    }
}

/// The handler with what it handles.
pub struct Desk {
    pub core: Arc<TestCore>,
    routes: Routes,
}

impl Desk {
    /// With these services and the users `full` and `ro`.
    pub fn new(services: &str) -> Desk {
        let user = |name, access| {
            format!("<user name=\"{name}\" password=\"{HASH}\" access=\"{access}\"/>")
        };
        let users = user("full", "full") + &user("ro", "readonly");
        let xml = format!(
            "<pdconfig>{services}<admin listen=\"127.0.0.1:7001\">{users}</admin></pdconfig>"
        );
        let core = Arc::new(TestCore {
            director: Director::new(&super::config(&xml)),
            asked: Mutex::default(),
            lost_lines: AtomicUsize::default(),
        });
        Desk { routes: Routes::new(core.clone()).expect("there is randomness"), core }
    }

    /// A service `web` with the hosts `a` and `b` in the enabled group `main`, and `c` in the group
    /// `spare`.
    pub fn web() -> Desk {
        Desk::new(
            r#"<service name="web"><listen ip="127.0.0.1:8000"/>
            <group name="main" scheduler="leastconns"><host name="a" ip="127.0.0.1:8001"/><host name="b" ip="127.0.0.1:8002"/></group>
            <group name="spare" scheduler="random"><host name="c" ip="127.0.0.1:8003"/></group><enable group="main"/></service>"#,
        )
    }

    pub fn ask(&self, request: &Request) -> Response {
        self.routes.handle(request)
    }

    pub fn get(&self, who: Who, url: &str) -> Response {
        self.ask(&request(who, url))
    }

    /// What a get by the full user answers, which must be good.
    pub fn read(&self, url: &str) -> String {
        let response = self.get(Who::Full, url);
        assert_eq!(response.status, 200, "{url}: {}", body(&response));
        body(&response)
    }

    /// What curl gets: the status with the message, or with the reason of the refusal.
    pub fn told(&self, url: &str) -> (u16, String) {
        let response = self.get(Who::Full, url);
        let message = header(&response, "Location")
            .and_then(|at| at.strip_prefix("/running?resultMessage=").map(decoded));
        (response.status, message.unwrap_or_else(|| body(&response).trim_end().to_owned()))
    }

    /// As if no connect with this host had worked.
    pub fn take_down(&self, name: &str) {
        let groups = self.core.director.groups();
        let host = groups
            .iter()
            .flat_map(|(_, group)| group.hosts())
            .find(|host| host.name() == name)
            .expect("it is there");
        assert!(host.failed(Reason::Refused, Instant::now()));
    }

    /// What the forms of the full user's page carry.
    pub fn token(&self) -> String {
        let page = self.read("/running");
        let (_, rest) = page.split_once("name=\"token\" value=\"").expect("the page has a form");
        rest.split_once('"').expect("it ends").0.to_owned()
    }
}

/// The whole answer of a running program's admin pages to a GET by the user `full`.
pub fn get(admin: SocketAddr, url: &str) -> String {
    get_as(Who::Full, admin, url)
}

/// The same by anybody.
pub fn get_as(who: Who, admin: SocketAddr, url: &str) -> String {
    let mut stream = super::connect(admin);
    let login =
        authorization(who).map(|login| format!("Authorization: {login}\r\n")).unwrap_or_default();
    write!(stream, "GET {url} HTTP/1.1\r\nHost: x\r\n{login}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn authorization(who: Who) -> Option<String> {
    match who {
        Who::Full => Some("Basic ZnVsbDpzZWNyZXQ=".to_owned()),
        Who::ReadOnly => Some("Basic cm86c2VjcmV0".to_owned()),
        Who::Nobody => None,
    }
}

/// A get of a URL, encoded as usual.
pub fn request(who: Who, url: &str) -> Request {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (decoded(name), decoded(value))
    };
    let authorization = authorization(who);
    let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    let host = Some("127.0.0.1:7001".to_owned());
    Request {
        path: decoded(path),
        query,
        authorization,
        host,
        client: "127.0.0.1".to_owned(),
        ..Request::default()
    }
}

/// The same as a form.
pub fn posted(who: Who, url: &str) -> Request {
    let request = request(who, url);
    Request {
        method: Method::Post,
        form: request.query,
        query: Vec::new(),
        is_form: true,
        ..request
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

pub fn body(response: &Response) -> String {
    String::from_utf8(response.body.clone()).expect("all answers are UTF-8")
}

pub fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let mut found = response.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}
