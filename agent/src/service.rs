//! The agent as a service of the image's own systemd: in a VM that boots the image's whole system, or in a container
//! with systemd as PID 1. It finds out which by itself: a container has the socket, a VM the port.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bootrace_agent::protocol::SOCKET_PATH;

use crate::{channel::Channel, nonce, sys, vm};

/// The kernel's list of devices on the PCI bus. It is complete before the first program runs, so it shows without a
/// wait for a driver whether there is a device to wait for.
const PCI: &str = "/sys/bus/pci/devices";
/// virtio's vendor number, and its devices' numbers before and since version 1.
const VIRTIO: &str = "0x1af4";
const SERIAL: [&str; 2] = ["0x1003", "0x1043"];
const NETWORK_CARD: [&str; 2] = ["0x1000", "0x1041"];
/// Longest wait for udev to load the driver of the control port.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for udev to name the network interface.
const NAMING_TIMEOUT: Duration = Duration::from_secs(30);

/// The kernel's routes.
const ROUTES: &str = "/proc/net/route";
/// Longest wait for a system that joins its network by itself.
const ROUTED: Duration = Duration::from_secs(120);

/// The kind of instance that the agent runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A container, with the harness's socket.
    Container,
    /// A VM, with the control port; `network`: with a network card.
    Vm { network: bool },
}

/// The kind of this instance; `None` where no harness waits for an agent.
pub fn place() -> Option<Place> {
    let pci = Path::new(PCI);
    place_by(Path::new(SOCKET_PATH).exists(), has(pci, &SERIAL), has(pci, &NETWORK_CARD))
}

fn place_by(socket: bool, serial: bool, network: bool) -> Option<Place> {
    match (socket, serial) {
        (true, _) => Some(Place::Container),
        (false, true) => Some(Place::Vm { network }),
        (false, false) => None,
    }
}

/// Opens the stream to the harness. In a VM with a network it then joins the network, as a container has one from its
/// start. `own_network`: the system does that by itself, and the agent waits for it.
///
/// # Errors
/// When the stream can't be opened, or the network is not there in time.
pub fn open(place: Place, own_network: bool) -> Result<Channel, String> {
    match place {
        Place::Container => Channel::connect(Path::new(SOCKET_PATH), nonce::of_system())
            .map_err(|e| format!("connect to the harness at {SOCKET_PATH}: {e}")),
        Place::Vm { network } => {
            let events = sys::device_events().map_err(|e| format!("listen for device events: {e}"))?;
            let channel = vm::open_port(&events, DRIVER_TIMEOUT).map_err(|e| e.to_string())?;
            let joined = || if own_network { joined_by_the_system() } else { join() };
            if network && let Err(error) = joined() {
                // The log gets the error too.
                let _ = channel.writer().fail(&error);
                return Err(error);
            }
            Ok(channel)
        }
    }
}

/// Whether one of these virtio devices is on the bus.
fn has(bus: &Path, devices: &[&str]) -> bool {
    let Ok(entries) = fs::read_dir(bus) else { return false };
    entries.flatten().any(|entry| {
        let says = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        says("vendor").trim() == VIRTIO && devices.contains(&says("device").trim())
    })
}

fn joined_by_the_system() -> Result<(), String> {
    let deadline = Instant::now() + ROUTED;
    loop {
        let routes = fs::read_to_string(ROUTES).map_err(|e| format!("read {ROUTES}: {e}"))?;
        if has_default(&routes) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "wait for the network: the system has no default route after {ROUTED:?}; does its cloud-init set up DHCP?"
            ));
        }
        // No event reports that the system has set it up.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a line of `/proc/net/route` leads everywhere.
fn has_default(routes: &str) -> bool {
    routes.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

fn join() -> Result<(), String> {
    let deadline = Instant::now() + NAMING_TIMEOUT;
    let interface = loop {
        if let Some(name) = interface(Path::new("/sys/class/net"), Path::new("/run/udev/data")) {
            break name;
        }
        if Instant::now() > deadline {
            return Err(format!(
                "find the network interface: udev has named none after {NAMING_TIMEOUT:?}; has the image's kernel virtio_net?"
            ));
        }
        // No event of the kernel reports that udev has finished with a device.
        thread::sleep(Duration::from_millis(1));
    };
    vm::join_network(&interface).map_err(|e| e.to_string())
}

/// The interface with a device, once udev has renamed it: udev writes its data file after that.
fn interface(net: &Path, udev: &Path) -> Option<String> {
    fs::read_dir(net).ok()?.flatten().find_map(|entry| {
        let dir = entry.path();
        let index = fs::read_to_string(dir.join("ifindex")).ok()?;
        let named = dir.join("device").exists() && udev.join(format!("n{}", index.trim())).exists();
        named.then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("bootrace-service-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        fn write(&self, path: &str, content: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_agent_is_wanted_where_there_is_a_socket_or_a_virtio_serial_device_and_nowhere_else() {
        assert_eq!(place_by(false, false, true), None);
        assert_eq!(place_by(true, false, false), Some(Place::Container));
        assert_eq!(place_by(false, true, true), Some(Place::Vm { network: true }));
        let bus = Dir::new("pci");
        bus.write("0000:00:01.0/vendor", "0x8086\n");
        bus.write("0000:00:01.0/device", "0x1043\n");
        assert!(!has(&bus.0, &SERIAL), "another vendor's");
        bus.write("0000:00:02.0/vendor", "0x1af4\n");
        bus.write("0000:00:02.0/device", "0x1043\n");
        assert!(has(&bus.0, &SERIAL) && !has(&bus.0, &NETWORK_CARD));
        assert!(!has(&bus.0.join("none"), &SERIAL));
    }

    #[test]
    fn a_system_has_joined_its_network_when_it_has_a_default_route() {
        let head = "Iface\tDestination\tGateway \tFlags\n";
        let local = "eth0\t0002000A\t00000000\t0001\n";
        assert!(!has_default(head) && !has_default(&format!("{head}{local}")));
        assert!(has_default(&format!("{head}{local}eth0\t00000000\t0202000A\t0003\n")));
    }

    #[test]
    fn an_interface_counts_once_it_has_a_device_and_udev_is_through_with_it() {
        let dir = Dir::new("net");
        dir.write("net/lo/ifindex", "1\n");
        dir.write("net/enp1s0/ifindex", "2\n");
        dir.write("net/enp1s0/device/uevent", "");
        dir.write("udev/n1", "");
        let seen = || interface(&dir.0.join("net"), &dir.0.join("udev"));
        assert_eq!(seen(), None);
        dir.write("udev/n2", "");
        assert_eq!(seen().as_deref(), Some("enp1s0"));
    }
}
