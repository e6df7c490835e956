//! What is left out on this machine, and why. The harness swallows what a test that passes has
//! printed, so that is said when all tests of this process are over.

use std::collections::BTreeMap;
use std::io::{Write, stderr};

use parking_lot::Mutex;
use tcpdirector::system::limits::{Limits, raise_descriptors};

/// The tests by the reason for which they, or a part of them, were left out.
static LEFT_OUT: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Notes that this test is left out.
pub fn leave_out(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a part of a test").to_owned();
    let mut left_out = LEFT_OUT.lock();
    if left_out.is_empty() {
        // SAFETY: it is given a function, which does not unwind
        unsafe { libc::atexit(tell) };
    }
    left_out.entry(reason.to_owned()).or_default().push(test);
}

/// The same for something that CI brings, and misses by mistake.
pub fn missing(what: &str) {
    assert!(std::env::var_os("TCPDIRECTOR_CI").is_none(), "{what} is missing, and CI brings it");
    leave_out(&format!("{what} is missing"));
}

/// Whether a test may open so many descriptors in this process, and leave as many to the tests
/// beside it.
pub fn may_open(count: u64) -> bool {
    raise_descriptors().expect("up to the hard limit everybody may");
    let allowed = Limits::read().descriptors;
    let has_room = allowed >= 2 * count;
    if !has_room {
        leave_out(&format!("this machine allows {allowed} descriptors"));
    }
    has_room
}

extern "C" fn tell() {
    for (reason, tests) in LEFT_OUT.lock().iter() {
        // written, since what is printed goes where the harness wants it
        let _ = writeln!(stderr(), "left out, {reason}: {}", tests.join(" "));
    }
}
