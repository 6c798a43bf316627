//! Whether an image's cloud-init would read the seed: its VMs would otherwise boot without the agent.
//!
//! The settings are those of cloud-init and of its ds-identify: `/etc/cloud/cloud.cfg` and, in the order of their names,
//! `/etc/cloud/cloud.cfg.d/*.cfg`, of which the last with a key counts. They are YAML, of which this reads the lists that
//! distributions write; a list in another form is left to cloud-init.

use std::io;

use bootrace_model::foreign::clean;

use crate::sys::rootfs::Rootfs;

/// The largest file of settings that is read, in bytes, and the most files.
const LARGEST: u64 = 256 << 10;
const MOST: usize = 256;
/// The longest list that an error shows, in characters.
const SHOWN: usize = 120;
/// Where distributions have the settings of the boot loader.
const GRUB: [&str; 2] = ["boot/grub/grub.cfg", "boot/grub2/grub.cfg"];
/// Units without which nothing reads the seed; older and newer ones.
const UNITS: [&str; 5] = [
    "cloud-init.target",
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init-main.service",
    "cloud-init-network.service",
];

/// Checks that the image's cloud-init reads a seed on a disk and runs its commands.
///
/// # Errors
/// The reason why it would not, with the setting and the file.
pub(super) fn reads_seed(root: &Rootfs) -> Result<(), String> {
    refusal(root).map_or(Ok(()), |why| {
        Err(format!("{why}; the agent comes into it by cloud-init's NoCloud data source: use an image that reads one, or boot = \"direct\""))
    })
}

fn refusal(root: &Rootfs) -> Option<String> {
    let has = |path: &str| root.file(path).is_ok();
    if !["usr/bin/cloud-init", "usr/local/bin/cloud-init"].into_iter().any(has) {
        return Some("it has no cloud-init (/usr/bin/cloud-init)".into());
    }
    if has("etc/cloud/cloud-init.disabled") && !has("etc/cloud/cloud-init.enabled") {
        return Some("its cloud-init is disabled: it has /etc/cloud/cloud-init.disabled".into());
    }
    if let Some(unit) = UNITS.into_iter().find(|unit| is_masked(root, unit)) {
        return Some(format!("its cloud-init is disabled: {unit} is masked in /etc/systemd/system"));
    }
    if let Some(file) = GRUB.into_iter().find(|file| is_disabled_by_kernel_options(root, file)) {
        return Some(format!(
            "its cloud-init is disabled: its kernel starts with cloud-init=disabled (/{file})"
        ));
    }
    unread(root).unwrap_or_else(Some)
}

/// Of the first entry, which GRUB boots by default.
fn is_disabled_by_kernel_options(root: &Rootfs, file: &str) -> bool {
    let text = root.read_text(file, LARGEST).unwrap_or_default();
    let kernel = text.lines().map(str::trim_start).find(|line| line.starts_with("linux"));
    kernel.is_some_and(|line| line.split_whitespace().any(|word| word == "cloud-init=disabled"))
}

/// A link to /dev/null, or an empty file.
fn is_masked(root: &Rootfs, unit: &str) -> bool {
    let path = format!("etc/systemd/system/{unit}");
    root.link_target(&path).is_ok_and(|target| target == "/dev/null")
        || root.read(&path, LARGEST).is_ok_and(|text| text.is_empty())
}

/// Why its settings leave the seed unread, if they do.
///
/// # Errors
/// When they can't be read.
fn unread(root: &Rootfs) -> Result<Option<String>, String> {
    let identifies = ["usr/lib/cloud-init/ds-identify", "usr/libexec/cloud-init/ds-identify"];
    let identifies = identifies.into_iter().any(|path| root.file(path).is_ok());
    let mut identified = identifies;
    if let Some(text) = text(root, "etc/cloud/ds-identify.cfg")?.filter(|_| identifies) {
        let value = |key: &str| text.lines().filter_map(|line| scalar(line, key)).next_back();
        let policy = value("policy").unwrap_or_default();
        let mode = |name: &str| policy.split(',').any(|word| word.trim() == name);
        if mode("disabled") {
            return Ok(Some("its cloud-init is disabled: policy in /etc/cloud/ds-identify.cfg".into()));
        }
        let source = value("datasource").filter(|source| !source.is_empty() && *source != "NoCloud");
        if let (Some(source), false) = (source, mode("enabled")) {
            let source = clean(source, SHOWN);
            return Ok(Some(format!("/etc/cloud/ds-identify.cfg makes its cloud-init read {source} alone")));
        }
        identified = !mode("enabled") && !mode("report");
    }
    let files = files(root)?;
    if let Some(list) = List::last(&files, "datasource_list") {
        let names = if identified { &list.first_line } else { &list.items };
        // ds-identify reads the line of the key alone, and without names there looks for all sources that it knows.
        let reads = names.iter().any(|name| name == "NoCloud") || identified && names.is_empty();
        if !reads {
            return Ok(Some(format!(
                "its cloud-init reads no NoCloud data source: datasource_list in /{} is {}",
                list.file,
                clean(&names.join(", "), SHOWN)
            )));
        }
    }
    if let Some(list) = List::last(&files, "cloud_init_modules")
        && !list.items.iter().any(|item| item == "bootcmd")
    {
        return Ok(Some(format!(
            "its cloud-init runs no commands of a seed: cloud_init_modules in /{} lacks bootcmd",
            list.file
        )));
    }
    Ok(None)
}

