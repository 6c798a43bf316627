//! The rules of `[build]`.

use super::*;

#[test]
fn a_build_has_a_command_and_its_paths_stay_in_the_checkout() {
    for (more, message) in [
        (
            "[build]",
            r#"5:1: build.command: this key is missing: write the program and its arguments as a list of strings, as in ["make", "image"]"#,
        ),
        (
            "[build]\ncommand = 'make image'",
            r#"6:11: build.command: 'make image' is a string: write the program and its arguments as a list of strings, as in ["make", "image"]"#,
        ),
        ("[build]\ncommand = []", "6:11: build.command: there is no program to run: "),
        (
            "[build]\ncommand = ['make']\nprogramme = 'x'",
            "7:1: build.programme: unknown key (did you mean program?): expected one of command, program, keep",
        ),
        (
            "[build]\ncommand = ['make']\nprogram = '../bootrace'",
            r#"7:11: build.program: "../bootrace" is not a path inside the checkout: write it relative to the top folder, without "..", as in "target/release/bootrace""#,
        ),
        ("[build]\ncommand = ['make']\nkeep = '/var/cache'", "7:8: build.keep: \"/var/cache\" is not a path"),
        ("[build]\ncommand = ['make']\nkeep = '.git/x'", "7:8: build.keep: \".git/x\" is not a path inside"),
        ("[build]\ncommand = ['make']\nprogram = '-x'", "7:11: build.program: \"-x\" is not a file that can"),
        (
            "[build]\ncommand = ['make']\nprogram = 'x'\nkeep = 'x'",
            "8:8: build.keep: the build keeps a folder",
        ),
    ] {
        let said = wrong(more);
        assert!(said.starts_with(&format!("x.toml:{message}")), "{said}\n{message}");
    }
}

#[test]
fn a_scenario_for_another_version_gives_the_build_of_the_program_that_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let of = |build: &str| {
        let file = dir.path().join("x.toml");
        std::fs::write(&file, format!("name = 'x'\n{build}\n[of_another_version]\nx = 1\n")).unwrap();
        assert!(Scenario::load(&file).is_err());
        Build::of_program(&file)
    };
    let build = of("[build]\ncommand = ['make']\nprogram = 'bootrace'\nkeep = 'target'").unwrap();
    assert_eq!(build.command, ["make"]);
    assert_eq!((build.program.as_deref(), build.keep.as_deref()), (Some("bootrace"), Some("target")));
    // Here this bootrace measures, and has to read it all.
    assert_eq!(of("[build]\ncommand = ['make']"), None);
    assert_eq!(of("[build]\ncommand = ['make']\nprogram = '/bin/sh'"), None);
    assert_eq!(Build::of_program(&dir.path().join("none")), None);
}
