//! Configuration files as files: the samples, and the folders of good and bad ones beside this
//! file.
//!
//! A bad file `NAME.xml` has a `NAME.txt` with the exact lines that reading it must report, without
//! the file name in front.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tcpdirector::config::{Access, Config, read};
use tcpdirector::scheduler::Rule;

use crate::common::server::{have, run, tool};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &Path) -> Config {
    read::load(path).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The XML files of a folder, sorted.
fn xml_files(folder: &str) -> Vec<PathBuf> {
    let entries = at(folder).read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "xml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {folder}");
    files
}

#[test]
fn every_valid_file_loads() {
    for file in xml_files("tests/config/valid") {
        let config = load(&file);
        assert!(
            config
                .services
                .iter()
                .all(|service| service.groups.iter().any(|group| group.name == service.enabled))
        );
    }
}

#[test]
fn every_invalid_file_reports_exactly_its_mistakes() {
    for file in xml_files("tests/config/invalid") {
        let name = file.display();
        let expected = std::fs::read_to_string(file.with_extension("txt"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mistakes = read::load(&file).err().unwrap_or_else(|| panic!("{name} loads"));
        let lines: Vec<String> = mistakes
            .list
            .iter()
            .map(|m| format!("{}:{}: {}", m.line, m.column, m.message))
            .collect();
        let shown = mistakes.to_string();
        assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{name}");
        assert!(shown.lines().all(|line| line.starts_with(&format!("{name}:"))), "{shown}");
    }
}

/// Guards the expectations themselves: what a message names stands where the message says.
#[test]
fn the_place_of_a_mistake_is_where_the_thing_it_names_stands() {
    let mut checked = 0;
    for file in xml_files("tests/config/invalid") {
        let Ok(source) = std::fs::read_to_string(&file) else { continue };
        for mistake in read::load(&file).unwrap_err().list {
            let line = source.lines().nth(mistake.line as usize - 1).unwrap_or("");
            let there: String = line.chars().skip(mistake.column as usize - 1).collect();
            let named = |start, end| Some(mistake.message.strip_prefix(start)?.split_once(end)?.0);
            let expected = named("unknown attribute `", "`").map(|name| format!("{name}="));
            let expected = expected.or_else(|| named("unknown element ", ">").map(str::to_owned));
            let expected =
                expected.or_else(|| named("another <", ">").map(|name| format!("<{name}")));
            let expected = expected.or_else(|| {
                Some(format!(
                    "<{}",
                    mistake.message.strip_prefix("missing ")?.split(['<', '>']).rev().nth(1)?
                ))
            });
            if let Some(expected) = expected {
                assert!(there.starts_with(&expected), "{}: {mistake:?}: {there}", file.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn every_expectation_belongs_to_an_invalid_file() {
    for entry in at("tests/config/invalid").read_dir().unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("xml").exists(), "{}", path.display());
    }
}

#[test]
fn the_sample_loads_and_shows_every_part_of_a_configuration() {
    let config = load(&at("etc/tcpdirector.xml"));
    let web = &config.services[0];
    assert_eq!(
        (web.name.as_str(), web.enabled.as_str(), web.listens.len(), web.groups.len()),
        ("web", "main", 2, 2)
    );
    assert_eq!((web.connect, web.idle), (Duration::from_secs(3), Duration::from_secs(30 * 60)));
    assert_eq!(
        (web.half, web.dead),
        (Some(Duration::from_secs(5 * 60)), Some(Duration::from_secs(60)))
    );
    assert_eq!(web.groups[0].hosts[2].name, "host.2");
    assert_eq!(config.admin.unwrap().users.len(), 2);
    assert_eq!(config.logging.as_deref(), Some("/var/log/tcpdirector.log"));
    assert_eq!(config.pool.threads.map(usize::from), Some(4));
    assert_eq!(config.pool.queue.map(usize::from), Some(100));
}

#[test]
fn a_file_of_the_original_says_what_it_said_there() {
    let config = load(&at("tests/config/original/1.1.0.xml"));
    let rules: Vec<Rule> = config
        .services
        .iter()
        .flat_map(|service| &service.groups)
        .map(|group| group.rule)
        .collect();
    assert_eq!(rules, [Rule::LeastConns, Rule::LeastConnsRr, Rule::RoundRobin, Rule::Random]);
    let enabled: Vec<&str> =
        config.services.iter().map(|service| service.enabled.as_str()).collect();
    assert_eq!(enabled, ["main", "second"]);
    assert_eq!(config.services[0].groups[1].hosts[1].name, "host.1");
    assert_eq!(config.services[1].listens[0].to_string(), "*:8080");
    let admin = config.admin.unwrap();
    assert_eq!(admin.listen.to_string(), "127.0.0.1:7001");
    assert_eq!(
        (admin.users[0].password.as_str(), admin.users[0].access),
        ("rom0wh951j8Sg", Access::Full)
    );
    assert_eq!(config.logging.as_deref(), Some("pydir.log"));
    assert_eq!(config.checktime, Duration::from_secs(120));
}

#[test]
fn a_client_of_the_first_version_is_a_host() {
    let config = load(&at("tests/config/original/0.0.3.xml"));
    let hosts = |group: usize| {
        let hosts = config.services[0].groups[group].hosts.iter();
        hosts.map(|host| format!("{} {}", host.name, host.address)).collect::<Vec<_>>()
    };
    assert_eq!(hosts(0), ["two 127.0.0.1:8002", "three 127.0.0.1:8003", "host.2 127.0.0.1:8004"]);
    assert_eq!(hosts(1), ["five 127.0.0.1:8005"]);
    assert_eq!(
        (config.admin.unwrap().listen.to_string(), config.checktime),
        ("localhost:7001".into(), Duration::from_secs(120))
    );
}

#[test]
fn what_the_original_has_saved_loads() {
    let config = load(&at("tests/config/original/saved.xml"));
    let groups = &config.services[0].groups;
    assert_eq!((groups[0].hosts.len(), groups[1].hosts[0].name.as_str()), (0, "a & b <c> \"d\""));
    assert_eq!(config.services[0].listens[1].to_string(), "*:8080");
    assert_eq!(config.admin.unwrap().listen.to_string(), "*:7001");
}

#[test]
fn samples_and_valid_files_follow_the_dtd() {
    if !have(&["xmllint"]) {
        return;
    }
    let mut files = vec![at("etc/tcpdirector.xml")];
    files.extend(xml_files("tests/config/original"));
    // a file with a DOCTYPE of its own is not judged by ours alone
    files.extend(
        xml_files("tests/config/valid")
            .into_iter()
            .filter(|file| !file.ends_with("doctype_with_a_subset.xml")),
    );
    for file in files {
        let mut xmllint = tool("xmllint");
        xmllint
            .args(["--nonet", "--noout", "--dtdvalid"])
            .arg(at("etc/tcpdirector.dtd"))
            .arg(&file);
        run(xmllint);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake_without_a_place() {
    for (path, words) in
        [("tests/config/nowhere.xml", "No such file"), ("tests/config", "directory")]
    {
        let mistakes = read::load(&at(path)).unwrap_err();
        assert_eq!((mistakes.list.len(), mistakes.list[0].line), (1, 0));
        assert!(mistakes.list[0].message.contains(words), "{mistakes}");
        assert!(
            mistakes.to_string().starts_with(&format!("{}: cannot be read: ", at(path).display())),
            "{mistakes}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_never_ends_is_refused() {
    let mistakes = read::load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(
        mistakes.to_string(),
        "/dev/zero:1:1: the file is larger than 1 MiB: this is not a configuration"
    );
}
