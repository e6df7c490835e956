//! The program: flags, configuration, start. What follows the start is in `stay`, everything that lasts in the library.

mod demo;
mod diff;
mod stay;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, LevelFilter};

use tcpdirector::admin;
use tcpdirector::budget::{self, Budget};
use tcpdirector::cli::{self, Cli};
use tcpdirector::config::{self, Change, Config};
use tcpdirector::daemon::{self, Bound, Daemon, Estate, Office, Predecessor, Targeting};
use tcpdirector::system::inherited::Inherited;
use tcpdirector::system::journal;
use tcpdirector::system::limits::{self, Limits};
use tcpdirector::system::logging::{self, value};
use tcpdirector::system::notify;
use tcpdirector::system::pidfile::PidFile;
use tcpdirector::system::process::{self, Code, Identity, Parent};
use tcpdirector::system::sink::{Sink, Target};
use tcpdirector::system::successor::{self, Origin};
use tcpdirector::system::terminal;

use stay::{Signals, Stay};

/// The program could not start.
const CANNOT_START: u8 = 1;
/// With `--diff`, 1 says that there are changes; that nobody could be asked is EX_UNAVAILABLE of sysexits(3).
const NO_ANSWER: u8 = 69;
/// EX_USAGE of sysexits(3).
const USAGE: u8 = 64;
/// EX_CONFIG of sysexits(3).
const CONFIG: u8 = 78;

/// How long `--replace` waits: longer than the program that it asks waits for the new one.
const REPLACE_PATIENCE: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    process::ignore_file_size_signal();
    limits::save_address_space();
    let cli = match Cli::parse(std::env::args_os().skip(1)) {
        Ok(cli) => cli,
        Err(e) => return fail(USAGE, format_args!("{e} (tcpdirector -h lists the flags)")),
    };
    if let Some(answer) = answer(&cli) {
        return answer.map_or_else(|Failure(status, message)| fail(status, message), ExitCode::from);
    }
    if let (false, Err(e)) = (cli.test, Signals::hold()) {
        return fail(CANNOT_START, format_args!("signals cannot wait: {e}"));
    }
    // before anything opens a descriptor or changes the folder
    let (code, inherited, origin) = (Code::mapped(), Inherited::from_systemd(), Origin::remember());
    match (inherited, Predecessor::find().transpose()) {
        (Ok(inherited), Ok(predecessor)) => {
            let birth = Birth { code, origin, inherited, predecessor: predecessor.as_ref() };
            match run(&cli, birth) {
                Ok(stay) => {
                    // nothing more is to be said between the two
                    drop(predecessor);
                    ExitCode::from(stay.map_or(0, Stay::live))
                }
                Err(Failure(status, message)) => {
                    predecessor.iter().for_each(|predecessor| predecessor.fail(&message));
                    fail(status, message)
                }
            }
        }
        (Err(e), _) => fail(CANNOT_START, format_args!("the sockets from systemd cannot be used: {e}")),
        (_, Err(e)) => fail(CANNOT_START, format_args!("the predecessor cannot be reached: {e}")),
    }
}

/// The exit status of what ends without balancing anything; `None` when that is not what is asked for.
fn answer(cli: &Cli) -> Option<Result<u8, Failure>> {
    let said = match cli {
        Cli { help: true, .. } => say(cli::help().trim_end()),
        Cli { version: true, .. } => say(format_args!("tcpdirector {}", env!("CARGO_PKG_VERSION"))),
        Cli { passwd: true, .. } => passwd(),
        Cli { diff: true, .. } => return Some(differ(cli)),
        Cli { replace: true, .. } => replace(cli),
        _ => return None,
    };
    Some(said.map(|()| 0))
}

/// Writes a line, or more, to standard output. Whoever reads there may have seen enough.
fn say(text: impl Display) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(cannot("cannot write to standard output")(&e)),
        _ => Ok(()),
    }
}

/// `--replace`: the new process id goes to standard output.
fn replace(cli: &Cli) -> Result<(), Failure> {
    let missing = || Failure(USAGE, "--replace needs -p: it finds the program by its pid file".to_owned());
    let pidfile = cli.pidfile.as_ref().ok_or_else(missing)?;
    let pid = successor::ask(pidfile, REPLACE_PATIENCE).map_err(|e| Failure(CANNOT_START, e.to_string()))?;
    // a failure would mean that the old program goes on
    let _ = say(pid);
    Ok(())
}

/// `--passwd`: the hash goes to standard output, and nothing else does.
fn passwd() -> Result<(), Failure> {
    let hash = terminal::read_new_password().and_then(|password| admin::hash(&password));
    say(hash.map_err(|e| cannot("no hash was made")(&e))?)
}

