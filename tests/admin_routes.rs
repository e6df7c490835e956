//! Every route of the admin side, by whom and with which parameters; the changes, their answers and
//! their refusals.

use tcpdirector::admin::http::{Method, Request};
use tcpdirector::admin::routes::{Needs, table};
use tcpdirector::config::Change;

use crate::common::admin::{Desk, HASH, Who, body, header, posted, request};

/// A good query for each route that needs one, in an order in which all of them work.
fn good(path: &str) -> String {
    let query = match path {
        "newService" => "service=new&listen=127.0.0.1:9000&group=g&scheduler=random",
        "delService" => "service=new",
        "newGroup" => "service=web&group=g&scheduler=roundrobin",
        "delGroup" | "delAllHosts" => "service=web&group=spare",
        "enableGroup" => "service=web&group=main",
        "changeScheduler" => "service=web&group=main&scheduler=leastconnsrr",
        "addHost" => "service=web&group=main&name=d&ip=127.0.0.1:8004",
        "delHost" => "service=web&group=main&ip=127.0.0.1:8004",
        "hostAdminDown" | "hostAdminUp" => "service=web&group=main&name=b",
        "drainHost" => "service=web&group=main&name=a&within=1s",
        "addUser" => return format!("/addUser?name=eve&access=readonly&password={HASH}"),
        "delUser" => "name=ro",
        "changeUser" => "name=full&access=full",
        "addListen" => "service=web&listen=127.0.0.1:9001",
        "delListen" => "service=web&listen=127.0.0.1:9001&force=no",
        "setTimeout" => "service=web&idle=2h&half=0&dead=90s",
        "setReplay" => "service=web&bytes=512",
        "changeHost" => "service=web&group=spare&name=c&newname=cc&newip=127.0.0.1:8005",
        "setAdmin" => "listen=127.0.0.1:7002",
        "setLogging" => "file=log",
        "setChecktime" => "time=5",
        "setPool" => "threads=4&queue=1",
        "setStop" => "grace=5s",
        "move" => "service=web&group=main&name=b&at=0",
        "reload" => "confirm=60",
        "save" => "verbose=1&resultMessage=",
        "running" => "verbose=0&refresh=5&ignore=x&RESULTMESSAGE=hello",
        _ => "",
    };
    format!("/{path}?{query}")
}

#[test]
fn nobody_gets_in_but_to_healthz() {
    let desk = Desk::web();
    let unknown = "/nothing?x=1".to_owned();
    let urls = table()
        .filter(|route| route.needs != Needs::Nobody)
        .map(|route| good(route.path))
        .chain([unknown]);
    for (number, url) in urls.enumerate() {
        for authorization in [
            None,
            Some("Basic ZnVsbDp3cm9uZw=="),
            Some("Basic"),
            Some("Bearer x"),
            Some("Basic %%%"),
        ] {
            let (authorization, client) =
                (authorization.map(str::to_owned), format!("192.0.2.{number}"));
            let wrong = Request { authorization, client, ..request(Who::Nobody, &url) };
            let response = desk.ask(&wrong);
            assert_eq!(response.status, 401, "{url} {:?}", wrong.authorization);
            assert!(
                header(&response, "WWW-Authenticate")
                    .unwrap()
                    .starts_with("Basic realm=\"tcpdirector\"")
            );
        }
    }
    assert_eq!(desk.get(Who::Nobody, "/healthz").status, 200);
}

#[test]
fn a_readonly_user_sees_everything_and_changes_nothing() {
    let desk = Desk::web();
    let before = desk.core.director.config();
    for route in table() {
        let response = desk.get(Who::ReadOnly, &good(route.path));
        let expected = if route.needs == Needs::Write { 403 } else { 200 };
        assert_eq!(response.status, expected, "{}: {}", route.path, body(&response));
        // without arguments too: access comes before them
        if route.needs == Needs::Write {
            let path = format!("/{}?nonsense=1", route.path);
            assert_eq!(desk.get(Who::ReadOnly, &path).status, 403, "{path}");
        }
    }
    assert_eq!(desk.core.director.config(), before);
    assert!(desk.core.asked.lock().is_empty());
}

