//! Checks that the layers of docs/contribute/architecture.md hold between the files of each crate. The imports are read
//! from the sources: `use` and paths, resolved through re-exports to the file that defines the name. Code under
//! `#[cfg(test)]` may import everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The root file of each crate.
const CRATES: [&str; 6] = [
    "agent/src/lib.rs",
    "agent/src/main.rs",
    "crates/model/src/lib.rs",
    "crates/analysis/src/lib.rs",
    "crates/report/src/lib.rs",
    PROGRAM,
];

const PROGRAM: &str = "src/lib.rs";

/// The layers of the program, the lowest first. A module imports from lower layers and from itself.
const LAYERS: [&[&str]; 8] = [
    &["agent", "cause", "supervisor", "sys"],
    &["daemon", "probe", "tune"],
    &["control", "image"],
    &["target"],
    &["runner"],
    &["calibration", "doctor"],
    &["cli"],
    &["fuzzing"],
];

/// Where an outside crate may be used.
const HOMES: [(&str, &[&str]); 8] = [
    ("bollard", &["src/image/", "src/target/container"]),
    ("virt", &["src/target/libvirt", "src/target/lxc", "src/target/vm"]),
    ("virt_sys", &["src/target/libvirt", "src/target/lxc", "src/target/vm"]),
    ("plotters", &["crates/report/src/chart"]),
    ("csv", &["crates/report/src/export"]),
    ("clap", &["src/cli"]),
    ("sysinfo", &["src/probe/"]),
    ("kvm_ioctls", &["src/probe/kvm/"]),
];

/// The readers of the kernel's files.
const READERS: [&str; 4] = ["agent/", "src/probe", "src/sys", "src/tune/"];

/// Macros that panic where standard output or error can't be written.
const PRINTS: [&str; 5] = ["dbg", "print", "println", "eprint", "eprintln"];

/// A file beside them that names a file of the kernel, and why.
const NAMES_ONE: [(&str, &str); 6] = [
    ("src/image/tree/names.rs", "links an image's /etc/mtab to it"),
    ("src/runner/cold.rs", "writes to the switch that drops the page cache"),
    ("src/supervisor.rs", "lists its children after a fork, where only system calls are safe"),
    ("src/target/container/system.rs", "mounts the hierarchy of systemd into a container"),
    ("src/target/host_mounts.rs", "keeps a handle on a mount namespace"),
    ("src/target/libvirt/fix.rs", "recognises an error of libvirt by the path in its text"),
];

#[test]
fn no_file_imports_itself_through_others() {
    let mut found = String::new();
    for root in CRATES {
        let graph = Crate::read(root).imports();
        for (from, imports) in &graph {
            for (to, names) in imports {
                if reachable(&graph, to).contains(from.as_str()) {
                    found += &format!("{from} imports {names:?} of {to}, which reaches {from}\n");
                }
            }
        }
    }
    assert!(found.is_empty(), "circles:\n{found}");
}

#[test]
fn no_module_of_the_program_imports_a_higher_layer() {
    let layer = |file: &str| {
        let module = file.trim_start_matches("src/").split(['/', '.']).next()?;
        LAYERS.iter().position(|layer| layer.contains(&module)).map(|layer| (layer, module.to_owned()))
    };
    for (from, imports) in Crate::read(PROGRAM).imports() {
        for (to, names) in imports {
            let (Some(importer), Some(imported)) = (layer(&from), layer(&to)) else {
                panic!("{from} imports {names:?} of {to}, and one of them is in no layer of LAYERS");
            };
            assert!(
                importer.1 == imported.1 || importer.0 > imported.0,
                "{from} imports {names:?} of {to}, which is no lower layer"
            );
        }
    }
}

#[test]
fn only_the_readers_name_files_of_proc_and_cgroups() {
    let mut unused: BTreeSet<_> = NAMES_ONE.iter().map(|(file, _)| *file).collect();
    for (file, module) in CRATES.iter().flat_map(|root| Crate::read(root).files()) {
        if READERS.iter().any(|reader| file.starts_with(reader)) {
            continue;
        }
        let kernels = |text: &&String| {
            let text = text.trim_start_matches(['b', 'c', 'r', '#', '"']);
            // Names of this process's own files, to hand on.
            let own = ["/proc/self/fd", "/proc/self/exe"].iter().any(|own| text.starts_with(own));
            !own && ["/proc", "/sys/fs/cgroup"].iter().any(|dir| text.starts_with(dir))
        };
        let Some(text) = module.texts.iter().find(kernels) else { continue };
        let known = NAMES_ONE.iter().any(|(known, _)| file == *known);
        assert!(known, "{file} names {text}: read it in src/probe or src/sys, or say in NAMES_ONE why not");
        unused.remove(file.as_str());
    }
    assert!(unused.is_empty(), "these name no file of the kernel any more: {unused:?}");
}

