//! libvirt's events: a domain stopped, crashed or was paused, or the connection was lost. So the trial of a dead VM
//! ends at once, and not by its time-out.
//!
//! libvirt delivers events through the process's one event loop, in a thread that sleeps in `poll` until libvirt sends
//! something. While a VM runs, that is only libvirtd's keep-alive, every 5 s at 0.1 ms of CPU time (measured; the loop
//! itself has no timer). The callbacks run in that thread and pass events to the [watch](Events::watch) of the domain's
//! name. A watch begins before its domain is created, so it misses none.
#![expect(unsafe_code, reason = "callbacks of the C library, which the virt crate has none for")]

use std::{
    collections::HashMap,
    ffi::{CStr, c_int, c_void},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use tokio::sync::watch;
use virt::{connect::Connect, error::Error};
use virt_sys as sys;

/// Starts the event loop, once. It serves only connections that are opened later.
///
/// # Errors
/// When libvirt can't register its loop, or no thread can be started.
pub fn start_loop() -> Result<(), String> {
    static LOOP: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        virt::event::event_register_default_impl().map_err(|e| e.message().trim().to_owned())?;
        let run = || {
            while let Ok(()) = virt::event::event_run_default_impl() {}
            tracing::warn!("libvirt's event loop ended: {}", Error::last_error().message());
        };
        thread::Builder::new().name("libvirt-events".into()).spawn(run).map(drop).map_err(|e| e.to_string())
    };
    LOOP.get_or_init(start).clone()
}

/// The events of one connection, until it is dropped.
pub struct Events {
    connection: Connect,
    callback: c_int,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    domains: Mutex<Domains>,
}

#[derive(Default)]
struct Domains {
    /// The watches by domain name.
    watched: HashMap<String, Watched>,
    /// Why there will be no more events; `None` while the connection works.
    lost: Option<String>,
}

/// The receiver of a domain's end, which happens once.
struct Watched {
    end: watch::Sender<Option<String>>,
    /// True until its domain has started: earlier events belong to a previous domain of that name.
    to_come: bool,
}

impl Shared {
    /// No code that could panic runs under the lock.
    fn domains(&self) -> MutexGuard<'_, Domains> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, domain: &str, how: &str) {
        if let Some(watched) = self.domains().watched.get(domain).filter(|watched| !watched.to_come) {
            report_once(&watched.end, format!("the domain {how}"));
        }
    }

    fn started(&self, domain: &str) {
        if let Some(watched) = self.domains().watched.get_mut(domain) {
            watched.to_come = false;
        }
    }

    fn lost(&self, why: &str) {
        let text = format!("the connection to libvirt was lost ({why}): was libvirtd stopped or restarted?");
        let mut domains = self.domains();
        domains.watched.values().for_each(|watched| report_once(&watched.end, text.clone()));
        domains.lost = Some(text);
    }
}

/// Keeps only the first text: it has the cause, and later ones the consequences.
fn report_once(sender: &watch::Sender<Option<String>>, text: String) {
    sender.send_if_modified(|reported| {
        let first = reported.is_none();
        if first {
            *reported = Some(text);
        }
        first
    });
}

impl Events {
    /// Subscribes to the events of all domains of this connection.
    ///
    /// # Errors
    /// When libvirt refuses the subscription.
    pub fn of(connection: &Connect) -> Result<Self, Error> {
        let (connection, shared) = (connection.clone(), Arc::new(Shared::default()));
        let opaque = |shared: &Arc<Shared>| Arc::into_raw(shared.clone()).cast_mut().cast::<c_void>();
        // SAFETY: libvirt itself passes lifecycle callbacks by this type, and calls this one as what it is.
        let heard = unsafe {
            std::mem::transmute::<LifecycleCallback, unsafe extern "C" fn(_, _, _)>(on_domain_event)
        };
        let ours = opaque(&shared);
        // SAFETY: the connection is open, and `ours` is a separate reference, which `forget` drops.
        let callback = unsafe {
            let id = sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int;
            let (connection, any) = (connection.as_ptr(), std::ptr::null_mut());
            sys::virConnectDomainEventRegisterAny(connection, any, id, Some(heard), ours, Some(forget))
        };
        if callback < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt has not taken the reference.
            unsafe { forget(ours) };
            return Err(error);
        }
        // From here on its drop undoes the registration.
        let events = Events { connection, callback, shared };
        let ours = opaque(&events.shared);
        // SAFETY: as above.
        let registered = unsafe {
            let connection = events.connection.as_ptr();
            sys::virConnectRegisterCloseCallback(connection, Some(on_connection_close), ours, Some(forget))
        };
        if registered < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt has not taken the reference.
            unsafe { forget(ours) };
            return Err(error);
        }
        Ok(events)
    }

    /// Why there are no more events; `None` while the connection works.
    pub fn lost(&self) -> Option<String> {
        self.shared.domains().lost.clone()
    }

    /// Watches for the end of the domain with that name, whether it exists yet or not.
    pub fn watch(&self, domain: &str) -> Watch {
        self.watch_from(domain, false)
    }

    /// Watches for the end of the next domain with that name, and ignores the end of the previous one, which may still
    /// be on its way.
    pub fn watch_next(&self, domain: &str) -> Watch {
        self.watch_from(domain, true)
    }

    fn watch_from(&self, domain: &str, to_come: bool) -> Watch {
        let mut domains = self.shared.domains();
        let (sender, end) = watch::channel(domains.lost.clone());
        domains.watched.insert(domain.into(), Watched { end: sender, to_come });
        Watch { domain: domain.into(), shared: self.shared.clone(), end }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: the connection is open; deregistering a callback that is not registered is a harmless error.
        unsafe {
            sys::virConnectUnregisterCloseCallback(self.connection.as_ptr(), Some(on_connection_close));
            sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), self.callback);
        }
    }
}

