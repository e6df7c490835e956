//! Programs that run to their end, within a time.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{DEADLINE, comes_true};

/// The longest that a program may take to do its work. A replacement may be given up after thirty
/// seconds, a busy machine is slow, and a gigabyte takes its time.
const LIMIT: Duration = Duration::from_secs(120);

/// What was wanted of a file; if it failed, the test fails with the name of the file.
pub fn of_file<T>(path: impl AsRef<Path>, result: io::Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Input and output of a program that is to have none. What the library does for that does not tell
/// a missing device from a missing program.
pub fn null() -> Stdio {
    of_file("/dev/null", OpenOptions::new().read(true).write(true).open("/dev/null")).into()
}

/// Runs a program to its end without input, and gives what it has printed.
pub fn output(command: &mut Command) -> Output {
    let command = command.stdin(null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(&mut command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

/// The same for one that was started; what it prints to pipes is read meanwhile. One that takes too
/// long is killed, and fails the test.
pub fn finish(child: &mut Child) -> Output {
    drop(child.stdin.take());
    let pipes = (child.stdout.take().map(reading), child.stderr.take().map(reading));
    let is_over = comes_true(LIMIT, || child.try_wait().expect("it is our child").is_some());
    if !is_over {
        let _ = child.kill();
    }
    let status = child.wait().expect("it is our child");
    let (stdout, stderr) = (printed(pipes.0), printed(pipes.1));
    assert!(
        is_over,
        "it has not ended within {LIMIT:?}: {}",
        String::from_utf8_lossy(&[&stdout[..], &stderr].concat())
    );
    Output { status, stdout, stderr }
}

/// What was printed, as text.
pub fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).into_owned()
}

fn reading(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        all
    })
}

/// What has come out of a pipe, if it was one.
fn printed(pipe: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    let Some(reading) = pipe else { return Vec::new() };
    assert!(
        comes_true(DEADLINE, || reading.is_finished()),
        "it has ended, and somebody else still holds what it printed to"
    );
    reading.join().expect("reading does not panic")
}
