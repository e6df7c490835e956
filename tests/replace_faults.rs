//! A replacement that goes wrong at any step: the old program goes on, no client notices, and the
//! log has the reason.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal::SIGTERM;
use nix::sys::stat::Mode;

use crate::common::backend::Backend;
use crate::common::command::{null, text};
use crate::common::program::{Folder, installed, run};
use crate::common::replaceable::{Load, Replaceable, runs};
use crate::common::{connect, exchange, one_service, until};

/// A program under load, on which replacements are tried. Whatever they do: it goes on, with its
/// pid file and nobody beside it; and afterwards the right program takes over.
fn try_out(what: impl FnOnce(&Replaceable, &Load)) {
    let backend = Backend::echo();
    let balancer = Replaceable::start(&one_service("random", &[backend.address()], ""));
    let (first, load) = (balancer.pid(), Load::default());
    std::thread::scope(|scope| {
        let _end = load.guard();
        load.run(scope, balancer.address());
        what(&balancer, &load);
        assert_eq!(balancer.pid(), first);
        assert_eq!(balancer.children(), "", "a process was left behind");
        load.check();
        balancer.install_right();
        balancer.replace();
        load.check();
    });
    until("it has gone", || !runs(first));
}

/// A new program that speaks the protocol, and then does something else.
fn speaking(then: &str) -> String {
    format!(
        "#!/usr/bin/env python3\n\
         import json, socket, sys, time\n\
         old = socket.socket(fileno=0)\n\
         kept = []\n\
         def hear():\n    text, files, _, _ = socket.recv_fds(old, 65536, 8)\n    kept.extend(files)\n    message = json.loads(text)\n    return message if isinstance(message, str) else next(iter(message))\n\
         def say(kind, **of): old.send(json.dumps({{kind: of}} if of else kind).encode())\n\
         def until(kind):\n    while hear() != kind: pass\n\
         {then}\n"
    )
}

#[test]
fn a_binary_that_is_missing_ends_at_once_or_is_no_program() {
    try_out(|balancer, load| {
        fs::remove_file(balancer.path("tcpdirector")).unwrap();
        assert!(balancer.fails().contains("cannot be started"));
        load.check();
        for (program, reason) in [
            ("#!/bin/sh\nexit 3\n", "exit status: 3"),
            ("#!/bin/sh\nkill -9 $$\n", "signal: 9"),
            ("#!/nowhere/sh\n", "cannot be started"),
            ("\x7fELF nonsense", "cannot be started"),
        ] {
            balancer.install(program);
            let said = balancer.fails();
            assert!(said.contains(reason), "{said}");
            load.check();
        }
    });
}

#[test]
fn a_file_with_mistakes_is_named_with_line_and_column() {
    try_out(|balancer, load| {
        let good = fs::read_to_string(balancer.path("td.xml")).unwrap();
        fs::write(balancer.path("td.xml"), good.replace("<group ", "\n  <foo/><group ")).unwrap();
        let said = balancer.fails();
        assert!(said.contains("td.xml:2:3: "), "{said}");
        load.check();
        fs::remove_file(balancer.path("td.xml")).unwrap();
        assert!(balancer.fails().contains("td.xml: cannot be read"));
        fs::write(balancer.path("td.xml"), good).unwrap();
    });
}

#[test]
fn an_address_that_cannot_be_opened_is_named() {
    let taken = Backend::echo();
    try_out(|balancer, _| {
        let good = fs::read_to_string(balancer.path("td.xml")).unwrap();
        let more = format!("<listen ip=\"{}\"/><group ", taken.address());
        fs::write(balancer.path("td.xml"), good.replace("<group ", &more)).unwrap();
        let said = balancer.fails();
        assert!(
            said.contains(&format!("service `web` cannot listen on {}", taken.address())),
            "{said}"
        );
        fs::write(balancer.path("td.xml"), good).unwrap();
    });
}

#[test]
fn one_that_is_killed_or_refuses_at_any_step_is_as_if_it_had_never_been() {
    if !installed("python3") {
        return;
    }
    let ready = "until('end'); say('ready', takes=[])";
    try_out(|balancer, load| {
        for (then, reason) in [
            ("hear(); sys.exit(4)", "exit status: 4"),
            ("until('end'); import os; os.kill(os.getpid(), 9)", "signal: 9"),
            ("until('end'); say('failed', reason='I am tired')", "I am tired"),
            ("say('failed', reason='I do not even listen'); sys.exit(1)", "I do not even listen"),
            ("until('end'); old.send(b'{nonsense'); time.sleep(60)", "does not understand"),
            ("until('end'); say('serving'); time.sleep(60)", "before its time"),
            (&format!("{ready}; until('go'); import os; os.kill(os.getpid(), 9)"), "signal: 9"),
            (&format!("{ready}; until('go'); old.close(); time.sleep(60)"), "has ended early"),
            (&format!("{ready}; until('go'); say('failed', reason='no thread')"), "no thread"),
            (
                &format!(
                    "say('unheard-of', x=1); {ready}; until('go'); say('ready', takes=[]); time.sleep(60)"
                ),
                "twice",
            ),
            (
                &format!(
                    "{ready}; until('go'); say('serving'); import os; os.kill(os.getpid(), 9)"
                ),
                "signal: 9",
            ),
            (
                &format!(
                    "{ready}; until('go'); say('serving'); until('done'); old.close(); time.sleep(60)"
                ),
                "has ended early",
            ),
        ] {
            balancer.install(&speaking(then));
            let said = balancer.fails();
            assert!(said.contains(reason), "{then}: {said}");
            load.check();
        }
    });
}

