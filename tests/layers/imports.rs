//! Which file of a crate uses which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Import, Path, Source};

/// The files of a crate by their names, such as `state/mod.rs`.
pub struct Crate {
    sources: BTreeMap<String, Source>,
    modules: BTreeMap<Path, String>,
}

impl Crate {
    /// Reads the files, given by their names below `src` and their texts.
    pub fn read(files: impl IntoIterator<Item = (String, String)>) -> Crate {
        let sources: BTreeMap<String, Source> = files
            .into_iter()
            .map(|(name, text)| {
                let source = Source::read(module_of(&name), &text);
                (name, source)
            })
            .collect();
        let named = |(name, source): (&String, &Source)| (source.module.clone(), name.clone());
        let modules = sources.iter().filter(|(name, _)| *name != "main.rs").map(named).collect();
        Crate { sources, modules }
    }

    /// The files that each file uses. That a file passes a name on is no use of it; whoever imports
    /// that name uses the file that it comes from.
    pub fn uses(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let of = |(name, source): (&'_ String, &'_ Source)| {
            let is_used =
                |import: &&Import| !import.is_public || source.words.contains(&import.name);
            let imports = source.imports.iter().filter(is_used).map(|import| &import.path);
            imports
                .chain(&source.paths)
                .filter_map(|path| self.file_of(&self.absolute(source, path)?, 0))
                .filter(|used| used != name && *used != "lib.rs")
                .collect()
        };
        self.sources.iter().map(|source| (source.0.as_str(), of(source))).collect()
    }

    /// The path from the root of the crate; `None` for one of another crate.
    fn absolute(&self, source: &Source, path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let mut module = source.module.clone();
        match first.as_str() {
            "crate" | "tcpdirector" => return Some(rest.to_vec()),
            "self" => return Some([&module, rest].concat()),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                module.truncate(module.len().checked_sub(supers)?);
                return Some([&module, &path[supers..]].concat());
            }
            _ => module.push(first.clone()),
        }
        if self.modules.contains_key(&module) {
            return Some([&module, rest].concat());
        }
        let import = source.imports.iter().find(|import| import.name == *first)?;
        // `use log;` would lead to itself
        (import.path[0] != *first).then_some(())?;
        Some([self.absolute(source, &import.path)?, rest.to_vec()].concat())
    }

    /// Where what is at this path from the root comes from.
    fn file_of(&self, path: &[String], depth: usize) -> Option<&str> {
        let known = (0..=path.len()).rev().find(|end| self.modules.contains_key(&path[..*end]))?;
        let (name, source) = self.sources.get_key_value(&self.modules[&path[..known]])?;
        let Some(wanted) = path.get(known) else { return Some(name) };
        if source.items.contains(wanted) || depth > 8 {
            return Some(name);
        }
        let from = |import: &Import| self.file_of(&self.absolute(source, &import.path)?, depth + 1);
        if let Some(import) = source.imports.iter().find(|import| import.name == *wanted) {
            return from(import);
        }
        let globs = source.imports.iter().filter(|import| import.name == "*");
        let has = |file: &&str| self.sources[*file].items.contains(wanted);
        globs.filter_map(from).find(has).or(Some(name))
    }
}

/// The shortest circles, each with its first file again at its end; of those that share a file, one.
pub fn circles(uses: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for start in uses.keys() {
        let Some(circle) = way_back(uses, start) else { continue };
        if circle.iter().all(|file| !seen.contains(file)) {
            found.push(circle.join(" -> "));
        }
        seen.extend(circle);
    }
    found
}

/// The shortest way from a file to itself.
fn way_back<'a>(
    uses: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let (mut queue, mut seen) = (VecDeque::from([vec![start]]), BTreeSet::new());
    while let Some(way) = queue.pop_front() {
        for next in uses.get(way[way.len() - 1]).into_iter().flatten() {
            let longer = [&way[..], &[*next]].concat();
            if *next == start {
                return Some(longer);
            }
            if seen.insert(*next) {
                queue.push_back(longer);
            }
        }
    }
    None
}

fn module_of(file: &str) -> Path {
    let name = file.trim_end_matches(".rs");
    let name = name.strip_suffix("mod").map_or(name, |folder| folder.trim_end_matches('/'));
    if matches!(name, "lib" | "main") {
        return Path::new();
    }
    name.split('/').map(str::to_owned).collect()
}
