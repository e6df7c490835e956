//! What a configuration file looks like after the running state was written to it.
//!
//! Each test edits a configuration as the admin pages would, saves it into the file that it came
//! from, and states every line that differs: `-` for one that went, `+` for one that came.

use std::path::Path;
use std::time::Duration;

use tcpdirector::config::write::{merge, to_xml};
use tcpdirector::config::{
    Access, Config, GroupConfig, HostConfig, ServiceConfig, UserConfig, read,
};
use tcpdirector::scheduler::Rule;

const SAMPLE: &str = include_str!("../etc/tcpdirector.xml");
const ORIGINAL: &str = include_str!("config/original/1.1.0.xml");
const FIRST: &str = include_str!("config/original/0.0.3.xml");

fn load(source: &[u8]) -> Config {
    read::parse(Path::new("save.xml"), source).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The file after this edit. What was saved loads to what was to be saved, and saving it once more
/// changes nothing.
fn saved(file: &str, edit: impl FnOnce(&mut Config)) -> String {
    let mut config = load(file.as_bytes());
    edit(&mut config);
    let saved = merge(file.as_bytes(), &config);
    assert_eq!(load(saved.as_bytes()), config, "{saved}");
    assert_eq!(merge(saved.as_bytes(), &config), saved);
    saved
}

/// The lines that an edit changes.
fn changed(file: &str, edit: impl FnOnce(&mut Config)) -> Vec<String> {
    difference(file, &saved(file, edit))
}

/// The lines of two texts that are not common to both, found by their longest common subsequence.
fn difference(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("-{}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    lines
}

fn host(name: &str, address: &str) -> HostConfig {
    HostConfig { name: name.to_owned(), address: address.parse().unwrap() }
}

fn group(name: &str, rule: Rule, hosts: Vec<HostConfig>) -> GroupConfig {
    GroupConfig { name: name.to_owned(), rule, hosts }
}

fn service(name: &str, listen: &str, hosts: Vec<HostConfig>) -> ServiceConfig {
    ServiceConfig {
        name: name.to_owned(),
        listens: vec![listen.parse().unwrap()],
        groups: vec![group("main", Rule::Random, hosts)],
        enabled: "main".to_owned(),
        ..load(ORIGINAL.as_bytes()).services.remove(0)
    }
}

fn main_hosts(config: &mut Config) -> &mut Vec<HostConfig> {
    &mut config.services[0].groups[0].hosts
}

fn users(config: &mut Config) -> &mut Vec<UserConfig> {
    &mut config.admin.as_mut().unwrap().users
}

/// A file with this in its only service, behind the listen.
fn with_service(inside: &str) -> String {
    format!(
        "<pdconfig>\n  <service name='s'>\n    <listen ip='*:1'/>\n{inside}\n  </service>\n</pdconfig>\n"
    )
}

#[test]
fn nothing_changed_is_the_same_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid");
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<Vec<u8>> = entries.map(|file| std::fs::read(file).unwrap()).collect();
    files.extend([
        SAMPLE.into(),
        ORIGINAL.into(),
        FIRST.into(),
        SAMPLE.replace('\n', "\r\n").into(),
        ORIGINAL.replacen('\n', "\r\n", 3).into(),
    ]);
    files.push(with_service("<group name='g' scheduler='random'><host name='host.1' ip='a:1'/><host ip='a:2'/></group>").into());
    for file in files {
        // what is not UTF-8 becomes UTF-8
        if std::str::from_utf8(&file).is_ok() {
            assert_eq!(merge(&file, &load(&file)).into_bytes(), file);
        }
    }
}

#[test]
fn a_host_is_one_line() {
    let new = "+            <host name=\"new\" ip=\"10.0.0.1:80\"/>";
    for file in [SAMPLE, ORIGINAL] {
        assert_eq!(
            changed(file, |config| main_hosts(config).push(host("new", "10.0.0.1:80"))),
            [new]
        );
        assert_eq!(
            changed(file, |config| main_hosts(config).insert(0, host("new", "10.0.0.1:80")))[..1],
            [new]
        );
    }
    assert_eq!(
        changed(ORIGINAL, |config| drop(main_hosts(config).remove(1))),
        ["-            <host name=\"three\" ip=\"127.0.0.1:8003\" />"]
    );
    assert_eq!(
        changed(ORIGINAL, |config| main_hosts(config)[1].address = "c:1".parse().unwrap()),
        [
            "-            <host name=\"three\" ip=\"127.0.0.1:8003\" />",
            "+            <host name=\"three\" ip=\"c:1\" />"
        ]
    );
    assert_eq!(
        changed(ORIGINAL, |config| main_hosts(config)[1].name = "drei".to_owned()),
        [
            "-            <host name=\"three\" ip=\"127.0.0.1:8003\" />",
            "+            <host name=\"drei\" ip=\"127.0.0.1:8003\" />"
        ]
    );
}

#[test]
fn a_host_that_is_called_a_client_stays_one() {
    assert_eq!(
        changed(FIRST, |config| main_hosts(config)[1].address = "c:1".parse().unwrap()),
        [
            "-\t    <client name=\"three\" ip=\"127.0.0.1:8003\" /> <!-- the slow one -->",
            "+\t    <client name=\"three\" ip=\"c:1\" /> <!-- the slow one -->"
        ]
    );
    assert_eq!(
        changed(FIRST, |config| config.services[0].groups[1].hosts[0].name = "5".to_owned()),
        [
            "-\t    <client name=\"five\" ip=\"127.0.0.1:8005\" ></client>",
            "+\t    <client name=\"5\" ip=\"127.0.0.1:8005\"></client>"
        ]
    );
    assert_eq!(
        changed(FIRST, |config| main_hosts(config).push(host("new", "a:1"))),
        ["+\t    <host name=\"new\" ip=\"a:1\"/>"]
    );
}

#[test]
fn a_host_without_a_name_gets_one_when_its_position_says_another() {
    assert_eq!(
        changed(SAMPLE, |config| drop(main_hosts(config).remove(0))),
        [
            "-            <host name=\"one\" ip=\"127.0.0.1:8001\"/>",
            "-            <host ip=\"localhost:8003\"/>",
            "+            <host name=\"host.2\" ip=\"localhost:8003\"/>",
        ]
    );
    // its comment goes with it, those of the others stay
    assert_eq!(
        changed(SAMPLE, |config| drop(main_hosts(config).remove(2))),
        [
            "-            <!-- The name may be left out: this one is called host.2, because it is number 2 when you count from 0. -->",
            "-            <host ip=\"localhost:8003\"/>",
        ]
    );
}

#[test]
fn a_host_that_was_called_by_another_number_gets_its_name_when_the_group_changes() {
    let file = with_service(
        "    <group name='g' scheduler='random'>\n      <host ip='a:1'/>\n      <host name='host.0' ip='a:2'/>\n    </group>",
    );
    assert_eq!(main_hosts(&mut load(file.as_bytes()))[0].name, "host.1");
    assert_eq!(
        changed(&file, |config| config.services[0].connect = Duration::from_secs(1)),
        ["+    <timeout connect=\"1s\"/>"]
    );
    assert_eq!(
        changed(&file, |config| drop(main_hosts(config).pop())),
        [
            "-      <host ip='a:1'/>",
            "-      <host name='host.0' ip='a:2'/>",
            "+      <host name=\"host.1\" ip=\"a:1\"/>"
        ]
    );
}

#[test]
fn another_enabled_group_is_one_word() {
    assert_eq!(
        changed(SAMPLE, |config| config.services[0].enabled = "next".to_owned()),
        ["-        <enable group=\"main\"/>", "+        <enable group=\"next\"/>"]
    );
    assert_eq!(
        changed(ORIGINAL, |config| config.services[1].enabled = "first".to_owned()),
        ["-        <enable group=\"second\" />", "+        <enable group=\"first\" />"]
    );
}

#[test]
fn another_scheduler_is_one_word() {
    assert_eq!(
        changed(SAMPLE, |config| config.services[0].groups[0].rule = Rule::Random),
        [
            "-        <group name=\"main\" scheduler=\"leastconns\">",
            "+        <group name=\"main\" scheduler=\"random\">"
        ]
    );
}

#[test]
fn a_new_group_stands_behind_the_others() {
    let third = || group("third", Rule::RoundRobin, vec![host("a", "a:1"), host("host.1", "a:2")]);
    let lines = [
        "+        <group name=\"third\" scheduler=\"roundrobin\">",
        "+            <host name=\"a\" ip=\"a:1\"/>",
        "+            <host ip=\"a:2\"/>",
        "+        </group>",
    ];
    assert_eq!(changed(ORIGINAL, |config| config.services[0].groups.push(third())), lines);
    // with a blank line before it, as the others have
    let file = saved(SAMPLE, |config| config.services[0].groups.push(third()));
    assert_eq!(difference(SAMPLE, &file), [&lines[..], &["+"]].concat());
    assert!(
        file.contains(
            "        </group>\n\n        <group name=\"third\" scheduler=\"roundrobin\">\n"
        ),
        "{file}"
    );
}

#[test]
fn a_second_group_makes_the_enabled_one_worth_a_line() {
    assert_eq!(
        changed(SAMPLE, |config| config.services[1].groups.push(group(
            "next",
            Rule::Random,
            Vec::new()
        ))),
        [
            "+        <group name=\"next\" scheduler=\"random\"/>",
            "+        <enable group=\"main\"/>"
        ]
    );
}

#[test]
fn a_service_that_goes_takes_its_comment_along() {
    assert_eq!(
        changed(SAMPLE, |config| drop(config.services.pop())),
        [
            "-    <!-- A second service, as small as it gets. -->",
            "-    <service name=\"mail\">",
            "-        <listen ip=\"127.0.0.1:2525\"/>",
            "-        <group name=\"main\" scheduler=\"random\">",
            "-            <host ip=\"127.0.0.1:2526\"/>",
            "-        </group>",
            "-    </service>",
            "-",
        ]
    );
    let file = saved(SAMPLE, |config| drop(config.services.remove(0)));
    let lines = difference(SAMPLE, &file);
    assert!(lines.iter().all(|line| line.starts_with('-')), "{lines:?}");
    assert_eq!(
        lines.first().unwrap(),
        "-    <!-- A service is what clients connect to. Its name is for you: it appears in the log and on the admin pages. -->"
    );
    assert!(
        file.contains("-->\n<pdconfig>\n\n    <!-- A second service, as small as it gets. -->\n    <service name=\"mail\">"),
        "{file}"
    );
}

#[test]
fn a_new_service_stands_behind_the_others() {
    let lines = [
        "+    <service name=\"&lt;n&gt;\">",
        "+        <listen ip=\"[::1]:1\"/>",
        "+        <group name=\"main\" scheduler=\"random\">",
        "+            <host name=\"a\" ip=\"a:1\"/>",
        "+        </group>",
        "+        <enable group=\"main\"/>",
        "+    </service>",
    ];
    let edit = |config: &mut Config| {
        config.services.push(service("<n>", "[::1]:1", vec![host("a", "a:1")]))
    };
    assert_eq!(changed(ORIGINAL, edit), lines);
    assert_eq!(changed(SAMPLE, edit), [&lines[..], &["+"]].concat());
}

#[test]
fn users_come_and_go_alone() {
    let new = || UserConfig {
        name: "é\"".to_owned(),
        password: "$6$x".to_owned(),
        access: Access::ReadOnly,
    };
    let line = "+        <user name=\"é&quot;\" password=\"$6$x\" access=\"readonly\"/>";
    for file in [SAMPLE, ORIGINAL] {
        assert_eq!(changed(file, |config| users(config).push(new())), [line]);
    }
    assert_eq!(
        changed(SAMPLE, |config| drop(users(config).pop())),
        [
            "-        <user name=\"guest\" password=\"$6$put-your-own-hash-here\" access=\"readonly\"/>"
        ]
    );
    assert_eq!(
        changed(ORIGINAL, |config| users(config)[0].access = Access::ReadOnly),
        [
            "-        <user name=\"fred\" password=\"rom0wh951j8Sg\" access=\"full\" />",
            "+        <user name=\"fred\" password=\"rom0wh951j8Sg\" access=\"readonly\" />",
        ]
    );
}

#[test]
fn an_attribute_that_is_no_part_of_the_state_stays() {
    let file = SAMPLE.replace(
        "<admin listen=\"127.0.0.1:7001\" secure=\"no\">",
        "<admin secure='no'\n  listen='127.0.0.1:7001'>",
    );
    assert_eq!(
        changed(&file, |config| config.admin.as_mut().unwrap().listen =
            "127.0.0.1:7002".parse().unwrap()),
        [
            "-    <admin secure='no'",
            "-  listen='127.0.0.1:7001'>",
            "+    <admin secure=\"no\" listen=\"127.0.0.1:7002\">"
        ]
    );
}

#[test]
fn what_says_the_same_in_other_words_keeps_its_words() {
    let file = with_service(
        "    <group name='g' scheduler='random'/>\n    <timeout connect='5000ms' idle='60m'/>",
    );
    assert_eq!(
        changed(&file, |config| config.services[0].idle = Duration::from_secs(1)),
        [
            "-    <timeout connect='5000ms' idle='60m'/>",
            "+    <timeout connect=\"5000ms\" idle=\"1s\"/>"
        ]
    );
    let file = file.replace("idle='60m'", "half='0' dead='1500ms'");
    assert_eq!(
        changed(&file, |config| config.services[0].dead = Some(Duration::from_secs(2))),
        [""; 0]
    );
    assert_eq!(
        changed(&file, |config| config.services[0].half = Some(Duration::from_secs(9))),
        [
            "-    <timeout connect='5000ms' half='0' dead='1500ms'/>",
            "+    <timeout connect=\"5000ms\" half=\"9s\" dead=\"1500ms\"/>"
        ]
    );
    assert_eq!(
        changed(SAMPLE, |config| config.checktime = Duration::from_secs(90)),
        ["-    <checktime time=\"2m\"/>", "+    <checktime time=\"90\"/>"]
    );
    assert_eq!(
        changed(SAMPLE, |config| config.pool.queue = None),
        [
            "-    <pool threads=\"4\" sessions=\"400\" queue=\"100\" memory=\"16M\"/>",
            "+    <pool threads=\"4\" sessions=\"400\" memory=\"16M\"/>"
        ]
    );
}

#[test]
fn comments_stay_with_what_they_are_about() {
    let file = with_service(concat!(
        "    <group name='g' scheduler='random'> <!-- beside the group -->\n",
        "\n",
        "      <!-- set off -->\n",
        "\n",
        "      <!-- before a -->\n",
        "      <host name='a' ip='a:1'/> <!-- beside\n  a -->\n",
        "      <host name='b' ip='b:1'/> <!-- beside b -->\n",
        "      <!-- at the end -->\n",
        "    </group>",
    ));
    assert_eq!(
        changed(&file, |config| drop(main_hosts(config).remove(0))),
        [
            "-",
            "-      <!-- before a -->",
            "-      <host name='a' ip='a:1'/> <!-- beside",
            "-  a -->"
        ]
    );
    assert_eq!(
        changed(&file, |config| drop(main_hosts(config).remove(1))),
        ["-      <host name='b' ip='b:1'/> <!-- beside b -->"]
    );
    let moved = saved(&file, |config| main_hosts(config).swap(0, 1));
    assert!(
        moved.contains(
            "      <!-- before a -->\n      <host name='a' ip='a:1'/> <!-- beside\n  a -->\n"
        ),
        "{moved}"
    );
    assert!(moved.contains("\n      <host name='b' ip='b:1'/> <!-- beside b -->\n"), "{moved}");
    let emptied = saved(&file, |config| main_hosts(config).clear());
    for comment in ["beside the group", "set off", "at the end"] {
        assert!(emptied.contains(comment), "{emptied}");
    }
    assert!(!emptied.contains("before a") && !emptied.contains("beside b"), "{emptied}");
}

#[test]
fn an_empty_element_opens_and_one_line_stays_one_line() {
    let file = with_service("    <group name='g' scheduler='random' />");
    assert_eq!(
        changed(&file, |config| main_hosts(config).push(host("a", "a:1"))),
        [
            "-    <group name='g' scheduler='random' />",
            "+    <group name='g' scheduler='random'>",
            "+      <host name=\"a\" ip=\"a:1\"/>",
            "+    </group>",
        ]
    );
    let file = with_service("    <group name='g' scheduler='random'></group>");
    assert_eq!(
        changed(&file, |config| main_hosts(config).push(host("a", "a:1")))[1..],
        [
            "+    <group name='g' scheduler='random'>",
            "+      <host name=\"a\" ip=\"a:1\"/>",
            "+    </group>"
        ]
    );
    let file = "<pdconfig><service name='s'><listen ip='*:1'/><group name='g' scheduler='random'/></service></pdconfig>";
    let with_all = saved(file, |config| {
        main_hosts(config).push(host("a", "a:1"));
        config.services.push(service("t", "*:2", vec![host("b", "b:1")]));
    });
    assert!(
        !with_all.contains('\n')
            && with_all
                .contains("<host name=\"a\" ip=\"a:1\"/></group></service><service name=\"t\">"),
        "{with_all}"
    );
}

#[test]
fn what_stands_around_the_root_stays() {
    let file = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/doctype_with_a_subset.xml"),
    );
    let file = file.unwrap() + "<!-- behind -->\n<?and more?>";
    let new = saved(&file, |config| config.services[0].name = "other".to_owned());
    let (before, behind) =
        (file.split("<pdconfig>").next().unwrap(), file.split("</pdconfig>").last().unwrap());
    assert!(new.starts_with(before) && new.ends_with(behind), "{new}");
}