/// `--diff`: the changes go to standard output; 1 says that there are some.
fn differ(cli: &Cli) -> Result<u8, Failure> {
    let load = |file: &Path| config::read::load(file).map_err(|mistakes| Failure(CONFIG, mistakes.to_string()));
    let first = load(&cli.file())?;
    let (old, new) = match (&cli.other, &cli.admin) {
        (Some(other), _) => (first, load(other)?),
        (None, Some(url)) => {
            let place = diff::Place::parse(url).map_err(|why| Failure(USAGE, why))?;
            (place.running().map_err(|why| Failure(NO_ANSWER, why))?, first)
        }
        (None, None) => return Err(Failure(USAGE, "--diff compares two files, or one with --admin".to_owned())),
    };
    let changes = Change::between(&old, &new);
    for change in &changes {
        say(change).map_err(|Failure(_, message)| Failure(NO_ANSWER, message))?;
    }
    Ok(u8::from(!changes.is_empty()))
}

/// The one place that reports why the program ends with a status other than 0.
fn fail(status: u8, message: impl Display) -> ExitCode {
    // where nobody can be told, the status says it
    complain(Level::Error, message);
    ExitCode::from(status)
}

/// Writes a message to standard error, past the log.
fn complain(level: Level, message: impl Display) {
    let prefix = if journal::is_stderr() { journal::prefix(level) } else { String::new() };
    for line in message.to_string().lines() {
        let _ = writeln!(io::stderr(), "{prefix}tcpdirector: {line}");
    }
}

/// An exit status and what to say.
struct Failure(u8, String);

fn cannot(what: impl Display) -> impl Fn(&dyn Display) -> Failure {
    move |why| Failure(CANNOT_START, format!("{what}: {why}"))
}

/// Starts what is asked for; nothing is left to stay for after `-t`.
fn run(cli: &Cli, birth: Birth) -> Result<Option<Stay>, Failure> {
    if cli.demo {
        let demo = demo::Demo::start().map_err(|e| cannot("the demo cannot start")(&e))?;
        say(demo.introduction())?;
        return serve(cli, &demo.config(), Vec::new(), birth).map(Some);
    }
    let loaded = config::read::load_with_source(&cli.file());
    let (config, source) = loaded.map_err(|mistakes| Failure(CONFIG, mistakes.to_string()))?;
    if cli.test {
        return check(cli, &config).map(|()| None);
    }
    serve(cli, &config, source, birth).map(Some)
}

/// `-t`: what the file means, and what it costs.
fn check(cli: &Cli, config: &Config) -> Result<(), Failure> {
    let budget = budget(cli, config)?;
    let refused = budget::refused_hashes(config, &Limits::read());
    if !refused.is_empty() {
        let lines: Vec<String> = refused.iter().map(|why| format!("{}: {why}", cli.file().display())).collect();
        return Err(Failure(CONFIG, lines.join("\n")));
    }
    say(format_args!("{}: no mistakes", cli.file().display()))?;
    for service in &config.services {
        for listen in &service.listens {
            say(format_args!("listen       {} on {listen}, to group {}", service.name, service.enabled))?;
        }
    }
    say(budget)?;
    cli.user.as_deref().map_or(Ok(()), |user| check_user(cli, user))
}

/// `-t` with `-u`: whether the user could do with the file what may be asked of a running program. From here on, this process is
/// that user.
fn check_user(cli: &Cli, user: &str) -> Result<(), Failure> {
    let identity = Identity::find(user).map_err(|e| cannot("-u")(&e))?;
    let file = std::path::absolute(cli.file()).unwrap_or_else(|_| cli.file());
    match identity.assume() {
        Ok(()) => daemon::obstacles(&file).iter().for_each(|(path, why)| {
            complain(Level::Warn, format_args!("{}: as user {user}, {why}", path.display()));
        }),
        Err(e) => complain(Level::Warn, format_args!("whether user {user} can use the file was not checked: {e}")),
    }
    Ok(())
}

fn budget(cli: &Cli, config: &Config) -> Result<Budget, Failure> {
    Budget::new(config, Limits::read()).map_err(|misfit| Failure(CONFIG, format!("{}: {misfit}", cli.file().display())))
}

/// What this process was born with: its code, the way to be started again, and what others have opened for it.
struct Birth<'a> {
    code: Code,
    origin: Origin,
    inherited: Inherited,
    predecessor: Option<&'a Predecessor>,
}

