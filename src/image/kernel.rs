//! Finds the kernel of a root file system, and the modules that the agent needs before it can mount a disk.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    io,
};

use crate::sys::rootfs::Rootfs;

/// Modules that the agent always needs: for the control channel, disk and file system.
const NEEDED: [&str; 4] = ["virtio_pci", "virtio_console", "virtio_blk", "ext4"];
/// The additional module for a scenario with a network.
const NETWORK: &str = "virtio_net";
/// The largest module list that is read, in bytes.
const MAX_LIST: u64 = 8 << 20;
/// The largest number of modules that the needed ones may depend on; a real kernel's need about twenty.
const MOST: usize = 256;

/// A kernel and the directory of its modules, as paths within the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub release: String,
    pub image: String,
    pub modules: String,
}

/// The newest kernel that has its modules; else the reason why there is none, with the fix.
pub(super) fn find(tree: &Rootfs) -> Result<Kernel, String> {
    let fix = "add the distribution's kernel to packages (linux-image-cloud-amd64 on Debian, linux-image-virtual \
                on Ubuntu)";
    let names = tree.list("boot").unwrap_or_default();
    let mut releases: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).collect();
    releases.sort_by(|a, b| by_version(a, b));
    let with_modules = releases.iter().rev().find_map(|release| {
        let modules = format!("lib/modules/{release}");
        tree.file(&format!("{modules}/modules.dep")).ok()?;
        let image = format!("boot/vmlinuz-{release}");
        Some(Kernel { release: release.to_string(), image, modules })
    });
    match (with_modules, releases.last()) {
        (Some(kernel), _) => Ok(kernel),
        (None, Some(release)) => Err(format!("/lib/modules/{release}/modules.dep is missing; {fix}")),
        (None, None) => Err(format!("there is no /boot/vmlinuz-*; {fix}")),
    }
}

/// Paths of the modules in load order, without built-in ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Modules {
    pub needed: Vec<String>,
    /// Modules to load after the others for a network; empty also if the kernel has no driver for one.
    pub network: Vec<String>,
}

/// Finds the modules that the agent must load.
pub(super) fn modules(tree: &Rootfs, kernel: &Kernel) -> Result<Modules, String> {
    let text = |name: &str| tree.read_text(&format!("{}/{name}", kernel.modules), MAX_LIST);
    let read = |name: &str| text(name).map_err(|error| format!("reading {}/{name}: {error}", kernel.modules));
    let optional = |name: &str| match text(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|error| format!("reading {}/{name}: {error}", kernel.modules)),
    };
    let lists = Lists {
        dep: read("modules.dep")?,
        builtin: read("modules.builtin")?,
        softdep: optional("modules.softdep")?,
        alias: optional("modules.alias")?,
    };
    let mut modules = lists.order().map_err(|why| format!("{why} (kernel {})", kernel.release))?;
    for path in modules.needed.iter_mut().chain(&mut modules.network) {
        *path = format!("{}/{path}", kernel.modules);
    }
    Ok(modules)
}

/// The kernel's name of a module: `ext4` for `kernel/fs/ext4/ext4.ko.zst`.
pub(super) fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, ending) = file.split_once(".ko")?;
    let fits = ["", ".xz", ".zst", ".gz"].contains(&ending)
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    fits.then(|| name.replace('-', "_"))
}

/// The files that `depmod` writes.
pub(crate) struct Lists {
    pub(crate) dep: String,
    pub(crate) builtin: String,
    pub(crate) softdep: String,
    pub(crate) alias: String,
}

impl Lists {
    /// The load order, with the paths of the lists.
    pub(crate) fn order(&self) -> Result<Modules, String> {
        let mut modules: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
        for line in self.dep.lines() {
            if let Some((path, deps)) = line.split_once(':')
                && let Some(name) = name(path)
            {
                modules.insert(name, (path, deps.split_whitespace().collect()));
            }
        }
        let built_in: BTreeSet<String> = self.builtin.lines().filter_map(name).collect();
        let (soft, aliases) = (self.soft(), self.aliases());
        let mut closure = Closure { modules, soft, aliases, order: Vec::new(), seen: BTreeSet::new() };
        for module in NEEDED {
            if closure.modules.contains_key(module) {
                closure.add(module)?;
            } else if !built_in.contains(module) {
                return Err(format!("it has no {module}, neither as a module nor built in"));
            }
        }
        let needed = closure.order.len();
        closure.add(NETWORK)?;
        let mut needed_then_network = closure.order.into_iter().map(str::to_string);
        Ok(Modules {
            needed: needed_then_network.by_ref().take(needed).collect(),
            network: needed_then_network.collect(),
        })
    }

