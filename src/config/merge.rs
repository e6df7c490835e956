//! A configuration written into the file that it came from: what has not changed stays as it was,
//! comments included.
//!
//! `write` offers [`merge`] to whoever saves the running state, and [`show`] to whoever shows the
//! file. The old file, as `layout` cuts it up, and the new values, as `item` says them, are walked
//! together from the root down. What is saved is read again before anybody gets it, so a mistake
//! here can cost comments, never the configuration.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use super::encoding::FileEncoding;
use super::item::Item;
use super::layout::{Block, Page};
use super::model::Config;
use super::write::{Lines, push_end_tag, push_tag, to_xml};
use super::{language, read, redact, xml};

/// The file `original` with what `config` says, to be stored as UTF-8. Reading it gives an equal
/// configuration.
///
/// * An element that says the same as before is the same, character for character; a changed one
///   keeps the order of its attributes. Elements are the same when they are of the same kind and,
///   where there may be several, have the same name; hosts also when they have the same address;
///   listens when they have the same address.
/// * Comments stay: before the element behind them, or beside the one in whose line they start.
///   They go when it goes, except for those that a blank line sets off from it. What stands around
///   the root element stays.
/// * A new element stands behind the last one of its kind.
///
/// An `original` that is not a good configuration is not looked at: the result is then that of
/// [`to_xml`].
pub fn merge(original: &[u8], config: &Config) -> String {
    merged(original, config, true)
        .filter(|text| says(text.as_bytes(), config))
        .unwrap_or_else(|| to_xml(config, true))
}

/// The file `original`, which says what `config` says, for people to look at: as it is, comments
/// and all, in UTF-8. Without `hashes` users have no password in it, and `***` stands for what may
/// be a hash in a comment.
///
/// An `original` that is not a good configuration is not looked at, as above.
pub fn show(original: &[u8], config: &Config, hashes: bool) -> String {
    match merged(original, config, hashes) {
        Some(text) if hashes => text,
        Some(text) => redact::comments(&text),
        None => to_xml(config, hashes),
    }
}

fn says(source: &[u8], config: &Config) -> bool {
    read::parse(Path::new(""), source).is_ok_and(|read| read == *config)
}

fn merged(original: &[u8], config: &Config, hashes: bool) -> Option<String> {
    let old = read::parse(Path::new(""), original).ok()?;
    if old == *config && hashes {
        // with every mixture of line ends
        if let Ok(text) = std::str::from_utf8(original) {
            return Some(text.to_owned());
        }
    }
    let (form, text) = FileEncoding::take(original)?;
    let root = xml::parse(original).root?;
    let (old, new) = (Item::of(&old, true), Item::of(config, hashes));
    let page = Page::read(&text, &root, &old)?;
    Some(form.put_on(&merge_page(&page, &new)))
}

fn merge_page(page: &Page, new: &Item) -> String {
    let step = page
        .root
        .blocks
        .first()
        .and_then(Block::indent)
        .filter(|indent| !indent.is_empty())
        .unwrap_or("    ");
    let mut text = page.before.to_owned();
    Merge { step, text: &mut text }.block(&page.root, new);
    text + page.behind
}