/// Starts the balancer, in the place of a predecessor if there is one. `source` is the file that says `config`.
fn serve(cli: &Cli, config: &Config, source: Vec<u8>, birth: Birth) -> Result<Stay, Failure> {
    let Birth { code, origin, inherited, predecessor } = birth;
    // forking is only safe before the first thread; a predecessor in the background has its successor there, too
    let to_background = cli.daemon && predecessor.is_none();
    let parent = (to_background || predecessor.is_some()).then(Parent::leave).transpose();
    let parent = parent.map_err(|e| cannot("cannot fork")(&e))?;
    if to_background {
        process::leave_session().map_err(|e| cannot("cannot go to the background")(&e))?;
    }
    let budget = budget(cli, config)?;
    let identity = cli.user.as_deref().map(Identity::find).transpose().map_err(|e| cannot("-u")(&e))?;
    let sink = start_log(cli, config)?;
    // before the pid file: whoever finds that may send one
    let mut signals = Signals::start().map_err(|e| cannot("cannot listen to signals")(&e))?;
    let estate = predecessor.map_or(Ok(Estate::from(inherited)), Predecessor::estate);
    let mut estate = estate.map_err(|e| cannot("the predecessor cannot be understood")(&e))?;
    let mut pidfile = pidfile(cli, estate.pidfile.take())?;
    let bound = Bound::bind(config, &mut estate.inherited).map_err(|e| cannot("cannot start")(&e))?;
    if let Some(identity) = identity {
        give_up_root(&identity, &sink, &bound)?;
    }
    log::info!("start version={} pid={} file={}", env!("CARGO_PKG_VERSION"), std::process::id(), value(&file_name(cli)));
    budget.doubts().for_each(|doubt| log::warn!("start reason={}", value(doubt)));
    let file = (!cli.demo).then(|| std::path::absolute(cli.file()).unwrap_or(cli.file()));
    let target = cli.log.is_none().then(|| targeting(cli));
    let office = Office { file, source: source.into(), user: cli.user.clone(), log: Some(sink.clone()), target };
    let mut daemon = bound.prepare(budget.pool, office).map_err(|e| cannot("cannot start")(&e))?;
    daemon.warn();
    if daemon.await_names(&mut || signals.ask_to_stop()) {
        open(cli, &mut daemon, parent, predecessor.map(|predecessor| (predecessor, estate)))?;
        if let Some(predecessor) = predecessor {
            settle(cli, &daemon, pidfile.as_mut());
            predecessor.settled();
        }
        notify::ready(&daemon.status());
    } else {
        signals.stop_first();
    }
    let origin = (!cli.demo).then_some(origin);
    // as a kernel does with its own: a fifth of what is resident was of use to the start alone
    code.give_back();
    Ok(Stay { daemon, signals, sink, origin, pidfile, is_replaced: false })
}

/// From here on clients are served, by the predecessor or by this program: when this returns, by this one.
fn open(
    cli: &Cli,
    daemon: &mut Daemon,
    parent: Option<Parent>,
    predecessor: Option<(&Predecessor, Estate)>,
) -> Result<(), Failure> {
    let mut serving = None;
    if let Some((predecessor, estate)) = predecessor {
        predecessor.ready(estate, daemon.director()).map_err(|e| cannot("the predecessor did not go")(&e))?;
        serving = Some(predecessor);
    }
    daemon.open().map_err(|e| cannot("cannot start")(&e))?;
    if cli.daemon && serving.is_none() {
        let left = process::leave_folder().and_then(|()| process::leave_terminal());
        left.map_err(|e| cannot("cannot go to the background")(&e))?;
    }
    // the process that a predecessor has started goes first, and so this one has another parent when it is the service
    parent.into_iter().for_each(Parent::ready);
    serving.into_iter().for_each(Predecessor::serving);
    Ok(())
}

/// The pid file of the predecessor, or a new one.
fn pidfile(cli: &Cli, theirs: Option<OwnedFd>) -> Result<Option<PidFile>, Failure> {
    let Some(path) = &cli.pidfile else { return Ok(None) };
    let pidfile = theirs.map_or_else(|| PidFile::create(path), |theirs| PidFile::inherit(path, theirs));
    pidfile.map(Some).map_err(|e| cannot(format_args!("pid file {}", path.display()))(&e))
}

/// Gives what root has opened to whom the program becomes.
fn give_up_root(identity: &Identity, sink: &Sink, bound: &Bound) -> Result<(), Failure> {
    let given = sink.with_file(|file, path| identity.own(file, path)).unwrap_or(Ok(()));
    given.map_err(|e| cannot("cannot give the log away")(&e))?;
    bound
        .admin_path()
        .map_or(Ok(()), |path| identity.own_path(path))
        .map_err(|e| cannot("cannot give the admin socket away")(&e))?;
    identity.assume().map_err(|e| cannot("cannot give up root")(&e))
}

/// What the predecessor had in the file system is this program's own now. Nothing here is worth an interruption.
fn settle(cli: &Cli, daemon: &Daemon, pidfile: Option<&mut PidFile>) {
    daemon.own();
    let named = pidfile.map_or(Ok(()), PidFile::name);
    let left = if cli.daemon { process::leave_folder() } else { Ok(()) };
    for e in [named, left].into_iter().filter_map(Result::err) {
        log::warn!("start reason={}", value(&e.to_string()));
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
    let sink = logging::start(targeting(cli)(name), level);
    let sink = sink.map_err(|e| cannot(format_args!("log {}", name.unwrap_or("stderr")))(&e))?;
    // nobody would find it in the log
    sink.absence().inspect(|why| complain(Level::Warn, format_args!("{why}: log lines are lost until one does")));
    Ok(sink)
}

/// What the name of a log means to a program that was started here; one in the background has no standard error.
fn targeting(cli: &Cli) -> Box<Targeting> {
    let (is_daemon, folder) = (cli.daemon, std::env::current_dir().unwrap_or_default());
    Box::new(move |name| match Target::from_name(name.unwrap_or("stderr"), &folder) {
        Target::Stderr if is_daemon => Target::from_name("syslog", &folder),
        target => target,
    })
}