#[test]
fn a_full_user_may_ask_for_everything_by_get_and_change_by_post() {
    for post in [false, true] {
        let desk = Desk::web();
        desk.take_down("a");
        let mut routes: Vec<_> = table().collect();
        routes.sort_by_key(|route| {
            (route.path == "delHost", route.path == "delService", route.path == "delGroup")
        });
        for route in routes {
            let retry = "/retryHost?service=web&group=main&name=a".to_owned();
            let url = if route.path == "retryHost" { retry } else { good(route.path) };
            let asked = if post { posted(Who::Full, &url) } else { request(Who::Full, &url) };
            let response = desk.ask(&asked);
            let expected = match (route.needs, post) {
                (Needs::Write, _) => 302,
                (_, true) => 405,
                _ => 200,
            };
            assert_eq!(response.status, expected, "{url}: {}", body(&response));
            if expected == 302 {
                assert_eq!(body(&response), "OK\n");
            }
        }
        assert_eq!(
            *desk.core.asked.lock(),
            ["reload", "confirm", "save", "reopen_log", "reopen_log", "shutdown"]
        );
    }
}

#[test]
fn every_answer_has_the_headers_that_keep_a_browser_safe() {
    let desk = Desk::web();
    let urls =
        table().map(|route| good(route.path)).chain(["/nothing".to_owned(), "/addHost".to_owned()]);
    for url in urls {
        for who in [Who::Full, Who::ReadOnly, Who::Nobody] {
            let response = desk.get(who, &url);
            assert!(
                header(&response, "Content-Type").unwrap().ends_with("; charset=utf-8"),
                "{url}"
            );
            assert_eq!(header(&response, "Cache-Control"), Some("no-store"));
            assert_eq!(header(&response, "X-Content-Type-Options"), Some("nosniff"));
            assert_eq!(header(&response, "Referrer-Policy"), Some("same-origin"));
            let policy = header(&response, "Content-Security-Policy").unwrap();
            assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
        }
    }
}

#[test]
fn missing_unknown_and_doubled_arguments_are_named() {
    let desk = Desk::web();
    for (path, parameters) in Change::PATHS {
        let all: Vec<&str> =
            parameters.iter().filter(|name| !name.ends_with('?')).copied().collect();
        if !all.is_empty() {
            assert_eq!(
                desk.told(&format!("/{path}")),
                (400, format!("NOT OK: missing argument: {}", all.join(", ")))
            );
        }
    }
    for route in table() {
        let (status, reason) = desk.told(&format!("/{}?wizard=1", route.path));
        assert!(
            status == 400 && reason.starts_with("NOT OK: unknown argument `wizard`"),
            "{}: {status} {reason}",
            route.path
        );
        if let Some(name) = route.parameters.first().map(|name| name.trim_end_matches('?')) {
            let upper = name.to_ascii_uppercase();
            let (status, reason) = desk.told(&format!("/{}?{name}=1&{upper}=1", route.path));
            let lower = name.to_ascii_lowercase();
            assert_eq!(
                (status, reason),
                (400, format!("NOT OK: argument `{lower}` is given twice")),
                "{}",
                route.path
            );
        }
    }
}

#[test]
fn dots_underscores_and_cases_of_arguments_are_as_in_the_original() {
    let desk = Desk::web();
    assert_eq!(desk.read("/running_txt"), desk.read("/running.txt"));
    assert_eq!(desk.read("/index.html"), desk.read("/"));
    assert_eq!(desk.read("/index_html"), desk.read("/"));
    assert_eq!(desk.told("/addHost?SERVICE=web&Group=main&naME=x&Ip=127.0.0.1:9").0, 302);
    for unknown in [
        "/running/",
        "//running",
        "/RUNNING",
        "/addhost",
        "/running%00",
        "/runningXtxt",
        "/..",
        "/%0A",
        "/status",
    ] {
        assert_eq!(desk.get(Who::Full, unknown).status, 404, "{unknown}");
    }
    assert_eq!(desk.told("/no/such"), (404, "NOT OK: there is no page `/no/such`".into()));
}

#[test]
fn messages_are_the_originals() {
    let desk = Desk::web();
    for (url, message) in [
        (
            "/addHost?service=web&group=main&name=x+y&ip=127.0.0.1:81",
            "Host x y(127.0.0.1:81) added to main / web",
        ),
        (
            "/delHost?service=web&group=main&ip=127.0.0.1:81",
            "host 127.0.0.1:81 deleted (from active group!)",
        ),
        (
            "/delHost?service=web&group=spare&name=c",
            "host 127.0.0.1:8003 deleted from inactive group",
        ),
        ("/enableGroup?service=web&group=main", "Group main enabled for service web"),
        ("/delUser?name=ro", "user ro deleted"),
    ] {
        assert_eq!(desk.told(url), (302, message.to_owned()), "{url}");
    }
    let response = desk.get(Who::Full, "/enableGroup?service=web&group=main");
    assert_eq!(
        header(&response, "Location"),
        Some("/running?resultMessage=Group%20main%20enabled%20for%20service%20web")
    );
}

