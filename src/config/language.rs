//! The language of a configuration as one table: which element may have which attributes and which
//! elements in it.
//!
//! `read` calls [`check`] before it looks at any value, so whatever it reads afterwards stands
//! where it may. The table says what `etc/tcpdirector.dtd` says, and a test compares the two.

use super::error::Mistake;
use super::xml::{Attribute, Element};

/// How often something must or may stand in its element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occurs {
    Once,
    AtMostOnce,
    AtLeastOnce,
    Anyhow,
}
use Occurs::{Anyhow, AtLeastOnce, AtMostOnce, Once};

/// One element of the language.
#[derive(Debug)]
struct Shape {
    element: &'static str,
    attributes: &'static [(&'static str, Occurs)],
    children: &'static [(&'static str, Occurs)],
}

/// The name of the root element.
pub const ROOT: &str = "pdconfig";
/// A server.
pub const HOST: &str = "host";
/// What Python Director 0.0.3 called it.
const OLD_HOST: &str = "client";

#[rustfmt::skip]
const LANGUAGE: [Shape; 15] = [
    Shape { element: ROOT,
            attributes: &[],
            children: &[("service", AtLeastOnce), ("admin", AtMostOnce), ("logging", AtMostOnce), ("checktime", AtMostOnce),
                        ("pool", AtMostOnce), ("stop", AtMostOnce)] },
    Shape { element: "service",
            attributes: &[("name", Once)],
            children: &[("listen", AtLeastOnce), ("group", AtLeastOnce), ("enable", AtMostOnce), ("timeout", AtMostOnce),
                        ("replay", AtMostOnce)] },
    Shape { element: "listen", attributes: &[("ip", Once)], children: &[] },
    Shape { element: "group", attributes: &[("name", Once), ("scheduler", Once)], children: &[(HOST, Anyhow), (OLD_HOST, Anyhow)] },
    Shape { element: HOST, attributes: &[("name", AtMostOnce), ("ip", Once)], children: &[] },
    Shape { element: OLD_HOST, attributes: &[("name", AtMostOnce), ("ip", Once)], children: &[] },
    Shape { element: "enable", attributes: &[("group", Once)], children: &[] },
    Shape { element: "timeout",
            attributes: &[("connect", AtMostOnce), ("idle", AtMostOnce), ("half", AtMostOnce), ("dead", AtMostOnce)],
            children: &[] },
    Shape { element: "replay", attributes: &[("bytes", Once)], children: &[] },
    Shape { element: "admin", attributes: &[("listen", Once), ("secure", AtMostOnce)], children: &[("user", Anyhow)] },
    Shape { element: "user", attributes: &[("name", Once), ("password", Once), ("access", Once)], children: &[] },
    Shape { element: "logging", attributes: &[("file", Once)], children: &[] },
    Shape { element: "checktime", attributes: &[("time", Once)], children: &[] },
    Shape { element: "pool", attributes: &[("threads", AtMostOnce), ("sessions", AtMostOnce), ("queue", AtMostOnce), ("memory", AtMostOnce)],
            children: &[] },
    Shape { element: "stop", attributes: &[("grace", Once)], children: &[] },
];

/// What an element of this name is called today.
pub fn kind(name: &str) -> &str {
    if name == OLD_HOST { HOST } else { name }
}

/// The hosts of a group, in the order of the file, whatever they are called.
pub fn hosts(group: &Element) -> impl Iterator<Item = &Element> {
    group.children.iter().filter(|child| kind(&child.name) == HOST)
}

/// Notes what in `element`, at any depth, the language does not know, lacks, or has too often. What
/// stands in an unknown element is not looked at.
pub fn check(element: &Element, mistakes: &mut Vec<Mistake>) {
    let Some(shape) = LANGUAGE.iter().find(|shape| shape.element == element.name) else { return };
    check_attributes(element, shape, mistakes);
    check_children(element, shape, mistakes);
    let known = element
        .children
        .iter()
        .filter(|child| shape.children.iter().any(|(name, _)| *name == child.name));
    known.for_each(|child| check(child, mistakes));
}

