//! The program: flags, configuration, start. What follows the start is in `lifecycle`, everything
//! that lasts in the library.

mod commands;
mod demo;
mod diff;
mod lifecycle;
mod report;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use log::{Level, LevelFilter};

use tcpdirector::cli::Cli;
use tcpdirector::config::{self, Config};
use tcpdirector::daemon::{Bound, Daemon, Environment, InheritedSockets, Predecessor, Targeting};
use tcpdirector::system::fault;
use tcpdirector::system::inherited::Inherited;
use tcpdirector::system::limits;
use tcpdirector::system::log_output::{LogOutput, Target};
use tcpdirector::system::logging::{self, value};
use tcpdirector::system::notify;
use tcpdirector::system::pidfile::PidFile;
use tcpdirector::system::process::{self, Code, Identity, Parent};
use tcpdirector::system::successor::Invocation;

use commands::{answer, budget, check};
use lifecycle::{Server, Signals};
use report::{CANNOT_START, CONFIG, ExitError, USAGE, cannot, complain, fail, say};

fn main() -> ExitCode {
    process::ignore_file_size_signal();
    limits::save_address_space();
    let cli = match Cli::parse(std::env::args_os().skip(1)) {
        Ok(cli) => cli,
        Err(e) => return fail(USAGE, format_args!("{e} (tcpdirector -h lists the flags)")),
    };
    if let Some(answer) = answer(&cli) {
        return answer
            .map_or_else(|ExitError(status, message)| fail(status, message), ExitCode::from);
    }
    if let (false, Err(e)) = (cli.test, Signals::hold()) {
        return fail(CANNOT_START, format_args!("signals cannot wait: {e}"));
    }
    // before anything opens a descriptor or changes the folder
    let (code, inherited, invocation) =
        (Code::mapped(), Inherited::from_systemd(), Invocation::remember());
    match (inherited, Predecessor::find().transpose()) {
        (Ok(inherited), Ok(predecessor)) => {
            let startup =
                Startup { code, invocation, inherited, predecessor: predecessor.as_ref() };
            match run(&cli, startup) {
                Ok(server) => {
                    // nothing more is to be said between the two
                    drop(predecessor);
                    ExitCode::from(server.map_or(0, Server::run))
                }
                Err(ExitError(status, message)) => {
                    predecessor.iter().for_each(|predecessor| predecessor.fail(&message));
                    fail(status, message)
                }
            }
        }
        (Err(e), _) => {
            fail(CANNOT_START, format_args!("the sockets from systemd cannot be used: {e}"))
        }
        (_, Err(e)) => fail(CANNOT_START, format_args!("the predecessor cannot be reached: {e}")),
    }
}

/// Starts what is asked for; nothing is left to stay for after `-t`, or an early end.
fn run(cli: &Cli, startup: Startup) -> Result<Option<Server>, ExitError> {
    if cli.demo {
        let demo = demo::Demo::start().map_err(|e| cannot("the demo cannot start")(&e))?;
        say(demo.introduction())?;
        return serve(cli, &demo.config(), Vec::new(), startup);
    }
    let loaded = config::read::load_with_source(&cli.file());
    let (config, source) = loaded.map_err(|mistakes| ExitError(CONFIG, mistakes.to_string()))?;
    if cli.test {
        return check(cli, &config).map(|()| None);
    }
    serve(cli, &config, source, startup)
}

/// What this process has from its start: its code, how to start it again, and what others have
/// opened for it.
struct Startup<'a> {
    code: Code,
    invocation: Invocation,
    inherited: Inherited,
    predecessor: Option<&'a Predecessor>,
}