/// The settings, in the order of cloud-init.
fn files(root: &Rootfs) -> Result<Vec<(String, String)>, String> {
    const DIR: &str = "etc/cloud/cloud.cfg.d";
    let parts = root.list(DIR).unwrap_or_default().into_iter().filter(|name| name.ends_with(".cfg"));
    let mut files = Vec::new();
    for path in ["etc/cloud/cloud.cfg".into()].into_iter().chain(parts.map(|name| format!("{DIR}/{name}"))) {
        if let Some(text) = text(root, &path)? {
            files.push((path, text));
        }
        if files.len() > MOST {
            return Err(format!("it has more than {MOST} files of settings in /{DIR}"));
        }
    }
    Ok(files)
}

fn text(root: &Rootfs, path: &str) -> Result<Option<String>, String> {
    match root.read_text(path, LARGEST) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("its /{} can't be read: {error}", clean(path, SHOWN))),
    }
}

/// The text after `key:`, without a comment.
fn scalar<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(key)?.strip_prefix(':')?;
    let rest = rest.split('#').next().unwrap_or_default();
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| rest.trim())
}

/// A list of the settings.
pub(crate) struct List {
    file: String,
    items: Vec<String>,
    /// Those of its first line.
    first_line: Vec<String>,
}

impl List {
    /// The last list with this key; `None` also for a value in another form.
    pub(crate) fn last(files: &[(String, String)], key: &str) -> Option<List> {
        files.iter().rev().find_map(|(file, text)| {
            let lines: Vec<&str> = text.lines().collect();
            let at = lines.iter().rposition(|line| scalar(line, key).is_some())?;
            Some(List::at(file, scalar(lines[at], key)?, &lines[at + 1..]))
        })?
    }

    fn at(file: &str, value: &str, rest: &[&str]) -> Option<List> {
        let file = clean(file, SHOWN);
        let mut rest = rest.iter().map(|line| line.split('#').next().unwrap_or_default().trim());
        if let Some(flow) = value.strip_prefix('[') {
            let items = |text: &str| text.split(',').map(plain).filter(|item| !item.is_empty()).collect();
            let whole = rest.fold(flow.to_owned(), |whole, line| whole + " " + line);
            let first_line = items(flow.split(']').next().unwrap_or_default());
            return Some(List { file, items: items(whole.split_once(']')?.0), first_line });
        }
        let items: Vec<String> = rest
            .by_ref()
            .filter(|line| !line.is_empty())
            // `[bootcmd, always]`: a module with its frequency.
            .map_while(|line| Some(plain(line.strip_prefix('-')?.split(',').next()?)))
            .collect();
        (value.is_empty() && !items.is_empty()).then_some(List { file, items, first_line: Vec::new() })
    }
}