#[test]
fn no_file_uses_a_macro_that_panics_where_it_cant_print() {
    for (file, module) in CRATES.iter().flat_map(|root| Crate::read(root).files()) {
        assert_eq!(module.prints, [] as [&str; 0], "{file}: use cli::say and cli::print, or writeln");
    }
}

#[test]
fn outside_crates_are_used_in_their_homes_alone() {
    let mut unused: BTreeSet<_> = HOMES.iter().map(|(name, _)| *name).collect();
    for root in CRATES {
        let modules = Crate::read(root);
        for (path, module) in &modules.0 {
            let named = module.paths.iter().chain(module.names.values()).chain(&module.globs);
            for names in named.filter(|names| modules.resolve(path, names, 0).is_none()) {
                let Some((name, homes)) = HOMES.iter().find(|(name, _)| names[0] == *name) else { continue };
                unused.remove(name);
                let file = &module.file;
                let at_home = homes.iter().any(|home| file.starts_with(home));
                assert!(at_home, "{file} uses {name}, whose home is {homes:?}");
            }
        }
    }
    assert!(unused.is_empty(), "no file uses {unused:?}");
}

/// The names that a file imports, by the file that defines them.
type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn reachable<'a>(graph: &'a Imports, from: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        if found.insert(file) {
            next.extend(graph.get(file).into_iter().flat_map(|imports| imports.keys().map(String::as_str)));
        }
    }
    found
}

/// `a::b::c`.
type Names = Vec<String>;

/// A crate's modules by their path, `[]` for its root.
struct Crate(BTreeMap<Names, Module>);

#[derive(Default)]
struct Module {
    file: String,
    /// What `use` binds each name to.
    names: BTreeMap<String, Names>,
    /// The modules of `use module::*`.
    globs: Vec<Names>,
    /// Paths in code.
    paths: Vec<Names>,
    /// String literals as written.
    texts: Vec<String>,
    /// The macros that print.
    prints: Vec<String>,
}

impl Crate {
    fn read(root: &str) -> Crate {
        let mut modules = Crate(BTreeMap::new());
        let dir = Path::new(root).parent().unwrap().to_owned();
        modules.add(Vec::new(), root.into(), &dir);
        modules
    }

    /// Adds the module of a file, and those that it declares, which are in `dir`.
    fn add(&mut self, path: Names, file: PathBuf, dir: &Path) {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
        let text = fs::read_to_string(&at).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut flat = Vec::new();
        flatten(tokens, &mut flat);
        let tokens = without_tests(&flat);
        for declared in tokens.windows(3).filter(|three| three[0] == "mod" && three[2] == ";") {
            let name = &declared[1];
            self.add(
                [&path[..], std::slice::from_ref(name)].concat(),
                dir.join(format!("{name}.rs")),
                &dir.join(name),
            );
        }
        self.0.insert(path, Module::of(file.display().to_string(), &tokens));
    }

    fn files(self) -> impl Iterator<Item = (String, Module)> {
        self.0.into_values().map(|module| (module.file.clone(), module))
    }

    fn imports(&self) -> Imports {
        let mut all = Imports::new();
        for (path, module) in &self.0 {
            let imports = all.entry(module.file.clone()).or_default();
            let named = module.names.values().chain(&module.paths);
            let named = named.filter_map(|names| self.resolve(path, names, 0));
            let globs = module.globs.iter().filter_map(|names| self.resolve(path, names, 0));
            let globs = globs.map(|(at, _)| (at, Some("*".to_owned())));
            for (at, name) in named.chain(globs) {
                // The name of a module alone imports nothing of it yet.
                let Some(name) = name.filter(|_| at != *path) else { continue };
                imports.entry(self.0[&at].file.clone()).or_default().insert(name);
            }
        }
        all
    }

    /// The module that a path in the module `at` leads to, and the item of it, if any; `None` for another crate's.
    fn resolve(&self, at: &[String], names: &[String], depth: usize) -> Option<(Names, Option<String>)> {
        assert!(depth < 32, "{names:?} in {at:?} is bound to itself");
        let mut at = at.to_vec();
        let mut rest = names;
        match names.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let binding = self.0[&at].names.get(first);
                let is_child = self.0.contains_key(&[&at[..], &names[..1]].concat());
                // A crate's own name, which a `use` of it binds again, is outside.
                if !is_child && binding.is_none_or(|bound| bound[0] == first) {
                    return None;
                }
            }
        }
        while let Some(name) = rest.first() {
            let child = [&at[..], &rest[..1]].concat();
            if self.0.contains_key(&child) {
                at = child;
            } else if let Some(bound) = self.0[&at].names.get(name) {
                match self.resolve(&at, bound, depth + 1)? {
                    (module, None) => at = module,
                    item => return Some(item),
                }
            } else {
                return Some((at, Some(name.clone())));
            }
            rest = &rest[1..];
        }
        Some((at, None))
    }
}

