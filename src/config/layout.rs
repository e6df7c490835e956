//! A good file cut into its elements without losing a character: comments, blank lines and
//! spellings stay with the element that they belong to.
//!
//! Used by `merge` only. A comment belongs to the element behind it, or, when it starts in the line
//! in which an element or a start tag ends, to that one. Laid side by side again, all parts of a
//! [`Page`] are the text that it was read from.

use std::collections::{HashMap, VecDeque};

use super::item::Item;
use super::language;
use super::scan::{Piece, Scanner};
use super::text::Spot;
use super::xml::{Attribute, Element};

/// A file: what stands before the root element, the root element, and the rest.
#[derive(Debug)]
pub struct Page<'a> {
    /// Declaration, DOCTYPE, comments.
    pub before: &'a str,
    /// The root element, with a `lead` that is no part of the file.
    pub root: Block<'a>,
    /// Comments, line ends.
    pub behind: &'a str,
}

/// An element as it is written.
#[derive(Debug)]
pub struct Block<'a> {
    /// What it says, in which attributes have their normal spelling.
    pub says: &'a Item,
    /// Its name as it is written.
    pub name: &'a str,
    /// Its attributes as they are written.
    pub written: &'a [Attribute],
    /// All before it that belongs to it: line ends, comments, indent.
    pub lead: &'a str,
    /// From its first `<` to its last `>`.
    pub whole: &'a str,
    /// Its start tag, which is all of it when `close` is empty.
    pub open: &'a str,
    /// Comments behind the start tag in the same line.
    pub beside: &'a str,
    /// The elements in it, in the order of the file.
    pub blocks: Vec<Block<'a>>,
    /// All between the last of them and the end tag.
    pub after: &'a str,
    /// Its end tag.
    pub close: &'a str,
    /// Comments behind it in the same line.
    pub tail: &'a str,
}

impl<'a> Page<'a> {
    /// Cuts up a text without mistakes, of which `root` was read and which says what `says` says;
    /// `None` if they do not fit.
    pub fn read(text: &'a str, root: &'a Element, says: &'a Item) -> Option<Page<'a>> {
        // not with the scanner, which cannot find the end of a DOCTYPE with a subset
        let (before, rest) = text.split_at_checked(offset(text, root.spot)?)?;
        let mut cutter = Cutter { scanner: Scanner::new(rest) };
        let start = cutter.gap()?;
        let root = cutter.block(root, says, Gap { lead: "\n", ..start })?;
        Some(Page { before, root, behind: cutter.scanner.rest() })
    }
}

impl<'a> Block<'a> {
    /// What stands before its tags in their lines; `None` when it does not start a line.
    pub fn indent(&self) -> Option<&'a str> {
        let (_, line) = self.lead.rsplit_once('\n')?;
        line.split_at_checked(line.len() - line.trim_start().len()).map(|(indent, _)| indent)
    }

    /// Whether it has a blank line before it.
    pub fn is_set_off(&self) -> bool {
        pieces(self.lead).any(|(_, piece, text)| piece == Piece::Text && has_blank_line(text))
    }

    /// What stays of its lead when it goes: the comments that a blank line sets off from it.
    pub fn remains(&self) -> &'a str {
        let mut has_comment = false;
        let mut end = 0;
        for (at, piece, text) in pieces(self.lead) {
            match piece {
                Piece::Text if has_comment && has_blank_line(text) => end = at,
                Piece::Text => {}
                _ => has_comment = true,
            }
        }
        self.lead.split_at_checked(end).map_or("", |(remains, _)| remains)
    }
}

fn has_blank_line(text: &str) -> bool {
    text.matches('\n').count() > 1
}

fn pieces(text: &str) -> impl Iterator<Item = (usize, Piece, &str)> {
    let mut scanner = Scanner::new(text);
    std::iter::from_fn(move || {
        let at = text.len() - scanner.rest().len();
        scanner.next_piece().map(|(piece, text)| (at, piece, text))
    })
}

fn offset(text: &str, spot: Spot) -> Option<usize> {
    let line: usize = text.split_inclusive('\n').take(spot.line as usize - 1).map(str::len).sum();
    let (column, _) = text.get(line..)?.char_indices().nth(spot.column as usize - 1)?;
    Some(line + column)
}

/// What stands between two tags, and the second one.
struct Gap<'a> {
    /// The rest of the line, when the line ends before the second tag.
    beside: &'a str,
    lead: &'a str,
    tag: &'a str,
    /// The text from the second tag on.
    here: &'a str,
}

/// Walks through a text.
struct Cutter<'a> {
    scanner: Scanner<'a>,
}

impl<'a> Cutter<'a> {
    /// Goes behind the next tag.
    fn gap(&mut self) -> Option<Gap<'a>> {
        let start = self.scanner.rest();
        let mut line_end = None;
        loop {
            let at = start.len() - self.scanner.rest().len();
            let here = self.scanner.rest();
            match self.scanner.next_piece()? {
                (Piece::StartTag | Piece::EndTag, tag) => {
                    let (beside, lead) =
                        start.split_at_checked(at)?.0.split_at_checked(line_end.unwrap_or(0))?;
                    return Some(Gap { beside, lead, tag, here });
                }
                (Piece::Text, text) if line_end.is_none() => {
                    line_end = text.find('\n').map(|end| at + end)
                }
                _ => {}
            }
        }
    }

    /// Goes behind the end of an element; `start` ends with its start tag.
    fn block(&mut self, element: &'a Element, says: &'a Item, start: Gap<'a>) -> Option<Block<'a>> {
        let Gap { lead, tag: open, here, .. } = start;
        let Element { name, attributes: written, .. } = element;
        let mut block = Block {
            says,
            name,
            written,
            lead,
            whole: open,
            open,
            beside: "",
            blocks: Vec::new(),
            after: "",
            close: "",
            tail: "",
        };
        if open.ends_with("/>") {
            return Some(block);
        }
        // elements of one kind have the same order in a file and in what it says
        let mut said: HashMap<&str, VecDeque<&Item>> = HashMap::new();
        says.items.iter().for_each(|item| said.entry(item.kind).or_default().push_back(item));
        let mut gap = self.gap()?;
        block.beside = gap.beside;
        for child in &element.children {
            let says = said.get_mut(language::kind(&child.name))?.pop_front()?;
            let mut inner = self.block(child, says, gap)?;
            gap = self.gap()?;
            inner.tail = gap.beside;
            block.blocks.push(inner);
        }
        block.after = gap.lead;
        block.close = gap.tag;
        block.whole = here.split_at_checked(here.len() - self.scanner.rest().len())?.0;
        Some(block)
    }
}
