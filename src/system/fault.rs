//! Places where a test has this process end at once (SIGKILL), to see who goes on. In a release
//! build there are none.
//!
//! Called by `main` and `daemon` at each step of a replacement, with a name that begins with whose
//! step it is: `old`, `new`, or `between` for the process that the old one has started and that the
//! new one was forked from. `tests/replace_deaths.rs` finds the names in the source and walks them
//! all.

/// Ends this process if the file that `TCPDIRECTOR_FAULT` names has the name of this place in it.
/// The file is removed first, so that it happens once.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    let Some(file) = std::env::var_os("TCPDIRECTOR_FAULT") else { return };
    if std::fs::read_to_string(&file).is_ok_and(|text| text == name)
        && std::fs::remove_file(&file).is_ok()
    {
        // returns in no thread of this process
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn point(_: &str) {}
