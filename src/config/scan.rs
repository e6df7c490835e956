//! Where things stand in an XML text: a light scanner that walks beside the real reader.
//!
//! The `xml` crate says where an element starts (and is wrong for a root without a declaration
//! before it), but never where an attribute starts. So `xml` asks this scanner for the place of
//! each start tag, text and DOCTYPE that the crate has accepted, in the order of the file; `layout`
//! asks it for the pieces of a text that is known to be good. The scanner judges nothing, and text
//! that is not XML only makes its places useless.

use super::text::{Spot, is_blank, is_white};

/// The places of a start tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its `<`.
    pub spot: Spot,
    /// Every attribute as it is written, namespace declarations too, with the place of the name.
    pub attributes: Vec<(String, Spot)>,
}

/// What starts at a place of an XML text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// `<!-- ... -->`
    Comment,
    /// `<![CDATA[ ... ]]>`
    Cdata,
    /// `<? ... ?>`
    Instruction,
    /// `<!DOCTYPE ... >`
    Doctype,
    /// `</ ... >`
    EndTag,
    /// `< ... >`, or `< .../>`, which is a whole element.
    StartTag,
    /// All up to the next `<`.
    Text,
}

/// A position in an XML text that only moves forward.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    rest: &'a str,
    spot: Spot,
}

