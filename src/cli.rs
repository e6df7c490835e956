//! The flags: one table that the parser, the help text and the tests of the man page read. Knows
//! nothing of the daemon.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

/// Where the configuration is when no flag says so.
pub const DEFAULT_FILE: &str = "/etc/tcpdirector.xml";

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cli {
    /// `-c FILE` or `FILE`.
    pub file: Option<PathBuf>,
    /// `-t`
    pub test: bool,
    /// `-d`
    pub daemon: bool,
    /// `-p PIDFILE`
    pub pidfile: Option<PathBuf>,
    /// `-u USER[:GROUP]`
    pub user: Option<String>,
    /// `-l TARGET`
    pub log: Option<String>,
    /// `-v`
    pub verbose: bool,
    /// `-q`
    pub quiet: bool,
    /// `--diff`
    pub diff: bool,
    /// The second file of `--diff`.
    pub other: Option<PathBuf>,
    /// `--admin URL`
    pub admin: Option<String>,
    /// `--demo`
    pub demo: bool,
    /// `--passwd`
    pub passwd: bool,
    /// `--replace`
    pub replace: bool,
    /// `-V`
    pub version: bool,
    /// `-h`
    pub help: bool,
}

/// One flag.
pub struct Flag {
    /// The letter, where it has one.
    pub short: Option<char>,
    /// The long name.
    pub long: &'static str,
    /// The name of its value, where it takes one.
    pub value: Option<&'static str>,
    /// One line for the help text.
    pub help: &'static str,
    /// What it sets; the text is empty for a flag without a value.
    set: fn(&mut Cli, OsString),
}

const fn flag(
    short: char,
    long: &'static str,
    help: &'static str,
    set: fn(&mut Cli, OsString),
) -> Flag {
    Flag { short: Some(short), long, value: None, help, set }
}

const fn with_value(mut flag: Flag, value: &'static str) -> Flag {
    flag.value = Some(value);
    flag
}

fn lossy(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

/// Every flag, in the order of the help text.
pub const FLAGS: [Flag; 15] = [
    with_value(
        flag('c', "config", "read this configuration (/etc/tcpdirector.xml)", |cli, v| {
            cli.file = Some(v.into())
        }),
        "FILE",
    ),
    flag(
        't',
        "test",
        "check the configuration, print listen addresses and budget, and exit",
        |cli, _| cli.test = true,
    ),
    flag('d', "daemon", "go to the background once everything is bound", |cli, _| {
        cli.daemon = true
    }),
    with_value(
        flag('p', "pidfile", "write the process id to this file, locked", |cli, v| {
            cli.pidfile = Some(v.into())
        }),
        "PIDFILE",
    ),
    with_value(
        flag('u', "user", "give up root for this user after binding", |cli, v| {
            cli.user = Some(lossy(v))
        }),
        "USER[:GROUP]",
    ),
    with_value(
        flag('l', "log", "log to `stderr`, `syslog`, `syslog:SOCKET` or a file", |cli, v| {
            cli.log = Some(lossy(v))
        }),
        "TARGET",
    ),
    flag('v', "verbose", "log debug lines too", |cli, _| cli.verbose = true),
    flag('q', "quiet", "log warnings and errors only", |cli, _| cli.quiet = true),
    Flag {
        short: None,
        ..flag(
            ' ',
            "diff",
            "print the changes from one configuration to another as admin URLs",
            |cli, _| cli.diff = true,
        )
    },
    with_value(
        Flag {
            short: None,
            ..flag(
                ' ',
                "admin",
                "with --diff: compare with what runs behind these admin pages",
                |cli, v| cli.admin = Some(lossy(v)),
            )
        },
        "URL",
    ),
    Flag {
        short: None,
        ..flag(
            ' ',
            "demo",
            "balance three little web servers on loopback, to try it out",
            |cli, _| cli.demo = true,
        )
    },
    Flag {
        short: None,
        ..flag(
            ' ',
            "passwd",
            "read a password without echo and print its hash for <user>",
            |cli, _| cli.passwd = true,
        )
    },
    Flag {
        short: None,
        ..flag(
            ' ',
            "replace",
            "have the program of -p PIDFILE replaced by a new one, print its process id",
            |cli, _| {
                cli.replace = true;
            },
        )
    },
    flag('V', "version", "print the version and exit", |cli, _| cli.version = true),
    flag('h', "help", "print this help and exit", |cli, _| cli.help = true),
];

impl Cli {
    /// Reads the arguments, the program's name left out. The error is a sentence.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, String> {
        use lexopt::Arg::{Long, Short, Value};
        let mut cli = Cli::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
            let found = match &argument {
                Short(letter) => FLAGS.iter().find(|flag| flag.short == Some(*letter)),
                Long(name) => FLAGS.iter().find(|flag| flag.long == *name),
                Value(file) if cli.file.is_none() => {
                    cli.file = Some(file.into());
                    continue;
                }
                Value(file) if cli.diff && cli.other.is_none() => {
                    cli.other = Some(file.into());
                    continue;
                }
                Value(_) => None,
            };
            let Some(flag) = found else { return Err(argument.unexpected().to_string()) };
            let value = match flag.value {
                Some(_) => parser.value().map_err(|e| e.to_string())?,
                None => OsString::new(),
            };
            (flag.set)(&mut cli, value);
        }
        cli.check()?;
        Ok(cli)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Cli { quiet: true, verbose: true, .. } => Err("-q and -v exclude each other".into()),
            Cli { daemon: true, log: Some(log), .. } if log == "stderr" => {
                Err("-d has no standard error to log to: give -l a file or `syslog`".into())
            }
            Cli { diff: false, admin: Some(_), .. } => Err("--admin belongs to --diff".into()),
            Cli { diff: true, file: None, .. } => {
                Err("--diff compares two files, or one with --admin".into())
            }
            Cli { diff: true, other, admin, .. } if other.is_some() == admin.is_some() => {
                Err("--diff compares two files, or one with --admin".into())
            }
            Cli { daemon: true, demo: true, .. } => {
                Err("--demo stays in the foreground: leave -d out".into())
            }
            _ => Ok(()),
        }
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| DEFAULT_FILE.into())
    }
}

/// The text of `-h`.
pub fn help() -> String {
    let mut text = String::from(
        "tcpdirector - a small TCP load balancer\n\n\
         usage: tcpdirector [-dqtv] [-c FILE | FILE] [-l TARGET] [-p PIDFILE] [-u USER[:GROUP]]\n       \
         tcpdirector --diff OLD NEW | --diff NEW --admin URL\n       tcpdirector --replace -p PIDFILE\n       \
         tcpdirector --demo | --passwd\n\n",
    );
    for flag in &FLAGS {
        let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let long = format!("--{} {}", flag.long, flag.value.unwrap_or_default());
        let _ = writeln!(text, "  {short}{long:<22} {}", flag.help);
    }
    text + "\nThe manual: tcpdirector(8) for the program, tcpdirector.xml(5) for the configuration.\n"
}
