//! Saves a domain with its memory to a file; the virt crate has no call for that.

use std::{ffi::CString, path::Path};

use virt::{domain::Domain, error::Error};
use virt_sys as sys;

use crate::target::libvirt::fix;

/// Pauses the domain, writes its memory to a file, and ends it. Blocks until then.
///
/// # Errors
/// When libvirt fails, or the path contains a zero byte.
#[expect(unsafe_code, reason = "the virt crate has it for paths in UTF-8 only")]
pub(super) fn save(domain: &Domain, to: &Path) -> Result<(), String> {
    let path = CString::new(to.as_os_str().as_encoded_bytes())
        .map_err(|_| format!("{}: no path holds a zero byte", to.display()))?;
    // SAFETY: the domain is open as long as it is borrowed, and libvirt copies the path.
    match unsafe { sys::virDomainSave(domain.as_ptr(), path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(fix::explain(&Error::last_error())),
    }
}