/// A second attribute of one name needs no words here: it is a syntax error already.
fn check_attributes(element: &Element, shape: &Shape, mistakes: &mut Vec<Mistake>) {
    let parent = shape.element;
    for Attribute { name, spot, .. } in &element.attributes {
        if !shape.attributes.iter().any(|(known, _)| known == name) {
            let allowed = list(shape.attributes, "no attributes");
            mistakes.push(spot.mistake(format!(
                "unknown attribute `{name}` in <{parent}>: it may have {allowed}"
            )));
        }
    }
    for (name, occurs) in shape.attributes {
        if *occurs == Once && element.attribute(name).is_none() {
            mistakes
                .push(element.spot.mistake(format!("missing attribute `{name}` in <{parent}>")));
        }
    }
}

fn check_children(element: &Element, shape: &Shape, mistakes: &mut Vec<Mistake>) {
    let parent = shape.element;
    for child in &element.children {
        if !shape.children.iter().any(|(known, _)| *known == child.name) {
            let allowed = list(shape.children, "no elements");
            mistakes.push(child.spot.mistake(format!(
                "unknown element <{}> in <{parent}>: it may have {allowed}",
                child.name
            )));
        }
    }
    for (name, occurs) in shape.children {
        let mut found = element.children(name);
        match (occurs, found.next()) {
            // behind a syntax error nothing can be said about what is missing
            (AtLeastOnce, None) if element.complete => {
                mistakes.push(element.spot.mistake(format!("missing element <{name}> in <{parent}>: it needs at least one")));
            }
            (AtMostOnce, Some(first)) => mistakes.extend(found.map(|child| {
                let line = first.spot.line;
                child.spot.mistake(format!("another <{name}> in <{parent}>: it may have one, and the first is in line {line}"))
            })),
            _ => {}
        }
    }
}

fn list(names: &[(&str, Occurs)], none: &str) -> String {
    if names.is_empty() {
        none.to_owned()
    } else {
        names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DTD: &str = include_str!("../../etc/tcpdirector.dtd");

    /// The words of the declaration of that kind for that element, or none.
    fn declared<'a>(kind: &str, element: &str) -> Vec<&'a str> {
        let start = format!("<!{kind} {element}");
        let body = DTD
            .split(&start)
            .skip(1)
            .find(|rest| rest.starts_with(char::is_whitespace))
            .unwrap_or("");
        body.split('>').next().unwrap_or("").split_whitespace().collect()
    }

    #[test]
    fn the_dtd_declares_the_same_elements() {
        assert_eq!(DTD.matches("<!ELEMENT ").count(), LANGUAGE.len());
        for shape in &LANGUAGE {
            let content = declared("ELEMENT", shape.element).concat();
            let names = shape.children.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|");
            let many = if shape.children.iter().any(|(_, occurs)| *occurs == AtLeastOnce) {
                "+"
            } else {
                "*"
            };
            let expected =
                if names.is_empty() { "EMPTY".to_owned() } else { format!("({names}){many}") };
            assert_eq!(content, expected, "<{}>", shape.element);
        }
    }

    #[test]
    fn the_dtd_declares_the_same_attributes() {
        for shape in &LANGUAGE {
            let words = declared("ATTLIST", shape.element);
            let needs = words.iter().filter(|word| word.starts_with('#')).copied();
            let expected = shape
                .attributes
                .iter()
                .map(|(_, occurs)| if *occurs == Once { "#REQUIRED" } else { "#IMPLIED" });
            assert!(needs.eq(expected), "<{}>: {words:?}", shape.element);
            assert!(
                shape.attributes.iter().all(|(name, _)| words.contains(name)),
                "<{}>: {words:?}",
                shape.element
            );
        }
    }

    #[test]
    fn the_dtd_lists_the_schedulers() {
        let words = declared("ATTLIST", "group").concat();
        let names: Vec<&str> = crate::scheduler::Rule::ALL.iter().map(|(name, _)| *name).collect();
        assert!(words.contains(&format!("({})", names.join("|"))), "{words}");
    }

    #[test]
    fn every_child_is_an_element_of_the_language() {
        for (child, _) in LANGUAGE.iter().flat_map(|shape| shape.children) {
            assert!(LANGUAGE.iter().any(|shape| shape.element == *child), "{child}");
        }
    }
}
