//! tcpdirector: a small TCP load balancer. A few threads, one XML file.
//!
//! # The words
//!
//! A **service** is what clients connect to: a name, **listen** addresses, **groups**, one of them
//! enabled. A group is a set of **hosts** with one **scheduler**, the rule that picks a host. A
//! **session** is one client connection, from accept to its log line. A **lease** is one counted
//! use of a host by a session; dropping it un-counts it. A **relay** is the two **flows** of a
//! session, `to_server` and `to_client`, named from the client. A flow that has nothing to pass on
//! is **parked**: it waits for events of its sockets and holds no thread. The **manager** tries
//! failed hosts again. Why a session ended is a [`relay::CloseReason`], what the operator wants of
//! a host its [`config::AdminState`].
//!
//! The rest are the field's own terms: back-pressure, budget, CSRF, drain, half-close, hand-over,
//! health check, leader and followers, reset, session log, waker.
//!
//! A configuration struct is noun + `Config`, the run-time struct the bare noun.
//!
//! # The floors
//!
//! Imports go down only, and no file uses another one that uses it; `tests/layers.rs` reads the
//! `use` lines and fails on what goes up or round.
//!
//! | floor | modules | |
//! |---|---|---|
//! | 7 | `main`, `lifecycle` | flags, start; signals, stop, exit status |
//! | 7 | `commands`, `demo` | flags that do one thing and end; the demo |
//! | 7 | `diff`, `report` | what runs elsewhere; errors and exit statuses |
//! | 6 | [`daemon`] | bind all, then start all; change, reload, stop, hand over |
//! | 5 | [`budget`] | what a configuration may cost |
//! | 4 | [`traffic`] | listener, session, search, connect, replay; manager and resolver |
//! | 4 | [`admin`] | the pages behind an acceptor of our own; passwords, CSRF, metrics |
//! | 3 | [`state`] | director, service, group, host; all behind locks |
//! | 2 | [`config`] | XML to plain values, every complaint with its place |
//! | 1 | [`scheduler`], [`relay`], [`cli`] | mechanisms that know no service and not each other |
//! | 1 | [`system`] | what the operating system gives |
//!
//! # The journey of a connection
//!
//! The thread `listen ADDRESS` accepts a client and makes a `Session`, which belongs to the
//! [`relay::pool`] from then on. While the pool has a place for it, the accept thread runs its
//! first steps itself, as far as they go without waiting; else it waits in a bounded queue; a full
//! queue makes the accept thread wait, and the kernel's backlog pushes back. The session reads what
//! the client has sent already, picks a host of the enabled group and counts the pick in one act,
//! connects, and goes on to the next host while hosts fail, or reset the connection before a byte
//! has passed; with `<replay>` also when a host ends it before it has answered. What was read goes
//! to the host with the last step of the handshake, and that it can be sent says that the host is
//! there. Then it is relayed: each flow is run by whichever thread hears that it can go on
//! ([`relay`] has the rules). Nothing that a session does waits for a socket: a connect or an
//! answer that takes its time is parked, too. The last thread to leave drops the session: sockets
//! closed, lease given back, one log line. Nothing calls back up.
//!
//! Which thread does what is decided in a few files of [`relay`] that know locks, atomics and
//! pollers only as types. `tests/model` compiles them as they are against loom's, and runs them in
//! all interleavings with at most two or three switches that no thread has asked for: no wake-up is
//! lost, no flow is run twice at once, no session is left lying.
//!
//! # Invisible
//!
//! Whatever the two ends of a session do, each sees what it could have seen if the other had been
//! at the other end of one connection: [`relay`] has the rules. `tests/invisible.rs` runs scripts
//! for both ends on a direct connection and through the program, and says where they differ. Three
//! facts of the kernel decide much of it: the receive queue of a socket outlives a reset; the error
//! of a reset is reported once, to whoever reads or writes first, and by splice(2) perhaps to
//! nobody, so that only the count of the bytes that have come distinguishes an end from a cut
//! (`system::tcp_info`); and there is no event for bytes that were acknowledged, so that the timer
//! of a session asks.
//!
//! # One way to change anything
//!
//! Every edit is a [`config::Change`]: an admin URL is read into one, a reload finds those that
//! lead from what runs to what the file says ([`config::Change::between`]), and `--diff` prints
//! them as URLs. [`state::Director::apply`] makes the changes on the configuration that describes
//! the running state, all of them or none, and the state follows that: what stays as it was goes on
//! undisturbed. `daemon` opens what is new (listen addresses, the log, the admin pages) before, and
//! closes what is left over after. There is no second path by which the running state is edited.
//!
//! # The hand-over to a new program
//!
//! A running program can be replaced by another version of itself. It starts that version
//! ([`system::successor`]), which has the listening sockets and the pid file from its first moment
//! ([`system::inherited`], [`system::pidfile`]), and loads its file. When the new one is prepared,
//! the old one pauses its listeners, leaves what it knows and has counted
//! (`state::handover_state`), and goes when its sessions have ended. Up to the last message of the
//! new one everything can be taken back, and either can go on without the other. The new one forks,
//! so that it is a child of process 1 and not of the old one when the service manager hears of it.
//! `daemon::message` has the protocol.
//!
//! # Where this differs from the plan
//!
//! * Pool threads never block in a read, a write or a connect. Sockets are registered with a poller
//!   once or twice, edge-triggered, and the state of a flow says what becomes of an event
//!   ([`relay::flow_state`]), so that parking costs no call: a flow that waited in `read` first
//!   would save one wait and hold a thread for it.
//! * An accept thread does not only hand a session to the pool but runs its first steps: pick,
//!   connect, pass on what the client has sent. Nobody has to be woken for that: a tenth more
//!   connections with a fifth less processor time. Two accept threads for an address took more time
//!   for fewer connections.
//! * Leader and followers: one pool thread, the leader, waits at the poller, not all that are idle:
//!   each of them would be woken for events that the one that is awake would have taken a moment
//!   later. The followers rest until there is more to do than one can (`relay::threads`). Then
//!   another poller is opened, to which a part of the sessions moves (`relay::pollers`): a seventh
//!   more requests on 256 sessions.
//! * Log lines are `key=value` pairs, with quotes where a value needs them, so that a name cannot
//!   forge a pair.
//! * [`state`] knows [`relay::Meter`] and holds weak handles of relays, so that the bytes of a
//!   session can be seen, and a drain can end it, while it runs.
//! * A client that reaches no host is reset, not closed: an empty answer must not look complete.
//!   With `<replay>`, one whose last host has ended the connection in good order sees that end.
//! * A server's socket gets TCP_NODELAY before its second write: the first never waits, and many a
//!   session has but one.
//! * Bulk is spliced to a side that has taken 2 MiB of it. To splice at once filled 20 MB of the
//!   kernel for a client that read nothing; so it is 5 (HAProxy 8), and bulk is as fast as before.
//! * The operator's side of a host is not saved to the file: it is about today, the file is about
//!   every day.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod budget;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod relay;
pub mod scheduler;
pub mod state;
pub mod system;
pub mod traffic;
