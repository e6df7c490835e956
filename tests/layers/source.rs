//! What one file says of others: its `use` lines and the paths in its code. Test modules do not
//! count.

use std::collections::BTreeSet;

use super::tokens::{is_name, tokens};

/// The parts of a path: `crate::state::Host` has three.
pub type Path = Vec<String>;

/// A name that a `use` line brings: `*` for all names.
pub struct Import {
    pub path: Path,
    pub name: String,
    pub is_public: bool,
}

/// What a file says.
pub struct Source {
    /// Its module. Both roots, `lib.rs` and `main.rs`, have no name.
    pub module: Path,
    pub imports: Vec<Import>,
    /// Paths in the code.
    pub paths: BTreeSet<Path>,
    /// Every word of the code, and those that are names of items here.
    pub words: BTreeSet<String>,
    pub items: BTreeSet<String>,
}

impl Source {
    /// Reads the file of a module.
    pub fn read(module: Path, text: &str) -> Source {
        let tokens = tokens(text);
        const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        const ITEMS: [&str; 8] =
            ["struct", "enum", "trait", "type", "fn", "const", "static", "macro_rules"];
        let mut source = Source {
            module,
            imports: Vec::new(),
            paths: BTreeSet::new(),
            words: BTreeSet::new(),
            items: BTreeSet::new(),
        };
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            at += match rest {
                // test modules are at the end of their files
                _ if rest.starts_with(&TEST)
                    && rest.get(7..10).is_some_and(|next| next[0] == "mod" && next[2] == "{") =>
                {
                    rest.len()
                }
                ["use", ..] => {
                    let before = &tokens[at.saturating_sub(4)..at];
                    let is_public = before.ends_with(&["pub"]) || before.starts_with(&["pub", "("]);
                    source.import(&rest[1..], &[], is_public) + 1
                }
                [first, ..] if is_name(first) => {
                    let pairs = rest[1..].chunks_exact(2);
                    let more = pairs.take_while(|pair| pair[0] == "::" && is_name(pair[1])).count();
                    let path: Path = rest[..=2 * more]
                        .iter()
                        .step_by(2)
                        .map(|part| (*part).to_owned())
                        .collect();
                    if ITEMS.contains(first) {
                        source.items.extend(rest.get(1).map(|name| (*name).to_owned()));
                    }
                    source.words.insert(path[0].clone());
                    if more > 0 {
                        source.paths.insert(path);
                    }
                    2 * more + 1
                }
                _ => 1,
            };
        }
        source
    }

    /// Reads a tree of a `use` line behind this path; returns how many tokens it had.
    fn import(&mut self, tokens: &[&str], before: &[String], is_public: bool) -> usize {
        let mut path = before.to_vec();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match *token {
                "{" => {
                    at += 1;
                    while tokens.get(at).is_some_and(|token| *token != "}") {
                        at += self.import(&tokens[at..], &path, is_public);
                        at += usize::from(tokens.get(at) == Some(&","));
                    }
                    return at + 1;
                }
                "::" => {}
                "self" if !before.is_empty() => {}
                "as" => {
                    let name = tokens[at + 1].to_owned();
                    self.imports.push(Import { path, name, is_public });
                    return at + 2;
                }
                "*" => {
                    self.imports.push(Import { path, name: "*".to_owned(), is_public });
                    return at + 1;
                }
                name if is_name(name) => path.push(name.to_owned()),
                _ => break,
            }
            at += 1;
        }
        let name = path.last().cloned().unwrap_or_default();
        self.imports.push(Import { path, name, is_public });
        at
    }
}
