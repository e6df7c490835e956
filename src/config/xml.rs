//! XML text in, a light tree of elements out: each element and each attribute with its place.
//!
//! Called by `read`, and by `merge` for the places of a good file. The crate `xml` decides what is
//! well-formed; `scan` walks beside it for the places. Whatever the bytes are, the answer is a tree
//! as far as it goes and the mistakes on the way, in bounded time and memory: entities cannot be
//! declared, nothing outside the file is opened, and size, depth and lengths are limited.

use std::collections::HashMap;

use xml::attribute::OwnedAttribute;
use xml::common::Position;
use xml::reader::{Error, ErrorKind, EventReader, ParserConfig, XmlEvent};

use super::error::Mistake;
use super::scan::Scanner;
use super::text::{Spot, decode, is_blank};

/// The largest file that is read: far beyond any real one, small enough to be read whole.
pub const MAX_SIZE: usize = 1 << 20;
/// How deep elements may nest; the language needs four levels.
const MAX_DEPTH: usize = 16;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Document {
    /// The root element, when one was found.
    pub root: Option<Element>,
    /// What is wrong with the XML, in the order of the file; a syntax error is the last.
    pub mistakes: Vec<Mistake>,
}

/// An element.
#[derive(Debug)]
pub struct Element {
    /// As written, with its prefix if it has one.
    pub name: String,
    /// Its `<`.
    pub spot: Spot,
    /// In the order of the file.
    pub attributes: Vec<Attribute>,
    /// In the order of the file.
    pub children: Vec<Element>,
    /// Whether its end was seen. If not, a syntax error came first and nothing can be said about
    /// what it lacks.
    pub complete: bool,
}

/// An attribute.
#[derive(Debug)]
pub struct Attribute {
    /// As written, with its prefix if it has one.
    pub name: String,
    /// The first character of the name.
    pub spot: Spot,
    /// Without its quotes, references replaced.
    pub value: String,
}