#[test]
fn refusals_name_the_wrong_thing() {
    let desk = Desk::web();
    let host = "service=web&group=main";
    for (url, status, words) in [
        ("/enableGroup?service=nope&group=main".to_owned(), 404, "no service `nope`"),
        ("/enableGroup?service=web&group=nope".to_owned(), 404, "no group `nope`"),
        (format!("/delHost?{host}&name=nope"), 404, "no host `nope`"),
        (format!("/delHost?{host}&name=a&ip=127.0.0.1:8001"), 400, "by `name` or by `ip`"),
        (format!("/delHost?{host}"), 400, "by `name` or by `ip`"),
        (format!("/addHost?{host}&name=a&ip=127.0.0.1:9"), 409, "a host `a`"),
        (
            format!("/addHost?{host}&name=x&ip=127.0.0.1:8001"),
            409,
            "has the address 127.0.0.1:8001",
        ),
        (format!("/addHost?{host}&name=x&ip=127.0.0.1:0"), 400, "port 0"),
        (format!("/addHost?{host}&name=x&ip=no+such+host:80"), 400, "no such host"),
        (format!("/addHost?{host}&name=&ip=127.0.0.1:9"), 400, "must not be empty"),
        // the address is the name of a host that has none, and has to be one
        (
            format!("/addHost?{host}&ip={}.example:80", ["a"; 63].join(".")),
            400,
            "may have 128 characters",
        ),
        (
            format!("/addHost?{host}&name=x%0Ahost%20forged&ip=127.0.0.1:9"),
            400,
            "control character",
        ),
        (format!("/retryHost?{host}&name=a"), 409, "is up"),
        (format!("/drainHost?{host}&name=a&within=soon"), 400, "within: `soon`"),
        (format!("/changeScheduler?{host}&scheduler=best"), 400, "unknown scheduler `best`"),
        ("/delAllHosts?service=web&group=main".to_owned(), 409, "is enabled"),
        ("/addUser?name=x&plain=&access=full".to_owned(), 400, "1 to 511 bytes"),
        (format!("/addUser?name=x&plain=p&password={HASH}&access=full"), 400, "given twice"),
        (
            "/addUser?name=x&password=$6$rounds=999999999$salt$x&access=full".to_owned(),
            400,
            "user `x` is refused: checking it takes the time of 999999999",
        ),
        (format!("/addUser?name=a:b&password={HASH}&access=full"), 400, "has a colon in it"),
        ("/delUser?name=nope".to_owned(), 404, "user nope not found"),
        ("/delUser?name=full".to_owned(), 409, "you are user `full`"),
        ("/addUser?name=x&password=plain&access=full".to_owned(), 400, "not a crypt(3) hash"),
        (format!("/addUser?name=x&password={HASH}&access=wizard"), 400, "unknown access `wizard`"),
        (format!("/addUser?name=ro&password={HASH}&access=full"), 409, "user ro already exists"),
        ("/changeUser?name=full&access=readonly".to_owned(), 409, "you are user `full`"),
        ("/reload?confirm=".to_owned(), 400, "confirm: ``"),
        ("/changeUser?name=full".to_owned(), 400, "password or access"),
        (
            "/changeUser?name=ro&password=$6$rounds=999999999$salt$x".to_owned(),
            400,
            "user `ro` is refused: checking it takes",
        ),
        (format!("/changeHost?{host}&name=a&newname=b"), 409, "a host `b`"),
        (
            format!("/changeHost?{host}&name=a&newip=127.0.0.1:8002"),
            409,
            "has the address 127.0.0.1:8002",
        ),
        (format!("/changeHost?{host}&name=a"), 400, "newname or newip"),
        (
            "/addListen?service=web&listen=127.0.0.1:8000".to_owned(),
            409,
            "service `web` listens on 127.0.0.1:8000 already",
        ),
        (
            "/addListen?service=web&listen=127.0.0.1:7001".to_owned(),
            409,
            "the admin pages are on 127.0.0.1:7001 already",
        ),
        (
            "/setAdmin?listen=127.0.0.1:8000".to_owned(),
            409,
            "service `web` listens on 127.0.0.1:8000 already",
        ),
        ("/delListen?service=web&listen=127.0.0.1:8000".to_owned(), 409, "the last listen address"),
        (
            "/delListen?service=web&listen=127.0.0.1:1".to_owned(),
            404,
            "does not listen on 127.0.0.1:1",
        ),
        ("/setTimeout?service=web".to_owned(), 400, "connect or idle or half or dead"),
        ("/setTimeout?service=web&dead=999ms".to_owned(), 400, "dead: `999ms` is out of range"),
        ("/setTimeout?service=web&half=".to_owned(), 400, "half: `` is not a duration"),
        ("/delService?service=web&force=maybe".to_owned(), 400, "must be yes or no"),
        (format!("/move?{host}&name=a&at=2"), 400, "the last position is 1"),
        ("/move?at=0".to_owned(), 400, "name one thing"),
        ("/reload?confirm=soon".to_owned(), 400, "confirm: `soon`"),
        ("/reload?plan=yes".to_owned(), 400, "plan: `yes`"),
    ] {
        let (told, reason) = desk.told(&url);
        assert!(
            told == status && reason.starts_with("NOT OK: ") && reason.contains(words),
            "{url}: {told} {reason}"
        );
        assert!(!reason.contains('\n'), "{reason:?}");
    }
}

