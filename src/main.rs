//! The program: flags, configuration, start, signals, exit status. Everything that lasts is in the library.

mod demo;
mod diff;

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, unbounded};
use log::LevelFilter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use tcpdirector::admin;
use tcpdirector::budget::Budget;
use tcpdirector::cli::{self, Cli};
use tcpdirector::config::{self, AdminConfig, Config};
use tcpdirector::daemon::{Bound, Daemon, Office};
use tcpdirector::system::limits::{self, Limits};
use tcpdirector::system::logging::{self, value};
use tcpdirector::system::process::{self, Identity, PidFile};
use tcpdirector::system::sink::{Sink, Target};
use tcpdirector::system::terminal;

/// The program could not start.
const CANNOT_START: u8 = 1;
/// With `--diff`, 1 says that there are changes; that nobody could be asked is EX_UNAVAILABLE of sysexits(3).
const NO_ANSWER: u8 = 69;
/// EX_USAGE of sysexits(3).
const USAGE: u8 = 64;
/// EX_CONFIG of sysexits(3).
const CONFIG: u8 = 78;

/// How long ended sessions get to write their log lines; a blocked write looks up once a second.
const LAST_LINES: Duration = Duration::from_secs(3);
/// How often a draining program looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let cli = match Cli::parse(std::env::args_os().skip(1)) {
        Ok(cli) => cli,
        Err(e) => return fail(USAGE, format_args!("{e} (tcpdirector -h lists the flags)")),
    };
    if cli.help {
        print!("{}", cli::help());
        return ExitCode::SUCCESS;
    }
    if cli.version {
        println!("tcpdirector {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if cli.passwd {
        return passwd();
    }
    if cli.diff {
        return match differ(&cli) {
            Ok(is_same) => ExitCode::from(u8::from(!is_same)),
            Err(Failure(status, message)) => fail(status, message),
        };
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, message)) => fail(status, message),
    }
}

/// `--passwd`: the hash goes to standard output, and nothing else does.
fn passwd() -> ExitCode {
    match terminal::read_new_password().and_then(|password| admin::hash(&password)) {
        Ok(hash) => {
            println!("{hash}");
            ExitCode::SUCCESS
        }
        Err(e) => fail(CANNOT_START, format_args!("no hash was made: {e}")),
    }
}

/// `--diff`: the changes go to standard output; tells whether there are none.
fn differ(cli: &Cli) -> Result<bool, Failure> {
    let load = |file: &Path| config::read::load(file).map_err(|mistakes| Failure(CONFIG, mistakes.to_string()));
    let first = load(&cli.file())?;
    let (old, new) = match (&cli.other, &cli.admin) {
        (Some(other), _) => (first, load(other)?),
        (None, Some(url)) => (diff::running(url).map_err(|why| Failure(NO_ANSWER, why))?, first),
        (None, None) => return Err(Failure(USAGE, "--diff compares two files, or one with --admin".to_owned())),
    };
    let changes = diff::between(&old, &new);
    for change in &changes {
        // whoever reads this may have seen enough
        let _ = writeln!(std::io::stdout(), "{change}");
    }
    Ok(changes.is_empty())
}

/// The one place that reports why the program ends with a status other than 0.
fn fail(status: u8, message: impl Display) -> ExitCode {
    let message = message.to_string();
    for line in message.lines() {
        eprintln!("tcpdirector: {line}");
    }
    ExitCode::from(status)
}

/// An exit status and what to say.
struct Failure(u8, String);

fn cannot(what: impl Display) -> impl Fn(&dyn Display) -> Failure {
    move |why| Failure(CANNOT_START, format!("{what}: {why}"))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if cli.demo {
        let demo = demo::Demo::start().map_err(|e| cannot("the demo cannot start")(&e))?;
        println!("{}", demo.introduction());
        return serve(cli, &demo.config());
    }
    let config = config::read::load(&cli.file()).map_err(|mistakes| Failure(CONFIG, mistakes.to_string()))?;
    if cli.test {
        return check(cli, &config);
    }
    serve(cli, &config)
}

/// `-t`: what the file means, and what it costs.
fn check(cli: &Cli, config: &Config) -> Result<(), Failure> {
    let budget = budget(cli, config)?;
    println!("{}: no mistakes", cli.file().display());
    for service in &config.services {
        for listen in &service.listens {
            println!("listen       {} on {listen}, to group {}", service.name, service.enabled);
        }
    }
    println!("{budget}");
    Ok(())
}

fn budget(cli: &Cli, config: &Config) -> Result<Budget, Failure> {
    Budget::new(config, Limits::read()).map_err(|misfit| Failure(CONFIG, format!("{}: {misfit}", cli.file().display())))
}

