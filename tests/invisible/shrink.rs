//! The report: for each sort of fault the smallest script that still shows it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::campaign::{Bench, Fault};
use super::rules::{Kind, Violation};
use super::run::Run;
use super::script::{Script, Side, Step};

/// How often a script is run again, alone.
const TRIES: usize = 4;

/// The longest that one script is made smaller.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest that all of them are.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(120);

/// A sort of fault: what is wrong, at which end, and how the session ended by the program's log;
/// two causes seldom have all in common. Scripts with urgent bytes are sorts of their own.
type Sort = (bool, Kind, Side, String);

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
            eprintln!("not seen again, alone on the machine: {}", found[0].1);
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
        text.push('\n');
        let (fault, violation) = found[0];
        text.push_str(&example(bench, sort, fault, violation, deadline));
    }
    (!text.is_empty()).then_some(text)
}

fn sort(script: &Script, violation: &Violation, way: Option<usize>, run: &Run) -> Sort {
    let has_urgent = script.client.iter().chain(&script.host).any(|step| *step == Step::Urgent);
    let cause = way.map_or("direct".to_owned(), |_| format!("end={}", run.end()));
    (has_urgent, violation.kind, violation.side, cause)
}

/// Whether any of a few of these scripts shows it again when it runs alone.
fn is_seen_again(bench: &Bench, sort: &Sort, found: &[(&Fault, &Violation)]) -> bool {
    found.iter().take(3).any(|(fault, _)| again(bench, sort, &fault.script, fault.way).is_some())
}

/// The first of a few runs that shows a fault of the sort.
fn again(bench: &Bench, sort: &Sort, script: &Script, way: Option<usize>) -> Option<(Run, Violation)> {
    (0..TRIES).find_map(|_| {
        let run = bench.run_alone(script, way);
        let is_it = |violation: &&Violation| self::sort(script, violation, way, &run) == *sort;
        let violation = run.violations.iter().find(is_it).cloned()?;
        Some((run, violation))
    })
}

fn example(bench: &Bench, sort: &Sort, fault: &Fault, violation: &Violation, deadline: Instant) -> String {
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let (name, way) = (&fault.name, bench.name(fault.way));
    let Some(mut smallest) = again(bench, sort, &fault.script, fault.way) else {
        let head = format!("  {name}, through {way}, once and not in {TRIES} runs alone\n{}", fault.script);
        return head + &outcome(&fault.run, violation);
    };
    let mut script = fault.script.clone();
    'smaller: loop {
        for candidate in smaller(&script) {
            if Instant::now() > deadline {
                break 'smaller;
            }
            if let Some(shown) = again(bench, sort, &candidate, fault.way) {
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