impl Module {
    fn of(file: String, tokens: &[String]) -> Module {
        let mut module = Module { file, ..Module::default() };
        let prints = |two: &&[String]| PRINTS.contains(&two[0].as_str()) && two[1] == "!";
        module.prints = tokens.windows(2).filter(prints).map(|two| two[0].clone()).collect();
        // The depth of braces, and at which depths inline modules begin.
        let (mut depth, mut inline) = (0, Vec::new());
        let mut at = 0;
        while at < tokens.len() {
            let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token == text);
            depth += i32::from(is(at, "{")) - i32::from(is(at, "}"));
            inline.retain(|begin| *begin < depth);
            if is(at, "mod") && is(at + 2, "{") {
                inline.push(depth);
                at += 2;
            } else if is(at, "use") && !is(at + 1, "<") {
                at = module.add_use(tokens, at + 1, &[], inline.len());
            } else if is_name(&tokens[at]) && is(at + 1, "::") && !follows(&tokens[..at]) {
                let mut path = vec![tokens[at].clone()];
                while is(at + 1, "::") && tokens.get(at + 2).is_some_and(|token| is_name(token)) {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                module.paths.extend(from_inline(path, inline.len()));
                at += 1;
            } else {
                if tokens[at].ends_with(['"', '#']) && tokens[at].len() > 1 {
                    module.texts.push(tokens[at].clone());
                }
                at += 1;
            }
        }
        module
    }

    /// Reads one tree of a `use` from `at` on; returns where it ends.
    fn add_use(&mut self, tokens: &[String], mut at: usize, before: &[String], inline: usize) -> usize {
        let mut path = before.to_vec();
        let mut name = None;
        loop {
            match tokens[at].as_str() {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while tokens[at] != "}" {
                        at = self.add_use(tokens, at, &path, inline);
                        at += usize::from(tokens[at] == ",");
                    }
                    return at + 1;
                }
                "*" => {
                    self.globs.extend(from_inline(path, inline));
                    return at + 1;
                }
                "as" => {
                    name = Some(tokens[at + 1].clone());
                    at += 2;
                }
                "self" if !path.is_empty() => at += 1,
                next if is_name(next) => {
                    path.push(next.to_owned());
                    at += 1;
                }
                _ if inline > 0 => {
                    self.paths.extend(from_inline(path, inline));
                    return at;
                }
                _ => {
                    self.names.insert(name.unwrap_or_else(|| path[path.len() - 1].clone()), path);
                    return at;
                }
            }
        }
    }
}

/// A path of an inline module, from the file's own module; `None` where it stays within the inline ones.
fn from_inline(mut path: Names, inline: usize) -> Option<Names> {
    let up = path.iter().take_while(|name| *name == "super").count();
    match path[0].as_str() {
        _ if inline == 0 => Some(path),
        "super" if up >= inline => {
            path.drain(..inline);
            if up == inline {
                path.insert(0, "self".into());
            }
            Some(path)
        }
        "super" | "self" => None,
        _ => Some(path),
    }
}

/// Whether these tokens end in `name::` or `>::`; `::` alone begins a path.
fn follows(before: &[String]) -> bool {
    let [.., last, colons] = before else { return false };
    colons == "::" && (is_name(last) || last == ">")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_') && !token.ends_with(['"', '#'])
}

/// The tokens in one row, with `::` as one of them.
fn flatten(tokens: TokenStream, flat: &mut Vec<String>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                flat.push(open.into());
                flatten(group.stream(), flat);
                flat.push(close.into());
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' && sign.spacing() == Spacing::Joint => {
                tokens.next();
                flat.push("::".into());
            }
            other => flat.push(other.to_string()),
        }
    }
}

/// Leaves out each item under `#[cfg(test)]`: until its `;` or the end of its braces.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().map(String::as_str).take(MARK.len()).eq(MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        let mut depth = 0_u32;
        while at < tokens.len() {
            let token = tokens[at].as_str();
            let closes = [")", "]", "}"].contains(&token);
            // The end of what the item is in.
            if closes && depth == 0 {
                break;
            }
            depth = depth + u32::from(["(", "[", "{"].contains(&token)) - u32::from(closes);
            at += 1;
            if depth == 0 && ["}", ";"].contains(&token) {
                break;
            }
        }
    }
    kept
}
