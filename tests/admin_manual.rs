//! tcpdirector-admin(7) against the table of routes: nothing missing on either side.

use std::collections::BTreeMap;

use tcpdirector::admin::routes::{Needs, table};

const PAGE: &str = include_str!("../man/tcpdirector-admin.7");

/// Paths with their access and parameters, a `?` behind those in brackets.
type Entries = BTreeMap<String, (&'static str, Vec<String>)>;

fn of_the_page() -> Entries {
    let mut entries = Entries::new();
    let mut access = "none";
    for line in PAGE.lines() {
        if let Some(section) = line.strip_prefix(".Ss ") {
            access = match section {
                "For anybody, by GET" => "nobody",
                "For every user, by GET" => "read",
                "For users with full access, by GET or POST" => "write",
                _ => "none",
            };
        }
        if let Some(entry) = line.strip_prefix(".It Pa /") {
            let words: Vec<&str> = entry.split(' ').collect();
            let (path, rest) = if entry.is_empty() || entry.starts_with(' ') {
                ("", &words[..])
            } else {
                (words[0], &words[1..])
            };
            let name = |at: usize| (rest[at] == "Ar").then(|| rest[at + 1].to_owned());
            let bracket = |at: usize| if at > 0 && rest[at - 1] == "Oo" { "?" } else { "" };
            let parameters =
                (0..rest.len()).filter_map(|at| Some(name(at)? + bracket(at))).collect();
            assert!(
                entries.insert(path.to_owned(), (access, parameters)).is_none(),
                "{path} is there twice"
            );
        }
    }
    entries
}

fn of_the_table() -> Entries {
    let access = |needs| match needs {
        Needs::Nobody => "nobody",
        Needs::Read => "read",
        Needs::Write => "write",
    };
    let parameters = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    table()
        .map(|route| (route.path.to_owned(), (access(route.needs), parameters(route.parameters))))
        .collect()
}

#[test]
fn the_page_has_every_path_with_its_access_and_parameters() {
    assert_eq!(of_the_page(), of_the_table());
    assert!(of_the_page().len() > 30, "this test has lost its eyes");
}

#[test]
fn no_path_is_in_the_table_twice() {
    assert_eq!(of_the_table().len(), table().count());
}

#[test]
fn the_page_explains_every_status() {
    for status in [200, 302, 400, 401, 403, 404, 405, 409, 429, 500, 503] {
        assert!(PAGE.contains(&format!(".It Li {status}\n")), "{status}");
    }
}

#[test]
fn the_page_names_every_scheduler() {
    for (name, _) in tcpdirector::scheduler::Rule::ALL {
        assert!(PAGE.contains(name), "{name}");
    }
}