impl Element {
    /// The attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The children of that name, in the order of the file.
    pub fn children(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Reads a file's bytes: UTF-8, or what its declaration or byte order mark says.
pub fn parse(source: &[u8]) -> Document {
    parse_or_give_up(source)
        .unwrap_or_else(|mistake| Document { root: None, mistakes: vec![mistake] })
}

fn parse_or_give_up(source: &[u8]) -> Result<Document, Mistake> {
    if source.len() > MAX_SIZE {
        return Err(
            Spot::START.mistake("the file is larger than 1 MiB: this is not a configuration")
        );
    }
    let mut reader = reader(source);
    // the first event says which encoding the reader found; it comes before the reader looks at a
    // DOCTYPE
    let encoding = match reader.next() {
        Ok(XmlEvent::StartDocument { encoding, .. }) => encoding,
        Ok(_) => String::new(),
        Err(error) => return Err(syntax_mistake(&error, None)),
    };
    let text = decode(source, &encoding)?;
    let mut scanner = Scanner::new(&text);
    refuse_entities(&mut scanner)?;
    let mut tree = Tree { scanner, open: Vec::new(), document: Document::default() };
    loop {
        let grown = match reader.next() {
            Ok(XmlEvent::EndDocument) => break,
            Ok(event) => tree.grow(event),
            Err(error) => Err(syntax_mistake(&error, tree.open.last())),
        };
        if let Err(mistake) = grown {
            tree.document.mistakes.push(mistake);
            break;
        }
    }
    Ok(tree.finish())
}

fn reader(source: &[u8]) -> EventReader<&[u8]> {
    let mut limits = ParserConfig::new()
        // one event for each text, so that the scanner finds the same texts
        .ignore_comments(false);
    limits.allow_multiple_root_elements = false;
    limits.max_attributes = 64;
    limits.max_attribute_length = 4096;
    limits.max_data_length = MAX_SIZE;
    limits.max_name_length = 128;
    EventReader::new_with_config(source, limits)
}

/// A DOCTYPE that declares entities is refused before the reader sees it: it would expand some of
/// them without a limit. Nothing behind the DOCTYPE is trusted to end it, so the rest of the file
/// is searched.
fn refuse_entities(scanner: &mut Scanner) -> Result<(), Mistake> {
    match scanner.doctype() {
        Some(spot) if scanner.rest().contains("<!ENTITY") => Err(spot
            .mistake("the DOCTYPE declares entities (<!ENTITY): a configuration may not have any")),
        _ => Ok(()),
    }
}

/// The tree while it grows.
struct Tree<'a> {
    scanner: Scanner<'a>,
    /// From the root to the element that is being read.
    open: Vec<Element>,
    document: Document,
}

impl Tree<'_> {
    /// Takes one event in; an error is a mistake behind which nothing can be read.
    fn grow(&mut self, event: XmlEvent) -> Result<(), Mistake> {
        match event {
            XmlEvent::Doctype { syntax } => self.scanner.pass_known(&syntax),
            XmlEvent::StartElement { name, attributes, .. } => {
                self.open(name.borrow().to_repr(), attributes)?
            }
            XmlEvent::EndElement { .. } => self.close(true),
            XmlEvent::Characters(text) | XmlEvent::CData(text) if !is_blank(&text) => {
                let parent = self.open.last().map_or("", |element| &element.name);
                let message = format!(
                    "unexpected text in <{parent}>: only elements and comments may stand here"
                );
                self.document.mistakes.push(self.scanner.text().mistake(message));
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, name: String, read: Vec<OwnedAttribute>) -> Result<(), Mistake> {
        let tag = self.scanner.tag();
        if self.open.len() >= MAX_DEPTH {
            return Err(tag
                .spot
                .mistake(format!("elements are nested more than {MAX_DEPTH} deep")));
        }
        let mut values: HashMap<String, String> =
            read.into_iter().map(|one| (one.name.borrow().to_repr(), one.value)).collect();
        // the scanner's names lead: the reader swallows namespace declarations
        let attributes = tag.attributes.into_iter().map(|(name, spot)| {
            let value = values.remove(&name).unwrap_or_default();
            Attribute { name, spot, value }
        });
        let attributes = attributes.collect();
        self.open.push(Element {
            name,
            spot: tag.spot,
            attributes,
            children: Vec::new(),
            complete: false,
        });
        Ok(())
    }

    fn close(&mut self, complete: bool) {
        let Some(mut element) = self.open.pop() else { return };
        element.complete = complete;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.document.root = Some(element),
        }
    }

    fn finish(mut self) -> Document {
        while !self.open.is_empty() {
            self.close(false);
        }
        self.document
    }
}

/// A syntax error of the reader in our form, with the element in which it stands.
fn syntax_mistake(error: &Error, within: Option<&Element>) -> Mistake {
    let position = error.position();
    let count = |zero_based: u64| u32::try_from(zero_based).unwrap_or(u32::MAX).saturating_add(1);
    let spot = Spot { line: count(position.row()), column: count(position.column()) };
    let words = match error.kind() {
        ErrorKind::Syntax(words) if words.starts_with("This document is larger") => {
            "a name, a value or a list of attributes is too long"
        }
        // the name of an entity may be a piece of a password in which somebody did not escape a `&`
        ErrorKind::Syntax(words) if words.contains("ntity") => {
            words.split(':').next().unwrap_or_default()
        }
        ErrorKind::Syntax(words) => words.lines().next().unwrap_or_default(),
        ErrorKind::Utf8(_) => "this is not UTF-8 text",
        ErrorKind::UnexpectedEof => "unexpected end of file",
        _ => "this is not text",
    };
    let within = within
        .map(|element| format!(" (in <{}> of line {})", element.name, element.spot.line))
        .unwrap_or_default();
    spot.mistake(format!("not well-formed XML: {}{within}", lower_first(words)))
}

fn lower_first(words: &str) -> String {
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| format!("{}{}", first.to_lowercase(), letters.as_str()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn root(source: &str) -> Element {
        let document = parse(source.as_bytes());
        assert_eq!(document.mistakes, [], "{source}");
        document.root.unwrap()
    }

    /// Its only mistake, as `line:column: message`.
    fn mistake(source: impl AsRef<[u8]>) -> String {
        let document = parse(source.as_ref());
        assert_eq!(document.mistakes.len(), 1, "{:?}", document.mistakes);
        document
            .mistakes
            .iter()
            .map(|m| format!("{}:{}: {}", m.line, m.column, m.message))
            .collect()
    }

    fn place(spot: Spot) -> (u32, u32) {
        (spot.line, spot.column)
    }

    #[test]
    fn elements_and_attributes_have_their_places() {
        let root = root("<a b='1'>\n  <é x='2'\n   y='3'/><d></d>\n</a>");
        assert_eq!((root.name.as_str(), place(root.spot), root.complete), ("a", (1, 1), true));
        let places: Vec<_> = root
            .children
            .iter()
            .map(|child| (child.name.as_str(), place(child.spot), child.complete))
            .collect();
        assert_eq!(places, [("é", (2, 3), true), ("d", (3, 11), true)]);
        let places: Vec<_> = root.children[0]
            .attributes
            .iter()
            .map(|a| (a.name.as_str(), a.value.as_str(), place(a.spot)))
            .collect();
        assert_eq!(places, [("x", "2", (2, 6)), ("y", "3", (3, 4))]);
        assert_eq!(root.attribute("b").map(|b| place(b.spot)), Some((1, 4)));
    }

    #[test]
    fn the_root_has_its_place_whatever_stands_before_it() {
        for prolog in [
            "",
            " ",
            "<?xml version='1.0'?>",
            "<!-- a -->",
            "<?pi?>",
            "<!DOCTYPE b>",
            "<?xml version='1.0'?><!-- a --> <!DOCTYPE b> ",
        ] {
            let column = u32::try_from(prolog.len()).unwrap() + 1;
            assert_eq!(place(root(&format!("{prolog}<b/>")).spot), (1, column), "{prolog}");
            assert_eq!(place(root(&format!("{prolog}\n\n  <b/>")).spot), (3, 3), "{prolog}");
        }
    }

    #[test]
    fn a_doctype_before_the_root_is_fine() {
        for doctype in [
            "<!DOCTYPE pdconfig SYSTEM \"pythondirector.dtd\">",
            "<!DOCTYPE pdconfig PUBLIC '-//a//b' 'http://localhost/[x].dtd'>",
            "<!DOCTYPE pdconfig [ <!ELEMENT a (b)> <!-- ]> --> <?x ]> ?> <!ATTLIST a b CDATA ']>'> ]>",
        ] {
            let root = root(&format!("{doctype}<a b='1'/>"));
            assert_eq!(
                place(root.spot),
                (1, u32::try_from(doctype.len()).unwrap() + 1),
                "{doctype}"
            );
        }
    }

    #[test]
    fn comments_and_instructions_may_stand_anywhere() {
        let root =
            root("<!----><?a?><b><!-- <c/> --><d/><?e <f/> ?><g/><!-- --></b><!-- --><?h?>\n");
        assert_eq!(
            root.children.iter().map(|child| place(child.spot)).collect::<Vec<_>>(),
            [(1, 29), (1, 44)]
        );
    }

    #[test]
    fn references_in_values_are_replaced() {
        let root = root("<a b='&lt;&gt;&amp;&quot;&apos;&#233;&#x1F980;' c='1\n2'/>");
        assert_eq!(root.attribute("b").unwrap().value, "<>&\"'é🦀");
        assert_eq!(root.attribute("c").unwrap().value, "1 2");
    }

    #[test]
    fn prefixes_and_namespace_declarations_are_kept_as_they_are_written() {
        let root = root("<a xmlns='urn:a' xmlns:b='urn:b' b:c='1' c='2'><b:d/></a>");
        let names: Vec<_> =
            root.attributes.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect();
        assert_eq!(names, [("xmlns", ""), ("xmlns:b", ""), ("b:c", "1"), ("c", "2")]);
        assert_eq!(root.children[0].name, "b:d");
    }

    #[test]
    fn text_between_elements_is_a_mistake_where_it_starts() {
        let message = "unexpected text in <a>: only elements and comments may stand here";
        for (source, spot) in [
            ("<a>\n x</a>", "2:2"),
            ("<a><b/>\u{a0}</a>", "1:8"),
            ("<a> <!-- no --> &amp;</a>", "1:17"),
            ("<a><b> </b><![CDATA[ ]]><![CDATA[ x ]]></a>", "1:25"),
            ("<a>]</a>", "1:4"),
        ] {
            assert_eq!(mistake(source), format!("{spot}: {message}"));
        }
    }

    #[test]
    fn each_text_is_its_own_mistake() {
        let document = parse(b"<a>x<!-- -->y<b>z</b>&#32;<![CDATA[ ]]><?p?>w</a>");
        let columns: Vec<u32> = document.mistakes.iter().map(|mistake| mistake.column).collect();
        assert_eq!(columns[..3], [4, 13, 17]);
        assert_eq!(columns.len(), 4);
    }

    #[test]
    fn a_syntax_error_keeps_what_was_read_before_it() {
        let document = parse(b"<a>\n<b c='1'/>\n<d e='2'>\n</a>");
        let root = document.root.unwrap();
        assert!(!root.complete);
        let children: Vec<_> =
            root.children.iter().map(|child| (child.name.as_str(), child.complete)).collect();
        assert_eq!(children, [("b", true), ("d", false)]);
        assert_eq!(document.mistakes.len(), 1);
        assert_eq!(
            document.mistakes[0].message,
            "not well-formed XML: unexpected closing tag: a != d (in <d> of line 3)"
        );
        assert_eq!(document.mistakes[0].line, 4);
    }

    #[test]
    fn a_duplicate_attribute_has_the_place_of_the_second() {
        assert_eq!(
            mistake("<a>\n<b c='1'\n c='2'/></a>"),
            "3:2: not well-formed XML: attribute 'c' is redefined (in <a> of line 1)"
        );
    }

    #[test]
    fn there_is_one_root() {
        assert!(mistake("<a/>\n<b/>").starts_with("2:1: not well-formed XML"));
        assert!(mistake("<a/>\nx").starts_with("2:1: not well-formed XML"));
        assert!(mistake("").starts_with("1:1: not well-formed XML"));
        assert!(mistake("<!-- a -->\n").starts_with("2:1: not well-formed XML"));
    }

    #[test]
    fn sixteen_levels_are_read_and_seventeen_are_not() {
        let nested = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        root(&nested(MAX_DEPTH));
        assert_eq!(mistake(nested(MAX_DEPTH + 1)), "1:49: elements are nested more than 16 deep");
        assert_eq!(mistake("<a>".repeat(300_000)), "1:49: elements are nested more than 16 deep");
    }

    #[test]
    fn lengths_are_limited() {
        let words = "not well-formed XML: a name, a value or a list of attributes is too long";
        let attributes: String = (0..65).map(|n| format!(" a{n}=''")).collect();
        for source in [
            format!("<a b='{}'/>", "x".repeat(5000)),
            format!("<{}/>", "x".repeat(200)),
            format!("<a {}=''/>", "x".repeat(200)),
            format!("<a{attributes}/>"),
        ] {
            assert!(mistake(source).contains(words));
        }
        assert_eq!(root(&format!("<a b='{}'/>", "x".repeat(4000))).attributes.len(), 1);
    }

    #[test]
    fn a_file_may_have_a_mebibyte() {
        let with_size = |size: usize| format!("<a><!--{}--></a>", " ".repeat(size - 14));
        root(&with_size(MAX_SIZE));
        assert_eq!(
            mistake(with_size(MAX_SIZE + 1)),
            "1:1: the file is larger than 1 MiB: this is not a configuration"
        );
    }

    #[test]
    fn declared_entities_are_refused_where_the_doctype_stands() {
        let message = "the DOCTYPE declares entities (<!ENTITY): a configuration may not have any";
        for subset in [
            "<!ENTITY a 'b'>",
            "<!ENTITY % a 'b'> %a;",
            "<!ENTITY a SYSTEM 'file:///etc/hostname'>",
            "<!ELEMENT a ANY>\n<!ENTITY\na 'b'>",
        ] {
            assert_eq!(
                mistake(format!("<!-- a -->\n  <!DOCTYPE a [{subset}]><a/>")),
                format!("2:3: {message}"),
                "{subset}"
            );
        }
    }

    #[test]
    fn the_word_entity_is_fine_where_nothing_is_declared() {
        root("<!-- <!DOCTYPE a [<!ENTITY b 'c'>]> --><a b='!ENTITY'><!-- <!ENTITY --></a>");
    }

    #[test]
    fn bombs_are_refused_at_once() {
        let laughs: String = (1..30)
            .map(|n| format!("<!ENTITY e{n} '{}'>", format!("&e{};", n - 1).repeat(10)))
            .collect();
        let in_the_dtd: String = (1..30)
            .map(|n| format!("<!ENTITY % p{n} '{}'>", format!("%p{};", n - 1).repeat(10)))
            .collect();
        let blow_up = format!("<!ENTITY e '{}'>", "x".repeat(50_000));
        for (subset, text) in [
            (format!("<!ENTITY e0 'ha'>{laughs}"), "&e29;".to_owned()),
            (format!("<!ENTITY % p0 'ha'>{in_the_dtd}"), String::new()),
            (blow_up, "&e;".repeat(50_000)),
            ("<!ENTITY e '&e;'>".to_owned(), "&e;".to_owned()),
        ] {
            let start = Instant::now();
            assert!(
                mistake(format!("<!DOCTYPE a [{subset}]><a b='{text}'>{text}</a>"))
                    .starts_with("1:1: the DOCTYPE declares")
            );
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        }
    }

    #[test]
    fn an_undeclared_entity_is_not_shown_because_it_may_be_a_piece_of_a_password() {
        let shown = mistake("<a password='open&sesame;'/>");
        assert!(shown.contains("entity") && !shown.contains("sesame"), "{shown}");
    }

    #[test]
    fn other_encodings_are_read_with_the_right_places() {
        let text = "<?xml version='1.0' encoding='UTF-16'?>\r\n<a>\r\n  <é ö='€'/></a>";
        for (mark, to_bytes) in [
            ([0xFE, 0xFF], u16::to_be_bytes as fn(u16) -> [u8; 2]),
            ([0xFF, 0xFE], u16::to_le_bytes),
        ] {
            let bytes: Vec<u8> =
                mark.into_iter().chain(text.encode_utf16().flat_map(to_bytes)).collect();
            let root = parse(&bytes).root.unwrap();
            let attribute = &root.children[0].attributes[0];
            assert_eq!(
                (attribute.name.as_str(), attribute.value.as_str(), place(attribute.spot)),
                ("ö", "€", (3, 6))
            );
        }
        let root = parse(b"<?xml version='1.0' encoding='iso-8859-1'?><!--\xE9--><a \xE9='\xFC'/>")
            .root
            .unwrap();
        assert_eq!(
            (root.attributes[0].value.as_str(), place(root.attributes[0].spot)),
            ("ü", (1, 55))
        );
    }

    #[test]
    fn bytes_that_are_no_characters_have_their_place() {
        assert_eq!(mistake(b"<a>\n<!-- \xE9 --></a>"), "2:6: this is not UTF-8 text");
        assert_eq!(
            mistake(b"<?xml version='1.0' encoding='latin1'?><a b='\x01'/>").split(": ").next(),
            Some("1:46")
        );
    }
}