/// Starts the balancer and stays until a signal ends it.
fn serve(cli: &Cli, config: &Config) -> Result<(), Failure> {
    // forking is only safe before the first thread
    let background = match cli.daemon {
        true => Some(process::to_background().map_err(|e| cannot("cannot go to the background")(&e))?),
        false => None,
    };
    limits::raise_descriptors().map_err(|e| cannot("cannot raise the limit of descriptors")(&e))?;
    let budget = budget(cli, config)?;
    let identity = cli.user.as_deref().map(Identity::find).transpose().map_err(|e| cannot("-u")(&e))?;
    let sink = start_log(cli, config)?;
    // before the pid file: a signal from here on waits, and so finds a program that can remove the file
    let signals = signals().map_err(|e| cannot("cannot listen to signals")(&e))?;
    let pidfile = match &cli.pidfile {
        Some(path) => Some(PidFile::create(path).map_err(|e| cannot(format_args!("pid file {}", path.display()))(&e))?),
        None => None,
    };
    let bound = Bound::bind(config).map_err(|e| cannot("cannot start")(&e))?;
    if let Some(identity) = identity {
        sink.with_file(|file| identity.own(file)).unwrap_or(Ok(())).map_err(|e| cannot("cannot give the log away")(&e))?;
        bound
            .admin_path()
            .map_or(Ok(()), |path| identity.own_path(path))
            .map_err(|e| cannot("cannot give the admin socket away")(&e))?;
        identity.assume().map_err(|e| cannot("cannot give up root")(&e))?;
    }
    log::info!("start version={} pid={} file={}", env!("CARGO_PKG_VERSION"), std::process::id(), value(&file_name(cli)));
    config.admin.iter().for_each(warn_of_admin);
    let file = (!cli.demo).then(|| std::path::absolute(cli.file()).unwrap_or(cli.file()));
    let target =
        cli.log.is_none().then_some(if cli.daemon { in_background } else { in_foreground } as fn(Option<&str>) -> Target);
    let office = Office { file, log: Some(sink.clone()), target };
    let daemon = bound.start(budget.pool, office).map_err(|e| cannot("cannot start")(&e))?;
    if let Some(background) = background {
        background.ready().map_err(|e| cannot("cannot go to the background")(&e))?;
    }
    stay(&daemon, &signals, &sink);
    drop(pidfile);
    Ok(())
}

/// What is weak about the admin side as it is configured.
fn warn_of_admin(config: &AdminConfig) {
    if !config.listen.is_local() {
        log::warn!(
            "admin address={} reason=\"plain HTTP beyond this machine: put TLS in front of it\"",
            value(&config.listen.to_string())
        );
    }
    for user in &config.users {
        if let Some(complaint) = admin::complaint(&user.password) {
            log::warn!("admin user={} reason={}", value(&user.name), value(complaint));
        }
    }
}

fn file_name(cli: &Cli) -> String {
    if cli.demo { "--demo".into() } else { cli.file().display().to_string() }
}

/// The log goes where `-l` says, else where the file says.
fn start_log(cli: &Cli, config: &Config) -> Result<Arc<Sink>, Failure> {
    let name = cli.log.as_deref().or(config.logging.as_deref());
    let level = match cli {
        Cli { verbose: true, .. } => LevelFilter::Debug,
        Cli { quiet: true, .. } => LevelFilter::Warn,
        _ => LevelFilter::Info,
    };
    let target = if cli.daemon { in_background(name) } else { in_foreground(name) };
    logging::start(target, level).map_err(|e| cannot(format_args!("log {}", name.unwrap_or("stderr")))(&e))
}

fn in_foreground(name: Option<&str>) -> Target {
    Target::from_name(name.unwrap_or("stderr"))
}

/// A program in the background has no standard error.
fn in_background(name: Option<&str>) -> Target {
    match in_foreground(name) {
        Target::Stderr => Target::from_name("syslog"),
        target => target,
    }
}

/// Signals as messages. From here on none of them ends the program by itself.
fn signals() -> std::io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let (send, receive) = unbounded();
    std::thread::Builder::new().name("signals".into()).stack_size(64 * 1024).spawn(move || {
        for signal in signals.forever() {
            if send.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receive)
}

/// Serves until TERM or INT, and stops.
fn stay(daemon: &Daemon, signals: &Receiver<i32>, sink: &Sink) {
    let ending = loop {
        match signals.recv() {
            Ok(signal @ (SIGTERM | SIGINT)) => break signal,
            Ok(SIGHUP) => {
                reopen(sink);
                daemon.reload("HUP");
            }
            Ok(_) => reopen(sink),
            Err(_) => break SIGTERM,
        }
    };
    let reason = if ending == SIGTERM { "TERM" } else { "INT" };
    let sessions = daemon.open_sessions();
    log::info!("stop state=begun reason={reason} sessions={sessions}");
    daemon.close();
    let silent = if ending == SIGTERM { drain(daemon, signals, sink) } else { 0 };
    let cut = silent + daemon.cut();
    let deadline = Instant::now() + LAST_LINES;
    while daemon.open_sessions() > 0 && Instant::now() < deadline {
        std::thread::sleep(DRAIN_LOOK);
    }
    log::info!("stop state=done reason={reason} sessions={sessions} cut={cut}");
}

/// Waits until the last session has ended, the grace is over, or another signal asks for the end. Silent sessions are not waited
/// for; tells how many were ended.
fn drain(daemon: &Daemon, signals: &Receiver<i32>, sink: &Sink) -> usize {
    let grace = daemon.director().grace();
    let began = Instant::now();
    let mut next_look = began;
    let mut cut = 0;
    while daemon.open_sessions() > 0 && began.elapsed() < grace {
        if Instant::now() >= next_look {
            cut += daemon.cut_silent();
            next_look = Instant::now() + Duration::from_secs(1);
        }
        match signals.recv_timeout(DRAIN_LOOK) {
            Ok(SIGTERM | SIGINT) | Err(RecvTimeoutError::Disconnected) => return cut,
            Ok(_) => reopen(sink),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    cut
}

fn reopen(sink: &Sink) {
    match sink.reopen() {
        Ok(()) => log::info!("log state=reopened"),
        Err(e) => log::error!("log state=kept reason={}", value(&e.to_string())),
    }
}