impl<'a> Scanner<'a> {
    /// At the start of `text`, whose lines end with `\n`.
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner { rest: text, spot: Spot::START }
    }

    /// What has not been passed yet.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Goes behind the next piece and returns it; `None` at the end. Of a DOCTYPE with a subset it
    /// knows no end.
    pub fn next_piece(&mut self) -> Option<(Piece, &'a str)> {
        let piece = self.piece();
        (!self.rest.is_empty()).then(|| (piece, self.pass(piece)))
    }

    /// Goes to the DOCTYPE, if one comes before the first element, and tells its place.
    pub fn doctype(&mut self) -> Option<Spot> {
        self.seek(|piece| matches!(piece, Piece::Doctype | Piece::StartTag));
        (self.piece() == Piece::Doctype).then_some(self.spot)
    }

    /// Goes behind the next start tag and tells its places.
    pub fn tag(&mut self) -> Tag {
        self.seek(|piece| piece == Piece::StartTag);
        let spot = self.spot;
        let attributes = self.pass_tag();
        Tag { spot, attributes }
    }

    /// Goes behind the next text or CDATA that is more than white space and tells where it starts.
    pub fn text(&mut self) -> Spot {
        loop {
            self.pass_white_space();
            let (spot, piece) = (self.spot, self.piece());
            let passed = self.pass(piece);
            let is_wanted = match piece {
                Piece::Text => true,
                Piece::Cdata => !passed
                    .strip_prefix("<![CDATA[")
                    .and_then(|inner| inner.strip_suffix("]]>"))
                    .is_some_and(is_blank),
                _ => false,
            };
            if is_wanted || self.rest.is_empty() {
                return spot;
            }
        }
    }

    /// Goes behind `known` when it stands here.
    pub fn pass_known(&mut self, known: &str) {
        if self.rest.starts_with(known) {
            self.advance(known.len());
        }
    }

    fn seek(&mut self, wanted: impl Fn(Piece) -> bool) {
        while !self.rest.is_empty() && !wanted(self.piece()) {
            self.pass(self.piece());
        }
    }

    fn piece(&self) -> Piece {
        const STARTS: [(&str, Piece); 6] = [
            ("<!--", Piece::Comment),
            ("<![CDATA[", Piece::Cdata),
            ("<?", Piece::Instruction),
            ("<!", Piece::Doctype),
            ("</", Piece::EndTag),
            ("<", Piece::StartTag),
        ];
        STARTS
            .iter()
            .find(|(start, _)| self.rest.starts_with(start))
            .map_or(Piece::Text, |(_, piece)| *piece)
    }

    /// Goes behind the piece that starts here and returns it.
    fn pass(&mut self, piece: Piece) -> &'a str {
        let before = self.rest;
        match piece {
            Piece::Comment => {
                // `<!-->` does not end itself
                self.advance("<!--".len());
                self.pass_until("-->");
            }
            Piece::Cdata => self.pass_until("]]>"),
            Piece::Instruction => self.pass_until("?>"),
            Piece::Doctype | Piece::EndTag => self.pass_until(">"),
            Piece::StartTag => drop(self.pass_tag()),
            Piece::Text => self.advance(self.rest.find('<').unwrap_or(self.rest.len())),
        }
        before.split_at_checked(before.len() - self.rest.len()).map_or("", |(passed, _)| passed)
    }

    fn pass_tag(&mut self) -> Vec<(String, Spot)> {
        let mut attributes = Vec::new();
        self.advance(
            self.rest.find(|c| is_white(c) || c == '>' || c == '/').unwrap_or(self.rest.len()),
        );
        loop {
            self.pass_white_space();
            match self.rest.chars().next() {
                None => return attributes,
                Some('>') => {
                    self.advance(1);
                    return attributes;
                }
                Some('/') => self.advance(1),
                Some(_) => attributes.push(self.pass_attribute()),
            }
        }
    }

    fn pass_attribute(&mut self) -> (String, Spot) {
        let spot = self.spot;
        let end = self.rest.find(|c| is_white(c) || c == '=').unwrap_or(self.rest.len());
        let name = self.rest.split_at_checked(end).map_or("", |(name, _)| name).to_owned();
        self.advance(self.rest.find(['"', '\'']).unwrap_or(self.rest.len()));
        let quote = if self.rest.starts_with('"') { "\"" } else { "'" };
        self.advance(quote.len());
        self.pass_until(quote);
        (name, spot)
    }

    fn pass_white_space(&mut self) {
        self.advance(self.rest.find(|c| !is_white(c)).unwrap_or(self.rest.len()));
    }

    fn pass_until(&mut self, end: &str) {
        self.advance(self.rest.find(end).map_or(self.rest.len(), |at| at + end.len()));
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.spot = self.spot.behind(passed);
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(line: u32, column: u32) -> Spot {
        Spot { line, column }
    }

    fn tag(line: u32, column: u32, attributes: &[(&str, u32, u32)]) -> Tag {
        let attributes = attributes
            .iter()
            .map(|(name, line, column)| ((*name).to_owned(), spot(*line, *column)));
        Tag { spot: spot(line, column), attributes: attributes.collect() }
    }

    #[test]
    fn each_attribute_has_the_place_of_its_name() {
        let mut scanner = Scanner::new("<a b='1' c =\n  \"2\"\td\n= '3'/>");
        assert_eq!(scanner.tag(), tag(1, 1, &[("b", 1, 4), ("c", 1, 10), ("d", 2, 7)]));
        assert_eq!(scanner.rest(), "");
    }

    #[test]
    fn a_value_may_hold_what_looks_like_markup() {
        let mut scanner = Scanner::new(r#"<a b="/> c='" d='"<x y="z"' xmlns:e="f"><g/>"#);
        assert_eq!(scanner.tag(), tag(1, 1, &[("b", 1, 4), ("d", 1, 15), ("xmlns:e", 1, 29)]));
        assert_eq!(scanner.tag(), tag(1, 41, &[]));
    }

    #[test]
    fn what_is_no_start_tag_is_passed() {
        let mut scanner =
            Scanner::new("<?xml a='>'?><!--><a b='1'> --><![CDATA[<c>]]> é & > </d\n><e/>f<g>");
        assert_eq!(scanner.tag(), tag(2, 2, &[]));
        assert_eq!(scanner.tag(), tag(2, 7, &[]));
    }

    #[test]
    fn a_text_starts_behind_its_white_space() {
        let mut scanner = Scanner::new(
            "<a> <b> \n <!-- no --><![CDATA[ \n]]><?no?>\n  &lt;yes</b> \n <![CDATA[ yes]]> yes",
        );
        assert_eq!(scanner.text(), spot(4, 3));
        assert_eq!(scanner.text(), spot(5, 2));
        assert_eq!(scanner.text(), spot(5, 19));
    }

    #[test]
    fn the_pieces_of_a_text_are_the_text() {
        use Piece::{Cdata, Comment, EndTag, Instruction, StartTag, Text};
        let text = "<a b='>'> <!--> <c/> --><?d e?><f/><![CDATA[<]]>\n</a>";
        let mut scanner = Scanner::new(text);
        let pieces: Vec<_> = std::iter::from_fn(|| scanner.next_piece()).collect();
        let kinds: Vec<_> = pieces.iter().map(|(piece, _)| *piece).collect();
        assert_eq!(kinds, [StartTag, Text, Comment, Instruction, StartTag, Cdata, Text, EndTag]);
        assert_eq!(pieces.iter().map(|(_, text)| *text).collect::<String>(), text);
    }

    #[test]
    fn a_doctype_is_found_behind_comments_and_instructions_only() {
        let found = |text| Scanner::new(text).doctype();
        assert_eq!(
            found("<?xml version='1.0'?>\n<!-- <!DOCTYPE no> --> <!DOCTYPE a><a/>"),
            Some(spot(2, 24))
        );
        assert_eq!(found("<!-- <!DOCTYPE no> --><a><!DOCTYPE no></a>"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn only_what_stands_here_is_passed_as_known() {
        let mut scanner = Scanner::new("<!DOCTYPE a [<b>]><c>");
        scanner.pass_known("<!DOCTYPE x>");
        assert_eq!(scanner.rest().len(), 21);
        scanner.pass_known("<!DOCTYPE a [<b>]>");
        assert_eq!(scanner.tag(), tag(1, 19, &[]));
    }

    #[test]
    fn text_that_is_not_xml_is_passed_to_its_end() {
        let text = "<a b = '<' c=<!--<?x?><![CDATA[ é</d e='f\"<g h";
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        for part in ends.flat_map(|end| [&text[..end], &text[end..]]) {
            let mut scanner = Scanner::new(part);
            let places = (0..part.len()).map(|_| (scanner.tag().spot, scanner.text())).last();
            assert_eq!(scanner.rest(), "", "{part}");
            assert!(places.is_none_or(|(tag, text)| tag <= text), "{part}");
        }
    }
}
