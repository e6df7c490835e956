//! The report: for each sort of fault the smallest script that still shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::campaign::{Bench, Fault};
use super::rules::{Kind, Violation};
use super::run::Run;
use super::script::{Script, Side, Step};

/// How often a script is run again.
const TRIES: usize = 3;

/// The longest that one script is made smaller.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest that all of them are.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(120);

/// So many runs that took too long are no accident.
const SEVERAL: usize = 3;

/// How many scripts of a sort are named.
const NAMES: usize = 6;

/// A sort of fault: what is wrong, at which end, how the peer left, and how the session ended by
/// the program's log; two causes seldom have all in common. Scripts with urgent bytes are sorts of
/// their own.
type Sort = (bool, Kind, Side, String);

/// A run and what is wrong with it.
type Shown = (Run, Violation);

/// What was found, in words; nothing if nothing is a fault of the program or of the rules.
pub fn report(bench: &Bench, faults: &[Fault]) -> Option<String> {
    let mut sorts: BTreeMap<Sort, Vec<(&Fault, &Violation)>> = BTreeMap::new();
    for fault in faults {
        for violation in &fault.run.violations {
            let sort = sort(&fault.script, violation, fault.way, &fault.run);
            sorts.entry(sort).or_default().push((fault, violation));
        }
    }
    // what shows without urgent bytes needs no example with them
    let plain: Vec<Sort> = sorts.keys().filter(|sort| !sort.0).cloned().collect();
    sorts.retain(|sort, _| !sort.0 || !plain.contains(&(false, sort.1, sort.2, sort.3.clone())));
    let deadline = Instant::now() + PATIENCE_IN_ALL;
    let mut text = String::new();
    for (sort, found) in sorts.iter_mut() {
        found.sort_by_key(|(fault, _)| fault.script.weight());
        if sort.1.is_about_time() && !is_seen_again(bench, sort, found) {
            eprintln!("not seen again: {}", found[0].1);
            continue;
        }
        let (has_urgent, kind, side, cause) = sort;
        let urgent = if *has_urgent { " with urgent bytes" } else { "" };
        let _ = write!(text, "\n{kind:?} at the {side}{urgent}, {cause}: {} runs", found.len());
        let mut by_way: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        found.iter().for_each(|(fault, _)| *by_way.entry(fault.way).or_default() += 1);
        for (way, count) in by_way {
            let _ = write!(text, "; {count} {}", bench.name(way));
        }
        let names: BTreeSet<&str> = found.iter().map(|(fault, _)| fault.name.as_str()).collect();
        let names: Vec<&str> = names.into_iter().take(NAMES).collect();
        let _ = writeln!(text, "\n  in: {}", names.join("; "));
        text.push_str(&example(bench, sort, found[0], deadline));
    }
    (!text.is_empty()).then_some(text)
}

fn sort(script: &Script, violation: &Violation, way: Option<usize>, run: &Run) -> Sort {
    let has_urgent = script.client.iter().chain(&script.host).any(|step| *step == Step::Urgent);
    let peer = if violation.side == Side::Client { run.host.as_ref() } else { Some(&run.client) };
    let peer = match peer.and_then(|seen| seen.left) {
        Some(left) if left.is_reset => "reset",
        Some(left) if left.unread > 0 => "closed with bytes unread",
        _ => "closed",
    };
    let end = way.map_or("direct".to_owned(), |_| format!("end={}", run.end()));
    let cause = format!("peer {peer}, {end}");
    (has_urgent, violation.kind, violation.side, cause)
}

/// Whether it is no artefact of a machine under load: several runs have shown it, or one of them
/// shows it again, alone or among others.
fn is_seen_again(bench: &Bench, sort: &Sort, found: &[(&Fault, &Violation)]) -> bool {
    let shows_again = |fault: &Fault| {
        let (script, way) = (&fault.script, fault.way);
        let shows = |run: Run| shown(sort, script, way, run).is_some();
        let alone = again(bench, sort, script, way).is_some();
        alone || bench.run_crowd(script, way).into_iter().any(shows)
    };
    found.len() >= SEVERAL || found.iter().any(|(fault, _)| shows_again(fault))
}

