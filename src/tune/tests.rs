use super::*;

const KSM: &str = "sys/kernel/mm/ksm/run";
const NO_TURBO: &str = "sys/devices/system/cpu/intel_pstate/no_turbo";

/// A tree of /sys and /proc, with the guard that keeps it alive.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let place = Place { root: dir.path().to_owned(), state: dir.path().join("run/tuned") };
    (dir, place)
}

fn governor(n: u32) -> String {
    format!("sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor")
}

fn now(place: &Place, file: &str) -> String {
    read(&place.root.join(file)).unwrap()
}

fn a_host() -> (tempfile::TempDir, Place) {
    host(&[
        (&governor(0), "powersave\n"),
        (&governor(1), "performance\n"),
        (NO_TURBO, "0\n"),
        (KSM, "1\n"),
        ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        ("proc/sys/vm/drop_caches", ""),
    ])
}

fn all(place: &Place) -> Vec<String> {
    [&governor(0), &governor(1), NO_TURBO, KSM, "proc/sys/vm/swappiness"].map(|file| now(place, file)).into()
}

const BEFORE: [&str; 5] = ["powersave", "performance", "0", "1", "60"];
const TUNED: [&str; 5] = ["performance", "performance", "1", "0", "1"];

#[test]
fn all_settings_are_set_reported_and_restored() {
    let (_dir, place) = a_host();
    let tuning = Tuning::at(place.clone());
    let settings = tuning.apply().unwrap();
    assert_eq!(all(&place), TUNED);
    assert_eq!(now(&place, "proc/sys/vm/drop_caches"), "3");
    let reported: Vec<(&str, Option<&str>, Option<&str>)> =
        settings.iter().map(|s| (s.name.as_str(), s.found.as_deref(), s.set.as_deref())).collect();
    assert_eq!(
        reported,
        [
            ("governor", Some("performance, powersave"), Some("performance")),
            ("turbo", Some("on"), Some("off")),
            ("ksm", Some("1"), Some("0")),
            ("swappiness", Some("60"), Some("1")),
            ("caches", None, Some("dropped once, before the first sample")),
        ]
    );
    assert!(settings.iter().all(|s| s.why_not.is_none()), "{settings:?}");
    tuning.put_back().unwrap();
    assert_eq!(all(&place), BEFORE);
    assert!(!place.changes().exists());
}

#[test]
fn a_second_scenario_of_a_run_finds_it_tuned_and_keeps_the_first_ones_way_back() {
    let (_dir, place) = a_host();
    let tuning = Tuning::at(place.clone());
    let first = tuning.apply().unwrap();
    assert_eq!(tuning.apply().unwrap(), first);
    drop(tuning);
    assert_eq!(all(&place), BEFORE);
}

#[test]
fn a_panic_and_a_signal_put_back_too() {
    let (_dir, place) = a_host();
    let at = place.clone();
    let panicked = std::thread::spawn(move || {
        let tuning = Tuning::at(at);
        tuning.apply().unwrap();
        panic!("as a bug would");
    });
    assert!(panicked.join().is_err());
    assert_eq!(all(&place), BEFORE);

    let tuning = Tuning::at(place.clone());
    tuning.apply().unwrap();
    let handle = tuning.handle();
    std::thread::spawn(move || handle.put_back()).join().unwrap();
    assert_eq!(all(&place), BEFORE);
    tuning.put_back().unwrap();
    assert_eq!(all(&place), BEFORE);
}

/// As SIGKILL leaves it: no destructor ran, and the kernel let go of the lock.
fn killed(place: &Place) {
    let tuning = Tuning::at(place.clone());
    tuning.apply().unwrap();
    let held = lock(&tuning.0.held).take();
    drop(held);
    std::mem::forget(tuning);
}

