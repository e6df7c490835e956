//! The log of the program: fern in front of a [`LogOutput`], which knows what a line looks like
//! where it goes, and values that keep a line one line.
//!
//! `main` starts it once; the `log` macros reach it from everywhere.

use std::fmt;
use std::io;
use std::panic;
use std::sync::Arc;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::log_output::{LogOutput, Target};

/// A share in the output for fern, which wants to own what it writes to.
struct SharedOutput(Arc<LogOutput>);

impl Log for SharedOutput {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        self.0.log(record);
    }

    fn flush(&self) {}
}

/// Opens the log and makes it the program's own. The output is returned so that it can be reopened.
/// Fails when the file cannot be opened, or when the program has a log already.
pub fn start(target: Target, level: LevelFilter) -> io::Result<Arc<LogOutput>> {
    let output = Arc::new(LogOutput::open(target)?);
    let shared: Box<dyn Log> = Box::new(SharedOutput(output.clone()));
    fern::Dispatch::new()
        .level(level)
        // its one error is how it hears that nobody else will connect
        .level_for("tiny_http", LevelFilter::Off)
        .format(|out, message, record| {
            out.finish(format_args!("{} {message}", name(record.level())))
        })
        .chain(shared)
        .apply()
        .map_err(io::Error::other)?;
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or(payload.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        log::error!(
            "panic thread={} at={place} reason={}",
            value(thread.name().unwrap_or("-")),
            value(text.unwrap_or("no message"))
        );
    }));
    Ok(output)
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

/// A figure that is counted in tenths, with its one decimal. In whole numbers: a line for each
/// session is not the place for floating point.
pub struct Tenths(pub u128);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Whether a character is not shown itself but changes what is: the control characters, and those
/// of Unicode that set the direction of writing (UAX #9), have no width, end a line, or are tags.
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A value for a log line: as it is when it is one plain word, else in double quotes with `\`
/// escapes, so that no name and no message can forge a pair or a line, or look like another.
pub fn value(text: &str) -> Value<'_> {
    Value(text)
}

/// See [`value`].
pub struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain =
            |c: char| !c.is_whitespace() && !is_control(c) && !matches!(c, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(is_plain) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_as_it_is_and_everything_else_in_quotes() {
        for (text, written) in [
            ("plain", "plain"),
            ("Grüße", "Grüße"),
            ("O'Brien", "O'Brien"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a=\"b\"\\", r#""a=\"b\"\\""#),
            ("a\nb\u{1b}[31m", r#""a\nb\u{1b}[31m""#),
            ("one\u{202e}owt", r#""one\u{202e}owt""#),
            ("\u{200b}", r#""\u{200b}""#),
        ] {
            assert_eq!(value(text).to_string(), written);
        }
    }

    #[test]
    fn no_character_that_changes_what_is_shown_stands_as_it_is() {
        for c in (char::MIN..=char::MAX).filter(|c| is_control(*c)) {
            let written = value(&format!("a{c}b")).to_string();
            assert!(!written.contains(c) && written.len() > 4, "{written:?}");
        }
    }
}