/// What becomes of the inside of an element, piece by piece.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// An element of the old file, and what it must say now.
    Kept(&'a Block<'a>, &'a Item),
    /// What the old file does not say.
    New(&'a Item),
    /// What stays of an element that goes.
    Remains(&'a str),
}

impl<'a> Part<'a> {
    fn kind(self) -> Option<&'static str> {
        match self {
            Part::Kept(_, item) | Part::New(item) => Some(item.kind),
            Part::Remains(_) => None,
        }
    }

    fn block(self) -> Option<&'a Block<'a>> {
        if let Part::Kept(block, _) = self { Some(block) } else { None }
    }
}

/// What is to stand in an element: its items, each with the block that says it now, if there is
/// one.
fn with_blocks<'a>(blocks: &'a [Block<'a>], items: &'a [Item]) -> (Vec<Part<'a>>, HashSet<usize>) {
    let mut partners = vec![None; items.len()];
    pair(blocks, items, &mut partners, |item| {
        Some(item.value("name").or(item.value("ip")).unwrap_or_default())
    });
    pair(blocks, items, &mut partners, |item| item.value("ip"));
    let part = |(item, partner): (&'a Item, &Option<usize>)| {
        let block = partner.and_then(|at| blocks.get(at));
        block.map_or(Part::New(item), |block| Part::Kept(block, item))
    };
    (items.iter().zip(&partners).map(part).collect(), partners.iter().flatten().copied().collect())
}

/// Looks for the block of each item that has a key and no partner yet: the first free one of the
/// same kind and key.
fn pair(
    blocks: &[Block],
    items: &[Item],
    partners: &mut [Option<usize>],
    key: fn(&Item) -> Option<&str>,
) {
    let taken: HashSet<usize> = partners.iter().flatten().copied().collect();
    let mut free: HashMap<_, VecDeque<usize>> = HashMap::new();
    for (at, block) in blocks.iter().enumerate().filter(|(at, _)| !taken.contains(at)) {
        free.entry((block.says.kind, key(block.says))).or_default().push_back(at);
    }
    for (item, partner) in items
        .iter()
        .zip(partners)
        .filter(|(item, partner)| partner.is_none() && key(item).is_some())
    {
        *partner = free.get_mut(&(item.kind, key(item))).and_then(VecDeque::pop_front);
    }
}

/// The inside of an element in its new order. The places of those that stay are filled in the order
/// of the items; new ones stand before the one that they precede, or behind the last of their kind.
fn arrange<'a>(blocks: &'a [Block<'a>], items: &'a [Item]) -> Vec<Part<'a>> {
    let (wanted, stays) = with_blocks(blocks, items);
    let kinds = || wanted.chunk_by(|one, other| one.kind() == other.kind());
    let is_new = |part: &Part| part.block().is_none();
    // each run is for one place: all that is new before one that stays, and that one
    let mut runs: HashMap<_, VecDeque<_>> = HashMap::new();
    for kind in kinds() {
        let places = kind.split_inclusive(|part| !is_new(part)).collect();
        runs.insert(kind.first().and_then(|part| part.kind()), places);
    }
    let mut parts = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        match runs.get_mut(&Some(block.says.kind)).filter(|_| stays.contains(&at)) {
            None => parts.push(Part::Remains(block.remains())),
            Some(runs) => {
                parts.extend(runs.pop_front().unwrap_or_default());
                // the new ones behind the last that stays
                if runs.front().is_some_and(|run| run.iter().all(is_new)) {
                    parts.extend(runs.pop_front().unwrap_or_default());
                }
            }
        }
    }
    let without_place = kinds().filter(|kind| kind.iter().all(is_new)).flatten();
    without_place.for_each(|part| settle(*part, &mut parts, items));
    parts
}

/// Puts something new of which there is no other yet behind what precedes it in the language,
/// unless it need not be said.
fn settle<'a>(new: Part<'a>, parts: &mut Vec<Part<'a>>, items: &[Item]) {
    let rank = |part: &Part| items.iter().position(|item| Some(item.kind) == part.kind());
    let precedes = |part: &Part| part.kind().is_some() && rank(part) <= rank(&new);
    if !matches!(new, Part::New(item) if item.implied) {
        let at = parts.iter().rposition(precedes).map_or(0, |at| at + 1);
        parts.insert(at, new);
    }
}

/// Writes the new text.
struct Merge<'a> {
    /// What is added to the indent for each level.
    step: &'a str,
    text: &'a mut String,
}

