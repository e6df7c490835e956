//! From a [`Config`] to a file: a neat new one, or the old one with what has changed in it.
//!
//! The admin pages show [`to_xml`] of what runs and [`show`] of the file; saving the running state
//! writes what [`merge`] makes of the file that is there. `item` turns the values into elements;
//! here they become text.

use xml::common::is_xml10_char;

use super::item::Item;
use super::model::Config;

pub use super::merge::{merge, show};

/// The configuration as a document of its own: UTF-8, one element in a line, 4 spaces for each
/// level. What has a default is written where it differs, `<enable>` and `<checktime>` always; a
/// host that is called by its position has no name.
///
/// With `hashes`, reading it gives an equal configuration. Without them, users have no password, so
/// that it can be shown to people who must not see any; such a document does not load.
pub fn to_xml(config: &Config, hashes: bool) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    Lines { indent: Some(""), step: "    " }.write(&Item::of(config, hashes), &mut text);
    text.push('\n');
    text
}

/// Where the lines of an element start.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// What stands before its tags in their lines; `None` when all of it is to stand in one line.
    pub indent: Option<&'a str>,
    /// What is added for each level.
    pub step: &'a str,
}

impl Lines<'_> {
    /// Appends an element and all in it, from its `<` to its last `>`.
    pub fn write(self, item: &Item, text: &mut String) {
        let fields = item
            .fields
            .iter()
            .filter(|field| !field.implied)
            .map(|field| (field.name, field.value.as_str()));
        let mut items = item.items.iter().filter(|item| !item.is_silent()).peekable();
        if items.peek().is_none() {
            return push_tag(text, item.kind, fields, "/>");
        }
        push_tag(text, item.kind, fields, ">");
        let deeper = self.indent.map(|indent| format!("{indent}{}", self.step));
        let inner = Lines { indent: deeper.as_deref(), step: self.step };
        for item in items {
            inner.start(text);
            inner.write(item, text);
        }
        self.start(text);
        push_end_tag(text, item.kind);
    }

    /// Appends the start of a line.
    pub fn start(self, text: &mut String) {
        if let Some(indent) = self.indent {
            text.push('\n');
            text.push_str(indent);
        }
    }
}

/// Appends a start tag up to and with its `end`.
pub fn push_tag<'a>(
    text: &mut String,
    kind: &str,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    end: &str,
) {
    text.push('<');
    text.push_str(kind);
    for (name, value) in fields {
        text.push(' ');
        text.push_str(name);
        text.push_str("=\"");
        push_escaped(text, value);
        text.push('"');
    }
    text.push_str(end);
}

/// Appends an end tag.
pub fn push_end_tag(text: &mut String, kind: &str) {
    text.push_str("</");
    text.push_str(kind);
    text.push('>');
}

/// Appends a value so that it reads back as it is: white space other than a space would be read as
/// a space. What XML cannot hold in any spelling becomes U+FFFD.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\t' | '\n' | '\r' | '\u{7f}'..='\u{9f}' => {
                text.push_str(&format!("&#{};", u32::from(character)))
            }
            _ if is_xml10_char(character) => text.push(character),
            _ => text.push('\u{fffd}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::super::read::parse;
    use super::*;

    fn config(text: &str) -> Config {
        parse(Path::new("f.xml"), text.as_bytes())
            .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
    }

    const FULL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<pdconfig>
    <service name="prod &lt;&amp;&gt; &quot;é&quot;">
        <listen ip="127.0.0.1:8000"/>
        <listen ip="[::1]:8000"/>
        <group name="main" scheduler="leastconns">
            <host name="one" ip="*:8001"/>
            <host ip="localhost:8002"/>
        </group>
        <group name="next" scheduler="random"/>
        <enable group="main"/>
        <timeout connect="1500ms" half="90s" dead="0"/>
    </service>
    <service name="b">
        <listen ip="*:1"/>
        <group name="g" scheduler="roundrobin"/>
        <enable group="g"/>
    </service>
    <admin listen="127.0.0.1:7001">
        <user name="fred" password="rom0wh951j8Sg" access="full"/>
    </admin>
    <logging file="a&#10;b&#9;&#133;&#127;"/>
    <checktime time="120"/>
    <pool queue="7"/>
</pdconfig>
"#;

    #[test]
    fn a_document_is_neat_and_reads_as_it_was() {
        assert_eq!(to_xml(&config(FULL), true), FULL);
    }

    #[test]
    fn without_hashes_only_the_passwords_are_missing() {
        let shown = to_xml(&config(FULL), false);
        assert_eq!(shown, FULL.replace(" password=\"rom0wh951j8Sg\"", ""));
    }

    #[test]
    fn what_has_its_default_is_not_written() {
        let text = "<pdconfig><service name='s'><listen ip=':1'/><group name='g' scheduler='random'><host name='host.0' ip='a:1'/>\
                    </group><timeout connect='5s' idle='60m' half='0' dead='120s'/></service><admin listen='*:2' secure='no'/><pool/></pdconfig>";
        let written = to_xml(&config(text), true);
        assert!(
            written.contains("<host ip=\"a:1\"/>")
                && written.contains("    <admin listen=\"*:2\"/>\n"),
            "{written}"
        );
        assert!(!written.contains("timeout") && !written.contains("pool"), "{written}");
    }

    #[test]
    fn a_checktime_is_in_seconds_where_that_is_exact() {
        for (time, written) in [("2m", "120"), ("1500ms", "1500ms"), ("1h", "3600")] {
            let text = FULL.replace("time=\"120\"", &format!("time=\"{time}\""));
            assert!(
                to_xml(&config(&text), true).contains(&format!("<checktime time=\"{written}\"/>"))
            );
        }
    }

    proptest! {
        #![proptest_config(arbitrary::runs())]

        #[test]
        fn any_configuration_reads_as_it_was(config in arbitrary::config()) {
            let text = to_xml(&config, true);
            let read = parse(Path::new("f.xml"), text.as_bytes());
            prop_assert_eq!(read.map_err(|mistakes| format!("{mistakes}\n{text}")), Ok(config));
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        let mut text = String::new();
        push_escaped(&mut text, "a\0\u{1}\u{1b}\u{ffff}\u{fffe}'\u{1f980}");
        assert_eq!(text, "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}'\u{1f980}");
    }
}