#[test]
fn a_script_that_asks_for_json_gets_json() {
    let desk = Desk::web();
    let ask = |who, url: &str| {
        let response =
            desk.ask(&Request { accept: Some("application/json".into()), ..request(who, url) });
        assert_eq!(
            header(&response, "Content-Type"),
            Some("application/json; charset=utf-8"),
            "{url}"
        );
        let value: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        (response.status, value)
    };
    let (status, value) = ask(Who::Full, "/enableGroup?service=web&group=spare");
    assert_eq!((status, &value["ok"]), (200, &true.into()));
    assert_eq!(value["message"], "Group spare enabled for service web");
    for (who, url, expected) in [
        (Who::Full, "/enableGroup?service=web&group=%3Cnope%3E", 404),
        (Who::Full, "/nothing", 404),
        (Who::Full, "/addHost", 400),
        (Who::ReadOnly, "/save", 403),
        (Who::Nobody, "/running", 401),
    ] {
        let (status, value) = ask(who, url);
        assert_eq!((status, &value["ok"]), (expected, &false.into()), "{url}");
        assert!(value["message"].as_str().is_some_and(|reason| !reason.is_empty()));
    }
    assert_eq!(
        ask(Who::ReadOnly, "/running").1["services"][0]["groups"][0]["hosts"][1]["name"],
        "b"
    );
    assert_eq!(ask(Who::ReadOnly, "/running.json").1["services"][0]["enabled"], "spare");
    assert_eq!(ask(Who::ReadOnly, "/sessions").1, serde_json::json!([]));
    let events = ask(Who::ReadOnly, "/events").1;
    assert_eq!(
        (&events[0]["by"], events.as_array().map(Vec::len)),
        (&"full@127.0.0.1".into(), Some(1))
    );
}

#[test]
fn a_change_that_a_browser_was_tricked_into_is_refused() {
    let desk = Desk::web();
    let url = "/enableGroup?service=web&group=spare";
    let from = |origin: &str| Some(origin.to_owned());
    for tricked in [
        Request { sec_fetch_site: from("cross-site"), ..request(Who::Full, url) },
        Request { origin: from("http://evil.example"), ..posted(Who::Full, url) },
        Request { origin: from("http://127.0.0.1:7001"), ..posted(Who::Full, url) },
        Request { sec_fetch_site: from("same-origin"), ..posted(Who::Full, url) },
        posted(Who::Full, &format!("{url}&token=guessed")),
        request(Who::Full, &format!("{url}&token=guessed")),
    ] {
        assert_eq!(desk.ask(&tricked).status, 403);
    }
    assert_eq!(desk.core.director.config().services[0].enabled, "main");
    let own = posted(Who::Full, &format!("{url}&token={}", desk.token()));
    let own = Request {
        sec_fetch_site: from("same-origin"),
        origin: from("http://127.0.0.1:7001"),
        ..own
    };
    assert_eq!(desk.ask(&own).status, 302);
}