impl Merge<'_> {
    /// Writes an element of the old file as it must be now, from its first `<` to its last `>`.
    fn block(&mut self, block: &Block, new: &Item) {
        // the same host may have to be named now, when its position was its name
        if *block.says == *new && new.kind != language::HOST {
            return self.text.push_str(block.whole);
        }
        let open = open_tag(block, new);
        let parts = arrange(&block.blocks, &new.items);
        let outer = Lines { indent: block.indent(), step: self.step };
        match open.strip_suffix("/>") {
            Some(_) if parts.is_empty() => self.text.push_str(&open),
            Some(start) => {
                self.text.push_str(start.trim_end());
                self.text.push('>');
                self.inside(&parts, outer);
                outer.start(self.text);
                push_end_tag(self.text, block.name);
            }
            None => {
                self.text.push_str(&open);
                self.text.push_str(block.beside);
                self.inside(&parts, outer);
                self.text.push_str(block.after);
                if block.blocks.is_empty() && !parts.is_empty() && !block.after.contains('\n') {
                    outer.start(self.text);
                }
                self.text.push_str(block.close);
            }
        }
    }

    fn inside(&mut self, parts: &[Part], outer: Lines) {
        let stays = || parts.iter().filter_map(|part| part.block());
        let last_of_kind: HashMap<_, _> = stays().map(|block| (block.says.kind, block)).collect();
        let last = stays().next_back();
        for part in parts {
            match part {
                Part::Kept(block, item) => {
                    self.text.push_str(block.lead);
                    self.block(block, item);
                    self.text.push_str(block.tail);
                }
                Part::New(item) => {
                    self.new_item(item, last_of_kind.get(item.kind).copied().or(last), outer)
                }
                Part::Remains(lead) => self.text.push_str(lead),
            }
        }
    }

    /// Writes a new element with the indent of another that stands beside it, and a blank line
    /// between blocks where that has one.
    fn new_item(&mut self, item: &Item, model: Option<&Block>, outer: Lines) {
        let deeper = outer.indent.map(|indent| format!("{indent}{}", self.step));
        let indent = model.map_or(deeper.as_deref(), Block::indent);
        if indent.is_some()
            && model.is_some_and(Block::is_set_off)
            && matches!(item.kind, "service" | "group" | "admin")
        {
            self.text.push('\n');
        }
        let lines = Lines { indent, step: self.step };
        lines.start(self.text);
        lines.write(item, self.text);
    }
}

