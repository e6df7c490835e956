//! The rules that pick a host: given what each candidate carries, say which one is next.
//!
//! Knows no host, no lock and no socket: `state::group` calls [`Scheduler::pick`] under its own mutex, with a closure that
//! tells the load of the candidate at an index. All rules go by configuration order, so a sequence can be predicted.

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
}

impl Rule {
    /// Every rule with its name, in the order in which messages list them.
    pub const ALL: [(&'static str, Rule); 4] = [
        ("random", Rule::Random),
        ("roundrobin", Rule::RoundRobin),
        ("leastconns", Rule::LeastConns),
        ("leastconnsrr", Rule::LeastConnsRr),
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

/// How often the dice are thrown before it is counted who can be picked at all: that is for groups where few can.
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

    /// Picks one of `count` candidates; `load` tells what the candidate at an index carries, or `None` for one that must not
    /// be picked. `None` when there is none to pick.
    pub fn pick(&mut self, count: usize, load: impl Fn(usize) -> Option<Load>) -> Option<usize> {
        let turn = (0..count).map(|step| (self.next + step) % count).filter_map(|i| Some((i, load(i)?)));
        let picked = match self.rule {
            Rule::Random => throw(count, &load).or_else(|| {
                let able = turn.clone().count();
                if able == 0 { None } else { turn.clone().nth(fastrand::usize(..able)) }
            }),
            Rule::RoundRobin => turn.clone().next(),
            // `min_by_key` keeps the first of equals, and the turn starts behind the last pick: so ties rotate
            Rule::LeastConns => turn.clone().min_by_key(|(_, load)| load.open),
            Rule::LeastConnsRr => turn.clone().min_by_key(|(_, load)| (load.open, load.last_pick)),
        };
        let (index, _) = picked?;
        self.next = index + 1;
        Some(index)
    }
}

/// Throws dice until they show one that can be picked: each of those is as likely as the others, and nobody has to be counted.
fn throw(count: usize, load: impl Fn(usize) -> Option<Load>) -> Option<(usize, Load)> {
    let mut throws = (0..THROWS).filter(|_| count > 0).map(|_| fastrand::usize(..count));
    throws.find_map(|index| Some((index, load(index)?)))
}
