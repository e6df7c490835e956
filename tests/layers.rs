//! Imports go down only: the `use` lines of the source against the floors of `lib.rs`.

use std::fs;
use std::path::Path;

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
