//! Where unsafe code is, and constants of the kernel.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust sources with their tokens, by path.
fn sources() -> Vec<(String, TokenStream)> {
    let mut dirs: Vec<PathBuf> = ["agent", "benches", "crates", "examples", "src", "tests"]
        .iter()
        .map(|dir| root().join(dir))
        .collect();
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let tokens = fs::read_to_string(&path).unwrap().parse().unwrap();
                found.push((path.strip_prefix(root()).unwrap().display().to_string(), tokens));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The blocks and attributes that are unsafe, and the reasons of `expect(unsafe_code)`.
#[derive(Default)]
struct Unsafe {
    blocks: usize,
    reasons: BTreeSet<String>,
}

impl Unsafe {
    fn read(&mut self, tokens: TokenStream) {
        let mut before = String::new();
        for token in tokens {
            if let TokenTree::Group(group) = &token {
                let inside: Vec<_> = group.stream().into_iter().map(|token| token.to_string()).collect();
                match before.as_str() {
                    "unsafe" if group.delimiter() != Delimiter::Bracket => self.blocks += 1,
                    "expect" if inside.first().is_some_and(|first| first == "unsafe_code") => {
                        self.reasons.insert(inside.last().unwrap().trim_matches('"').to_owned());
                    }
                    _ => {}
                }
                self.read(group.stream());
            }
            before = token.to_string();
        }
    }
}

#[test]
fn the_page_lists_all_unsafe_code() {
    let mut page = "# Unsafe code\n\nThe lint `unsafe_code` denies it, but where an `expect` names the reason. Each \
                    block has its `// SAFETY:` comment, which clippy demands.\n`BOOTRACE_GENERATE=1 cargo test --test \
                    safety` writes this page.\n\n| file | blocks | reason |\n|---|--:|---|\n"
        .to_owned();
    let mut all = 0;
    for (file, tokens) in sources() {
        let mut found = Unsafe::default();
        found.read(tokens);
        if found.blocks == 0 {
            continue;
        }
        let reasons: Vec<_> = found.reasons.into_iter().collect();
        assert!(!reasons.is_empty(), "{file} has unsafe code without a reason");
        all += found.blocks;
        page += &format!("| `{file}` | {} | {} |\n", found.blocks, reasons.join("; "));
    }
    page += &format!("| all | {all} | |\n");
    let file = root().join("docs/contribute/unsafe.md");
    if std::env::var_os("BOOTRACE_GENERATE").is_some() {
        return fs::write(file, page).unwrap();
    }
    let fix = "fix: BOOTRACE_GENERATE=1 cargo test --test safety";
    assert_eq!(fs::read_to_string(file).unwrap_or_default(), page, "{fix}");
}

/// What the C compiler says of `lines` after the headers that have the constants.
fn compiled(lines: &str) -> Result<(), String> {
    let headers = [
        "errno.h",
        "fcntl.h",
        "limits.h",
        "linux/sched.h",
        "net/if.h",
        "net/route.h",
        "poll.h",
        "signal.h",
        "sys/eventfd.h",
        "sys/inotify.h",
        "sys/ioctl.h",
        "sys/mman.h",
        "sys/mount.h",
        "sys/prctl.h",
        "sys/reboot.h",
        "sys/resource.h",
        "sys/signalfd.h",
        "sys/socket.h",
        "sys/syscall.h",
        "sys/wait.h",
        "linux/netlink.h",
        "time.h",
        "unistd.h",
    ];
    let includes: String = headers.iter().map(|header| format!("#include <{header}>\n")).collect();
    let mut compiler = Command::new("cc")
        .args(["-D_GNU_SOURCE", "-fsyntax-only", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    compiler.stdin.take().unwrap().write_all(format!("{includes}{lines}").as_bytes()).unwrap();
    let output = compiler.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn flags_for_clone3_are_those_of_the_kernels_header() {
    use linux_raw_sys::general::{CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VFORK, CLONE_VM};
    // The libc crate has the first one as a C int, which is 0.
    assert!(CLONE_INTO_CGROUP > u64::from(u32::MAX));
    let flags = [
        ("CLONE_INTO_CGROUP", CLONE_INTO_CGROUP),
        ("CLONE_PIDFD", CLONE_PIDFD.into()),
        ("CLONE_VFORK", CLONE_VFORK.into()),
        ("CLONE_VM", CLONE_VM.into()),
    ];
    let lines: String = flags
        .iter()
        .map(|(name, value)| format!("_Static_assert({name} == {value}ULL, \"{name}\");\n"))
        .collect();
    compiled(&lines).unwrap();
}

/// Names after `libc::` that look like constants.
fn constants_of_libc(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let mut before = [const { String::new() }; 3];
    for token in tokens {
        let text = token.to_string();
        let constant = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if before == ["libc", ":", ":"] && text.chars().all(constant) {
            names.insert(text.clone());
        }
        if let TokenTree::Group(group) = token {
            constants_of_libc(group.stream(), names);
        }
        before.rotate_left(1);
        before[2] = text;
    }
}

#[test]
fn each_constant_that_is_taken_from_the_libc_crate_fits_its_c_int() {
    // Macros with arguments and pointers.
    let other = [
        "MAP_FAILED",
        "SIGRTMIN",
        "SIG_DFL",
        "SIG_IGN",
        "WEXITSTATUS",
        "WIFEXITED",
        "WIFSIGNALED",
        "WTERMSIG",
    ];
    let mut names = BTreeSet::new();
    sources().into_iter().for_each(|(_, tokens)| constants_of_libc(tokens, &mut names));
    names.retain(|name| !other.contains(&name.as_str()));
    assert!(names.len() > 50, "{names:?}");
    let fits = |name: &str| {
        format!("_Static_assert((long long)({name}) == (int)({name}) || ({name}) <= UINT_MAX, \"{name}\");\n")
    };
    compiled(&names.iter().map(|name| fits(name)).collect::<String>()).unwrap();
    let error = compiled(&fits("CLONE_INTO_CGROUP")).unwrap_err();
    assert!(error.contains("static assertion failed"), "{error}");
}