fn plain(item: &str) -> String {
    item.trim().trim_matches(['\'', '"', '[', ']']).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with cloud-init and these files.
    fn image(files: &[(&str, &str)]) -> (tempfile::TempDir, Rootfs) {
        let dir = tempfile::tempdir().unwrap();
        let root = Rootfs::open(dir.path()).unwrap();
        root.write("usr/bin/cloud-init", b"", 0o755).unwrap();
        root.write("usr/lib/cloud-init/ds-identify", b"", 0o755).unwrap();
        for (path, text) in files {
            root.write(path, text.as_bytes(), 0o644).unwrap();
        }
        (dir, root)
    }

    fn refused(files: &[(&str, &str)]) -> String {
        reads_seed(&image(files).1).expect_err(&format!("{files:?}"))
    }

    const CFG: &str = "etc/cloud/cloud.cfg";
    const LATE: &str = "etc/cloud/cloud.cfg.d/91_dpkg.cfg";
    const POLICY: &str = "etc/cloud/ds-identify.cfg";
    const EC2: &str = "datasource_list: [ Ec2, None ]\n";
    const LINES: &str = "datasource_list:\n- Ec2\n- None\n";

    #[test]
    fn an_image_that_reads_the_seed_is_taken() {
        let debians = "# datasource_list: [ Ec2 ]\ncloud_init_modules:\n - migrator\n - [bootcmd, always]\nusers:\n - x\n";
        for files in [
            &[][..],
            &[(CFG, debians)],
            &[(CFG, "datasource_list: ['NoCloud', \"None\"]  # ours\n")],
            &[(CFG, "datasource_list: [ Azure,\n  # more\n  NoCloud ]\n"), (POLICY, "policy: enabled\n")],
            &[(CFG, EC2), (LATE, "datasource_list: [ NoCloud, Ec2, None ]\n")],
            &[(CFG, EC2), (LATE, "datasource_list: [ Ec2 ]\ndatasource_list: [NoCloud]\n")],
            &[("boot/grub/grub.cfg", "\tlinux /vmlinuz ro\n\tlinux /vmlinuz single cloud-init=disabled\n")],
            // Of no file that cloud-init reads, or nested.
            &[("etc/cloud/cloud.cfg.d/99.cfg.off", EC2)],
            &[(CFG, "system_info:\n  datasource_list: [ Ec2 ]\n")],
            // ds-identify takes it for none.
            &[(CFG, LINES)],
            &[(POLICY, "policy: search,found=all,maybe=all,notfound=disabled\ndatasource: NoCloud\n")],
            &[
                (POLICY, "# policy: disabled\n"),
                ("etc/cloud/cloud-init.enabled", ""),
                ("etc/cloud/cloud-init.disabled", ""),
            ],
        ] {
            assert_eq!(reads_seed(&image(files).1), Ok(()), "{files:?}");
        }
    }

    #[test]
    fn an_image_that_would_not_read_the_seed_is_refused_by_its_setting() {
        let late = "reads no NoCloud data source: datasource_list in /etc/cloud/cloud.cfg.d/91_dpkg.cfg is Ec2, None";
        for (files, why) in [
            (&[(CFG, "datasource_list: [ NoCloud ]\n"), (LATE, EC2)][..], late),
            (&[(LATE, EC2), (POLICY, "policy: enabled\n")], late),
            (&[(LATE, LINES), (POLICY, "policy: enabled\n")], late),
            (&[(CFG, "datasource_list: [ Ec2,\n  NoCloud ]\n")], "in /etc/cloud/cloud.cfg is Ec2;"),
            (&[(CFG, "datasource_list: []\n"), (POLICY, "policy: report\n")], "in /etc/cloud/cloud.cfg is ;"),
            (&[(POLICY, "policy: disabled\n")], "is disabled: policy in /etc/cloud/ds-identify.cfg"),
            (
                &[(POLICY, "datasource: Ec2\n")],
                "/etc/cloud/ds-identify.cfg makes its cloud-init read Ec2 alone",
            ),
            (&[("etc/cloud/cloud-init.disabled", "")], "it has /etc/cloud/cloud-init.disabled"),
            (&[("etc/systemd/system/cloud-init-local.service", "")], "cloud-init-local.service is masked"),
            (
                &[("boot/grub/grub.cfg", "menuentry {\n\tlinux /vmlinuz ro cloud-init=disabled\n}\n")],
                "(/boot/grub/grub.cfg)",
            ),
            (
                &[(CFG, "cloud_init_modules:\n - migrator\nusers:\n - bootcmd\n")],
                "/etc/cloud/cloud.cfg lacks bootcmd",
            ),
        ] {
            let text = refused(files);
            assert!(text.contains(why) && text.ends_with("or boot = \"direct\""), "{why}: {text}");
        }
        let (_dir, root) = image(&[]);
        root.link("etc/systemd/system/cloud-init.target", "/dev/null").unwrap();
        assert!(reads_seed(&root).unwrap_err().contains("cloud-init.target is masked"));
        let (_dir, root) = image(&[]);
        root.remove("usr/bin/cloud-init").unwrap();
        assert!(reads_seed(&root).unwrap_err().starts_with("it has no cloud-init (/usr/bin/cloud-init); "));
    }

    #[test]
    fn hostile_settings_are_bounded_and_shown_harmlessly() {
        let long = "x".repeat(LARGEST as usize + 1);
        assert!(
            refused(&[(LATE, &long)])
                .starts_with("its /etc/cloud/cloud.cfg.d/91_dpkg.cfg can't be read: larger")
        );
        let text = refused(&[(CFG, &format!("datasource_list: [ \u{1b}[2J{}\n ]\n", &long[..1000]))]);
        assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
        for odd in
            ["datasource_list: [", "datasource_list: &a Ec2\n", "datasource_list:\n", "datasource_list:x\n"]
        {
            assert_eq!(reads_seed(&image(&[(CFG, odd)]).1), Ok(()), "{odd}");
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("etc/cloud/cloud.cfg.d/{n}.cfg")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert!(refused(&many).contains("more than 256 files"));
    }
}
