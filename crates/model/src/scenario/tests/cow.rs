//! The rules of `[cow]`.

use super::*;

#[test]
fn the_file_has_a_size_in_mib_that_a_vms_disk_has_room_for() {
    for (more, message) in [
        ("[cow]", r#"5:1: cow.file: this key is missing: write the file's size as a string, as in "100MiB""#),
        (
            "[cow]\nfile = 100",
            r#"6:8: cow.file: 100 is an integer: write the file's size as a string, as in "100MiB""#,
        ),
        (
            "[cow]\nfile = '100KiB'",
            "6:8: cow.file: 100KiB is out of range: write \"1MiB\" to \"1GiB\" (a VM's disk has 1 GiB of free space)",
        ),
        (
            "[cow]\nfile = '2GiB'",
            "6:8: cow.file: 2GiB is out of range: write \"1MiB\" to \"1GiB\" (a VM's disk has 1 GiB of free space)",
        ),
        (
            "[cow]\nfile = '1025KiB'",
            "6:8: cow.file: 1025KiB is not a whole number of MiB: write one, as in \"100MiB\"",
        ),
        (
            "[cow]\nfile = '1MiB'\nfiles = '1MiB'",
            "7:1: cow.files: unknown key (did you mean file?): expected one of file",
        ),
    ] {
        let said = wrong(more);
        assert!(said.starts_with(&format!("x.toml:{message}")), "{said}\n{message}");
    }
}

#[test]
fn the_image_has_the_file_and_metrics_of_copies_take_it() {
    let plain = parse(LEAST).unwrap();
    assert_eq!((plain.cow, plain.image.cow), (None, None));
    let scenario = parse(&format!("{LEAST}[cow]\nfile = '100MiB'\n")).unwrap();
    assert_eq!(scenario.image.cow, Some(CowFile { file: Bytes(100 << 20) }));
    assert_eq!(scenario.to_json()["cow"]["file"], "100MiB");
    assert!(scenario.to_json()["image"].get("cow").is_none());
    let gate = "[gate]\nmetrics = ['cow.first_write']\n";
    assert_eq!(
        wrong(gate),
        "x.toml:6:12: gate.metrics[0]: this scenario measures no copy-on-write: give it a [cow] with file = \"100MiB\""
    );
    assert!(parse(&format!("{LEAST}[cow]\nfile = '1MiB'\n{gate}")).is_ok());
    assert!(parse(&format!("{LEAST}[gate]\nmetrics = ['disk.instance', 'disk.provision']\n")).is_ok());
}
