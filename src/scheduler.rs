//! The rules that pick a host: given what each candidate carries, say which one is next.
//!
//! Knows no host, no lock and no socket: `state::group` calls [`Scheduler::pick`] under its own
//! mutex, with closures that look at a candidate. All rules go by configuration order, so a
//! sequence can be predicted.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

/// The names of the rules, as a configuration writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Any host, each as likely as the others.
    Random,
    /// One after the other, in configuration order.
    RoundRobin,
    /// The fewest open sessions; ties go round in configuration order.
    LeastConns,
    /// The fewest open sessions; ties go to the host that was picked longest ago.
    LeastConnsRr,
    /// The one of two random hosts that has fewer open sessions.
    TwoChoices,
    /// The host that the client prefers of those without too many open sessions.
    Hash,
}

impl Rule {
    /// Every rule with its name, in the order in which messages list them.
    pub const ALL: [(&'static str, Rule); 6] = [
        ("random", Rule::Random),
        ("roundrobin", Rule::RoundRobin),
        ("leastconns", Rule::LeastConns),
        ("leastconnsrr", Rule::LeastConnsRr),
        ("twochoices", Rule::TwoChoices),
        ("hash", Rule::Hash),
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Rule::ALL.iter().find(|(_, rule)| rule == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        Rule::ALL.iter().find(|(name, _)| *name == text).map(|(_, rule)| *rule).ok_or_else(|| {
            let names: Vec<&str> = Rule::ALL.iter().map(|(name, _)| *name).collect();
            format!("unknown scheduler `{text}`: it must be one of {}", names.join(", "))
        })
    }
}

/// What one candidate carries at the moment of the pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sessions that hold it now.
    pub open: usize,
    /// The number of the pick that last chose it; 0 if none did.
    pub last_pick: u64,
}

/// How often the dice are thrown before it is counted who can be picked at all: that is for groups
/// where few can.
const THROWS: usize = 8;

/// A rule and what it remembers from one pick to the next.
#[derive(Debug)]
pub struct Scheduler {
    rule: Rule,
    /// The index after the one picked last: where the next turn starts.
    next: usize,
}

impl Scheduler {
    /// A rule that has picked nothing yet.
    pub fn new(rule: Rule) -> Scheduler {
        Scheduler { rule, next: 0 }
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Picks one of the candidates: `load` returns what one carries, `preference` how much the
    /// client prefers it, and `is_able` whether it may be picked, which is asked of no more of them
    /// than has to be. `None` when there is none to pick.
    pub fn pick<T>(
        &mut self,
        candidates: &[T],
        load: impl Fn(&T) -> Load,
        preference: impl Fn(&T) -> u64,
        is_able: impl Fn(&T) -> bool,
    ) -> Option<usize> {
        let (behind, ahead) = candidates.split_at_checked(self.next).unwrap_or((candidates, &[]));
        // the candidates from the next one on, and those before it, each part with the index of its
        // first
        let turn = [(behind.len(), ahead), (0, behind)];
        let index = match self.rule {
            Rule::Random => any(candidates, |_, one| is_able(one)),
            Rule::RoundRobin => {
                turn.iter().find_map(|(first, part)| Some(first + part.iter().position(&is_able)?))
            }
            // the first of equals is kept, and the turn starts behind the last pick: so ties rotate
            Rule::LeastConns => least(turn, |one| load(one).open, is_able),
            Rule::LeastConnsRr => least(turn, |one| (load(one).open, load(one).last_pick), is_able),
            Rule::TwoChoices => any(candidates, |_, one| is_able(one)).map(|first| {
                let second = any(candidates, |index, one| index != first && is_able(one));
                let open = |index: &usize| candidates.get(*index).map(|one| load(one).open);
                second.into_iter().chain([first]).min_by_key(open).unwrap_or(first)
            }),
            Rule::Hash => preferred(candidates, |one| load(one).open, preference, is_able),
        }?;
        self.next = index + 1;
        Some(index)
    }
}

/// One of those that can be picked, each as likely as the others. Dice are thrown until they show
/// one: so nobody has to be counted, unless few can be picked.
fn any<T>(candidates: &[T], is_able: impl Fn(usize, &T) -> bool) -> Option<usize> {
    let is_able = |index: &usize| candidates.get(*index).is_some_and(|one| is_able(*index, one));
    let mut throws =
        (0..THROWS).filter(|_| !candidates.is_empty()).map(|_| fastrand::usize(..candidates.len()));
    throws.find(is_able).or_else(|| {
        let able: Vec<usize> = (0..candidates.len()).filter(is_able).collect();
        fastrand::choice(able)
    })
}

/// The one with the highest preference, or the next one if that carries more than a quarter above
/// the average already: consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
/// 2016). The average is that of those that can be picked, who are counted only if one seems to be
/// over the bound when all are.
fn preferred<T>(
    candidates: &[T],
    open: impl Fn(&T) -> usize,
    preference: impl Fn(&T) -> u64,
    is_able: impl Fn(&T) -> bool,
) -> Option<usize> {
    let turn = [(0, candidates), (candidates.len(), &[])];
    let order = |one: &T| Reverse(preference(one));
    let first = least(turn, order, &is_able)?;
    let total: usize = candidates.iter().map(&open).sum();
    let has_room = |one: &T, sharing: usize| open(one) < (5 * (total + 1)).div_ceil(4 * sharing);
    if candidates.get(first).is_some_and(|one| has_room(one, candidates.len())) {
        return Some(first);
    }
    let sharing = candidates.iter().filter(|one| is_able(one)).count().max(1);
    least(turn, order, |one| has_room(one, sharing) && is_able(one)).or(Some(first))
}

/// The first of those that carry least. Whether one is able is a question of more time than what it
/// carries, and is asked only of those that carry less than the best one so far.
fn least<T, K: Ord>(
    turn: [(usize, &[T]); 2],
    carried: impl Fn(&T) -> K,
    is_able: impl Fn(&T) -> bool,
) -> Option<usize> {
    let mut best: Option<(K, usize)> = None;
    for (first, part) in turn {
        for (index, one) in (first..).zip(part) {
            let key = carried(one);
            if best.as_ref().is_none_or(|(least, _)| key < *least) && is_able(one) {
                best = Some((key, index));
            }
        }
    }
    best.map(|(_, index)| index)
}
