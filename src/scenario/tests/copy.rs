//! The rules of `[copy]`.

use super::*;

#[test]
fn the_file_has_a_size_in_mib_that_a_vms_disk_has_room_for() {
    for (more, message) in [
        (
            "[copy]",
            r#"5:1: copy.file: this key is missing: write the file's size as a string, as in "100MiB""#,
        ),
        (
            "[copy]\nfile = 100",
            r#"6:8: copy.file: 100 is an integer: write the file's size as a string, as in "100MiB""#,
        ),
        (
            "[copy]\nfile = '100KiB'",
            "6:8: copy.file: 100KiB is out of range: write \"1MiB\" to \"1GiB\" (a VM's disk has a gibibyte of room)",
        ),
        (
            "[copy]\nfile = '2GiB'",
            "6:8: copy.file: 2GiB is out of range: write \"1MiB\" to \"1GiB\" (a VM's disk has a gibibyte of room)",
        ),
        (
            "[copy]\nfile = '1025KiB'",
            "6:8: copy.file: 1025KiB is not a whole number of MiB: write one, as in \"100MiB\"",
        ),
        (
            "[copy]\nfile = '1MiB'\nfiles = '1MiB'",
            "7:1: copy.files: there is no such key here (did you mean file?): known are file",
        ),
    ] {
        let said = wrong(more);
        assert!(said.starts_with(&format!("x.toml:{message}")), "{said}\n{message}");
    }
}

#[test]
fn the_image_has_the_file_and_metrics_of_copies_take_it() {
    let plain = parse(LEAST).unwrap();
    assert_eq!((plain.copy, plain.image.copy), (None, None));
    let scenario = parse(&format!("{LEAST}[copy]\nfile = '100MiB'\n")).unwrap();
    assert_eq!(scenario.image.copy, Some(CopyFile { file: Bytes(100 << 20) }));
    assert_eq!(scenario.to_json()["copy"]["file"], "100MiB");
    assert!(scenario.to_json()["image"].get("copy").is_none());
    let gate = "[gate]\nmetrics = ['copy.first_write']\n";
    assert_eq!(
        wrong(gate),
        "x.toml:6:12: gate.metrics[0]: this scenario measures no copies: give it a [copy] with file = \"100MiB\""
    );
    assert!(parse(&format!("{LEAST}[copy]\nfile = '1MiB'\n{gate}")).is_ok());
    assert!(parse(&format!("{LEAST}[gate]\nmetrics = ['disk.instance', 'copy.make']\n")).is_ok());
}
