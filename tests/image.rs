//! Images from each kind of source, in each form, in a cache of their own.

mod common;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Write},
    net::TcpListener,
    ops::Deref,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bollard::{
    Docker,
    auth::DockerCredentials,
    query_parameters::{
        CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
        PushImageOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    },
};
use bootrace::{
    agent,
    image::{self, Cache, Error, Forms, Image, Prune},
    scenario,
};
use common::cache::OwnCache;
use futures_util::TryStreamExt;

const NOTHING: Forms = Forms {
    tree: false,
    docker: false,
    podman: false,
    vm: false,
    systemd: false,
    initrd: false,
    bios: false,
    uefi: false,
    stock: false,
};
const ALL: Forms = Forms { tree: true, docker: true, vm: true, ..NOTHING };
const TREE: Forms = Forms { tree: true, ..NOTHING };
const DOCKER: Forms = Forms { docker: true, ..NOTHING };

/// A cache whose Docker images go with it.
struct Fixture(OwnCache);

impl Deref for Fixture {
    type Target = OwnCache;

    fn deref(&self) -> &OwnCache {
        &self.0
    }
}

impl Fixture {
    fn new() -> Fixture {
        Fixture(OwnCache::new())
    }

    fn in_cache(&self, part: &str) -> Vec<PathBuf> {
        fs::read_dir(self.cache.dir().join(part)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// A tiny root file system that differs from every other test's; with a kernel that only looks like one.
    fn root(&self, kernel: bool) -> PathBuf {
        let root = self.path("root");
        let write = |path: &str, content: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("etc/os-release", b"ID=tiny\nVERSION_CODENAME=one\n");
        write("etc/unique", self.dir.path().to_string_lossy().as_bytes());
        write("dev/leftover", b"");
        write("src/dev/kept", b"");
        write("bin/su", b"set-user-ID");
        fs::set_permissions(root.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
        write("home/file", b"owned");
        chown(root.join("home/file"), Some(1234), Some(5678)).unwrap();
        rustix::fs::setxattr(root.join("home/file"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
            .unwrap();
        if kernel {
            write("boot/vmlinuz-1.0-test", b"kernel");
            fs::set_permissions(root.join("boot/vmlinuz-1.0-test"), fs::Permissions::from_mode(0o600))
                .unwrap();
            let modules = "lib/modules/1.0-test";
            write(
                &format!("{modules}/modules.dep"),
                b"k/virtio.ko.gz:\nk/virtio_pci.ko.zst: k/virtio.ko.gz\nk/virtio_blk.ko: k/virtio.ko.gz\nk/ext4.ko.xz:\n",
            );
            write(&format!("{modules}/modules.builtin"), b"k/virtio_console.ko\n");
            for (name, packer) in [("virtio.ko", "gzip"), ("virtio_pci.ko", "zstd"), ("ext4.ko", "xz")] {
                write(&format!("{modules}/k/{name}"), name.as_bytes());
                let packer =
                    Command::new(packer).arg("-q").arg(root.join(modules).join("k").join(name)).status();
                assert!(packer.unwrap().success());
            }
            write(&format!("{modules}/k/virtio_blk.ko"), b"virtio_blk.ko");
        }
        root
    }

    fn tarball(&self, kernel: bool) -> scenario::Image {
        self.root(kernel);
        self.pack();
        scenario::Image { tarball: Some("root.tar.gz".into()), ..nothing() }
    }

    fn pack(&self) {
        let mut tar = Command::new("tar");
        tar.args(["--xattrs", "--sparse", "-czf"]).arg(self.path("root.tar.gz"));
        assert!(tar.arg("-C").arg(self.path("root")).arg(".").status().unwrap().success());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let cache = self.cache.clone();
        let prune = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(image::prune(&cache, Prune::All)).map(|_| ())
        };
        // A runtime can't be started within another.
        let pruned = std::thread::spawn(prune).join();
        if !std::thread::panicking() {
            pruned.unwrap().unwrap();
        }
    }
}

fn nothing() -> scenario::Image {
    scenario::Image { suite: None, fallback: None, ..scenario::Image::default() }
}

fn output(program: &str, args: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(args).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker and root: scripts/test runs it"]
async fn a_tarball_becomes_every_form_of_the_same_files() {
    let fixture = Fixture::new();
    let image = fixture.ensure(&fixture.tarball(true), ALL).await.unwrap();
    let digest = image.info.digest.as_str();
    assert_eq!((image.info.distribution.as_str(), image.info.suite.as_str()), ("tiny", "one"));
    assert_eq!(image.info.kernel.as_deref(), Some("1.0-test"));
    assert!(image.info.source.starts_with("tarball: "));
    assert!(!image.info.fallback);
    assert_eq!(image.agent_digest, agent::digest());

    let tree = image.tree.unwrap();
    let owned = fs::metadata(tree.join("home/file")).unwrap();
    assert_eq!((owned.uid(), owned.gid()), (1234, 5678));
    assert_eq!(fs::metadata(tree.join("bin/su")).unwrap().mode() & 0o7777, 0o4755);
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(tree.join("home/file"), "user.note", &mut note[..]).unwrap();
    assert_eq!(&note[..length], b"kept");
    assert_eq!(fs::read(tree.join("usr/lib/bootrace/agent")).unwrap(), agent::EXECUTABLE);
    assert_eq!(
        fs::read_to_string(tree.join("usr/lib/bootrace/image-digest")).unwrap(),
        format!("{digest}\n")
    );
    assert!(tree.join("run/bootrace").is_dir() && tree.join("src/dev/kept").exists());
    assert!(!tree.join("dev/leftover").exists());
    let way_in = fs::metadata(tree.parent().unwrap()).unwrap();
    assert_eq!(way_in.mode() & 0o777, 0o700, "other users can run the image's set-user-ID programs");

    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    let reference = image.docker.unwrap();
    assert_eq!(reference, format!("bootrace:{}", &digest[..16]));
    let labels = docker.inspect_image(&reference).await.unwrap().config.unwrap().labels.unwrap();
    assert_eq!(labels[image::DOCKER_LABEL], digest);

    let vm = image.vm.unwrap();
    for file in [&vm.disk, &vm.overlay, &vm.kernel, &vm.initramfs] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o644, "{}", file.display());
    }
    assert_eq!(
        output("debugfs", &["-R", "cat /usr/lib/bootrace/image-digest"], &vm.disk),
        format!("{digest}\n")
    );
    let stat = output("debugfs", &["-R", "stat /home/file"], &vm.disk);
    assert!(stat.contains("User:  1234   Group:  5678") && stat.contains("user.note"), "{stat}");
    let groups = output("dumpe2fs", &[], &vm.disk);
    let uninitialised: Vec<&str> = groups
        .lines()
        .filter(|line| line.starts_with("Group ") && line.contains("csum") && !line.contains("ITABLE_ZEROED"))
        .collect();
    assert!(
        uninitialised.is_empty(),
        "the guest's kernel would write these while measured: {uninitialised:?}"
    );
    let overlay = output("qemu-img", &["info"], &vm.overlay);
    assert!(overlay.contains(&format!("backing file: {}", vm.disk.display())), "{overlay}");
    assert_eq!(fs::read(&vm.kernel).unwrap(), b"kernel");
    let initramfs = String::from_utf8_lossy(&fs::read(&vm.initramfs).unwrap()).into_owned();
    for (number, name) in ["virtio", "virtio_pci", "virtio_blk", "ext4"].iter().enumerate() {
        // Name, end of string, padding, content: each module is there unpacked.
        let entry = format!("modules/{number:02}-{name}.ko\0");
        let content = initramfs.split(&entry).nth(1).unwrap_or_else(|| panic!("no {entry}"));
        assert!(content.trim_start_matches('\0').starts_with(&format!("{name}.ko")), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker and root: scripts/test runs it"]
async fn a_second_build_makes_only_the_lost_parts() {
    let fixture = Fixture::new();
    let spec = fixture.tarball(true);
    let first = fixture.ensure(&spec, ALL).await.unwrap();
    let inodes = |image: &Image| {
        let vm = image.vm.as_ref().unwrap();
        [image.tree.as_ref().unwrap(), &vm.disk].map(|path| fs::metadata(path).unwrap().ino())
    };
    let made = inodes(&first);
    fixture.said();
    let second = fixture.ensure(&spec, ALL).await.unwrap();
    assert_eq!(fixture.said(), [] as [&str; 0]);
    assert_eq!(inodes(&second), made);
    assert_eq!(second.info, first.info);

    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    let reference = first.docker.as_ref().unwrap();
    docker.remove_image(reference, None::<RemoveImageOptions>, None).await.unwrap();
    File::options().write(true).open(&first.vm.as_ref().unwrap().disk).unwrap().set_len(4096).unwrap();
    let third = fixture.ensure(&spec, ALL).await.unwrap();
    docker.inspect_image(third.docker.as_ref().unwrap()).await.unwrap();
    assert_eq!(inodes(&third)[0], made[0]);
    assert!(fs::metadata(&third.vm.as_ref().unwrap().disk).unwrap().len() > 4096);
    assert_eq!(third.info, first.info);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn of_two_that_want_the_same_image_one_makes_it_and_the_other_waits() {
    let fixture = Fixture::new();
    let spec = fixture.tarball(true);
    // The kernel's locks tell processes and threads with files of their own apart alike.
    let ensure = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(fixture.ensure(&spec, Forms { vm: true, ..TREE })).unwrap()
    };
    let images = std::thread::scope(|scope| {
        [scope.spawn(ensure), scope.spawn(ensure)].map(|thread| thread.join().unwrap())
    });
    assert_eq!(images[0].info, images[1].info);
    let said = fixture.said();
    let count = |start: &str| said.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("made the root file system"), 1, "{said:?}");
    assert_eq!(count("made the VM's files"), 1, "{said:?}");
    assert!(count("another bootrace is making") > 0, "{said:?}");
    assert_eq!(fixture.in_cache("tmp"), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: scripts/test runs it"]
async fn an_image_without_kernel_does_for_a_bare_process_and_a_vm_names_the_missing_package() {
    let fixture = Fixture::new();
    let spec = fixture.tarball(false);
    let error = fixture.ensure(&spec, Forms { vm: true, ..TREE }).await.unwrap_err().to_string();
    assert!(
        error.contains("there is no /boot/vmlinuz-*; add the distribution's kernel to packages"),
        "{error}"
    );
    let image = fixture.ensure(&spec, TREE).await.unwrap();
    assert_eq!(image.info.kernel, None);
    assert!(image.vm.is_none() && image.docker.is_none());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and GRUB: scripts/test runs it"]
async fn a_whole_system_boots_from_a_disk_with_a_loader_and_a_missing_part_is_named() {
    const SYSTEM: Forms = Forms { vm: true, systemd: true, initrd: true, bios: true, ..NOTHING };
    let fixture = Fixture::new();
    let error = fixture.ensure(&fixture.tarball(true), SYSTEM).await.unwrap_err().to_string();
    assert!(
        error.contains("it has no systemd (/usr/lib/systemd/systemd); add the package systemd-sysv"),
        "{error}"
    );
    for (path, missing) in [
        ("usr/lib/systemd/systemd", "it has no /sbin/init"),
        ("sbin/init", "it has no udev"),
        ("usr/lib/systemd/systemd-udevd", "it has no initrd of its kernel: /boot/initrd.img-1.0-test"),
    ] {
        let file = fixture.path("root").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, path).unwrap();
        let error = fixture.ensure(&fixture.tarball(false), SYSTEM).await.unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
    fs::write(fixture.path("root/boot/initrd.img-1.0-test"), "initrd").unwrap();
    let spec = fixture.tarball(false);
    let image = fixture.ensure(&spec, SYSTEM).await.unwrap();
    let system = image.vm.as_ref().unwrap().system.clone().unwrap();
    assert_eq!(fs::read(&system.initrd).unwrap(), b"initrd");
    let overlay = system.bios.unwrap();
    let disk = overlay.with_file_name("disk.raw");
    let mut front = vec![0; 1 << 20];
    File::open(&disk).unwrap().read_exact(&mut front).unwrap();
    assert_eq!(front[510..512], [0x55, 0xaa]);
    let same = |skipped: &str, one: &Path, other: &Path| {
        Command::new("cmp").args(["-s", "-i", skipped]).args([one, other]).status().unwrap().success()
    };
    let plain = &image.vm.as_ref().unwrap().disk;
    assert!(same("1048576:0", &disk, plain), "the partition is the very file system of the other VMs");
    assert!(!same("0:0", &disk, plain));
    let text = String::from_utf8_lossy(&front[512..]).into_owned();
    // GRUB packs its core; that there is one is all that can be seen of it.
    assert!(text.trim_end_matches('\0').len() > 20_000);
    assert!(system.command_line.starts_with("root=UUID=") && system.command_line.contains(" rw "));

    let stored = image::list(&fixture.cache, &|line| panic!("{line}")).await.unwrap();
    assert!(stored[0].forms.contains(&"bios") && !stored[0].forms.contains(&"uefi"), "{:?}", stored[0].forms);
    fixture.said();
    fixture.ensure(&spec, SYSTEM).await.unwrap();
    assert_eq!(fixture.said(), [] as [&str; 0]);
    let before = fixture.path("before");
    fs::rename(&disk, &before).unwrap();
    fixture.ensure(&spec, SYSTEM).await.unwrap();
    assert!(same("0:0", &disk, &before), "the same image has the same disk");
    assert!(image::verify(&fixture.cache).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: scripts/test runs it"]
async fn a_root_that_engines_would_read_differently_is_refused_by_name_and_leaves_no_parts() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 5] = [
        ("/etc is a symbolic link to /real, and each engine", |root| {
            fs::rename(root.join("etc"), root.join("real")).unwrap();
            symlink("/real", root.join("etc")).unwrap();
        }),
        ("take /home/.wh.file for the deletion of another file", |root| {
            fs::write(root.join("home/.wh.file"), "").unwrap();
        }),
        ("overlays take /home/node, a character device 0:0, for the deletion", |root| {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, root.join("home/node"), kind, mode, 0).unwrap();
        }),
        ("bytes of holes, 2147483648 of them in /home/lastlog, and container engines", |root| {
            File::create(root.join("home/lastlog")).unwrap().set_len(2 << 30).unwrap();
        }),
        // More than any disk has, and a few bytes of archive.
        ("its files take ", |root| {
            File::create(root.join("home/lastlog")).unwrap().set_len(7 << 40).unwrap();
        }),
    ];
    for (words, spoil) in cases {
        let fixture = Fixture::new();
        let spec = fixture.tarball(false);
        spoil(&fixture.path("root"));
        fixture.pack();
        let error = fixture.ensure(&spec, TREE).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the root file system of the tarball ") && error.contains(words),
            "{error}"
        );
        assert!(error.contains("fix: "), "{error}");
        assert_eq!(fixture.in_cache("tmp"), [] as [PathBuf; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: scripts/test runs it"]
async fn a_broken_archive_makes_no_image_and_leaves_no_parts() {
    let fixture = Fixture::new();
    let spec = fixture.tarball(false);
    let whole = fs::read(fixture.path("root.tar.gz")).unwrap();
    for content in [&whole[..whole.len() / 2], b"this is no archive"] {
        fs::write(fixture.path("root.tar.gz"), content).unwrap();
        let error = fixture.ensure(&spec, TREE).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the root file system of the tarball ") && error.contains("root.tar.gz: "),
            "{error}"
        );
        assert!(error.contains("it can't be unpacked, tar ended with exit code 2: "), "{error}");
        assert_eq!(fixture.in_cache("tmp"), [] as [PathBuf; 0]);
        assert!(image::list(&fixture.cache, &|line| panic!("{line}")).await.unwrap().is_empty());
    }
    fs::write(fixture.path("root.tar.gz"), &whole).unwrap();
    let image = fixture.ensure(&spec, TREE).await.unwrap();

    // The same for an archive that was sound once.
    for base in fixture.in_cache("bases") {
        let tar = base.join("base.tar");
        fs::write(&tar, vec![0xff; fs::metadata(&tar).unwrap().len() as usize]).unwrap();
    }
    fs::remove_dir_all(image.tree.as_ref().unwrap().parent().unwrap()).unwrap();
    let error = fixture.ensure(&spec, TREE).await.unwrap_err().to_string();
    assert!(error.contains("its archive in the cache was damaged and is removed now: try again"), "{error}");
    assert_eq!(fixture.ensure(&spec, TREE).await.unwrap().info, image.info);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker and root: scripts/test runs it"]
async fn an_image_is_listed_checked_and_pruned_but_not_while_a_run_has_it() {
    let fixture = Fixture::new();
    let image = fixture.ensure(&fixture.tarball(true), ALL).await.unwrap();
    let listed = image::list(&fixture.cache, &|line| panic!("{line}")).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].digest, image.info.digest);
    assert_eq!((listed[0].suite.as_str(), &listed[0].forms[..]), ("tiny/one", &["tree", "docker", "vm"][..]));
    assert!(listed[0].current && listed[0].bytes > 0);

    assert_eq!(image::verify(&fixture.cache).unwrap(), [] as [&str; 0]);
    let kernel = &image.vm.as_ref().unwrap().kernel;
    fs::write(kernel, b"KERNEL").unwrap();
    let wrong = image::verify(&fixture.cache).unwrap();
    assert!(wrong.len() == 1 && wrong[0].contains("vmlinuz: sha256 is"), "{wrong:?}");

    let digest = image.info.digest.clone();
    assert_eq!(image::prune(&fixture.cache, Prune::All).await.unwrap().in_use, [digest.as_str()]);
    assert!(image.tree.as_ref().unwrap().is_dir());
    let reference = image.docker.clone().unwrap();
    drop(image);
    assert_eq!(image::prune(&fixture.cache, Prune::Stale).await.unwrap().removed, [] as [&str; 0]);
    let (commit, clone) = ("0123abcd".repeat(5) + "-0123456789ab", "0123456789abcdef");
    let of_a_user = [
        "builds/mine/x",
        "builds/clones/mine/x",
        "images/mine/x",
        "bases/mine/x",
        "choices/mine.json",
        "tmp/mine/x",
    ];
    let made = [format!("builds/{commit}/bootrace"), format!("builds/clones/{clone}/target/x")];
    for made in of_a_user.into_iter().chain(made.iter().map(String::as_str)) {
        let made = fixture.cache.dir().join(made);
        fs::create_dir_all(made.parent().unwrap()).unwrap();
        fs::write(made, b"").unwrap();
    }
    let pruned = image::prune(&fixture.cache, Prune::All).await.unwrap();
    for built in [format!("build of {commit}"), format!("build directory {clone}")] {
        assert!(pruned.removed.contains(&built), "{pruned:?}");
    }
    for made in of_a_user {
        assert!(fixture.cache.dir().join(made).exists(), "{made}: {pruned:?}");
        let made = fixture.cache.dir().join(made);
        fs::remove_file(&made).unwrap();
        if let Some(dir) = made.parent().filter(|dir| dir.ends_with("mine")) {
            fs::remove_dir(dir).unwrap();
        }
    }
    assert!(pruned.removed.contains(&digest) && pruned.in_use.is_empty(), "{pruned:?}");
    for part in ["images", "bases", "tmp", "choices"] {
        assert_eq!(fixture.in_cache(part), [] as [PathBuf; 0], "{part}");
    }
    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    assert!(docker.inspect_image(&reference).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs podman and root: scripts/test runs it"]
async fn an_import_leaves_no_archive_in_podmans_temporary_directories() {
    let archives = || -> Vec<PathBuf> {
        let entries = ["/var/tmp", "/tmp"].map(|dir| fs::read_dir(dir).unwrap());
        let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        let is_podmans = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("api_load") || name.starts_with("libpod")
        };
        paths.filter(is_podmans).collect()
    };
    let fixture = Fixture::new();
    let before = archives();
    let image = fixture.ensure(&fixture.tarball(false), Forms { podman: true, ..NOTHING }).await.unwrap();
    assert!(image.podman.unwrap().starts_with("bootrace:"));
    assert_eq!(archives(), before);
}

/// A registry on a port of its own, gone when dropped.
struct Registry {
    address: String,
    server: Child,
}

impl Registry {
    fn start(fixture: &Fixture) -> Registry {
        Registry::start_with(fixture, "")
    }

    /// `more`: further settings of the registry, as lines of YAML.
    fn start_with(fixture: &Fixture, more: &str) -> Registry {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let storage = fixture.path("registry");
        let config = fixture.path("registry.yml");
        let mut file = File::create(&config).unwrap();
        write!(
            file,
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {free}}}\n{more}",
            storage.display()
        )
        .unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = server.expect("docker-registry can be started: its Debian package has the same name");
        Registry { address: free.to_string(), server }
    }

    async fn answers(&self) {
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker, docker-registry and root: scripts/test runs it"]
async fn a_registrys_image_is_pulled_and_a_missing_one_is_reported() {
    let fixture = Fixture::new();
    let registry = Registry::start(&fixture);
    registry.answers().await;
    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    let name = format!("{}/tiny", registry.address);
    let reference = format!("{name}:1");

    let tar = fixture.path("layer.tar");
    let root = fixture.root(false);
    assert!(
        Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(root).arg(".").status().unwrap().success()
    );
    let body = bollard::body_full(fs::read(&tar).unwrap().into());
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(&name).tag("1").build();
    let imported: Vec<_> = docker.create_image(Some(options), Some(body), None).try_collect().await.unwrap();
    assert!(!imported.is_empty());
    let options = PushImageOptionsBuilder::new().tag("1").build();
    let _pushed: Vec<_> = docker.push_image(&name, Some(options), None).try_collect().await.unwrap();
    let remove = || RemoveImageOptionsBuilder::new().force(true).build();
    docker.remove_image(&reference, Some(remove()), None).await.unwrap();

    let spec = scenario::Image { registry: Some(reference.clone()), ..nothing() };
    let image = fixture.ensure(&spec, Forms { docker: true, ..TREE }).await.unwrap();
    let tree = image.tree.as_ref().unwrap();
    assert_eq!(fs::metadata(tree.join("home/file")).unwrap().uid(), 1234);
    assert!(!tree.join(".dockerenv").exists());
    assert!(image.info.source.starts_with(&format!("registry: {name}@sha256:")), "{}", image.info.source);
    assert_eq!((image.info.distribution.as_str(), image.info.kernel.as_ref()), ("tiny", None));

    // No shell in it: packages can't be added, and the container is gone all the same.
    let with_packages = scenario::Image { packages: vec!["hello".into()], ..spec.clone() };
    let error = fixture.ensure(&with_packages, DOCKER).await.unwrap_err().to_string();
    assert!(
        error.starts_with("Docker would not start the container that packages are added in: "),
        "{error}"
    );
    let options = ListContainersOptionsBuilder::new().all(true);
    let filters = HashMap::from([("ancestor", vec![reference.as_str()])]);
    let containers = docker.list_containers(Some(options.filters(&filters).build())).await.unwrap();
    assert!(containers.is_empty(), "{containers:?}");

    let missing = scenario::Image { registry: Some(format!("{name}:2")), ..nothing() };
    let error = fixture.ensure(&missing, DOCKER).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{name}:2 is not available")) && error.contains("not found"), "{error}");
    docker.remove_image(&reference, Some(remove()), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker, docker-registry and root: scripts/test runs it"]
async fn a_registry_that_needs_a_login_is_sent_that_of_docker_login_and_nothing_shows_it() {
    let fixture = Fixture::new();
    let users = fixture.path("users");
    // s3cret, by bcrypt.
    fs::write(&users, "me:$2b$04$TtY/nMjRO8XSFMmCfQ9OIe4FFszYZ.t/l0sSKr1bWeUnkG9cdUWqa\n").unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
    let registry = Registry::start_with(&fixture, &auth);
    registry.answers().await;
    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    let name = format!("{}/tiny", registry.address);
    let tar = fixture.path("layer.tar");
    let root = fixture.root(false);
    assert!(
        Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(root).arg(".").status().unwrap().success()
    );
    let body = bollard::body_full(fs::read(&tar).unwrap().into());
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(&name).tag("1").build();
    let _: Vec<_> = docker.create_image(Some(options), Some(body), None).try_collect().await.unwrap();
    let credentials = DockerCredentials {
        username: Some("me".into()),
        password: Some("s3cret".into()),
        ..DockerCredentials::default()
    };
    let options = PushImageOptionsBuilder::new().tag("1").build();
    let _: Vec<_> = docker.push_image(&name, Some(options), Some(credentials)).try_collect().await.unwrap();
    let remove = || RemoveImageOptionsBuilder::new().force(true).build();
    let reference = format!("{name}:1");
    docker.remove_image(&reference, Some(remove()), None).await.unwrap();

    let scenario = fixture.path("x.toml");
    let text = format!(
        "name = \"x\"\n[image]\nregistry = \"{reference}\"\n[workload]\ncommand = [\"true\"]\n\
         ready = {{ exit = 0 }}\n[[target]]\nkind = \"docker\"\n"
    );
    fs::write(&scenario, text).unwrap();
    // Has the login of the registry that it is asked for, in a place that is not its own settings.
    let helper = fixture.path("docker-credential-test");
    let script = format!(
        "#!/bin/sh\n[ \"$1 $(cat)\" = \"get {}\" ] && echo '{{\"Username\":\"me\",\"Secret\":\"s3cret\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let build = |settings: &str| {
        let dir = fixture.path("settings");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), settings).unwrap();
        let mut build = common::bootrace(&["image", "build"]);
        build.arg(&scenario).env("DOCKER_CONFIG", dir).env("PATH", &path).env("RUST_LOG", "trace");
        let output = build.env("BOOTRACE_CACHE", fixture.cache.dir()).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        // In base64: "me:s3cret", and "s3cret" at each place of the header.
        for secret in ["s3cret", "bWU6czNjcmV0", "czNjcmV0", "MzY3Jld", "zM2NyZX"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        (output.status.code(), shown)
    };
    let (code, shown) = build("{}");
    let none = format!("config.json has no login for {}, which `docker login` makes", registry.address);
    assert!(code == Some(1) && shown.contains(&none), "{shown}");
    let (code, shown) = build(r#"{"credsStore":"gone"}"#);
    let asked = "it was asked without a login: docker-credential-gone gave no login for ";
    assert!(code == Some(1) && shown.contains(asked), "{shown}");
    let wrong = format!(r#"{{"auths":{{"{}":{{"username":"me","password":"other"}}}}}}"#, registry.address);
    let (code, shown) = build(&wrong);
    let asked = format!("it was asked with the login for {} of ", registry.address);
    assert!(code == Some(1) && shown.contains(&asked), "{shown}");
    for settings in [
        r#"{"credsStore":"test"}"#.to_owned(),
        format!(r#"{{"credsStore":"gone","credHelpers":{{"{}":"test"}}}}"#, registry.address),
        format!(r#"{{"auths":{{"{}":{{"auth":"bWU6czNjcmV0"}}}}}}"#, registry.address),
    ] {
        let (code, shown) = build(&settings);
        assert_eq!(code, Some(0), "{settings}: {shown}");
        image::prune(&fixture.cache, Prune::All).await.unwrap();
        docker.remove_image(&reference, Some(remove()), None).await.unwrap();
    }
}

/// Copies a program of this host into a root, with its libraries.
fn copy_program(root: &Path, name: &str) {
    let program = fs::canonicalize(Path::new("/bin").join(name)).unwrap();
    let libraries = output("ldd", &[], &program);
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    for file in libraries.chain([program.clone()]) {
        let inside = match file == program {
            true => root.join("bin").join(name),
            false => root.join(file.strip_prefix("/").unwrap()),
        };
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(&file, inside).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker and root: scripts/test runs it"]
async fn packages_keep_what_they_write_into_a_volume_and_see_nothing_of_the_images_environment() {
    let fixture = Fixture::new();
    let root = fixture.root(false);
    ["sh", "rm"].iter().for_each(|name| copy_program(&root, name));
    // Stands for the package manager, since no archive may be needed: its own variables show which it was given.
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    let script = "#!/bin/sh\necho \"$PATH|$LD_PRELOAD|$ODD\" >/data/seen\n";
    fs::write(root.join("usr/bin/apt-get"), script).unwrap();
    fs::set_permissions(root.join("usr/bin/apt-get"), fs::Permissions::from_mode(0o755)).unwrap();
    let tar = fixture.path("volume.tar");
    assert!(
        Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(root).arg(".").status().unwrap().success()
    );
    let docker = Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    let reference = "bootrace-test-volume:1";
    let changes = ["VOLUME /data", "ENV PATH=/srv/app LD_PRELOAD=/x.so ODD=1", "USER 1000:1000"];
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(reference)
        .changes(changes.map(String::from).to_vec())
        .build();
    let body = bollard::body_full(fs::read(&tar).unwrap().into());
    let _: Vec<_> = docker.create_image(Some(options), Some(body), None).try_collect().await.unwrap();
    let spec =
        scenario::Image { registry: Some(reference.into()), packages: vec!["odd".into()], ..nothing() };
    let image = fixture.ensure(&spec, TREE).await;
    let remove = RemoveImageOptionsBuilder::new().force(true).build();
    docker.remove_image(reference, Some(remove), None).await.unwrap();
    let seen = fs::read_to_string(image.unwrap().tree.unwrap().join("data/seen")).unwrap();
    let path = seen.strip_suffix("||\n").unwrap_or_else(|| panic!("{seen}"));
    assert!(path.split(':').any(|dir| dir == "/usr/bin") && !path.contains("/srv/app"), "{seen}");
    let filters = HashMap::from([("label", vec![image::BUILD_LABEL])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    assert_eq!(docker.list_containers(Some(options)).await.unwrap(), []);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    assert_eq!(docker.list_images(Some(options)).await.unwrap(), []);
}

fn processes_of(cache: &Cache) -> usize {
    let needle = cache.dir().join("tmp").to_string_lossy().into_owned();
    let environs = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        fs::read(format!("/proc/{pid}/environ")).ok()
    });
    environs.filter(|environ| String::from_utf8_lossy(environ).contains(&needle)).count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, mmdebstrap and a Debian mirror: scripts/test runs it"]
async fn a_build_that_is_given_up_leaves_no_process_no_mount_and_no_entry() {
    let fixture = Fixture::new();
    let spec = scenario::Image { suite: Some("debian/bookworm".into()), ..nothing() };
    let unpacking = async {
        // mmdebstrap, apt and dpkg, and something written.
        while processes_of(&fixture.cache) < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        image = fixture.ensure(&spec, TREE) => panic!("it was not given up: {image:?}"),
        () = unpacking => {}
    }
    assert_eq!(processes_of(&fixture.cache), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*fixture.cache.dir().to_string_lossy()), "{mounts}");
    for part in ["tmp", "bases", "images"] {
        assert_eq!(fixture.in_cache(part), [] as [PathBuf; 0], "{part}");
    }
}

/// The supervisor of what a process builds with.
fn supervisor_of(parent: u32) -> Option<i32> {
    let children = fs::read_dir(format!("/proc/{parent}/task"))
        .unwrap()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = children
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    let named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "bootrace-super")
    };
    children.into_iter().find(named)
}

#[test]
#[ignore = "needs root, mmdebstrap and a Debian mirror: scripts/test runs it"]
fn a_killed_build_ends_with_all_that_it_started_and_clean_finds_the_rest() {
    use rustix::process::{Pid, Signal, kill_process};
    // Nothing but the pipe tells the supervisor; without a supervisor nothing does.
    for supervisor_too in [false, true] {
        let fixture = Fixture::new();
        let scenario = fixture.path("test.toml");
        fs::write(
            &scenario,
            "name = \"test\"\n[image]\nsuite = \"debian/bookworm\"\n[workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n[[target]]\n\
             kind = \"native\"\n",
        )
        .unwrap();
        let bootrace = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
            command.args(arguments).env("BOOTRACE_CACHE", fixture.cache.dir());
            command
        };
        let mut build = bootrace(&["image", "build"]).arg(&scenario).spawn().unwrap();
        while processes_of(&fixture.cache) < 4 {
            assert_eq!(build.try_wait().unwrap(), None);
            std::thread::sleep(Duration::from_millis(20));
        }
        let supervisor = Pid::from_raw(supervisor_of(build.id()).unwrap()).unwrap();
        if supervisor_too {
            kill_process(supervisor, Signal::KILL).unwrap();
        }
        build.kill().unwrap();
        build.wait().unwrap();
        if !supervisor_too {
            // As long as it takes: the supervisor ends when nothing is left.
            let ended = |pid: Pid| {
                let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
                status.map_or(true, |status| status.contains("State:\tZ"))
            };
            while !ended(supervisor) {
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(processes_of(&fixture.cache), 0);
        }
        // The base's directory, and mmdebstrap's.
        let unfinished = fixture.in_cache("tmp");
        assert!(!unfinished.is_empty());
        let cleaned = bootrace(&["clean"]).output().unwrap();
        let said = String::from_utf8_lossy(&cleaned.stdout).into_owned();
        assert!(cleaned.status.success(), "{said}{}", String::from_utf8_lossy(&cleaned.stderr));
        for dir in unfinished {
            assert!(said.contains(&format!("removed unfinished build {}", dir.display())), "{said}");
        }
        assert_eq!(fixture.in_cache("tmp"), [] as [PathBuf; 0]);
        // What was killed before it had the name of its directory ends by itself: it has lost that, and its parent.
        for _ in 0..3000 {
            if processes_of(&fixture.cache) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(processes_of(&fixture.cache), 0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*fixture.cache.dir().to_string_lossy()), "{mounts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker, root, mmdebstrap and a Debian mirror: scripts/test runs it"]
async fn a_mirror_that_does_not_answer_means_the_fallback_which_is_said_each_time() {
    let fixture = Fixture::new();
    let spec = scenario::Image {
        // Nothing listens there. The keyring is only there to be found.
        mirror: Some("http://127.0.0.1:9/ubuntu".into()),
        keyring: Some("/usr/share/keyrings/debian-archive-keyring.gpg".into()),
        ..scenario::Image::default()
    };
    let image = fixture.ensure(&spec, ALL).await.unwrap();
    let reason = image.info.fallback_reason.clone().unwrap();
    assert!(
        reason.starts_with("ubuntu/noble from http://127.0.0.1:9/ubuntu is not available: mmdebstrap ended")
    );
    assert!(reason.contains("Could not connect to 127.0.0.1:9"), "{reason}");
    assert!(image.info.fallback);
    assert_eq!((image.info.distribution.as_str(), image.info.suite.as_str()), ("debian", "bookworm"));
    assert!(!image.info.source.contains("127.0.0.1"), "{}", image.info.source);
    assert!(image.info.kernel.as_ref().unwrap().contains("cloud"), "{:?}", image.info.kernel);
    let said = fixture.said();
    assert!(
        said.iter().any(|line| line.starts_with("using debian/bookworm in its place: ubuntu/noble")),
        "{said:?}"
    );

    let tree = image.tree.as_ref().unwrap();
    assert!(!tree.join("etc/apt/apt.conf.d/99mmdebstrap").exists(), "the build's options are still in it");
    assert!(fs::metadata(tree.join("tmp")).unwrap().mode() & 0o1000 != 0);
    let initramfs = fs::read(&image.vm.as_ref().unwrap().initramfs).unwrap();
    let initramfs = String::from_utf8_lossy(&initramfs);
    let at = |name: &str| initramfs.find(&format!("-{name}.ko\0")).unwrap_or_else(|| panic!("no {name}"));
    for module in ["virtio_pci", "virtio_console", "virtio_blk"] {
        assert!(at("virtio_ring") < at(module) && at("virtio") < at(module), "{module}");
    }
    for module in ["failover", "net_failover", "virtio_net"] {
        // Apart, so that a VM without a network doesn't load them.
        let place = &initramfs[at(module) - "modules-network/00".len()..at(module)];
        assert!(place.starts_with("modules-network/"), "{module}: {place}");
        assert!(at(module) <= at("virtio_net"), "{module}");
    }

    let again = fixture.ensure(&spec, ALL).await.unwrap();
    assert_eq!(again.info, image.info);
    let said = fixture.said();
    assert!(
        said.len() == 1
            && said[0].starts_with("using debian/bookworm in its place until ")
            && said[0].contains(" UTC, or bootrace image build --refresh: ubuntu/noble"),
        "{said:?}"
    );
    image::forget_failure(&spec, fixture.dir.path(), &fixture.cache).unwrap();
    fixture.ensure(&spec, TREE).await.unwrap();
    assert!(
        fixture.said()[0].starts_with("making the root file system: ubuntu/noble"),
        "it was not asked again"
    );

    // What is missing on this host is looked for each time.
    let notes = fixture.in_cache("choices");
    let unknown =
        scenario::Image { suite: Some("ubuntu/nosuch".into()), keyring: None, mirror: None, ..spec.clone() };
    let image = fixture.ensure(&unknown, TREE).await.unwrap();
    assert!(image.info.fallback_reason.unwrap().contains("does not know ubuntu's nosuch"));
    let said = fixture.said();
    assert!(said.len() == 1 && said[0].starts_with("using debian/bookworm in its place: "), "{said:?}");
    assert_eq!(fixture.in_cache("choices"), notes);

    // A file that the scenario names is the user's affair: no fallback hides that it is missing.
    let keyless = scenario::Image { keyring: Some("no-such.gpg".into()), ..spec };
    let error = fixture.ensure(&keyless, TREE).await.unwrap_err();
    assert!(matches!(error, Error::Scenario(_)) && error.to_string().contains("no-such.gpg"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, mmdebstrap and a Debian mirror: scripts/test runs it"]
async fn a_misspelt_package_is_reported_and_no_fallback_hides_it() {
    let fixture = Fixture::new();
    let spec = scenario::Image {
        suite: Some("debian/bookworm".into()),
        fallback: Some("debian/trixie".into()),
        packages: vec!["redis-sever".into()],
        ..scenario::Image::default()
    };
    let error = fixture.ensure(&spec, TREE).await.unwrap_err();
    assert!(matches!(error, Error::Scenario(_)), "{error:?}");
    let error = error.to_string();
    assert!(error.starts_with("[image] packages: debian/bookworm does not have all of them"), "{error}");
    assert!(error.contains("Unable to locate package redis-sever"), "{error}");
    let said = fixture.said();
    assert!(!said.iter().any(|line| line.contains("trixie")), "{said:?}");
    assert_eq!(fixture.in_cache("choices"), [] as [PathBuf; 0]);
}