    /// Soft dependencies: modules to load before a module although it needs none of their symbols, such as crc32c for
    /// ext4.
    fn soft(&self) -> BTreeMap<String, Vec<&str>> {
        let mut soft: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for line in self.softdep.lines() {
            let named = line.strip_prefix("softdep ").and_then(|rest| rest.split_once(' '));
            if let Some((name, rest)) = named
                && let Some((_, list)) = rest.split_once("pre:")
            {
                let list = list.split("post:").next().unwrap_or_default();
                soft.entry(name.replace('-', "_")).or_default().extend(list.split_whitespace());
            }
        }
        soft
    }

    /// The module of each alias. Prefers the generic one, which runs on every CPU, to faster variants.
    fn aliases(&self) -> BTreeMap<&str, &str> {
        let mut aliases: BTreeMap<&str, &str> = BTreeMap::new();
        for line in self.alias.lines() {
            let named = line.strip_prefix("alias ").and_then(|rest| rest.split_once(' '));
            let Some((alias, module)) = named.map(|(alias, module)| (alias, module.trim())) else { continue };
            let known = aliases.entry(alias).or_insert(module);
            if module.ends_with("_generic") && !known.ends_with("_generic") {
                *known = module;
            }
        }
        aliases
    }
}

struct Closure<'a> {
    modules: BTreeMap<String, (&'a str, Vec<&'a str>)>,
    soft: BTreeMap<String, Vec<&'a str>>,
    aliases: BTreeMap<&'a str, &'a str>,
    order: Vec<&'a str>,
    seen: BTreeSet<String>,
}

impl Closure<'_> {
    /// Adds the dependencies of `module`, then the module. The lists are an image's: their depth is bounded.
    fn add(&mut self, module: &str) -> Result<(), String> {
        if !self.modules.contains_key(module) || !self.seen.insert(module.to_string()) {
            return Ok(());
        }
        if self.seen.len() > MOST {
            return Err(format!("its {module} is one of more than {MOST} modules that a VM would need"));
        }
        for soft in self.soft.get(module).cloned().unwrap_or_default() {
            let mut soft = soft.replace('-', "_");
            if !self.modules.contains_key(&soft)
                && let Some(module) = self.aliases.get(soft.as_str())
            {
                soft = module.replace('-', "_");
            }
            self.add(&soft)?;
        }
        let Some((path, deps)) = self.modules.get(module).cloned() else { return Ok(()) };
        for dep in deps.into_iter().rev().filter_map(name) {
            self.add(&dep)?;
        }
        self.order.push(path);
        Ok(())
    }
}

