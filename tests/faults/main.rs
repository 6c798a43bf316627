//! What goes wrong around a run: each fault is injected for real, and the run ends with a clear message, the right exit
//! code, every finished sample kept and nothing left. The rows make `docs/contribute/faults.md`.

mod case;
#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod host;
mod killed;
mod messages;
mod parts;
mod signals;
mod table;
mod workload;
