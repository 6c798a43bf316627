//! The probe guest: four pages of memory, one virtual processor in long mode (where every VM spends
//! its life, and where no processor needs KVM's help), one loop that ends in `hlt`.

use std::{
    io,
    os::unix::thread::JoinHandleExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::time::{ClockId, clock_gettime};

use super::{HARDWARE_RATE, Verdict};

/// Long enough to tell the two kinds apart, and at 1.6 us each not too long where they are emulated.
const ITERATIONS: u64 = 100_000;

/// A run that took longer is no victim of chance, and is not tried again.
const LONG: Duration = Duration::from_millis(50);
const TRIES: u32 = 5;

/// How long a guest may take before it is kicked, and how long the kicks go on.
const PATIENCE: Duration = Duration::from_secs(3);
const KICKING: Duration = Duration::from_secs(1);

const PAGE: usize = 4096;
const PML4: u64 = 0;
const PDPT: u64 = 0x1000;
const PD: u64 = 0x2000;
const CODE: u64 = 0x3000;

/// `1: dec rcx; jnz 1b; hlt`
const LOOP: [u8; 6] = [0x48, 0xff, 0xc9, 0x75, 0xfb, 0xf4];

pub fn probe() -> Verdict {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return missing(&io::Error::from_raw_os_error(error.errno())),
    };
    guarded(PATIENCE, move |stop| match measure(&kvm, stop) {
        Ok(rate) => Verdict::from_rate(rate),
        Err(why) => Verdict::Broken { why },
    })
}

fn missing(error: &io::Error) -> Verdict {
    let mend = match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "modprobe kvm_intel or kvm_amd; switch on virtualisation in the firmware, or nested virtualisation in the hypervisor"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "add your user to the group kvm, and see that /dev/kvm is of that group with mode 0660"
        }
        Some(libc::ENODEV | libc::ENXIO) => {
            "the device is there but its module is not: modprobe kvm_intel or kvm_amd"
        }
        _ => "see whether another hypervisor holds the processor",
    };
    Verdict::Missing { why: format!("cannot open /dev/kvm: {error}: {mend}") }
}

/// Runs `job` in a thread that is told to stop, and kicked out of the kernel, should it not come
/// back by itself.
fn guarded(patience: Duration, job: impl FnOnce(&AtomicBool) -> Verdict + Send + 'static) -> Verdict {
    let (sender, receiver) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let worker = thread::spawn(move || {
        // The receiver is gone only after it has given up on us.
        let _ = sender.send(job(&told));
    });
    match receiver.recv_timeout(patience) {
        Ok(verdict) => return verdict,
        Err(RecvTimeoutError::Disconnected) => {
            return Verdict::Broken { why: "the probe itself failed".into() };
        }
        Err(RecvTimeoutError::Timeout) => {}
    }
    let why = format!("a guest of a moment's work was not done after {} s", patience.as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    let signal = kick_signal();
    let start = Instant::now();
    while start.elapsed() < KICKING && !worker.is_finished() {
        // SAFETY: the thread has not been joined, so its handle is good, even if it has ended.
        unsafe { libc::pthread_kill(worker.as_pthread_t(), signal) };
        thread::sleep(Duration::from_millis(10));
    }
    Verdict::Broken { why }
}

/// A signal that does nothing but end a wait in the kernel.
fn kick_signal() -> libc::c_int {
    extern "C" fn nothing(_: libc::c_int) {}
    let signal = libc::SIGRTMIN() + 5;
    // SAFETY: all zeros is a valid sigaction, and the handler does nothing at all.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
    signal
}

/// Best rate of a few runs, in loop iterations per second.
fn measure(kvm: &Kvm, stop: &AtomicBool) -> Result<f64, String> {
    let mut guest = Guest::new(kvm)?;
    guest.run(1, stop)?; // What a first entry costs is not the loop's.
    let mut best = 0.0f64;
    for _ in 0..TRIES {
        let took = guest.run(ITERATIONS, stop)?;
        best = best.max(ITERATIONS as f64 / took.as_secs_f64().max(1e-9));
        if best >= HARDWARE_RATE || took > LONG {
            break;
        }
    }
    Ok(best)
}

struct Guest {
    // In the order in which they have to go.
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: Box<Memory>,
}

#[repr(C, align(4096))]
struct Memory([u8; 4 * PAGE]);

impl Guest {
    fn new(kvm: &Kvm) -> Result<Self, String> {
        let failed = |what: &'static str| move |error| format!("{what}: {error}");
        let vm = kvm.create_vm().map_err(failed("cannot create a VM"))?;
        let mut memory = Box::new(Memory([0; 4 * PAGE]));
        // One 2 MiB page that maps addresses to themselves: present and writable, and for the last PS.
        for (at, entry) in [(PML4, PDPT | 0x3), (PDPT, PD | 0x3), (PD, 0x83)] {
            memory.0[at as usize..][..8].copy_from_slice(&entry.to_le_bytes());
        }
        memory.0[CODE as usize..][..LOOP.len()].copy_from_slice(&LOOP);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: memory.0.len() as u64,
            userspace_addr: memory.0.as_ptr() as u64,
        };
        // SAFETY: the memory is page aligned, of that size, used by nobody else, and outlives VM and vCPU.
        unsafe { vm.set_user_memory_region(region) }.map_err(failed("cannot give a VM memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(failed("cannot create a vCPU"))?;
        enter_long_mode(&vcpu).map_err(failed("cannot put a vCPU into long mode"))?;
        Ok(Guest { vcpu, _vm: vm, _memory: memory })
    }

    /// Runs the loop once; how much CPU time that took, which no other process can lengthen.
    fn run(&mut self, iterations: u64, stop: &AtomicBool) -> Result<Duration, String> {
        let regs = kvm_regs { rip: CODE, rcx: iterations, rflags: 2, ..Default::default() };
        self.vcpu.set_regs(&regs).map_err(|error| format!("cannot set a vCPU's registers: {error}"))?;
        let start = thread_time();
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::Hlt) => break,
                Ok(exit) => return Err(format!("the guest ended in {exit:?} instead of Hlt")),
                Err(error) if error.errno() == libc::EINTR && !stop.load(Ordering::Relaxed) => {}
                Err(error) => return Err(format!("cannot run a vCPU: {error}")),
            }
        }
        let took = thread_time().saturating_sub(start);
        let regs =
            self.vcpu.get_regs().map_err(|error| format!("cannot read a vCPU's registers: {error}"))?;
        if regs.rcx == 0 { Ok(took) } else { Err(format!("the guest left {} iterations out", regs.rcx)) }
    }
}

