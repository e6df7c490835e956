//! All tests over sockets, as one binary. Each module completes the sentence of its tests' names:
//!
//! * `addresses`: how an address may be written, and what it means
//! * `admin`: what each change over the admin address does to clients, log and file, through the
//!   built program
//! * `admin_front`: what the acceptor of the admin pages passes on and what it refuses
//! * `admin_attacks`: what anybody can do to the admin address, and to a bare tiny_http
//! * `admin_budget`: what passwords may cost
//! * `relay`: what happens to bytes, ends of stream and resets on their way
//! * `ends`: what either side has got, and how that ends, when the other side or the program itself
//!   breaks off
//! * `under_systemd`: what systemd makes of the sample unit, in a machine of its own
//! * `urgent`: what happens to urgent bytes
//! * `silence`: which silent sessions end, and which stay
//! * `vanished`: what becomes of a session whose client or host vanishes, in networks of their own
//! * `far`: what becomes of bytes and connections on slow lines and behind routers, in networks of
//!   their own
//! * `replay`: which clients are moved on before the first answer, and what that counts
//! * `line`: what the log says of a session
//! * `log`: what its lines look like where they go, and which come with `-q`
//! * `failover`: which host a client reaches when some fail, and who is blamed
//! * `scheduling`: which host a client reaches when all are well
//! * `manager`: how failed hosts come back
//! * `carry`: what an accept thread does for a session itself, and what it leaves to the pool
//! * `parking`: what sessions that wait cost the others
//! * `pool`: what happens when there are more clients than threads
//! * `process`: what it inherits, whose child and parent it is, as whom it runs, and what it hears
//! * `program`: flags, signals, log, pid file, exit status of the built program
//! * `real`, `real_failover`: programs that nobody here wrote, through the built one
//! * `config`: the files under `config/`, the sample and the DTD
//! * `replace`: what becomes of clients, files and states when the program is replaced
//! * `replace_faults`: what becomes of them when that goes wrong
//! * `replace_deaths`: who serves when one of the two programs dies meanwhile
//! * `save`: what a configuration file looks like after the running state was written to it
//! * `service_manager`: what systemd gives and is told
//! * `limits`: what becomes of the program where the system limits its address space, its files or
//!   what it can know
//! * `many`: as many sessions at once as this machine allows
//! * `admin_routes`, `admin_views`: what can be asked of the admin side, and what it shows
//! * `admin_manual`: its man page against the table of routes
//! * `manual`: the man pages against the program
//! * `splice`: what happens to bulk bytes
//! * `drain`: which sessions a drain ends, and when it is over
//! * `admin_file`: what the admin pages do to the file and to the listen addresses
//! * `listener`: what happens to clients when their listen address is stopped, paused or moved
//! * `reload`: what a reload changes and leaves alone, and what `--diff` says of it
//! * `steady`: two hundred reloads and twenty replacements under load, and nobody notices
//! * `invisible`: whether either end of a session can tell it from one TCP connection
//! * `original`: what somebody finds who comes from Python Director
//! * `layers`: imports go down only

mod common;

mod addresses;
mod admin;
mod admin_attacks;
mod admin_budget;
mod admin_file;
mod admin_front;
mod admin_manual;
mod admin_routes;
mod admin_views;
mod carry;
mod config;
mod drain;
mod ends;
mod failover;
mod far;
mod invisible;
mod layers;
mod limits;
mod line;
mod listener;
mod log;
mod manager;
mod manual;
mod many;
mod original;
mod parking;
mod pool;
mod process;
mod program;
mod real;
mod real_failover;
mod relay;
mod reload;
mod replace;
mod replace_deaths;
mod replace_faults;
mod replay;
mod save;
mod scheduling;
mod service_manager;
mod silence;
mod splice;
mod steady;
mod under_systemd;
mod urgent;
mod vanished;