#[test]
fn one_that_hangs_while_clients_wait_for_it_loses_them_after_five_seconds_to_the_old_one() {
    if !installed("python3") {
        return;
    }
    try_out(|balancer, load| {
        balancer.install(&speaking(
            "until('end'); say('ready', takes=[]); until('go'); time.sleep(60)",
        ));
        let said = balancer.fails();
        assert!(said.contains("not ready within 5 s"), "{said}");
        load.check();
    });
}

#[test]
fn one_that_hangs_before_it_is_ready_is_given_up_after_thirty_seconds() {
    try_out(|balancer, load| {
        balancer.install("#!/bin/sh\nexec sleep 1000\n");
        std::thread::scope(|scope| {
            let failing = scope.spawn(|| balancer.fails());
            while !failing.is_finished() {
                load.check();
            }
            let said = failing.join().unwrap();
            assert!(said.contains("not ready within 30 s"), "{said}");
        });
    });
}

#[test]
fn term_calls_a_replacement_off() {
    let backend = Backend::echo();
    let mut balancer = Replaceable::start(&one_service("random", &[backend.address()], ""));
    assert_eq!(exchange(connect(balancer.address()), b"x"), b"x");
    balancer.install("#!/bin/sh\nexec sleep 1000\n");
    balancer.signal(nix::sys::signal::Signal::SIGUSR2);
    until("it has begun", || !balancer.children().is_empty());
    let (child, began) = (balancer.children().trim().parse().unwrap(), Instant::now());
    balancer.signal(SIGTERM);
    assert!(balancer.program.wait().success());
    assert!(began.elapsed().as_secs() < 10 && !runs(child));
    balancer.program.wait_for("replace state=refused reason=\"this program is to stop\"");
    assert!(!balancer.path("td.pid").exists());
}

#[test]
fn asking_with_a_pid_file_that_nobody_holds_is_an_error() {
    let folder = Folder::new();
    for (written, reason) in [(None, "No such file"), (Some("1\n"), "no running process")] {
        let file = folder.path("pid");
        if let Some(written) = written {
            fs::write(&file, written).unwrap();
        }
        let output = run(&["--replace", "-p", file.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(reason), "{said}");
    }
}

/// The user of the program may write to the file, and root reads it.
#[test]
fn a_process_that_is_named_by_a_pid_file_and_does_not_hold_it_is_not_signalled() {
    let folder = Folder::new();
    let mut bystander = Command::new("sleep").arg("60").stdin(null()).spawn().unwrap();
    let file = folder.write("pid", &format!("{}\n", bystander.id()));
    let _held = Flock::lock(File::open(&file).unwrap(), FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .unwrap();
    let output = run(&["--replace", "-p", file.to_str().unwrap()]);
    let is_untouched = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    let said = text(&output.stderr);
    assert!(
        is_untouched && output.status.code() == Some(1) && said.contains("another one holds it"),
        "{said}"
    );
}

/// Whoever may write to the folder of the pid file could have any program signalled that locks its
/// own, cron for one.
#[test]
fn a_pid_file_that_is_a_link_to_that_of_another_program_has_nobody_signalled() {
    let folder = Folder::new();
    let held = File::create(folder.path("held")).unwrap();
    let _lock = Flock::lock(held.try_clone().unwrap(), FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .unwrap();
    // it holds the lock as an own descriptor of the same open file
    let mut bystander = Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
    folder.write("held", &format!("{}\n", bystander.id()));
    let (soft, hard) = (folder.path("soft"), folder.path("hard"));
    std::os::unix::fs::symlink(folder.path("held"), &soft).unwrap();
    let ask = |file: &Path| run(&["--replace", "-p", file.to_str().unwrap()]);
    let by_symlink = ask(&soft);
    fs::hard_link(folder.path("held"), &hard).unwrap();
    let by_hard_link = ask(&hard);
    let is_untouched = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    for (output, reason) in [(by_symlink, "symbolic link"), (by_hard_link, "hard link")] {
        let said = text(&output.stderr);
        assert!(is_untouched && output.status.code() == Some(1) && said.contains(reason), "{said}");
    }
}

/// Opening it waited for a writer.
#[test]
fn a_pid_file_that_is_a_pipe_is_held_by_nobody() {
    let folder = Folder::new();
    let pipe = folder.path("pid");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let output = run(&["--replace", "-p", pipe.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("no running process holds it"),
        "{said}"
    );
}
