//! The agent: PID 1 in container and VM, parent of the workload everywhere.
//!
//! As `/init` of an initramfs it first sets up a VM's root ([`vm`]). As a unit of the image's own systemd it finds out
//! whether it runs in a container or a VM ([`service`]). Else it already runs in its root file system, and connects to
//! the harness's socket (its first argument, if it has one) or uses its standard input as the stream. Then it says
//! hello, serves until the stream ends, and kills all processes below it.
//!
//! With `--reference` it runs a reference workload instead: see [`run_reference`].

// Without the standard library's own start-up code: it reads /proc and sets up handlers that nothing here needs, which
// takes a tenth of the time to start a bare process.
#![cfg_attr(not(test), no_main)]

use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
    process,
};

use bootrace_agent::{
    protocol::{HOSTNAME, ON_STDIN_FLAG, OWN_NETWORK_FLAG, SERVICE_FLAG, SOCKET_PATH},
    reference::{self, ReferenceWorkload},
    surroundings::SHM_OPTIONS,
};

use crate::{boot_times::BootOrigin, channel::Channel, serve::Agent, service::Place};

mod below;
mod boot_times;
mod channel;
mod copy;
mod identity;
mod introspect;
mod nonce;
mod program;
mod ready;
mod run_reference;
mod serve;
mod service;
mod survey;
mod sys;
mod user;
mod vm;

/// The C library's entry point; the standard library gets the arguments from the C library too.
#[cfg(not(test))]
#[expect(unsafe_code, reason = "a name without mangling: the C library looks for it")]
#[unsafe(no_mangle)]
extern "C" fn main(_count: i32, _arguments: *const *const std::ffi::c_char) -> i32 {
    sys::ignore_broken_pipes();
    i32::from(!run())
}

/// True on success.
#[cfg_attr(test, allow(dead_code))]
fn run() -> bool {
    if process::id() == 1 && env::args_os().next().is_some_and(|name| name == "/init") {
        let began = sys::uptime().map_or(BootOrigin::Elsewhere, BootOrigin::AsInit);
        let booted = vm::boot().map_err(|e| e.to_string());
        if let Err(error) = booted.and_then(|channel| serve(channel, began)) {
            vm::log(error);
        }
        vm::power_off();
    }
    if env::args_os().nth(1).is_some_and(|first| first == SERVICE_FLAG) {
        service(env::args_os().any(|word| word == OWN_NETWORK_FLAG));
        return true;
    }
    if process::id() == 1 && env::var_os("LIBVIRT_LXC_NAME").is_some() {
        complete_libvirt_container();
    }
    let ended = match reference_workload() {
        Some(workload) => workload.and_then(run_reference::run),
        None => connect().and_then(|channel| serve(channel, BootOrigin::Elsewhere)),
    };
    if let Err(error) = &ended {
        complain(error);
    }
    ended.is_ok()
}

/// Gives a libvirt container what other engines' containers have: a hostname of its own, and /dev/shm.
fn complete_libvirt_container() {
    let shared_memory = || {
        fs::create_dir_all("/dev/shm")?;
        sys::mount(
            "shm",
            "/dev/shm",
            "tmpfs",
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            &SHM_OPTIONS.to_string_lossy(),
        )
    };
    let made = sys::set_hostname(HOSTNAME).and_then(|()| shared_memory());
    if let Err(error) = made {
        complain(&format!("completing the container: {error}"));
    }
}

/// Writes to standard error, without eprintln, which panics when it is gone.
fn complain(error: &str) {
    let _ = writeln!(io::stderr(), "bootrace-agent: {error}");
}

/// As a unit of the image's systemd: serves the harness, and then ends the system. Without a harness it ends alone:
/// the image may run outside bootrace.
fn service(own_network: bool) {
    let Some(place) = service::place() else { return };
    sys::reset_process_state();
    let ready = sys::adopt_orphans().map_err(|e| format!("become the reaper of orphans: {e}"));
    let channel = ready.and_then(|()| service::open(place, own_network));
    if let Err(error) = channel.and_then(|channel| serve(channel, BootOrigin::AsService)) {
        complain(&error);
        vm::log(error);
    }
    match place {
        Place::Vm { .. } => vm::power_off(),
        Place::Container => sys::ask_init_to_end(),
    }
}

/// The reference workload of the command line; `None`: run as the agent.
fn reference_workload() -> Option<Result<ReferenceWorkload, String>> {
    let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    words.next().filter(|first| first == reference::FLAG)?;
    let (word, amount) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let workload = ReferenceWorkload::parse(&word, &amount);
    Some(workload.ok_or_else(|| format!("there is no reference workload {word:?} of {amount:?}")))
}

fn connect() -> Result<Channel, String> {
    let socket = env::args_os().nth(1).map_or_else(|| SOCKET_PATH.into(), PathBuf::from);
    if process::id() != 1 {
        sys::reset_process_state();
        sys::adopt_orphans().map_err(|e| format!("become the reaper of orphans: {e}"))?;
    }
    if socket.as_os_str() == ON_STDIN_FLAG {
        return Channel::on_stdin(nonce::of_process())
            .map_err(|e| format!("use standard input as the stream to the harness: {e}"));
    }
    Channel::connect(&socket, nonce::of_process())
        .map_err(|e| format!("connect to the harness at {socket:?}: {e}"))
}

/// Serves over an open stream until it ends; sends an error to the harness if it still listens.
fn serve(channel: Channel, began: BootOrigin) -> Result<(), String> {
    sys::same_start();
    let writer = channel.writer().clone();
    let result = identity::hello(writer.nonce()).and_then(|hello| {
        let mut agent = Agent::new(channel, hello, began).map_err(|e| e.to_string())?;
        let result = agent.serve().map_err(|e| e.to_string());
        // If the agent is PID 1, the kernel kills all other processes of its namespace.
        if process::id() != 1 {
            below::kill_all(&agent.groups());
        }
        result
    });
    if let Err(error) = &result {
        // If this fails the stream has ended, and no one receives the error.
        let _ = writer.fail(error);
    }
    result
}
