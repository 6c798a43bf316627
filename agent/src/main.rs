//! The agent: PID 1 in container and VM, parent of the workload everywhere.
//!
//! As `/init` of an initramfs it first makes a VM's root ([`vm`]); else it runs in its root file
//! system already and connects to the harness's socket (its first argument, if it has one). Then
//! it says hello and serves until the stream ends, and takes everything below it along.

use std::{
    env,
    path::PathBuf,
    process::{self, ExitCode},
};

use bootrace_agent::protocol::SOCKET_PATH;

use crate::{channel::Channel, serve::Agent};

mod below;
mod channel;
mod identity;
mod program;
mod ready;
mod serve;
mod sys;
mod vm;

fn main() -> ExitCode {
    if process::id() == 1 && env::args_os().next().is_some_and(|name| name == "/init") {
        if let Err(error) = vm::boot().map_err(|e| e.to_string()).and_then(serve) {
            vm::log(error);
        }
        vm::power_off();
    }
    match connect().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bootrace-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn connect() -> Result<Channel, String> {
    let socket = env::args_os().nth(1).map_or_else(|| SOCKET_PATH.into(), PathBuf::from);
    if process::id() != 1 {
        sys::shed_inheritance();
        sys::adopt_orphans().map_err(|e| format!("become the reaper of orphans: {e}"))?;
    }
    Channel::connect(&socket).map_err(|e| format!("connect to the harness at {socket:?}: {e}"))
}

/// Serves over an open stream until it ends; an error is told to the harness if it still listens.
fn serve(channel: Channel) -> Result<(), String> {
    sys::same_start();
    let writer = channel.writer().clone();
    let result = identity::hello().and_then(|hello| {
        let mut agent = Agent::new(channel, hello).map_err(|e| e.to_string())?;
        let result = agent.serve().map_err(|e| e.to_string());
        // The kernel kills all others in our namespace when we are PID 1.
        if process::id() != 1 {
            below::kill_all(&agent.groups());
        }
        result
    });
    if let Err(error) = &result {
        // If this fails the stream has ended, and nobody is there to be told.
        let _ = writer.fail(error);
    }
    result
}