/// The run with its violation of that sort, if it has one.
fn shown(sort: &Sort, script: &Script, way: Option<usize>, run: Run) -> Option<Shown> {
    let is_it = |violation: &&Violation| self::sort(script, violation, way, &run) == *sort;
    let violation = run.violations.iter().find(is_it).cloned()?;
    Some((run, violation))
}

/// The first of some runs that shows a fault of the sort. What may be due to load is looked for
/// without any; else many runs at a time find more.
fn again(bench: &Bench, sort: &Sort, script: &Script, way: Option<usize>) -> Option<Shown> {
    let shows = |run: Run| shown(sort, script, way, run);
    (0..TRIES).find_map(|_| match sort.1.is_about_time() {
        true => shows(bench.run_alone(script, way)),
        false => bench.run_crowd(script, way).into_iter().find_map(shows),
    })
}

/// The smallest script that shows it, if that is found by the deadline.
fn example(bench: &Bench, sort: &Sort, found: (&Fault, &Violation), deadline: Instant) -> String {
    let (fault, violation) = found;
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let (name, way) = (&fault.name, bench.name(fault.way));
    let has_time = Instant::now() < deadline;
    let again_there = |script: &Script| again(bench, sort, script, fault.way);
    let Some(mut smallest) = has_time.then(|| again_there(&fault.script)).flatten() else {
        let note = if has_time { "not seen again" } else { "as it came" };
        let head = format!("  {name}, through {way}, {note}\n{}", fault.script);
        return head + &outcome(&fault.run, violation);
    };
    let mut script = fault.script.clone();
    'smaller: loop {
        for candidate in smaller(&script) {
            if Instant::now() > deadline {
                break 'smaller;
            }
            if let Some(shown) = again_there(&candidate) {
                (script, smallest) = (candidate, shown);
                continue 'smaller;
            }
        }
        break;
    }
    let direct = bench.run_alone(&script, None);
    let mut text = format!("  {name}, through {way}, made smaller\n{script}");
    text.push_str(&outcome(&smallest.0, &smallest.1));
    let _ = writeln!(text, "  direct, the client: {}", direct.client);
    if let Some(host) = direct.host {
        let _ = writeln!(text, "  direct, the host:   {host}");
    }
    text
}

fn outcome(run: &Run, violation: &Violation) -> String {
    let mut text = format!("  {violation}\n  the client: {}\n", run.client);
    let host = run.host.as_ref().map_or("no connection came".to_owned(), ToString::to_string);
    let _ = writeln!(text, "  the host:   {host}");
    if let Some(line) = &run.log {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// Scripts that are a little smaller, the smallest first.
fn smaller(script: &Script) -> Vec<Script> {
    let mut found = Vec::new();
    for side in Side::BOTH {
        for at in 0..script.steps(side).len() {
            let mut shorter = script.clone();
            shorter.steps_mut(side).remove(at);
            found.push(shorter);
            for step in simpler(script.steps(side)[at]) {
                let mut simpler = script.clone();
                simpler.steps_mut(side)[at] = step;
                found.push(simpler);
            }
        }
    }
    found.iter_mut().for_each(mend);
    found.retain(|candidate| candidate.is_sound() && candidate.weight() < script.weight());
    found.sort_by_key(Script::weight);
    found
}

fn simpler(step: Step) -> Vec<Step> {
    match step {
        Step::Send(count) => vec![Step::Send(count / 2), Step::Send(count - count / 4)],
        Step::Read(count) => vec![Step::Read(count / 2)],
        Step::ReadSlowly(count) => vec![Step::Read(count)],
        Step::Pause(millis) => vec![Step::Pause(millis / 2)],
        Step::ReadToEndSlowly => vec![Step::ReadToEnd],
        _ => Vec::new(),
    }
}

/// Takes back reads of what is not sent any more.
fn mend(script: &mut Script) {
    for side in Side::BOTH {
        let mut left: usize = script.steps(side.other()).iter().map(|step| step.sends()).sum();
        for step in script.steps_mut(side) {
            if let Step::Read(count) | Step::ReadSlowly(count) = step {
                *count = (*count).min(left);
                left -= *count;
            }
        }
    }
}