#[test]
fn line_ends_and_encodings_are_taken_care_of() {
    let file = SAMPLE.replace('\n', "\r\n");
    let edit = |config: &mut Config| main_hosts(config).push(host("new", "a:1"));
    assert_eq!(changed(&file, edit), ["+            <host name=\"new\" ip=\"a:1\"/>\r"]);
    let text = "<?xml version='1.0' encoding='ENCODING'?>\n<!-- é -->\n".to_owned()
        + &with_service("    <group name='g' scheduler='random'><host name='a' ip='a:1'/></group>");
    let expected = text
        .replace("ENCODING", "UTF-8")
        .replace("a:1'", "b:1\"")
        .replace("name='a' ip='", "name=\"a\" ip=\"");
    let latin_1: Vec<u8> =
        text.replace("ENCODING", "iso-8859-1").chars().map(|c| u8::try_from(c).unwrap()).collect();
    let utf_16: Vec<u8> = ("\u{feff}".to_owned() + &text.replace("ENCODING", "UTF-16"))
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for source in [latin_1, utf_16] {
        let mut config = load(&source);
        assert_eq!(merge(&source, &config), text.replace("ENCODING", "UTF-8"));
        main_hosts(&mut config)[0].address = "b:1".parse().unwrap();
        let new = merge(&source, &config);
        assert_eq!(new, expected);
        assert_eq!(load(new.as_bytes()), config);
    }
}

#[test]
fn a_file_that_is_no_configuration_any_more_is_replaced() {
    let config = load(SAMPLE.as_bytes());
    for broken in
        ["", "<pdconfig>", "<!-- half a", "<pdconfig><service name=''/></pdconfig>", "\u{0}\u{0}"]
    {
        assert_eq!(merge(broken.as_bytes(), &config), to_xml(&config, true));
    }
}
