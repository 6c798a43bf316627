//! The end of a guest's program.

use std::io;

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
};
use serde::{Deserialize, Serialize};

/// How a guest's program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    #[default]
    Untried,
    Right,
    Wrong,
    /// With KVM's reason; `detail`: an internal error's suberror.
    Exit {
        reason: u32,
        detail: u32,
    },
    /// KVM_RUN failed.
    Error {
        errno: i32,
    },
}

impl Outcome {
    pub(super) fn of<T>(ran: &Result<T, Outcome>) -> Self {
        ran.as_ref().err().copied().unwrap_or(Outcome::Right)
    }

    /// The failure's text; `None` if it was not run or succeeded.
    pub(super) fn fault(self) -> Option<String> {
        match self {
            Outcome::Untried | Outcome::Right => None,
            Outcome::Wrong => Some("wrong result".into()),
            Outcome::Exit { reason, detail } => Some(match reason {
                KVM_EXIT_INTERNAL_ERROR => format!("KVM internal error, suberror {detail}"),
                KVM_EXIT_SHUTDOWN => "triple fault".into(),
                KVM_EXIT_MMIO => "stray access to memory (MMIO exit)".into(),
                KVM_EXIT_IO => "stray access to a port (I/O exit)".into(),
                KVM_EXIT_FAIL_ENTRY => "the processor refused to enter the guest".into(),
                other => format!("KVM exit {other}"),
            }),
            Outcome::Error { errno } => Some(format!("KVM_RUN: {}", io::Error::from_raw_os_error(errno))),
        }
    }

    /// Whether the vCPU's state is unknown after this end. After an internal error it can run another program.
    pub(super) fn is_final(self) -> bool {
        use Outcome::{Exit, Right, Wrong};
        !matches!(self, Right | Wrong | Exit { reason: KVM_EXIT_INTERNAL_ERROR, .. })
    }
}
