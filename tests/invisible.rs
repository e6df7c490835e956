//! What the two ends of a session see is what they would see of each other on one TCP connection.
//!
//! Scripts for both ends, fixed and random ones, are run on a direct connection and through the
//! built program in several configurations. Rules say what an end may see of the other, given what
//! both have done; the direct runs must keep them, too, which shows that the rules are right.
//!
//! * `TCPDIRECTOR_SCRIPTS`: how many random scripts
//! * `TCPDIRECTOR_SEED`: the seed that a failure has printed
//! * `TCPDIRECTOR_PROGRAM`: another program than the one that was built with the tests
//!
//! | module | |
//! |---|---|
//! | `script` | the steps of both ends |
//! | `named`, `generate` | fixed scripts, random scripts |
//! | `stream` | the bytes that they send |
//! | `end`, `seen` | carries out the steps of one end; what it has seen |
//! | `rules` | what it may see |
//! | `ways`, `run`, `campaign` | the program, one script, many scripts |
//! | `planted` | whether the rules tell faults that are planted |
//! | `shrink` | the report, with the smallest script that fails |

mod campaign;
mod end;
mod generate;
mod named;
mod planted;
mod rules;
mod run;
mod script;
mod seen;
mod shrink;
mod stream;
mod ways;

use std::env;
use std::time::Instant;

use campaign::{Bench, Fault};
use script::{Script, Side, Step};

use crate::common::left_out::may_open;

/// Random scripts in a run of all tests, and in CI.
const FEW: usize = 2000;
const MANY: usize = 5000;

/// How often each fixed script is run: some faults need luck.
const TIMES: usize = 5;

#[test]
fn a_direct_connection_keeps_the_rules() {
    let bench = Bench::without_program();
    let seed = seed();
    check(&bench, bench.run_all(count(), |number| random(seed, number)), seed);
}

#[test]
fn fixed_scripts_look_through_the_program_as_on_one_connection() {
    let bench = Bench::with_program();
    let scripts: Vec<(&str, Script)> = named::scripts().collect();
    let pick = |number: usize| {
        let (name, script) = &scripts[number % scripts.len()];
        ((*name).to_owned(), script.clone())
    };
    check(&bench, bench.run_all(scripts.len() * TIMES, pick), 0);
}

#[test]
fn random_scripts_look_through_the_program_as_on_one_connection() {
    if !may_open(200) {
        return;
    }
    let bench = Bench::with_program();
    let seed = seed();
    check(&bench, bench.run_all(count(), |number| random(seed, number)), seed);
}

#[test]
fn fixed_scripts_are_sound() {
    for (name, script) in named::scripts() {
        assert!(script.is_sound(), "{name}\n{script}");
    }
}

#[test]
fn every_kind_of_step_occurs_among_fixed_and_among_random_scripts() {
    let fixed: Vec<Script> = named::scripts().map(|(_, script)| script).collect();
    let random: Vec<Script> = (0..FEW).map(|number| generate::script(1, number)).collect();
    for scripts in [fixed, random] {
        for side in Side::BOTH {
            let steps = || scripts.iter().flat_map(|script| script.steps(side));
            let has = |is_it: fn(&Step) -> bool| steps().any(is_it);
            assert!(has(|step| matches!(step, Step::Send(generate::BULK))));
            assert!(has(|step| *step == Step::Urgent));
            assert!(has(|step| matches!(step, Step::Pause(_))));
            assert!(has(|step| matches!(step, Step::Read(_))));
            assert!(has(|step| matches!(step, Step::ReadSlowly(_) | Step::ReadToEndSlowly)));
            assert!(has(|step| *step == Step::AwaitBytes));
            assert!(has(|step| *step == Step::AwaitAck));
            assert!(has(|step| *step == Step::HalfClose));
            assert!(has(|step| *step == Step::ReadToEnd));
            assert!(has(|step| *step == Step::Close));
            assert!(has(|step| *step == Step::Reset));
        }
    }
}

fn random(seed: u64, number: usize) -> (String, Script) {
    (format!("script {number} of seed {seed}"), generate::script(seed, number))
}

/// Fails with a report if a rule was broken.
fn check(bench: &Bench, faults: Vec<Fault>, seed: u64) {
    let began = Instant::now();
    if let Some(text) = shrink::report(bench, &faults) {
        let took = began.elapsed().as_secs();
        let count = faults.len();
        panic!("{count} runs broke a rule; TCPDIRECTOR_SEED={seed} (report: {took} s)\n{text}");
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number: {text}")))
}

fn seed() -> u64 {
    variable("TCPDIRECTOR_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000))
}

fn count() -> usize {
    let usual = if env::var_os("TCPDIRECTOR_CI").is_some() { MANY } else { FEW };
    variable("TCPDIRECTOR_SCRIPTS").unwrap_or(usual)
}