/// Compares numbers in the text as numbers: 6.8.0-9 comes before 6.8.0-10.
pub(crate) fn by_version(a: &str, b: &str) -> Ordering {
    fn pieces(text: &str) -> Vec<(u64, &str)> {
        let numeric = |c: char| c.is_ascii_digit();
        let mut rest = text;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let digits = rest.find(|c| !numeric(c)).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let words = tail.find(numeric).unwrap_or(tail.len());
            pieces.push((number.parse().unwrap_or(u64::MAX), &tail[..words]));
            rest = &tail[words..];
            if number.is_empty() {
                pieces.pop();
                pieces.push((0, &tail[..words]));
            }
        }
        pieces
    }
    pieces(a).cmp(&pieces(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> Lists {
        Lists {
            dep: "kernel/drivers/virtio/virtio.ko.xz:\n\
                kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n\
                kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz\n\
                kernel/drivers/block/virtio-blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz\n\
                kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz\n\
                kernel/net/core/failover.ko.xz:\n\
                kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\n\
                kernel/fs/jbd2/jbd2.ko.xz:\n\
                kernel/fs/mbcache.ko.xz:\n\
                kernel/crypto/crc32c_generic.ko.xz:\n\
                kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n"
                .into(),
            builtin: "kernel/drivers/char/virtio_console.ko\n".into(),
            softdep: "# comment\nsoftdep ext4 pre: crc32c\nsoftdep other pre: jbd2 post: x\n".into(),
            alias: "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\n".into(),
        }
    }

    fn names(paths: &[String]) -> Vec<String> {
        paths.iter().filter_map(|path| name(path)).collect()
    }

    #[test]
    fn dependencies_come_first_once_each_and_built_in_modules_are_left_out() {
        let modules = lists().order().unwrap();
        let expected = [
            "virtio",
            "virtio_ring",
            "virtio_pci",
            "virtio_blk",
            "crc32c_generic",
            "mbcache",
            "jbd2",
            "ext4",
        ];
        assert_eq!(names(&modules.needed), expected);
        assert_eq!(names(&modules.network), ["failover", "virtio_net"]);
    }

    #[test]
    fn a_kernel_whose_network_driver_is_built_in_or_missing_has_none_to_load() {
        let mut lists = lists();
        lists.dep =
            lists.dep.lines().filter(|line| !line.contains("virtio_net")).collect::<Vec<_>>().join("\n");
        assert_eq!(lists.order().unwrap().network, Vec::<String>::new());
    }

    #[test]
    fn a_kernel_without_a_needed_driver_is_refused_by_its_name() {
        let mut lists = lists();
        lists.builtin.clear();
        assert_eq!(lists.order().unwrap_err(), "it has no virtio_console, neither as a module nor built in");
    }

    #[test]
    fn a_circle_ends() {
        let mut lists = lists();
        lists.dep = "a/ext4.ko: a/y.ko\na/y.ko: a/ext4.ko\n".into();
        lists.builtin = "virtio_pci.ko\nvirtio_console.ko\nvirtio_blk.ko\n".into();
        assert_eq!(lists.order().unwrap().needed, ["a/y.ko", "a/ext4.ko"]);
    }

    #[test]
    fn a_chain_that_no_kernel_has_is_refused_by_name_and_long_lists_take_no_time_for_each_module() {
        let mut lists = lists();
        let link = |n: usize| format!("k/a{n}.ko: k/a{}.ko\n", n + 1);
        lists.dep += &format!("k/ext4.ko: k/a0.ko\n{}", (0..100_000).map(link).collect::<String>());
        lists.softdep = "softdep x pre: y\n".repeat(100_000);
        assert!(lists.order().unwrap_err().contains("more than 256 modules"));
    }

    #[test]
    fn a_modules_name_is_the_kernels_and_a_strange_path_has_none() {
        assert_eq!(name("kernel/drivers/block/virtio-blk.ko.zst").as_deref(), Some("virtio_blk"));
        for odd in ["", "x", "a/.ko", "a/x.ko.exe", "a/../x y.ko"] {
            assert_eq!(name(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_newest_kernel_with_its_modules_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Rootfs::open(dir.path()).unwrap();
        assert!(
            find(&tree)
                .unwrap_err()
                .starts_with("there is no /boot/vmlinuz-*; add the distribution's kernel")
        );
        for release in ["6.8.0-9-virtual", "6.8.0-10-virtual", "6.8.0-11-virtual"] {
            tree.write(&format!("boot/vmlinuz-{release}"), b"kernel", 0o600).unwrap();
        }
        assert!(find(&tree).unwrap_err().starts_with("/lib/modules/6.8.0-11-virtual/modules.dep is missing"));
        for release in ["6.8.0-9-virtual", "6.8.0-10-virtual"] {
            tree.write(&format!("lib/modules/{release}/modules.dep"), b"", 0o644).unwrap();
        }
        assert_eq!(find(&tree).unwrap().release, "6.8.0-10-virtual");
    }

    #[test]
    fn versions_compare_by_their_numbers() {
        assert_eq!(by_version("6.1.0-9", "6.1.0-10"), Ordering::Less);
        assert_eq!(by_version("6.1.0-56-amd64", "6.1.0-56-cloud-amd64"), Ordering::Less);
        assert_eq!(by_version("6.10", "6.9"), Ordering::Greater);
        assert_eq!(by_version("", "6"), Ordering::Less);
    }
}
