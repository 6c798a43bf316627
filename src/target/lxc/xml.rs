//! The domain XML of an LXC container: the image's root, the agent as its first process, the control socket, and no
//! other device.

use std::path::Path;

use bootrace_agent::protocol::{AGENT_PATH, NONCE_VARIABLE, SOCKET_PATH};
use quick_xml::escape::escape;

use crate::{
    scenario::Bytes,
    target::{Cpus, libvirt::METADATA_URI},
};

pub struct Container<'a> {
    pub name: &'a str,
    pub nonce: &'a str,
    pub run: &'a str,
    pub memory: Bytes,
    /// Whether the limit can be set for memory and swap together, as Docker does.
    pub limit_swap: bool,
    pub cpus: &'a Cpus,
    /// The host's network instead of loopback alone.
    pub network: bool,
    pub root: &'a Path,
    pub socket: &'a Path,
}

impl Container<'_> {
    pub fn to_xml(&self) -> String {
        let path = |path: &Path| escape(path.to_string_lossy()).into_owned();
        let memory = self.memory.0;
        let swap = match self.limit_swap {
            true => format!("<swap_hard_limit unit='b'>{memory}</swap_hard_limit>"),
            false => String::new(),
        };
        // By default a libvirt container has the host's network.
        let network = if self.network { "" } else { "<privnet/>" };
        format!(
            "<domain type='lxc'>
  <name>{name}</name>
  <metadata><bootrace:run xmlns:bootrace='{METADATA_URI}'>{run}</bootrace:run></metadata>
  <memory unit='b'>{memory}</memory>
  <memtune><hard_limit unit='b'>{memory}</hard_limit>{swap}</memtune>
  <vcpu placement='static' cpuset='{cpus}'>{count}</vcpu>
  <os>
    <type arch='{arch}'>exe</type>
    <init>{AGENT_PATH}</init>
    <initenv name='{NONCE_VARIABLE}'>{nonce}</initenv>
  </os>
  <features>{network}</features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <filesystem type='mount'>
      <source dir='{root}'/>
      <target dir='/'/>
    </filesystem>
    <filesystem type='mount'>
      <source dir='{socket}'/>
      <target dir='{SOCKET_PATH}'/>
    </filesystem>
    <console type='pty'/>
  </devices>
</domain>
",
            name = escape(self.name),
            nonce = escape(self.nonce),
            run = escape(self.run),
            cpus = self.cpus.list(),
            count = self.cpus.count(),
            arch = std::env::consts::ARCH,
            root = path(self.root),
            socket = path(self.socket),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::libvirt::shape::shape;

    fn container(text: &str, network: bool, limit_swap: bool) -> String {
        Container {
            name: text,
            nonce: text,
            run: text,
            memory: Bytes(64 << 20),
            limit_swap,
            cpus: &Cpus(vec![2, 3]),
            network,
            root: Path::new(text),
            socket: Path::new(text),
        }
        .to_xml()
    }

    #[test]
    fn it_is_limited_and_bound_as_the_other_targets_are() {
        let xml = container("x", false, true);
        assert!(xml.contains("<hard_limit unit='b'>67108864</hard_limit>"), "{xml}");
        assert!(xml.contains("<swap_hard_limit unit='b'>67108864</swap_hard_limit>"), "{xml}");
        assert!(xml.contains("<vcpu placement='static' cpuset='2,3'>2</vcpu>"), "{xml}");
        assert!(xml.contains("<init>/usr/lib/bootrace/agent</init>"), "{xml}");
        assert!(!container("x", false, false).contains("swap"));
    }

    #[test]
    fn only_with_a_network_does_it_have_the_hosts() {
        assert!(container("x", false, true).contains("<privnet/>"));
        let with = container("x", true, true);
        assert!(!with.contains("privnet") && !with.contains("interface"), "{with}");
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "a'/><x y=\"&\"><!--";
        assert_eq!(shape(&container(hostile, false, true)), shape(&container("plain", false, true)));
        assert!(!container(hostile, false, true).contains(hostile));
    }
}