#[test]
fn clean_lists_and_restores_the_settings_of_a_killed_run() {
    let (_dir, place) = a_host();
    assert_eq!(clean_at(&place).unwrap(), []);
    assert!(!place.state.exists(), "nothing is made where nothing was tuned");
    killed(&place);
    assert_eq!(all(&place), TUNED);
    fs::write(place.root.join(governor(0)), "schedutil\n").unwrap();
    let listed = left_at(&place);
    let lines: Vec<String> = listed.iter().map(ToString::to_string).collect();
    assert_eq!(listed.len(), 4, "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("ksm/run: 0, was 1")), "{lines:?}");
    assert_eq!(
        lines.iter().filter(|line| line.ends_with(": schedutil, which another program set")).count(),
        1
    );
    // A dry run lists what the real one does.
    assert_eq!(clean_at(&place).unwrap(), listed);
    assert_eq!(all(&place)[0], "schedutil");
    assert_eq!(all(&place)[1..], BEFORE[1..]);
    assert_eq!((left_at(&place).len(), clean_at(&place).unwrap().len()), (0, 0));
}

#[test]
fn a_tuned_run_after_a_killed_one_does_not_take_its_settings_for_the_hosts() {
    let (_dir, place) = a_host();
    killed(&place);
    let tuning = Tuning::at(place.clone());
    let settings = tuning.apply().unwrap();
    assert_eq!(settings[2].found.as_deref(), Some("1"));
    drop(tuning);
    assert_eq!(all(&place), BEFORE);
}

#[test]
fn while_one_tuned_run_goes_on_another_is_refused_and_clean_leaves_it_alone() {
    let (_dir, place) = a_host();
    let tuning = Tuning::at(place.clone());
    tuning.apply().unwrap();
    fs::write(place.root.join("proc/sys/vm/drop_caches"), "").unwrap();
    let other = Tuning::at(place.clone());
    assert!(matches!(other.apply(), Err(Error::Busy)));
    assert_eq!(now(&place, "proc/sys/vm/drop_caches"), "", "the first run's cache is not dropped again");
    drop(other);
    assert_eq!((clean_at(&place).unwrap().len(), left_at(&place).len()), (0, 0));
    assert_eq!(all(&place), TUNED);
    drop(tuning);
    assert_eq!(all(&place), BEFORE);
}

#[test]
fn a_setting_that_another_program_changed_is_left_alone() {
    let (_dir, place) = a_host();
    let tuning = Tuning::at(place.clone());
    tuning.apply().unwrap();
    assert_eq!(tuning.changed(), [] as [String; 0]);
    fs::write(place.root.join(governor(0)), "schedutil\n").unwrap();
    let reported = tuning.changed();
    assert!(reported.len() == 1 && reported[0].contains("changed it to schedutil meanwhile"), "{reported:?}");
    drop(tuning);
    assert_eq!(all(&place), ["schedutil", "performance", "0", "1", "60"]);
}

#[test]
fn a_missing_or_refused_setting_is_reported_and_the_rest_is_set() {
    let (dir, place) = host(&[(KSM, "1\n")]);
    // A file that root itself can't write to.
    let refusing = dir.path().join(governor(0));
    fs::create_dir_all(refusing.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/proc/sys/kernel/ostype", &refusing).unwrap();
    let tuning = Tuning::at(place.clone());
    let settings = tuning.apply().unwrap();
    let why = |n: usize| settings[n].why_not.as_deref().unwrap_or_default();
    assert_eq!(settings.len(), 4, "no swap, no swappiness: {settings:?}");
    assert!(why(0).contains("1 of 1 refused: writing performance to"), "{}", why(0));
    assert_eq!((settings[0].found.as_deref(), &settings[0].set), (Some("Linux"), &None));
    assert!(why(1).contains("no switch") && settings[1].found.is_none());
    assert_eq!(settings[2].set.as_deref(), Some("0"));
    assert!(why(3).contains("drop_caches"));
    drop(tuning);
    assert_eq!(now(&place, KSM), "1");
}

#[test]
fn merging_that_is_being_undone_is_not_stopped_and_boost_is_off_where_there_is_no_intel_driver() {
    let boost = "sys/devices/system/cpu/cpufreq/boost";
    let each = "sys/devices/system/cpu/cpufreq/policy0/boost";
    let (_dir, place) = host(&[(KSM, "2\n"), (boost, "1\n"), (each, "1\n")]);
    let tuning = Tuning::at(place.clone());
    let turbo = &tuning.apply().unwrap()[1];
    assert_eq!((turbo.found.as_deref(), turbo.set.as_deref()), (Some("on"), Some("off")));
    assert_eq!([KSM, boost, each].map(|file| now(&place, file)), ["2", "0", "1"]);
    drop(tuning);
    assert_eq!(now(&place, boost), "1");
    fs::remove_file(place.root.join(boost)).unwrap();
    let tuning = Tuning::at(place.clone());
    tuning.apply().unwrap();
    assert_eq!(now(&place, each), "0");
}

#[test]
fn a_setting_that_can_not_be_restored_stays_saved_and_is_tried_again() {
    let (dir, place) = a_host();
    let tuning = Tuning::at(place.clone());
    tuning.apply().unwrap();
    // Still as the run set it, and no longer writable.
    let file = dir.path().join("ostype");
    let changes = [
        Change { file: KSM.into(), found: "1".into(), set: "0".into() },
        Change { file: file.clone(), found: "other".into(), set: "Linux".into() },
    ];
    std::os::unix::fs::symlink("/proc/sys/kernel/ostype", &file).unwrap();
    place.save(&changes).unwrap();
    let failure = tuning.put_back().unwrap_err().to_string();
    assert!(failure.contains("ostype") && failure.contains("bootrace clean"), "{failure}");
    assert_eq!(now(&place, KSM), "1");
    assert_eq!(place.saved().unwrap(), changes[1..]);
    fs::remove_file(&file).unwrap();
    fs::write(&file, "Linux").unwrap();
    assert_eq!(clean_at(&place).unwrap().len(), 1);
    assert_eq!(read(&file).as_deref(), Some("other"));
}
