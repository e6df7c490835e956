//! The log of the program: fern in front of a [`Sink`], one format for every line, and values that keep a line one line.
//!
//! `main` starts it once; the `log` macros reach it from everywhere.

use std::fmt;
use std::io;
use std::panic;
use std::sync::Arc;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::date::Clock;
use super::sink::{Sink, Target};

/// A share in the sink for fern, which wants to own what it writes to.
struct Shared(Arc<Sink>);

impl Log for Shared {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        self.0.log(record);
    }

    fn flush(&self) {}
}

/// Opens the log and makes it the program's own. The sink is returned so that it can be reopened. Fails when the file cannot be
/// opened, or when the program has a log already.
pub fn start(target: Target, level: LevelFilter) -> io::Result<Arc<Sink>> {
    // syslog lines carry their time in front already
    let with_time = !matches!(target, Target::Syslog(_));
    let sink = Arc::new(Sink::open(target)?);
    let output: Box<dyn Log> = Box::new(Shared(sink.clone()));
    let clock = Clock::default();
    fern::Dispatch::new()
        .level(level)
        // its one error is how it hears that nobody else will connect
        .level_for("tiny_http", LevelFilter::Off)
        .format(move |out, message, record| {
            let level = name(record.level());
            if with_time {
                out.finish(format_args!("{} {level} {message}", clock.now()));
            } else {
                out.finish(format_args!("{level} {message}"));
            }
        })
        .chain(output)
        .apply()
        .map_err(io::Error::other)?;
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        log::error!(
            "panic thread={} at={place} reason={}",
            value(thread.name().unwrap_or("-")),
            value(text.unwrap_or("no message"))
        );
    }));
    Ok(sink)
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// A figure that is counted in tenths, with its one decimal. In whole numbers: a line for each session is not the place for floating
/// point.
pub struct Tenths(pub u128);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// A value for a log line: as it is when it is one plain word, else in double quotes with `\` escapes, so that no name and no
/// message can forge a pair or a line.
pub fn value(text: &str) -> Value<'_> {
    Value(text)
}

/// See [`value`].
pub struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(is_plain) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}
