//! A cloud image's way into the cache: what is taken, what is refused, what its files become.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    ops::Deref,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bootrace::{
    image::{self, Error, Forms, Image, Prune},
    scenario,
};

use super::common::cache::OwnCache;
use super::disk::{self, Content, Partition, qcow2, sha256};

/// A cache and a small image in a directory of their own.
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

    fn write(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    async fn tree(&self, spec: &scenario::Image) -> Result<Image, Error> {
        self.ensure(spec, Forms { tree: true, ..Forms::default() }).await
    }

    async fn refused(&self, spec: &scenario::Image) -> String {
        let error = self.tree(spec).await.unwrap_err().to_string();
        for part in ["tmp", "bases", "images"] {
            let left = fs::read_dir(self.cache.dir().join(part)).unwrap().count();
            assert_eq!(left, 0, "{part} after: {error}");
        }
        error
    }

    /// As Ubuntu's: the root, /boot apart, a partition that only firmware reads.
    fn ubuntu(&self) -> PathBuf {
        self.write("root/etc/os-release", b"ID=tiny\nVERSION_CODENAME=one\n");
        self.write(
            "root/etc/fstab",
            b"LABEL=rootfs / ext4 defaults 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\nLABEL=UEFI /boot/efi vfat umask=0077 0 1\n",
        );
        self.write("root/etc/unique", self.dir.path().to_string_lossy().as_bytes());
        self.write("root/boot/hidden", b"below the mount");
        let owned = self.write("root/home/file", b"owned");
        chown(&owned, Some(1234), Some(5678)).unwrap();
        rustix::fs::setxattr(&owned, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
        fs::hard_link(&owned, self.path("root/home/same")).unwrap();
        symlink("/etc/shadow", self.path("root/home/link")).unwrap();
        self.write("root/usr/bin/cloud-init", b"");
        let su = self.write("root/bin/su", b"set-user-ID");
        fs::set_permissions(su, fs::Permissions::from_mode(0o4755)).unwrap();
        self.write("boot/vmlinuz-1.0-test", b"kernel");
        fs::create_dir(self.path("boot/efi")).unwrap();
        self.disk(&[
            Partition { number: 14, mib: 1, content: Content::Bytes(b"GRUB") },
            Partition {
                number: 16,
                mib: 8,
                content: Content::Ext4 { label: "BOOT", files: &self.path("boot") },
            },
            Partition {
                number: 1,
                mib: 8,
                content: Content::Ext4 { label: "rootfs", files: &self.path("root") },
            },
        ])
    }

    fn disk(&self, partitions: &[Partition<'_>]) -> PathBuf {
        let raw = self.path("disk.raw");
        disk::write(&raw, partitions);
        let image = qcow2(&raw, &self.path("image.qcow2"));
        fs::remove_file(raw).unwrap();
        image
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let here = self.dir.path().to_string_lossy().into_owned();
        let look = || {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let loops = disk::run(Command::new("losetup").arg("--all"));
            (mounts.contains(&here) || loops.contains(&here)).then(|| format!("{mounts}{loops}"))
        };
        // The kernel lets go of a loop device a moment after its mount is gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        let left = loop {
            match look() {
                Some(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                left => break left,
            }
        };
        if !std::thread::panicking() {
            assert_eq!(left, None);
        }
    }
}

fn cloud(place: impl Into<String>) -> scenario::Image {
    scenario::Image { suite: None, fallback: None, cloud: Some(place.into()), ..scenario::Image::default() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: scripts/test runs it"]
async fn the_files_of_all_its_partitions_become_one_tree_and_a_second_time_nothing_is_made() {
    let fixture = Fixture::new();
    let file = fixture.ubuntu();
    let before = sha256(&file);
    let spec = scenario::Image { sha256: Some(before.clone()), ..cloud("image.qcow2") };
    let image = fixture.tree(&spec).await.unwrap();
    assert_eq!((image.info.distribution.as_str(), image.info.suite.as_str()), ("tiny", "one"));
    let source = format!("cloud image: {}, sha256 {before}", file.canonicalize().unwrap().display());
    assert_eq!(image.info.source, source);

    let tree = image.tree.clone().unwrap();
    let owned = fs::metadata(tree.join("home/file")).unwrap();
    assert_eq!((owned.uid(), owned.gid(), owned.nlink()), (1234, 5678, 2));
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(tree.join("home/file"), "user.note", &mut note[..]).unwrap();
    assert_eq!(&note[..length], b"kept");
    assert_eq!(fs::read_link(tree.join("home/link")).unwrap(), Path::new("/etc/shadow"));
    assert_eq!(fs::metadata(tree.join("bin/su")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(fs::read(tree.join("boot/vmlinuz-1.0-test")).unwrap(), b"kernel");
    for not in ["boot/hidden", "lost+found", "boot/lost+found"] {
        assert!(!tree.join(not).exists(), "{not}");
    }
    let said = std::mem::take(&mut *fixture.log.lock().unwrap());
    assert!(said.iter().any(|line| line.starts_with("left out /boot/efi (vfat)")), "{said:?}");

    let again = fixture.tree(&spec).await.unwrap();
    assert_eq!(again.info, image.info);
    assert_eq!(*fixture.log.lock().unwrap(), [] as [&str; 0]);
    assert_eq!(sha256(&file), before);
    drop((image, again));

    // Made anew it is the same image.
    let digest = fixture.tree(&spec).await.unwrap().info.digest;
    image::prune(&fixture.cache, Prune::All).await.unwrap();
    assert_eq!(fixture.tree(&spec).await.unwrap().info.digest, digest);
    assert!(fixture.log.lock().unwrap().iter().any(|line| line.starts_with("made the root file system")));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: scripts/test runs it"]
async fn a_file_that_is_cut_short_or_another_than_was_said_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.ubuntu();
    let sum = sha256(&file);
    let wrong = scenario::Image { sha256: Some("0".repeat(64)), ..cloud("image.qcow2") };
    let error = fixture.refused(&wrong).await;
    assert!(
        error.contains("image.qcow2 is not available: its sha256 is ") && error.contains(&sum),
        "{error}"
    );
    assert!(error.contains(&format!("the scenario says {}", "0".repeat(64))), "{error}");

    let whole = fs::read(&file).unwrap();
    let data = "it is damaged or cut short: fetch it again";
    for (length, sign) in [
        (whole.len() - 65536, data),
        (whole.len() / 2, "it is cut short"),
        (60, "it is cut short"),
        (0, "it is no qcow2"),
    ] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = fixture.refused(&cloud("image.qcow2")).await;
        assert!(error.contains("image.qcow2 can't be used: ") && error.contains(sign), "{length}: {error}");
    }
    fs::write(&file, &whole).unwrap();
    fixture.tree(&cloud("image.qcow2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: scripts/test runs it"]
async fn a_disk_without_one_root_that_can_be_read_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    fixture.write("data/file", b"no os-release here");
    fixture.write("root/etc/os-release", b"ID=tiny\n");
    let (data, root) = (fixture.path("data"), fixture.path("root"));
    let ext4 = |number, files| Partition { number, mib: 8, content: Content::Ext4 { label: "x", files } };
    let junk = || Partition { number: 1, mib: 1, content: Content::Bytes(b"XFSB") };
    let spec = cloud("image.qcow2");
    for (partitions, sign) in [
        (vec![ext4(1, &data)], "none of its partitions is a root"),
        (vec![junk()], "Others than ext4 can't be used"),
        (vec![ext4(1, &root), ext4(2, &root)], "several of its partitions are roots"),
    ] {
        fixture.disk(&partitions);
        let error = fixture.refused(&spec).await;
        assert!(error.contains(sign), "{error}");
    }
    let raw = fixture.path("disk.raw");
    File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    qcow2(&raw, &fixture.path("image.qcow2"));
    let error = fixture.refused(&spec).await;
    assert!(error.contains("image.qcow2 can't be used: it has no partition table"), "{error}");

    // Its journal has changes that the file system lacks: EXT3_FEATURE_INCOMPAT_RECOVER.
    let start = disk::write(&raw, &[ext4(1, &root)])[0] * 512;
    let file = File::options().read(true).write(true).open(&raw).unwrap();
    let mut features = [0];
    file.read_exact_at(&mut features, start + 1024 + 96).unwrap();
    file.write_all_at(&[features[0] | 4], start + 1024 + 96).unwrap();
    qcow2(&raw, &fixture.path("image.qcow2"));
    let error = fixture.refused(&spec).await;
    assert!(error.contains("partition 1 can't be mounted") && error.contains("shut it down"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: scripts/test runs it"]
async fn an_image_that_names_other_files_of_this_host_gets_none_of_them() {
    let fixture = Fixture::new();
    let secret = fixture.write("secret", &[7; 4096]);
    let image = fixture.path("image.qcow2");
    disk::run(
        Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&secret, &image]),
    );
    let error = fixture.refused(&cloud("image.qcow2")).await;
    assert!(error.contains("only what differs from another file"), "{error}");
    disk::run(
        Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-o"])
            .arg(format!("data_file={},data_file_raw=on", fixture.path("data.raw").display()))
            .arg(&image)
            .arg("1M"),
    );
    let error = fixture.refused(&cloud("image.qcow2")).await;
    assert!(error.contains("its data are in another file"), "{error}");

    // Links where we look, and a mount point that leads out: of the tree they do not lead.
    fixture.write("outside/file", b"the host's");
    fixture.write("root/usr/lib/os-release", b"ID=tiny\n");
    fixture.write("root/inside/kept", b"");
    fixture.write("root/etc/fstab", b"LABEL=BOOT /out ext4 defaults 0 2\n");
    symlink(fixture.path("outside"), fixture.path("root/out")).unwrap();
    fixture.write("boot/vmlinuz", b"kernel");
    let (boot, root) = (fixture.path("boot"), fixture.path("root"));
    let partitions = [
        Partition { number: 1, mib: 8, content: Content::Ext4 { label: "rootfs", files: &root } },
        Partition { number: 2, mib: 8, content: Content::Ext4 { label: "BOOT", files: &boot } },
    ];
    fixture.disk(&partitions);
    let error = fixture.refused(&cloud("image.qcow2")).await;
    assert!(error.contains("its /etc/fstab mounts /out, which can't be done: No such file"), "{error}");
    assert_eq!(fs::read_dir(fixture.path("outside")).unwrap().count(), 1);

    // And one that leads elsewhere in it is what it is there.
    fs::remove_file(fixture.path("root/out")).unwrap();
    symlink("/inside", fixture.path("root/out")).unwrap();
    fixture.disk(&partitions);
    let tree = fixture.tree(&cloud("image.qcow2")).await.unwrap().tree.unwrap();
    assert!(tree.join("inside/vmlinuz").exists() && !tree.join("inside/kept").exists());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: scripts/test runs it"]
async fn an_export_that_is_given_up_at_any_moment_leaves_no_mount_no_loop_device_and_no_file() {
    let fixture = Fixture::new();
    fixture.ubuntu();
    let spec = cloud("image.qcow2");
    let mut given_up = 0;
    // Each time a little later, until it is through; what is made of the archive then is no export any more.
    for ms in (0..).map(|n: u64| n * 2) {
        let made = tokio::time::timeout(Duration::from_millis(ms), fixture.tree(&spec)).await;
        if made.is_ok() || fs::read_dir(fixture.cache.dir().join("bases")).unwrap().count() > 0 {
            break;
        }
        given_up += 1;
        let left =
            disk::run(Command::new("find").arg(fixture.cache.dir().join("tmp")).args(["-mindepth", "1"]));
        assert_eq!(left, "", "after {ms} ms: {:?}", fixture.log.lock().unwrap());
    }
    assert!(given_up > 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, loop devices and xorriso: scripts/test runs it"]
async fn a_vm_gets_the_image_itself_below_its_overlay_and_a_seed_that_has_the_agent() {
    let fixture = Fixture::new();
    let stock = Forms { stock: true, ..Forms::default() };
    fixture.write("root/etc/os-release", b"ID=tiny\n");
    fixture.write("root/usr/lib/systemd/systemd", b"");
    let root = fixture.path("root");
    for why in [
        "it has no cloud-init (/usr/bin/cloud-init)",
        "its cloud-init reads no NoCloud data source: datasource_list in /etc/cloud/cloud.cfg.d/90_dpkg.cfg is Ec2, None",
    ] {
        let content = Content::Ext4 { label: "rootfs", files: &root };
        fixture.disk(&[Partition { number: 1, mib: 8, content }]);
        let error = fixture.ensure(&cloud("image.qcow2"), stock).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        image::prune(&fixture.cache, Prune::All).await.unwrap();
        fixture.write("root/usr/bin/cloud-init", b"");
        fixture.write("root/etc/cloud/cloud.cfg.d/90_dpkg.cfg", b"datasource_list: [ Ec2, None ]\n");
    }
    fs::remove_file(root.join("etc/cloud/cloud.cfg.d/90_dpkg.cfg")).unwrap();
    let sum = sha256(&fixture.ubuntu());
    let image = fixture.ensure(&cloud("image.qcow2"), stock).await.unwrap();
    let files = image.stock.clone().unwrap();
    let dir = files.overlay.parent().unwrap().to_path_buf();
    assert_eq!(sha256(&dir.join("disk.qcow2")), sum);
    let info = disk::run(Command::new("qemu-img").arg("info").arg(&files.overlay));
    assert!(info.contains(&format!("backing file: {}", dir.join("disk.qcow2").display())), "{info}");
    assert!(info.contains("backing file format: qcow2"), "{info}");
    assert_eq!(fs::metadata(&files.seed).unwrap().permissions().mode() & 0o777, 0o644);

    let out = fixture.path("seed");
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-osirrox", "on", "-indev"]).arg(&files.seed).args(["-extract", "/"]).arg(&out);
    disk::run(&mut xorriso);
    assert_eq!(fs::read(out.join("agent")).unwrap(), bootrace::agent::EXECUTABLE);
    assert_eq!(fs::read_to_string(out.join("image-digest")).unwrap(), format!("{}\n", image.info.digest));
    assert!(fs::read_to_string(out.join("user-data")).unwrap().starts_with("#cloud-config\n"));
    assert!(out.join("meta-data").exists() && out.join("bootrace-agent.service").exists());

    assert_eq!(image::verify(&fixture.cache).unwrap(), [] as [&str; 0]);
    assert_eq!(
        image::list(&fixture.cache, &|line| panic!("{line}")).await.unwrap()[0].forms,
        ["tree", "stock"]
    );
    // Who uses the image keeps its file, whatever becomes of what it was made of.
    assert_eq!(image::prune(&fixture.cache, Prune::All).await.unwrap().in_use, [image.info.digest.as_str()]);
    assert_eq!(fs::read_dir(fixture.cache.dir().join("bases")).unwrap().count(), 0);
    assert_eq!(sha256(&dir.join("disk.qcow2")), sum);

    let before = sha256(&files.seed);
    fs::remove_dir_all(&dir).unwrap();
    let again = fixture.ensure(&cloud("image.qcow2"), stock).await.unwrap();
    assert_eq!(sha256(&again.stock.unwrap().seed), before, "the same seed is made each time");
    assert_eq!(fs::metadata(dir.join("disk.qcow2")).unwrap().nlink(), 2, "it takes no room a second time");
}

/// Serves the fixture's image at `/image.qcow2`, and leads there from `/latest`; returns where.
fn serve(file: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            // All of the request is read, or closing would take the answer back.
            while reader.by_ref().read_line(&mut String::new()).unwrap() > 2 {}
            let content = fs::read(&file).unwrap();
            let answer = match line.split(' ').nth(1).unwrap() {
                "/image.qcow2" => format!("200 OK\r\nContent-Length: {}\r\n\r\n", content.len()),
                // It promises more than it sends.
                "/short" => format!("200 OK\r\nContent-Length: {}\r\n\r\n", content.len() + 1),
                "/latest" => "302 Found\r\nLocation: /image.qcow2\r\nContent-Length: 0\r\n\r\n".into(),
                "/file" => "302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n".into(),
                _ => "404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            };
            let _ = stream.write_all(format!("HTTP/1.0 {answer}").as_bytes());
            if answer.starts_with("200") {
                let _ = stream.write_all(&content);
            }
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, loop devices and curl: scripts/test runs it"]
async fn an_image_is_fetched_by_its_url_and_another_file_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.ubuntu();
    let sum = sha256(&file);
    let server = serve(file);
    let at = |path: &str, sum: &str| scenario::Image {
        sha256: Some(sum.into()),
        ..cloud(format!("{server}{path}"))
    };
    for (spec, sign) in [
        (at("/none", &sum), "curl ended with exit code 22"),
        (at("/short", &sum), "curl ended with exit code 18"),
        (at("/file", &sum), "curl ended with exit code 1"),
        (at("/image.qcow2", &"0".repeat(64)), "its sha256 is "),
        (cloud("http://127.0.0.1:9/image.qcow2"), "has no sha256 beside it"),
    ] {
        let error = fixture.refused(&spec).await;
        assert!(error.contains(sign), "{error}");
    }
    let unreachable =
        scenario::Image { sha256: Some(sum.clone()), ..cloud("http://127.0.0.1:9/image.qcow2") };
    let error = fixture.refused(&unreachable).await;
    assert!(
        error.starts_with("the cloud image http://127.0.0.1:9/image.qcow2 is not available: curl"),
        "{error}"
    );
    assert!(error.contains("127.0.0.1 port 9"), "{error}");

    let image = fixture.tree(&at("/latest", &sum)).await.unwrap();
    assert_eq!(image.info.source, format!("cloud image: {server}/latest, sha256 {sum}"));
    assert!(image.tree.unwrap().join("boot/vmlinuz-1.0-test").exists());
}
