//! The man pages against the program: nothing missing on either side.

use std::collections::BTreeSet;
use std::fs;

use tcpdirector::cli::{Cli, FLAGS, help};
use tcpdirector::relay::CloseReason;

fn page(name: &str) -> String {
    fs::read_to_string(format!("{}/man/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// `.It Fl c Ar file , Fl -config Ar file` gives `c` and `config`.
fn flags_of_the_page() -> BTreeSet<String> {
    page("tcpdirector.8")
        .lines()
        .filter_map(|line| line.strip_prefix(".It Fl "))
        .flat_map(|line| format!("Fl {line}").split("Fl ").map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|part| {
            part.split_whitespace().next().map(|flag| flag.trim_start_matches('-').to_owned())
        })
        .collect()
}

fn flags_of_the_parser() -> BTreeSet<String> {
    FLAGS
        .iter()
        .flat_map(|flag| flag.short.map(String::from).into_iter().chain([flag.long.to_owned()]))
        .collect()
}

#[test]
fn the_page_has_every_flag_of_the_parser_and_no_other() {
    assert_eq!(flags_of_the_page(), flags_of_the_parser());
}

#[test]
fn the_help_text_has_every_flag() {
    for flag in &FLAGS {
        let short = flag.short.map_or(String::new(), |letter| format!("-{letter}, "));
        let entry = format!("{short}--{} {}", flag.long, flag.value.unwrap_or_default());
        assert!(help().contains(entry.trim_end()), "no `{entry}` in the help text");
    }
}

#[test]
fn the_parser_takes_every_flag_by_both_names() {
    for flag in &FLAGS {
        let names = flag
            .short
            .map(|letter| format!("-{letter}"))
            .into_iter()
            .chain([format!("--{}", flag.long)]);
        let read: Vec<Cli> = names
            .map(|name| {
                let value = flag.value.map(|_| "value".to_owned());
                let company: &[&str] = match flag.long {
                    "diff" => &["old.xml", "new.xml"],
                    "admin" => &["--diff", "new.xml"],
                    "replace" => &["-p", "pidfile"],
                    _ => &[],
                };
                let arguments = [name]
                    .into_iter()
                    .chain(value)
                    .chain(company.iter().map(ToString::to_string))
                    .map(Into::into);
                Cli::parse(arguments).unwrap_or_else(|e| panic!("--{}: {e}", flag.long))
            })
            .collect();
        assert!(read.iter().all(|cli| *cli != Cli::default()), "--{} sets nothing", flag.long);
        assert!(read.windows(2).all(|two| two[0] == two[1]), "--{} has two meanings", flag.long);
    }
}

/// The entries of a list of the page, each with its text in one line: `.It Cm word` and what follows.
fn entries(list: &str) -> Vec<(String, String)> {
    let text = |line: &str| match line.strip_prefix('.').and_then(|line| line.split_once(' ')) {
        Some(("Nm", rest)) => format!("tcpdirector{rest}"),
        Some((_, rest)) => rest.to_owned(),
        None => line.to_owned(),
    };
    let entry = |entry: &str| {
        let (word, lines) = entry.split_once('\n').unwrap();
        (word.to_owned(), lines.lines().map(text).collect::<Vec<_>>().join(" "))
    };
    list.split(".It Cm ").skip(1).map(entry).collect()
}

#[test]
fn the_page_has_the_table_of_the_reasons_for_which_a_session_ends() {
    let page = page("tcpdirector.8");
    let list = page.split(".It Cm end\n").nth(1).and_then(|rest| rest.split(".El\n").next());
    let table = CloseReason::ALL.map(|reason| (reason.word().into(), reason.meaning().into()));
    assert_eq!(entries(list.expect("the page has the key")), table);
}

#[test]
fn the_page_has_every_reason_for_which_a_session_left_a_host() {
    let text = page("tcpdirector.8");
    let list =
        text.split(".It Cm tried\n").nth(1).and_then(|rest| rest.split(".It Cm connect\n").next());
    let list = list.expect("the page has the key");
    let reasons = [
        "refused",
        "timed-out",
        "unreachable",
        "no-address",
        "reset",
        "closed",
        "dead",
        "shortage",
    ];
    for reason in reasons {
        let entry = format!("\n.It Cm {reason}\n");
        assert!(
            list.contains(&entry),
            "tcpdirector(8) does not say what a host with :{reason} has done"
        );
    }
}

#[test]
fn the_pages_name_every_element_of_the_dtd_with_its_attributes() {
    let dtd =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/etc/tcpdirector.dtd")).unwrap();
    let text = page("tcpdirector.xml.5");
    let mut words = 0;
    for line in dtd.lines().map(str::trim) {
        let name = line.strip_prefix("<!ELEMENT ").or(line.strip_prefix("<!ATTLIST "));
        let Some(element) = name.and_then(|rest| rest.split_whitespace().next()) else { continue };
        assert!(text.contains(element), "tcpdirector.xml(5) does not name <{element}>");
        words += 1;
    }
    assert!(words >= 12, "only {words} declarations were found: this test has lost its eyes");
}

#[test]
fn the_unit_of_the_page_is_a_part_of_the_sample_and_leaves_the_sample_configuration_its_grace() {
    let sample = |name: &str| {
        fs::read_to_string(format!("{}/etc/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let (unit, page) = (sample("tcpdirector.service"), page("tcpdirector.8"));
    let (_, block) = page.split_once("\n[Service]\n").expect("there is one");
    let (block, _) = block.split_once("\n.Ed").expect("it ends");
    let block = block.replace(" \\e\n    ", " ").replace("\\-", "-");
    for line in block.lines() {
        // the sample has more options
        assert!(unit.lines().any(|other| other.starts_with(line)), "`{line}` is not in the sample");
    }
    let limit: u64 = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .unwrap()
        .parse()
        .unwrap();
    let config = tcpdirector::config::read::parse(
        std::path::Path::new("x"),
        sample("tcpdirector.xml").as_bytes(),
    )
    .unwrap();
    // and the last log lines have three seconds
    assert!(std::time::Duration::from_secs(limit - 5) >= config.grace, "{limit}");
}