/// The start tag that says what `new` says: the old one if it does, else one with the attributes in
/// the old order.
fn open_tag<'a>(block: &'a Block, new: &'a Item) -> Cow<'a, str> {
    let value = |name, old| match (block.says.value(name), new.value(name)) {
        (said, Some(value)) if said != Some(value) => Some(value),
        (Some(_), None) => None,
        // as it is spelled; or it is no part of the configuration, and stays
        _ => Some(old),
    };
    let written =
        block.written.iter().map(|attribute| (attribute.name.as_str(), attribute.value.as_str()));
    let mut fields: Vec<_> =
        written.clone().filter_map(|(name, old)| Some((name, value(name, old)?))).collect();
    for (at, field) in new.fields.iter().enumerate().filter(|(_, field)| !field.implied) {
        if fields.iter().all(|(name, _)| *name != field.name) {
            fields.insert(at.min(fields.len()), (field.name, &field.value));
        }
    }
    if written.eq(fields.iter().copied()) {
        return Cow::Borrowed(block.open);
    }
    let end = if block.open.ends_with("/>") { "/>" } else { ">" };
    let is_spaced = block.open.trim_end_matches(end).ends_with(char::is_whitespace);
    let mut text = String::new();
    push_tag(
        &mut text,
        block.name,
        fields.into_iter(),
        if is_spaced && end == "/>" { " />" } else { end },
    );
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::super::model::HostConfig;
    use super::*;

    const BETWEEN: [&str; 9] = [
        "",
        "",
        "",
        "\n",
        "\n\n  ",
        " <!-- beside -->\n",
        "<!-- > -->",
        "<?p >?>\n\t",
        "\n\n<!-- a\n\n b -->\n\n",
    ];

    /// A file that says this, with anything between its tags.
    fn file(config: &Config, between: &[usize], tight: bool) -> String {
        let text = to_xml(config, true);
        let mut between = between.iter().cycle().map(|at| BETWEEN[*at]);
        // a `>` in a value is written as a reference
        let tags = text.split_inclusive('>').map(|tag| if tight { tag.trim_start() } else { tag });
        tags.flat_map(|tag| [tag, if tag.is_empty() { "" } else { between.next().unwrap() }])
            .collect()
    }

    fn in_page<T>(text: &str, config: &Config, look: impl FnOnce(&Page) -> T) -> T {
        let root = xml::parse(text.as_bytes()).root.unwrap();
        let says = Item::of(config, true);
        look(&Page::read(text, &root, &says).unwrap())
    }

    fn joined(block: &Block) -> String {
        let inside: String = block
            .blocks
            .iter()
            .map(|inner| [inner.lead, &joined(inner), inner.tail].concat())
            .collect();
        [block.open, block.beside, &inside, block.after, block.close].concat()
    }

    #[test]
    fn a_file_of_the_largest_size_is_merged_quickly() {
        let hosts: String = (1..=5_000)
            .map(|port| format!("\n    <!-- {port} --><host name='h{port}' ip='a:{port}'/>"))
            .collect();
        let text = format!(
            "<pdconfig><service name='s'><listen ip='*:1'/>\n<group name='g' scheduler='random'>{hosts}</group></service></pdconfig>"
        );
        let mut config = read::parse(Path::new("f"), text.as_bytes()).unwrap();
        let start = Instant::now();
        config.services[0].groups[0].hosts.remove(2_000);
        config.services[0].groups[0].hosts.rotate_left(1);
        let merged = merge(text.as_bytes(), &config);
        assert_eq!(merged.matches("<!--").count(), 4_999);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        config.services[0].groups[0].hosts = other_hosts(5_000);
        let merged = merge(text.as_bytes(), &config);
        assert!(
            merged.contains("'*:1'") && start.elapsed() < Duration::from_secs(40),
            "{:?}",
            start.elapsed()
        );
    }

    /// Hosts that are not in the file.
    fn other_hosts(count: u16) -> Vec<HostConfig> {
        (1..=count)
            .map(|port| HostConfig {
                name: format!("n{port}"),
                address: format!("b:{port}").parse().unwrap(),
            })
            .collect()
    }

    proptest! {
        #![proptest_config(arbitrary::runs())]

        #[test]
        fn no_character_is_lost_between_the_parts(config in arbitrary::config(), between in vec(0..BETWEEN.len(), 1..20), tight: bool) {
            let text = file(&config, &between, tight);
            in_page(&text, &config, |page| {
                prop_assert_eq!(joined(&page.root), page.root.whole);
                prop_assert_eq!([page.before, page.root.whole, page.behind].concat(), text.as_str());
                Ok(())
            })?;
        }

        #[test]
        fn any_configuration_can_be_written_into_any_file(
            old in arbitrary::config(), new in arbitrary::config(), between in vec(0..BETWEEN.len(), 1..20), tight: bool,
        ) {
            let text = file(&old, &between, tight);
            let merged = merged(text.as_bytes(), &new, true).unwrap();
            let read = read::parse(Path::new("f"), merged.as_bytes());
            prop_assert_eq!(read.map_err(|mistakes| format!("{mistakes}\n{merged}")), Ok(new));
        }

        #[test]
        fn any_file_is_shown_as_it_is_or_without_its_hashes(
            config in arbitrary::config(), between in vec(0..BETWEEN.len(), 1..20), tight: bool,
        ) {
            let text = file(&config, &between, tight);
            prop_assert_eq!(show(text.as_bytes(), &config, true), text.as_str());
            let shown = show(text.as_bytes(), &config, false);
            let users = config.admin.map(|admin| admin.users).unwrap_or_default();
            prop_assert_eq!(text.matches(" password=\"").count(), users.len());
            prop_assert!(!shown.contains(" password=\"") && (text.len() == shown.len()) == users.is_empty(), "{}", shown);
            // nothing else has gone: not the fallback, which has no comments
            prop_assert_eq!(shown.matches("<!--").count(), text.matches("<!--").count());
        }

        #[test]
        fn an_edit_touches_nothing_else(
            mut config in arbitrary::config(), at: prop::sample::Index, between in vec(0..BETWEEN.len(), 1..20), tight: bool,
        ) {
            let text = file(&config, &between, tight);
            let whole = in_page(&text, &config, |page| page.root.blocks.iter().map(|block| (block.says.kind, block.whole.to_owned())).collect::<Vec<_>>());
            let at = at.index(config.services.len());
            config.services[at].groups[0].rule = crate::scheduler::Rule::Random;
            config.services[at].groups[0].hosts.clear();
            let merged = merged(text.as_bytes(), &config, true).unwrap();
            for (place, (_, whole)) in whole.iter().enumerate().filter(|(place, _)| *place != at) {
                prop_assert!(merged.contains(whole), "{place}: {merged}");
            }
        }
    }
}