/// Starts the balancer, in the place of a predecessor if there is one. `source` is the file that
/// says `config`. `None` when a signal asked it to end before anything was open.
fn serve(
    cli: &Cli,
    config: &Config,
    source: Vec<u8>,
    startup: Startup,
) -> Result<Option<Server>, ExitError> {
    let Startup { code, invocation, inherited, predecessor } = startup;
    // forking is only safe before the first thread; a predecessor in the background has its
    // successor there, too
    let to_background = cli.daemon && predecessor.is_none();
    let parent = (to_background || predecessor.is_some()).then(Parent::leave).transpose();
    let parent = parent.map_err(|e| cannot("cannot fork")(&e))?;
    if to_background {
        process::leave_session().map_err(|e| cannot("cannot go to the background")(&e))?;
    }
    let budget = budget(cli, config)?;
    let identity =
        cli.user.as_deref().map(Identity::find).transpose().map_err(|e| cannot("-u")(&e))?;
    let output = start_log(cli, config)?;
    // before the pid file: whoever finds that may send one
    let mut signals = Signals::start().map_err(|e| cannot("cannot listen to signals")(&e))?;
    let sockets = predecessor.map_or(Ok(InheritedSockets::from(inherited)), Predecessor::sockets);
    let mut sockets = sockets.map_err(|e| cannot("the predecessor cannot be understood")(&e))?;
    let mut pidfile = pidfile(cli, sockets.pidfile.take())?;
    let bound = Bound::bind_unless(config, &mut sockets.inherited, &mut || signals.ask_to_stop());
    let Some(bound) = bound.map_err(|e| cannot("cannot start")(&e))? else { return Ok(None) };
    if let Some(identity) = identity {
        give_up_root(&identity, &output, &bound)?;
    }
    log::info!(
        "start version={} pid={} file={}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        value(&file_name(cli))
    );
    budget.doubts().for_each(|doubt| log::warn!("start reason={}", value(doubt)));
    let file = (!cli.demo).then(|| std::path::absolute(cli.file()).unwrap_or(cli.file()));
    let target = cli.log.is_none().then(|| targeting(cli));
    let environment = Environment {
        file,
        source: source.into(),
        user: cli.user.clone(),
        log: Some(output.clone()),
        target,
    };
    let mut daemon =
        bound.prepare(budget.pool, environment).map_err(|e| cannot("cannot start")(&e))?;
    daemon.warn();
    if daemon.await_names(&mut || signals.ask_to_stop()) {
        open(cli, &mut daemon, parent, predecessor.map(|predecessor| (predecessor, sockets)))?;
        if let Some(predecessor) = predecessor {
            settle(cli, &daemon, pidfile.as_mut());
            predecessor.settled();
        }
        notify::ready(&daemon.status());
    } else {
        signals.stop_first();
    }
    let invocation = (!cli.demo).then_some(invocation);
    // as a kernel does with its own: a fifth of what is resident was of use to the start alone
    code.give_back();
    Ok(Some(Server { daemon, signals, output, invocation, pidfile, is_replaced: false }))
}

/// From here on clients are served, by the predecessor or by this program: when this returns, by
/// this one.
fn open(
    cli: &Cli,
    daemon: &mut Daemon,
    parent: Option<Parent>,
    predecessor: Option<(&Predecessor, InheritedSockets)>,
) -> Result<(), ExitError> {
    let mut serving = None;
    if let Some((predecessor, sockets)) = predecessor {
        predecessor
            .ready(sockets, daemon.director())
            .map_err(|e| cannot("the predecessor did not go")(&e))?;
        serving = Some(predecessor);
    }
    daemon.open().map_err(|e| cannot("cannot start")(&e))?;
    if cli.daemon && serving.is_none() {
        let left = process::leave_folder().and_then(|()| process::leave_terminal());
        left.map_err(|e| cannot("cannot go to the background")(&e))?;
    }
    // the process that a predecessor has started goes first, and so this one has another parent
    // when it is the service
    parent.into_iter().for_each(Parent::ready);
    serving.into_iter().for_each(Predecessor::serving);
    Ok(())
}

/// The pid file of the predecessor, or a new one.
fn pidfile(cli: &Cli, theirs: Option<OwnedFd>) -> Result<Option<PidFile>, ExitError> {
    let Some(path) = &cli.pidfile else { return Ok(None) };
    let pidfile =
        theirs.map_or_else(|| PidFile::create(path), |theirs| PidFile::inherit(path, theirs));
    pidfile.map(Some).map_err(|e| cannot(format_args!("pid file {}", path.display()))(&e))
}

/// Gives what root has opened to whom the program becomes.
fn give_up_root(identity: &Identity, output: &LogOutput, bound: &Bound) -> Result<(), ExitError> {
    let given = output.with_file(|file, path| identity.give_file(file, path)).unwrap_or(Ok(()));
    given.map_err(|e| cannot("cannot give the log away")(&e))?;
    bound
        .admin_path()
        .map_or(Ok(()), |path| identity.give_path(path))
        .map_err(|e| cannot("cannot give the admin socket away")(&e))?;
    identity.assume().map_err(|e| cannot("cannot give up root")(&e))
}

/// What the predecessor had in the file system is this program's own now. Nothing here is worth an
/// interruption.
fn settle(cli: &Cli, daemon: &Daemon, pidfile: Option<&mut PidFile>) {
    daemon.take_ownership();
    fault::point("new: owns the admin socket");
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
fn start_log(cli: &Cli, config: &Config) -> Result<Arc<LogOutput>, ExitError> {
    let name = cli.log.as_deref().or(config.logging.as_deref());
    let level = match cli {
        Cli { verbose: true, .. } => LevelFilter::Debug,
        Cli { quiet: true, .. } => LevelFilter::Warn,
        _ => LevelFilter::Info,
    };
    let output = logging::start(targeting(cli)(name), level);
    let output =
        output.map_err(|e| cannot(format_args!("log {}", name.unwrap_or("stderr")))(&e))?;
    // nobody would find it in the log
    output.absence().inspect(|why| {
        complain(Level::Warn, format_args!("{why}: log lines are lost until one does"))
    });
    Ok(output)
}

/// What the name of a log means to a program that was started here; one in the background has no
/// standard error.
fn targeting(cli: &Cli) -> Box<Targeting> {
    let (is_daemon, folder) = (cli.daemon, std::env::current_dir().unwrap_or_default());
    Box::new(move |name| match Target::from_name(name.unwrap_or("stderr"), &folder) {
        Target::Stderr if is_daemon => Target::from_name("syslog", &folder),
        target => target,
    })
}
