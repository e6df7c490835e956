//! How a file is written apart from what it says: its encoding, its byte order mark, its line ends.
//!
//! `merge` works on plain text with `\n`; [`FileEncoding`] takes the rest off the old file and puts
//! it on the new text.

use xml::Encoding;
use xml::reader::{EventReader, XmlEvent};

use super::text::decode;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// What is common to all lines of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEncoding {
    /// What it is in, when that is not UTF-8.
    encoding: Option<Encoding>,
    /// It starts with the byte order mark of UTF-8.
    has_mark: bool,
    /// Its lines end with `\r\n`.
    has_returns: bool,
}

impl FileEncoding {
    /// Takes a file apart into its form and its text. `None` if it is not text.
    pub fn take(source: &[u8]) -> Option<(FileEncoding, String)> {
        let Ok(XmlEvent::StartDocument { encoding, .. }) = EventReader::new(source).next() else {
            return None;
        };
        let text = decode(source, &encoding).ok()?;
        let form = FileEncoding {
            encoding: encoding.parse().ok().filter(|encoding| *encoding != Encoding::Utf8),
            has_mark: source.starts_with("\u{feff}".as_bytes()),
            has_returns: has_returns(source),
        };
        Some((form, text))
    }

    /// Puts the form on a text. The result is to be stored as UTF-8: where the declaration says
    /// anything else, and that is wrong, it is changed.
    pub fn put_on(self, text: &str) -> String {
        let mut result = if self.has_mark { BYTE_ORDER_MARK.to_string() } else { String::new() };
        let is_true_anyway = text.is_ascii() && self.encoding != Some(Encoding::Utf16);
        match self.encoding.and_then(|_| declared(text)).filter(|_| !is_true_anyway) {
            Some((before, behind)) => result.extend([before, "UTF-8", behind]),
            None => result.push_str(text),
        }
        if self.has_returns { result.replace('\n', "\r\n") } else { result }
    }
}

/// The first line decides. In two bytes for each character there is a zero between the two.
fn has_returns(source: &[u8]) -> bool {
    let line = source.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.len() < source.len() && line.strip_suffix(b"\0").unwrap_or(line).ends_with(b"\r")
}

/// What stands before and behind the name of the encoding in the declaration.
fn declared(text: &str) -> Option<(&str, &str)> {
    let (declaration, _) = text.strip_prefix("<?xml").and_then(|_| text.split_once("?>"))?;
    let value = declaration
        .find("encoding")
        .and_then(|at| Some(at + declaration.get(at..)?.find(['"', '\''])? + 1))?;
    let (before, rest) = text.split_at_checked(value)?;
    let behind = rest.split_at_checked(rest.find(['"', '\''])?)?.1;
    Some((before, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(source: &[u8]) -> String {
        let (form, text) = FileEncoding::take(source).unwrap();
        assert!(!text.contains('\r'));
        form.put_on(&text)
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(to_bytes).collect()
    }

    #[test]
    fn mark_and_line_ends_come_back() {
        for text in [
            "<a/>",
            "<a>\n</a>\n",
            "<a>\r\n</a>\r\n",
            "\u{feff}<?xml version=\"1.0\"?>\r\n<a/>",
            "<a b='é'/>",
        ] {
            assert_eq!(again(text.as_bytes()), text);
        }
    }

    #[test]
    fn utf_16_becomes_utf_8_and_says_so() {
        let text = "<?xml version='1.0' encoding = 'UTF-16' standalone='yes'?>\r\n<a b='€'/>\r\n";
        let expected = text.replace("UTF-16", "UTF-8");
        assert_eq!(again(&utf16(text, u16::to_be_bytes)), expected);
        assert_eq!(again(&utf16(text, u16::to_le_bytes)), expected);
        assert_eq!(again(&utf16("<a/>", u16::to_le_bytes)), "<a/>");
    }

    #[test]
    fn a_declaration_changes_only_where_it_would_be_wrong() {
        assert_eq!(
            again(b"<?xml version='1.0' encoding=\"iso-8859-1\"?><a b='\xe9'/>"),
            "<?xml version='1.0' encoding=\"UTF-8\"?><a b='é'/>"
        );
        for text in [
            "<?xml version='1.0' encoding='iso-8859-1'?><a/>",
            "<?xml version='1.0' encoding='utf8'?><a b='é'/>",
        ] {
            assert_eq!(again(text.as_bytes()), text);
        }
        let (form, text) =
            FileEncoding::take(b"<?xml version='1.0' encoding='us-ascii'?><a/>").unwrap();
        assert_eq!(
            form.put_on(&text.replace("/", " b='é'/")),
            "<?xml version='1.0' encoding='UTF-8'?><a b='é'/>"
        );
    }

    #[test]
    fn what_is_not_text_has_no_form() {
        assert_eq!(FileEncoding::take(b"<a b='\xff'/>"), None);
        assert_eq!(FileEncoding::take(b""), None);
    }
}
