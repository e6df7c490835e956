//! All tests over sockets, as one binary. Each module completes the sentence of its tests' names:
//!
//! * `relay`: what happens to bytes, ends of stream and resets on their way
//! * `failover`: which host a client reaches when some fail, and who is blamed
//! * `scheduling`: which host a client reaches when all are well
//! * `manager`: how failed hosts come back
//! * `pool`: what happens when there are more clients than threads
//! * `program`: flags, signals, log, pid file, exit status of the built program
//! * `real`, `real_failover`: programs that nobody here wrote, through the built one
//! * `config`: the files under `config/`, the sample and the DTD
//! * `save`: what a configuration file looks like after the running state was written to it
//! * `many`: five thousand sessions at once
//! * `manual`: the man pages against the program
//! * `layers`: imports go down only

mod common;

mod config;

mod failover;
mod layers;
mod manager;
mod manual;
mod many;
mod pool;
mod program;
mod real;
mod real_failover;
mod relay;
mod save;
mod scheduling;