/// Browsers load what they think will be wanted next, and complete what was typed once: a host was
/// gone without anybody's doing.
#[test]
fn what_a_browser_asks_by_itself_is_shown_with_a_button_and_done_when_that_is_pressed() {
    let desk = Desk::web();
    let url = "/enableGroup?service=web&group=%3Cspare%3E&x=1";
    let some = |text: &str| Some(text.to_owned());
    let typed = |url: &str| Request {
        sec_fetch_site: some("none"),
        accept: some("text/html"),
        ..request(Who::Full, url)
    };
    let ahead = Request {
        sec_purpose: some("prefetch"),
        sec_fetch_site: some("same-origin"),
        ..request(Who::Full, url)
    };
    let plain_http = Request {
        accept_language: some("en"),
        accept: some("text/html"),
        ..request(Who::Full, url)
    };
    for unasked in [typed(url), ahead, plain_http] {
        let response = desk.ask(&unasked);
        let page = body(&response);
        assert_eq!(response.status, 200, "{page}");
        for part in [
            "Nothing is changed yet",
            "path=enableGroup service=web group=&#60;spare&#62;",
            "<form method=\"post\" action=\"/enableGroup\">",
            "<input type=\"hidden\" name=\"group\" value=\"&#60;spare&#62;\">",
            &format!("<input type=\"hidden\" name=\"token\" value=\"{}\">", desk.token()),
            "<button type=\"submit\">Yes, enableGroup</button>",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
    }
    let url = "/enableGroup?service=web&group=spare";
    assert_eq!(desk.ask(&Request { accept: some("application/json"), ..typed(url) }).status, 403);
    assert!(
        desk.core.director.events.latest().is_empty()
            && desk.core.director.config().services[0].enabled == "main"
    );
    assert_eq!(
        desk.ask(&Request { accept: None, ..typed("/reload?plan=1") }).status,
        200,
        "which changes nothing"
    );
    assert_eq!(desk.ask(&typed(&format!("{url}&token={}", desk.token()))).status, 302);
    assert_eq!(desk.core.director.config().services[0].enabled, "spare");
}

/// Windows PowerShell 5 calls itself `Mozilla/5.0`, and its changes were refused.
#[test]
fn a_script_is_believed_whatever_it_calls_itself() {
    let desk = Desk::web();
    assert_eq!(desk.ask(&request(Who::Full, "/setChecktime?time=13s")).status, 302);
    assert_eq!(desk.ask(&posted(Who::Full, "/setChecktime?time=14s")).status, 302);
}

#[test]
fn an_address_with_many_wrong_passwords_is_told_when_to_try_again() {
    let desk = Desk::web();
    let wrong = Request {
        authorization: Some("Basic ZnVsbDp3cm9uZw==".to_owned()),
        ..request(Who::Nobody, "/running.txt")
    };
    assert_eq!(desk.ask(&wrong).status, 401);
    // the first penalties may be over before the next request of a slow machine, and a right
    // password makes up for all
    let penalised = || {
        (0..20)
            .map(|_| desk.ask(&wrong))
            .find(|response| response.status == 429)
            .expect("a penalty")
    };
    assert!(
        header(&penalised(), "Retry-After")
            .is_some_and(|seconds| (1..=8).contains(&seconds.parse::<u32>().unwrap()))
    );
    let right = || desk.ask(&request(Who::Full, "/running.txt")).status == 429;
    assert!(
        (0..20).any(|_| penalised().status == 429 && right()),
        "the right password is not looked at"
    );
    let other = Request { client: "192.0.2.1".to_owned(), ..request(Who::Full, "/running.txt") };
    assert_eq!(desk.ask(&other).status, 200);
    assert_eq!(desk.get(Who::Nobody, "/healthz").status, 200);
}

/// One check of it took 256 MiB, and with that the whole program where there was less.
#[test]
fn a_hash_that_costs_more_than_the_budget_gives_is_refused_by_the_name_of_its_user() {
    let desk = Desk::web();
    let costly = format!("%24y%24jDT%24salt%24{}", "x".repeat(43));
    for (change, hash, why) in [
        (
            "addUser?name=eve&access=full",
            costly.as_str(),
            "268435456 bytes of memory, and the budget gives 33554432",
        ),
        (
            "changeUser?name=ro",
            "%246%24rounds=999999999%24salt%24x",
            "the time of 999999999 rounds",
        ),
        ("addUser?name=eve&access=full", "%247%24x", "a hash of this kind is never accepted"),
    ] {
        let (status, told) = desk.told(&format!("/{change}&password={hash}"));
        let user = if change.starts_with("add") { "eve" } else { "ro" };
        assert!(
            status == 400 && told.contains(&format!("user `{user}`")) && told.contains(why),
            "{told}"
        );
    }
    assert_eq!(desk.core.director.users().len(), 2);
}

#[test]
fn only_a_full_user_sees_hashes() {
    let desk = Desk::web();
    for path in ["/running.xml", "/config.xml"] {
        assert!(desk.read(path).contains("hashes=\"true\""));
        assert!(body(&desk.get(Who::ReadOnly, path)).contains("hashes=\"false\""));
        assert_eq!(
            header(&desk.get(Who::Full, path), "Content-Type"),
            Some("application/xml; charset=utf-8")
        );
    }
    desk.get(Who::Full, &good("addUser"));
    let all = ["/running", "/running.json", "/running.txt", "/events", "/metrics"]
        .map(|path| desk.read(path))
        .concat();
    assert!(all.contains("eve") && !all.contains("saltsalt"));
}

#[test]
fn methods_follow_from_access() {
    for route in table() {
        let expected: &[Method] =
            if route.needs == Needs::Write { &[Method::Get, Method::Post] } else { &[Method::Get] };
        assert_eq!(route.methods(), expected, "{}", route.path);
    }
}

#[test]
fn what_is_asked_by_head_changes_nothing() {
    let desk = Desk::web();
    let head = Request {
        is_head: true,
        ..request(Who::Full, "/addHost?service=web&group=main&name=x&ip=127.0.0.1:9")
    };
    let before = desk.read("/running.xml");
    let response = desk.ask(&head);
    assert_eq!((response.status, header(&response, "Allow")), (405, Some("GET, POST")));
    assert_eq!(desk.read("/running.xml"), before);
    assert_eq!(desk.ask(&Request { is_head: true, ..request(Who::Full, "/running") }).status, 200);
}

#[test]
fn a_password_in_the_clear_becomes_a_hash_and_is_never_told() {
    let desk = Desk::web();
    let response =
        desk.ask(&posted(Who::Full, "/addUser?name=eve&plain=correct+horse&access=readonly"));
    assert_eq!(response.status, 302, "{}", body(&response));
    let users = desk.core.director.users();
    assert!(users.iter().any(|user| user.name == "eve" && user.password.starts_with("$6$")));
    let authorization = Some("Basic ZXZlOmNvcnJlY3QgaG9yc2U=".to_owned());
    assert_eq!(
        desk.ask(&Request { authorization, ..request(Who::Nobody, "/running") }).status,
        200
    );
    let events = desk.read("/events.json");
    assert!(
        events.contains("name=eve plain=*** access=readonly") && !events.contains("horse"),
        "{events}"
    );
}

#[test]
fn a_change_is_noted_with_who_made_it_and_a_refused_one_is_not() {
    let desk = Desk::web();
    desk.get(Who::Full, "/enableGroup?service=web&group=spare");
    desk.get(Who::Full, "/enableGroup?service=web&group=nope");
    desk.get(Who::ReadOnly, "/enableGroup?service=web&group=main");
    let events = desk.core.director.events.latest();
    let what = "change path=enableGroup service=web group=spare message=\"Group spare enabled for service web\"";
    let told: Vec<(&str, &str)> =
        events.iter().map(|event| (event.by.as_str(), event.what.as_str())).collect();
    assert_eq!(told, [("full@127.0.0.1", what)]);
}

#[test]
fn what_would_leave_nothing_of_its_kind_is_done_only_when_forced() {
    let desk = Desk::web();
    desk.take_down("b");
    for url in [
        "/delListen?service=web&listen=127.0.0.1:8000",
        "/delHost?service=web&group=main&name=a",
        "/delService?service=web",
    ] {
        assert_eq!(desk.told(url).0, 409, "{url}");
        assert_eq!(desk.told(&format!("{url}&force=yes")).0, 302, "{url}");
    }
    assert!(desk.core.director.config().services.is_empty());
}

#[test]
fn a_plan_is_shown_one_url_a_line_and_nothing_is_done() {
    let desk = Desk::web();
    let response = desk.get(Who::Full, "/reload?plan=1");
    assert_eq!(
        (response.status, body(&response)),
        (200, "/delUser?name=ro&force=yes\n".to_owned())
    );
    assert!(desk.core.asked.lock().is_empty());
    assert_eq!(desk.get(Who::ReadOnly, "/reload?plan=1").status, 403);
}

#[test]
fn a_reload_is_told_who_asked_and_how_long_it_waits() {
    let desk = Desk::web();
    assert!(desk.told("/reload").1.ends_with("by full@127.0.0.1, to be confirmed within None"));
    assert!(desk.told("/reload?confirm=60").1.ends_with("to be confirmed within Some(60s)"));
}