/// Watches one domain until it is dropped.
pub struct Watch {
    domain: String,
    shared: Arc<Shared>,
    end: watch::Receiver<Option<String>>,
}

impl Watch {
    /// Completes with the reason when the domain has ended or the connection is lost.
    pub fn end(&self) -> impl Future<Output = String> + Send + 'static {
        let mut end = self.end.clone();
        async move {
            let reported = match end.wait_for(Option::is_some).await {
                Ok(text) => (*text).clone(),
                Err(_) => None,
            };
            match reported {
                Some(text) => text,
                // The watch was dropped: nobody waits.
                None => std::future::pending().await,
            }
        }
    }

    /// How it has ended; `None` if it has not.
    pub fn ended(&self) -> Option<String> {
        self.end.borrow().clone()
    }

    pub fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut domains = self.shared.domains();
        // A newer watch may have replaced this one.
        let ours = |watched: &Watched| watched.end.subscribe().same_channel(&self.end);
        if domains.watched.get(&self.domain).is_some_and(ours) {
            domains.watched.remove(&self.domain);
        }
    }
}

type LifecycleCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;

unsafe extern "C" fn on_domain_event(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let began = [sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_RESUMED].contains(&(event as u32));
    let how = in_words(event, detail);
    if how.is_none() && !began {
        return 0;
    }
    // SAFETY: libvirt gives a domain that is good during this call; its name, a C string, lives as long. `opaque`
    // is what was registered, and not freed before `forget`.
    let (name, shared) = unsafe {
        let name = sys::virDomainGetName(domain);
        if name.is_null() {
            return 0;
        }
        (CStr::from_ptr(name), &*opaque.cast_const().cast::<Shared>())
    };
    match how {
        Some(how) => shared.ended(&name.to_string_lossy(), how),
        None => shared.started(&name.to_string_lossy()),
    }
    0
}

unsafe extern "C" fn on_connection_close(
    _connection: sys::virConnectPtr,
    reason: c_int,
    opaque: *mut c_void,
) {
    let why = match reason as sys::virConnectCloseReason {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => "end of file",
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "it did not answer",
        sys::VIR_CONNECT_CLOSE_REASON_CLIENT => "closed by us",
        _ => "an error on its socket",
    };
    // SAFETY: as above.
    unsafe { &*opaque.cast_const().cast::<Shared>() }.lost(why);
}

unsafe extern "C" fn forget(opaque: *mut c_void) {
    // SAFETY: the reference that was given away when this was registered.
    drop(unsafe { Arc::from_raw(opaque.cast_const().cast::<Shared>()) });
}

