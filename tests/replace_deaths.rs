//! One of the two programs, or the process between them, is killed in the middle of a replacement,
//! at each of the places that the source names: the other one serves, clients wait for it rather
//! than being refused, and only those whose session was in the dead one notice.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::backend::Backend;
use crate::common::program::Folder;
use crate::common::replaceable::{CLIENTS, Load, Replaceable, runs};
use crate::common::{one_service, sources, until};

/// The names of all places of that kind: `old: ...`, `new: ...`, and `between: ...`, which nobody
/// misses.
fn faults() -> BTreeSet<String> {
    let source = |file| fs::read_to_string(file).unwrap();
    let texts = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).into_iter().map(source);
    let names = |text: String| {
        let calls = text
            .split("fault::point(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned());
        calls.collect::<Vec<_>>()
    };
    texts.flat_map(names).collect()
}

#[test]
fn whichever_dies_at_whichever_step_the_other_one_serves() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: a release build has no places to die at");
    }
    let (backend, folder, faults) = (Backend::echo(), Folder::new(), faults());
    for (who, count) in [("old", 10), ("new", 11), ("between", 1)] {
        assert!(
            faults.iter().filter(|fault| fault.starts_with(who)).count() >= count,
            "this test has lost its eyes: {faults:?}"
        );
    }
    let order = folder.path("fault");
    let variables = [("TCPDIRECTOR_FAULT", order.to_str().unwrap())];
    let balancer =
        Replaceable::start_with(&one_service("random", &[backend.address()], ""), "", &variables);
    let load = Load::default();
    std::thread::scope(|scope| {
        let _end = load.guard();
        load.run(scope, balancer.address());
        load.check();
        for fault in &faults {
            let old = balancer.pid();
            fs::write(&order, fault).unwrap();
            eprintln!("{fault}");
            let output = balancer.ask();
            assert!(!order.exists(), "nobody came to {fault}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if fault.starts_with("new") {
                assert!(output.status.code() == Some(1) && said.contains("goes on"), "{said}");
                assert_eq!(balancer.pid(), old);
                assert_eq!(balancer.children(), "", "a process was left behind");
            } else {
                assert!(output.status.success(), "{said}");
                until("the old one is dead", || !runs(old));
                assert_ne!(balancer.pid(), old);
            }
            assert!(runs(balancer.pid()));
            load.check_but(CLIENTS);
        }
        balancer.replace();
        load.check();
    });
}
