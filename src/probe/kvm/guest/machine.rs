//! The guest's memory and processor.

use std::time::Duration;

use kvm_bindings::{
    CpuId, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_regs,
    kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rustix::time::{ClockId, clock_gettime};

use super::outcome::Outcome;

const PAGE: usize = 4096;
const PAGES: usize = 8;
const PML4: u64 = 0;
const PDPT: u64 = 0x1000;
const PD: u64 = 0x2000;
const PT: u64 = 0x3000;
const CODE: u64 = 0x4000;
const DATA: u64 = 0x5000;
/// Two pages that the same address maps alternately.
const FRONT: u64 = 0x6000;
const BACK: u64 = 0x7000;
const ALIAS: u64 = 0x20_0000;
/// An address that is mapped without memory behind it.
const NOWHERE: u64 = 0x40_0000;

const PRESENT: u64 = 0x3;
const LARGE: u64 = 0x83;
const HLT: u8 = 0xf4;

/// Two arbitrary numbers that do not occur by chance.
pub(super) const ONE: u64 = 0x1357_9bdf_0246_8ace;
pub(super) const TWO: u64 = 0x0fed_cba9_8765_4321;

#[repr(C, align(4096))]
pub(super) struct Memory([u8; PAGES * PAGE]);

impl Memory {
    pub(super) fn new() -> Self {
        let mut memory = Memory([0; PAGES * PAGE]);
        let words = [
            (PML4, PDPT | PRESENT),
            (PDPT, PD | PRESENT),
            // The first 2 MiB are mapped to themselves, the next page by page, the third have no memory.
            (PD, LARGE),
            (PD + 8, PT | PRESENT),
            (PD + 16, NOWHERE | LARGE),
            (PT, FRONT | PRESENT),
            (FRONT, ONE),
            (BACK, TWO),
        ];
        words.iter().for_each(|(at, word)| memory.write(*at, &word.to_le_bytes()));
        memory
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.0[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// Leaf 0x8000_0001: edx has a bit for long mode.
const EXTENDED_FEATURES: u32 = 0x8000_0001;
const LONG_MODE: u32 = 1 << 29;

/// How much CPUID the guest gets. Newer kernels (6.8 is one) admit a vCPU to long mode only if its CPUID has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Extent {
    /// All that KVM supports, or long mode alone if that is refused.
    Full,
    #[cfg(test)]
    Reduced,
    #[cfg(test)]
    None,
}

impl Extent {
    fn give(self, kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
        let all = || kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        match self {
            Extent::Full if all().and_then(|all| vcpu.set_cpuid2(&all)).is_ok() => Ok(()),
            Extent::Full => vcpu.set_cpuid2(&long_mode()),
            #[cfg(test)]
            Extent::Reduced => vcpu.set_cpuid2(&long_mode()),
            #[cfg(test)]
            Extent::None => Ok(()),
        }
    }
}

/// Only long mode.
fn long_mode() -> CpuId {
    let entry = kvm_cpuid_entry2 { function: EXTENDED_FEATURES, edx: LONG_MODE, ..Default::default() };
    CpuId::from_entries(&[entry]).expect("one entry is within the type's maximum")
}

pub(super) struct Guest<'a> {
    // In the order in which they must be dropped.
    vcpu: VcpuFd,
    _vm: VmFd,
    _kvm: Kvm,
    memory: &'a mut Memory,
}

impl<'a> Guest<'a> {
    /// Calls `step` with the index of each step in [`SETUP`](super::SETUP) before it.
    pub(super) fn new(
        memory: &'a mut Memory,
        cpuid: Extent,
        mut step: impl FnMut(usize),
    ) -> Result<Self, kvm_ioctls::Error> {
        step(0);
        let kvm = Kvm::new()?;
        step(1);
        let vm = kvm.create_vm()?;
        step(2);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: memory.0.len() as u64,
            userspace_addr: memory.0.as_ptr() as u64,
        };
        #[expect(unsafe_code, reason = "the guest writes to this process's memory")]
        // SAFETY: the memory is page aligned, of that size, and outlives VM and vCPU.
        unsafe {
            vm.set_user_memory_region(region)?
        };
        step(3);
        let vcpu = vm.create_vcpu(0)?;
        step(4);
        cpuid.give(&kvm, &vcpu)?;
        step(5);
        enter_long_mode(&vcpu)?;
        Ok(Guest { vcpu, _vm: vm, _kvm: kvm, memory })
    }

    /// Runs a program to its `hlt` and returns its CPU time, which no other process can lengthen. Fails unless its
    /// registers are then `right`. It starts with rbx = [`ONE`], rsi = an address of zeros, rdi = an address that maps
    /// a page with [`ONE`] in it, r8 = the address of its page table entry, r9 = the entry for a page with [`TWO`], and
    /// rbp = an address with no memory behind it.
    pub(super) fn run(
        &mut self,
        code: &[u8],
        rcx: u64,
        right: impl Fn(&kvm_regs) -> bool,
    ) -> Result<Duration, Outcome> {
        self.memory.write(CODE, code);
        self.memory.write(CODE + code.len() as u64, &[HLT]);
        let regs = kvm_regs {
            rip: CODE,
            rbx: ONE,
            rcx,
            rsi: DATA,
            rdi: ALIAS,
            rbp: NOWHERE,
            r8: PT,
            r9: BACK | PRESENT,
            rflags: 2,
            ..Default::default()
        };
        let failed = |error: kvm_ioctls::Error| Outcome::Error { errno: error.errno() };
        self.vcpu.set_regs(&regs).map_err(failed)?;
        let start = thread_time();
        loop {
            // The code below reads the kind of exit as a number.
            match self.vcpu.run().map(drop) {
                Ok(()) => break,
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let took = thread_time().saturating_sub(start);
        let run = self.vcpu.get_kvm_run();
        let reason = run.exit_reason;
        if reason != KVM_EXIT_HLT {
            #[expect(unsafe_code, reason = "kvm_run has a union")]
            // SAFETY: all variants of the union are plain numbers, and this one is read for its own reason only.
            let detail = unsafe { run.__bindgen_anon_1.internal.suberror };
            let detail = if reason == KVM_EXIT_INTERNAL_ERROR { detail } else { 0 };
            return Err(Outcome::Exit { reason, detail });
        }
        let regs = self.vcpu.get_regs().map_err(failed)?;
        if right(&regs) { Ok(took) } else { Err(Outcome::Wrong) }
    }
}

fn enter_long_mode(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let flat = kvm_segment { limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
    sregs.cs = kvm_segment { selector: 0x8, type_: 0b1011, l: 1, ..flat };
    let data = kvm_segment { selector: 0x10, type_: 0b0011, db: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr3 = PML4;
    sregs.cr4 = 1 << 10 | 1 << 9 | 1 << 5; // OSXMMEXCPT, OSFXSR, PAE
    sregs.cr0 = 1 << 31 | 1 << 5 | 1 << 4 | 1 << 1 | 1; // PG, NE, ET, MP, PE
    sregs.efer = 1 << 10 | 1 << 8; // LMA, LME
    vcpu.set_sregs(&sregs)
}

pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
