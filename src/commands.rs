//! The flags that do one thing and end: `-h`, `-V`, `-t`, `--passwd`, `--diff`, `--replace`. Called
//! by `main`.

use std::path::Path;
use std::time::Duration;

use log::Level;

use tcpdirector::admin;
use tcpdirector::budget::{self, Budget};
use tcpdirector::cli::{self, Cli};
use tcpdirector::config::{self, Change, Config};
use tcpdirector::daemon;
use tcpdirector::system::limits::Limits;
use tcpdirector::system::process::Identity;
use tcpdirector::system::successor;
use tcpdirector::system::terminal;

use super::diff;
use super::report::{CANNOT_START, CONFIG, ExitError, NO_ANSWER, USAGE, cannot, complain, say};

/// How long `--replace` waits: longer than the program that it asks waits for the new one.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(40);

/// The exit status of what ends without balancing anything; `None` when that is not what is asked
/// for.
pub fn answer(cli: &Cli) -> Option<Result<u8, ExitError>> {
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

/// `--replace`: the new process id goes to standard output.
fn replace(cli: &Cli) -> Result<(), ExitError> {
    let missing =
        || ExitError(USAGE, "--replace needs -p: it finds the program by its pid file".to_owned());
    let pidfile = cli.pidfile.as_ref().ok_or_else(missing)?;
    let pid = successor::ask(pidfile, REPLACE_TIMEOUT)
        .map_err(|e| ExitError(CANNOT_START, e.to_string()))?;
    // a failure would mean that the old program goes on
    let _ = say(pid);
    Ok(())
}

/// `--passwd`: the hash goes to standard output, and nothing else does.
fn passwd() -> Result<(), ExitError> {
    let hash = terminal::read_new_password().and_then(|password| admin::hash(&password));
    say(hash.map_err(|e| cannot("no hash was made")(&e))?)
}

/// `--diff`: the changes go to standard output; 1 says that there are some.
fn differ(cli: &Cli) -> Result<u8, ExitError> {
    let load = |file: &Path| {
        config::read::load(file).map_err(|mistakes| ExitError(CONFIG, mistakes.to_string()))
    };
    let first = load(&cli.file())?;
    let (old, new) = match (&cli.other, &cli.admin) {
        (Some(other), _) => (first, load(other)?),
        (None, Some(url)) => {
            let place = diff::AdminUrl::parse(url).map_err(|why| ExitError(USAGE, why))?;
            (place.running().map_err(|why| ExitError(NO_ANSWER, why))?, first)
        }
        (None, None) => {
            return Err(ExitError(
                USAGE,
                "--diff compares two files, or one with --admin".to_owned(),
            ));
        }
    };
    let changes = Change::between(&old, &new);
    for change in &changes {
        say(change).map_err(|ExitError(_, message)| ExitError(NO_ANSWER, message))?;
    }
    Ok(u8::from(!changes.is_empty()))
}

/// `-t`: what the file means, and what it costs.
pub fn check(cli: &Cli, config: &Config) -> Result<(), ExitError> {
    let budget = budget(cli, config)?;
    let refused = budget::refused_hashes(config, &Limits::read());
    if !refused.is_empty() {
        let lines: Vec<String> =
            refused.iter().map(|why| format!("{}: {why}", cli.file().display())).collect();
        return Err(ExitError(CONFIG, lines.join("\n")));
    }
    say(format_args!("{}: no mistakes", cli.file().display()))?;
    for service in &config.services {
        for listen in &service.listens {
            say(format_args!(
                "listen       {} on {listen}, to group {}",
                service.name, service.enabled
            ))?;
        }
    }
    say(budget)?;
    cli.user.as_deref().map_or(Ok(()), |user| check_user(cli, user))
}

/// `-t` with `-u`: whether the user could do with the file what may be asked of a running program.
/// From here on, this process is that user.
fn check_user(cli: &Cli, user: &str) -> Result<(), ExitError> {
    let identity = Identity::find(user).map_err(|e| cannot("-u")(&e))?;
    let file = std::path::absolute(cli.file()).unwrap_or_else(|_| cli.file());
    match identity.assume() {
        Ok(()) => daemon::obstacles(&file).iter().for_each(|(path, why)| {
            complain(Level::Warn, format_args!("{}: as user {user}, {why}", path.display()));
        }),
        Err(e) => complain(
            Level::Warn,
            format_args!("whether user {user} can use the file was not checked: {e}"),
        ),
    }
    Ok(())
}

/// What the configuration may cost at most.
pub fn budget(cli: &Cli, config: &Config) -> Result<Budget, ExitError> {
    Budget::new(config, Limits::read())
        .map_err(|misfit| ExitError(CONFIG, format!("{}: {misfit}", cli.file().display())))
}
