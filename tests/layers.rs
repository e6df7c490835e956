//! Imports go down only: the `use` lines of the source against the floors of `lib.rs`; and no file
//! uses another one that uses it, by whatever way.

mod imports;
mod source;
mod tokens;

use std::fs;
use std::path::Path;

use imports::{Crate, circles};

use crate::common::sources;

/// The floor of a module, by the first part of its path below `src`.
fn floor(module: &str) -> Option<u8> {
    Some(match module {
        "cli" | "scheduler" | "relay" | "system" => 1,
        "config" => 2,
        "state" => 3,
        "traffic" | "admin" => 4,
        "budget" => 5,
        "daemon" => 6,
        "main" | "lifecycle" | "commands" | "demo" | "diff" | "report" => 7,
        _ => return None,
    })
}

/// Edges that do not go down: the mechanisms of the first floor know the operating system, and
/// otherwise not each other.
fn forbidden(from: &str, to: &str) -> bool {
    let (Some(here), Some(there)) = (floor(from), floor(to)) else { return true };
    let to_system = to == "system" && from != "system";
    from != to && !to_system && there >= here
}

#[test]
fn imports_go_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut edges = 0;
    for file in sources(&src) {
        let place = file.strip_prefix(&src).unwrap();
        let module = place
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        assert!(
            floor(module).is_some(),
            "{} has no floor: give it one here and in lib.rs",
            place.display()
        );
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (at, root) in
                code.match_indices("crate::").chain(code.match_indices("tcpdirector::"))
            {
                let rest = &code[at + root.len()..];
                let to: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if to.is_empty() {
                    continue;
                }
                edges += 1;
                assert!(
                    !forbidden(module, &to),
                    "{}:{}: {module} uses {to}, which is not below it",
                    place.display(),
                    number + 1
                );
            }
        }
    }
    assert!(edges > 30, "only {edges} imports were found: this test has lost its eyes");
}

#[test]
fn an_import_that_goes_up_would_be_seen() {
    assert!(
        forbidden("relay", "state")
            && forbidden("scheduler", "relay")
            && forbidden("state", "traffic")
    );
    assert!(
        !forbidden("traffic", "state")
            && !forbidden("relay", "system")
            && !forbidden("state", "state")
    );
}

/// Folders whose circles are known and to be broken. To be removed with the last of them.
const TO_BE_BROKEN: [&str; 1] = ["config/"];

#[test]
fn no_file_uses_another_one_that_uses_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = sources(&src).into_iter().map(|file| {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&file).unwrap())
    });
    // made for tests alone
    let read = Crate::read(read.filter(|(name, _)| name != "config/arbitrary.rs"));
    let mut uses = read.uses();
    let count: usize = uses.values().map(|used| used.len()).sum();
    assert!(count > 300, "only {count} imports were found: this test has lost its eyes");
    uses.retain(|file, _| !TO_BE_BROKEN.iter().any(|folder| file.starts_with(folder)));
    let circles = circles(&uses);
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The circles among files that are given by their names and texts.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let read = Crate::read(files.iter().map(|(name, text)| ((*name).into(), (*text).into())));
    circles(&read.uses())
}

#[test]
fn a_circle_would_be_seen_in_whatever_way_its_files_name_each_other() {
    let other = ("x/b.rs", "use super::a::A; pub struct B;");
    for text in [
        "use super::b::B;",
        "use crate::x::b::B;",
        "use crate::{x::{b::{self, B}, c}, y};",
        "use super::b as other;",
        "use super::b::*;",
        "use super::B;",
        "pub fn f() { super::b::g() }",
        "fn f() -> crate::x::B { '\"'; todo!() }",
        "use super::super::x::b;",
        "use super::c; fn f() { c::f(); super::B::new() }",
    ] {
        let text = format!("{text} pub struct A;");
        let files = [("x/mod.rs", "mod a; mod b; pub use self::b::B;"), ("x/a.rs", &text), other];
        assert_eq!(circles_of(&files), ["x/a.rs -> x/b.rs -> x/a.rs"], "{text}");
    }
    let files = [("x/mod.rs", "mod a; use a::A; pub struct X(A);"), ("x/a.rs", "use super::X;")];
    assert_eq!(circles_of(&files), ["x/a.rs -> x/mod.rs -> x/a.rs"]);
    let files = [("x/mod.rs", "mod a; pub use a::A; pub struct X(A);"), files[1]];
    assert_eq!(circles_of(&files), ["x/a.rs -> x/mod.rs -> x/a.rs"]);
    let long = [("a.rs", "use crate::b;"), ("b.rs", "use crate::c;"), ("c.rs", "use crate::a;")];
    assert_eq!(circles_of(&long), ["a.rs -> b.rs -> c.rs -> a.rs"]);
}

#[test]
fn what_is_no_circle_is_not_taken_for_one() {
    let other = ("x/b.rs", "use super::a::A; pub struct B;");
    for text in [
        "// use super::b::B;",
        "/// See [`super::b::B`].",
        "fn f() { \"use super::b::B; super::b\"; }",
        "#[cfg(test)] mod tests { use super::super::b::B; }",
        "use super::X;",
        "use b::B;",
    ] {
        let text = format!("{text}\npub struct A;");
        let files =
            [("x/mod.rs", "mod a; mod b; pub use b::B; pub struct X;"), ("x/a.rs", &text), other];
        assert!(circles_of(&files).is_empty(), "{text}: {:?}", circles_of(&files));
    }
}