/// The text of an event after which a domain no longer runs; `None` for other events.
fn in_words(event: c_int, detail: c_int) -> Option<&'static str> {
    let detail = detail as u32;
    Some(match event as sys::virDomainEventType {
        sys::VIR_DOMAIN_EVENT_SUSPENDED => match detail {
            sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => "was paused by an I/O error on its disk",
            sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => "was paused by its watchdog",
            sys::VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR => "was paused by a libvirt call that failed",
            _ => "was paused",
        },
        sys::VIR_DOMAIN_EVENT_STOPPED => match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => "shut down",
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => "was destroyed",
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => "crashed",
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => "stopped: QEMU died",
            _ => "stopped",
        },
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => match detail {
            sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST => "was shut down or reset by its guest",
            sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST => "was shut down by a request of the host",
            _ => "is shutting down",
        },
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => "went to sleep",
        sys::VIR_DOMAIN_EVENT_CRASHED => "crashed: its kernel panicked",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const WHILE: Duration = Duration::from_millis(50);

    /// libvirt's driver for tests, which runs in this process, with a running domain named `test`.
    fn connection() -> Connect {
        virt::error::clear_error_callback();
        start_loop().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let domain =
            "<domain type='test'><name>test</name><memory>1024</memory><os><type>hvm</type></os></domain>";
        write!(file, "<node>{domain}</node>").unwrap();
        Connect::open(Some(&format!("test://{}", file.path().display()))).unwrap()
    }

    fn events(shared: &Arc<Shared>) -> impl Fn(&str) -> Watch {
        let shared = shared.clone();
        move |domain| {
            let (sender, end) = watch::channel(None);
            shared.domains().watched.insert(domain.into(), Watched { end: sender, to_come: false });
            Watch { domain: domain.into(), shared: shared.clone(), end }
        }
    }

    #[tokio::test]
    async fn a_paused_domain_is_reported_to_its_own_watch_only() {
        let connection = connection();
        let events = Events::of(&connection).unwrap();
        let (watch, other) = (events.watch("test"), events.watch("another"));
        assert!(timeout(WHILE, watch.end()).await.is_err(), "nothing has happened yet");
        connection.lookup_domain_by_name("test").unwrap().suspend().unwrap();
        let text = timeout(SOON, watch.end()).await.unwrap();
        assert_eq!(text, "the domain was paused");
        assert!(timeout(WHILE, other.end()).await.is_err());
    }

    #[tokio::test]
    async fn early_events_are_kept_and_the_first_end_counts() {
        let connection = connection();
        let events = Events::of(&connection).unwrap();
        let watch = events.watch("test");
        let domain = connection.lookup_domain_by_name("test").unwrap();
        domain.destroy().unwrap();
        domain.create().unwrap();
        domain.suspend().unwrap();
        for _ in 0..2 {
            assert_eq!(timeout(SOON, watch.end()).await.unwrap(), "the domain was destroyed");
        }
    }

    #[tokio::test]
    async fn a_watch_on_a_reused_name_reports_only_its_own_domain() {
        let connection = connection();
        let events = Events::of(&connection).unwrap();
        let mut watch = events.watch("test");
        let domain = connection.lookup_domain_by_name("test").unwrap();
        domain.suspend().unwrap();
        assert_eq!(timeout(SOON, watch.end()).await.unwrap(), "the domain was paused");
        watch = events.watch_next("test");
        // Of the last one, and late.
        domain.destroy().unwrap();
        assert!(timeout(WHILE, watch.end()).await.is_err());
        domain.create().unwrap();
        domain.suspend().unwrap();
        assert_eq!(timeout(SOON, watch.end()).await.unwrap(), "the domain was paused");
    }

    #[test]
    fn nothing_is_left_of_a_watch_that_is_dropped() {
        let events = Events::of(&connection()).unwrap();
        for n in 0..100 {
            drop(events.watch(&format!("bootrace-{n}")));
        }
        assert_eq!(events.shared.domains().watched.len(), 0);
    }

    // The driver for tests takes callbacks for closed connections and forgets to free them.
    #[tokio::test]
    #[ignore = "needs docker and libvirt: scripts/test runs it"]
    async fn nothing_is_left_of_a_connection_that_is_dropped() {
        start_loop().unwrap();
        let connection = Connect::open(Some(&super::super::Driver::Qemu.uri())).unwrap();
        let events = Events::of(&connection).unwrap();
        let shared = events.shared.clone();
        assert_eq!(Arc::strong_count(&shared), 4, "ours, the events', and one for each callback");
        drop((events, connection));
        // The loop's thread forgets it in its own time.
        for _ in 0..1000 {
            if Arc::strong_count(&shared) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("libvirt still holds {} references", Arc::strong_count(&shared) - 1);
    }

    #[tokio::test]
    async fn a_lost_connection_is_the_end_of_all_its_domains_also_of_those_to_come() {
        let shared = Arc::new(Shared::default());
        let of = events(&shared);
        let (ended, running) = (of("ended"), of("running"));
        shared.ended("ended", "crashed");
        // SAFETY: what is registered with libvirt is such a pointer.
        unsafe { on_connection_close(std::ptr::null_mut(), 1, Arc::as_ptr(&shared).cast_mut().cast()) };
        assert_eq!(ended.end().await, "the domain crashed");
        let lost = running.end().await;
        assert!(lost.starts_with("the connection to libvirt was lost (end of file)"), "{lost}");
        assert_eq!(shared.domains().lost, Some(lost));
    }

    #[test]
    fn events_after_which_a_domain_runs_are_no_end() {
        let runs =
            [sys::VIR_DOMAIN_EVENT_DEFINED, sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_RESUMED];
        assert!(runs.iter().all(|event| in_words(*event as c_int, 0).is_none()));
        assert_eq!(in_words(sys::VIR_DOMAIN_EVENT_STOPPED as c_int, 2), Some("crashed"));
    }
}
