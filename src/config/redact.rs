//! Comments of a file without the hashes of passwords, for people who must not see any. Used by
//! `merge` only, which takes the attributes of users away itself.
//!
//! Nothing tells a hash from other words for sure, so some words are hidden that are none: all with
//! a `$` in them, and those that could be what DES makes.

use std::borrow::Cow;

use super::scan::{Piece, Scanner};
use super::value;

/// What stands for a hash.
const HIDDEN: &str = "***";

/// The same text with `***` for what may be a hash, wherever that is no part of an element.
pub fn comments(text: &str) -> String {
    let mut scanner = Scanner::new(text);
    let pieces = std::iter::from_fn(|| scanner.next_piece());
    let shown = pieces.map(|(piece, text)| match piece {
        Piece::StartTag | Piece::EndTag | Piece::Text => Cow::Borrowed(text),
        Piece::Comment | Piece::Cdata | Piece::Instruction | Piece::Doctype => {
            Cow::Owned(without_hashes(text))
        }
    });
    shown.collect()
}

fn without_hashes(text: &str) -> String {
    let is_border = |c: char| !c.is_ascii_alphanumeric() && !"./$".contains(c);
    let mut shown = String::new();
    for piece in text.split_inclusive(is_border) {
        let word = piece.trim_end_matches(is_border);
        match word.split_once('$') {
            Some((before, _)) => shown.extend([before, HIDDEN]),
            None => shown.push_str(if may_be_des(word) { HIDDEN } else { word }),
        }
        shown.extend(piece.chars().next_back().filter(|c| is_border(*c)));
    }
    shown
}

/// A word of a language has small letters behind its first one, and an address has no letters; that
/// a hash is like that is one chance in 50,000.
fn may_be_des(word: &str) -> bool {
    let is_word = word.bytes().skip(1).all(|byte| byte.is_ascii_lowercase());
    let is_address = word.bytes().all(|byte| !byte.is_ascii_alphabetic());
    value::password(word).is_ok() && !is_word && !is_address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_be_a_hash_is_hidden_in_comments() {
        for (text, shown) in [
            ("<!-- fred: rom0wh951j8Sg, of 2002 -->", "<!-- fred: ***, of 2002 -->"),
            (
                "<!-- <user password=\"$6$rounds=5000$salt$x/y.z\"/> -->",
                "<!-- <user password=\"***=5000***\"/> -->",
            ),
            ("<!--$y$j9T$salt$hash-->", "<!--***-->"),
            ("<!--fred:$6$a-b$hash é-->", "<!--fred:***-b*** é-->"),
            ("<?old rom0wh951j8Sg?>", "<?old ***?>"),
            ("<!DOCTYPE a [ <!-- rom0wh951j8Sg --> ]><a/>", "<!DOCTYPE a [ <!-- *** --> ]><a/>"),
        ] {
            assert_eq!(comments(text), shown);
        }
    }

    #[test]
    fn other_words_and_all_elements_stay() {
        for text in [
            "<!-- Configuration of the load balancer, administrators: see 192.168.10.12:80 -->\n",
            "<a b='rom0wh951j8Sg' c='$6$'><d/></a>\n",
            "<!-- -->",
            "",
        ] {
            assert_eq!(comments(text), text);
        }
    }
}