fn enter_long_mode(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let flat = kvm_segment { limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
    sregs.cs = kvm_segment { selector: 0x8, type_: 0b1011, l: 1, ..flat };
    let data = kvm_segment { selector: 0x10, type_: 0b0011, db: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr3 = PML4;
    sregs.cr4 = 1 << 5; // PAE
    sregs.cr0 = 1 << 31 | 1 << 4 | 1; // PG, ET, PE
    sregs.efer = 1 << 10 | 1 << 8; // LMA, LME
    vcpu.set_sregs(&sregs)
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_may_not_be_opened_and_one_that_is_not_there_have_their_own_mends() {
        let say = |code| missing(&io::Error::from_raw_os_error(code)).to_string();
        assert!(say(libc::ENOENT).contains("modprobe kvm_intel"));
        assert!(say(libc::EACCES).contains("group kvm"));
    }

    #[test]
    #[ignore = "needs /dev/kvm: scripts/test runs it"]
    fn a_guest_runs_its_loop_to_the_end() {
        let rate = measure(&Kvm::new().unwrap(), &AtomicBool::new(false)).unwrap();
        assert!(rate > 1e3, "{rate} iterations/s");
    }

    #[test]
    #[ignore = "needs /dev/kvm: scripts/test runs it"]
    fn an_exit_other_than_the_expected_one_is_named() {
        let kvm = Kvm::new().unwrap();
        let mut guest = Guest::new(&kvm).unwrap();
        guest._memory.0[CODE as usize..][..2].copy_from_slice(&[0x0f, 0x0b]); // ud2, and no handler for it
        let why = guest.run(1, &AtomicBool::new(false)).unwrap_err();
        assert!(why.contains("instead of Hlt"), "{why}");
    }

    #[test]
    fn a_job_that_hangs_in_the_kernel_is_kicked_out_of_it() {
        let (sender, left) = mpsc::channel();
        let verdict = guarded(Duration::from_millis(20), move |stop| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: no file descriptors are passed.
                unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
            }
            let _ = sender.send(());
            Verdict::Hardware { rate: 1.0 }
        });
        assert_eq!(
            verdict,
            Verdict::Broken { why: "a guest of a moment's work was not done after 0.02 s".into() }
        );
        assert_eq!(left.recv(), Ok(()));
    }
}
