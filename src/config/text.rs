//! The characters of a file and their places.
//!
//! Used by `xml`, `scan` and `encoding`. The `xml` crate decodes for itself; the same text is
//! needed here to count lines and columns in it.

use xml::Encoding;

use super::error::Mistake;
use crate::system::logging::is_control;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The column in that line.
    pub column: u32,
}

impl Spot {
    /// The first character of a file.
    pub const START: Spot = Spot { line: 1, column: 1 };

    /// A mistake in this place. Control characters in the message are written as escapes: it may
    /// quote the file, and it ends up on terminals and in logs.
    pub fn mistake(self, message: impl AsRef<str>) -> Mistake {
        let mut printable = String::new();
        for character in message.as_ref().chars() {
            match is_control(character) {
                true => printable.extend(character.escape_default()),
                false => printable.push(character),
            }
        }
        Mistake { line: self.line, column: self.column, message: printable }
    }

    /// The place behind `text` that starts here.
    pub fn behind(self, text: &str) -> Spot {
        text.chars().fold(self, |spot, character| match character {
            '\n' => Spot { line: spot.line.saturating_add(1), column: 1 },
            _ => Spot { column: spot.column.saturating_add(1), ..spot },
        })
    }
}

/// The characters of a file in an encoding that the `xml` crate knows, lines ended by `\n`; or a
/// mistake where the first bytes stand that are no characters.
pub fn decode(source: &[u8], encoding: &str) -> Result<String, Mistake> {
    let source = source.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(source);
    let one_line_end = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
    let wrong = |spot: Spot| spot.mistake(format!("this is not {encoding} text"));
    let good = match encoding.parse() {
        Ok(Encoding::Latin1) => {
            return Ok(one_line_end(&source.iter().copied().map(char::from).collect::<String>()));
        }
        Ok(Encoding::Utf16) => {
            return decode_utf16(source)
                .map(|text| one_line_end(&text))
                .ok_or_else(|| wrong(Spot::START));
        }
        Ok(Encoding::Ascii) => source.iter().take_while(|byte| byte.is_ascii()).count(),
        _ => std::str::from_utf8(source).map_or_else(|error| error.valid_up_to(), str::len),
    };
    let text = one_line_end(&String::from_utf8_lossy(source.split_at(good).0));
    if good == source.len() { Ok(text) } else { Err(wrong(Spot::START.behind(&text))) }
}

fn decode_utf16(source: &[u8]) -> Option<String> {
    let (mark, text) = source.split_at_checked(2)?;
    let unit = if mark == [0xFE, 0xFF] { u16::from_be_bytes } else { u16::from_le_bytes };
    let units = text.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit);
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}

/// White space as XML means it: Unicode has more of it.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(is_white)
}

/// One character of white space.
pub fn is_white(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_of_the_mistake(source: &[u8], encoding: &str) -> (u32, u32) {
        let mistake = decode(source, encoding).unwrap_err();
        assert_eq!(mistake.message, format!("this is not {encoding} text"));
        (mistake.line, mistake.column)
    }

    #[test]
    fn columns_count_characters_and_lines_count_line_ends() {
        assert_eq!(Spot::START.behind(""), Spot { line: 1, column: 1 });
        assert_eq!(Spot::START.behind("aé🦀"), Spot { line: 1, column: 4 });
        assert_eq!(Spot::START.behind("a\n\n\tb"), Spot { line: 3, column: 3 });
    }

    #[test]
    fn control_characters_in_a_message_are_written_as_escapes() {
        let mistake = Spot { line: 2, column: 3 }.mistake("a\nb\u{1b}[31m\u{85}\u{202e}é");
        let message = "a\\nb\\u{1b}[31m\\u{85}\\u{202e}é".to_owned();
        assert_eq!(mistake, Mistake { line: 2, column: 3, message });
    }

    #[test]
    fn every_line_end_becomes_a_newline() {
        assert_eq!(decode(b"a\r\nb\rc\n\r\n", "UTF-8").unwrap(), "a\nb\nc\n\n");
    }

    #[test]
    fn a_byte_order_mark_is_no_character() {
        assert_eq!(decode(b"\xEF\xBB\xBFa", "UTF-8").unwrap(), "a");
        assert_eq!(decode(b"\xFE\xFF\0a\x20\xAC", "UTF-16").unwrap(), "a€");
        assert_eq!(decode(b"\xFF\xFEa\0\xAC\x20", "UTF-16").unwrap(), "a€");
    }

    #[test]
    fn in_latin_1_every_byte_is_a_character() {
        assert_eq!(decode(b"caf\xE9\xFF", "iso-8859-1").unwrap(), "caféÿ");
    }

    #[test]
    fn the_first_bytes_that_are_no_characters_have_their_place() {
        assert_eq!(
            place_of_the_mistake(b"\xEF\xBB\xBF\xC3\xA9\r\n\xC3\xA9\xC3\xA9\xE9", "UTF-8"),
            (2, 3)
        );
        assert_eq!(place_of_the_mistake(b"\xE9", "utf-8"), (1, 1));
        assert_eq!(place_of_the_mistake(b"a\nb\xC3\xA9", "US-ASCII"), (2, 2));
        assert_eq!(place_of_the_mistake(b"\xFE\xFF\xD8\x00\0a", "UTF-16"), (1, 1));
    }

    #[test]
    fn only_the_white_space_of_xml_is_blank() {
        assert!(is_blank(" \t\r\n"));
        assert!(!is_blank("\u{a0}"));
        assert!(!is_blank(" x "));
    }
}
