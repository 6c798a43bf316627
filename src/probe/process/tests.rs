use super::*;

#[test]
fn counters_as_large_as_they_can_be_are_no_overflow() {
    let text = format!("1 (a) S 7 {}{} {} 0", "0 ".repeat(11), u64::MAX, u64::MAX);
    assert_eq!(Stat::parse(&text), Some(Stat { ppid: 7, reaped_ticks: u64::MAX }));
}

#[test]
fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
    let stat = "25514 (a) S 1 (b) (x) S 3940 25513 25513 0 -1 138412416 18436 0 17 0 476 57 30 12 20 0 4 0 \
                117260 1661751296 54594 18446744073709551615";
    assert_eq!(Stat::parse(stat), Some(Stat { ppid: 3940, reaped_ticks: 42 }));
}

#[test]
fn a_cut_off_stat_is_not_believed() {
    assert_eq!(Stat::parse("25514 (qemu-system-x86) S 3940 25513 25513 0 -1 13841"), None);
    assert_eq!(Stat::parse("25514 (qemu-system-x86"), None);
}

#[test]
fn proportional_sizes_come_apart_and_hugetlb_pages_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = "55a860c9f000-7ffe7c9ab000 ---p 00000000 00:00 0                          [rollup]\n\
        Rss:              218360 kB\nPss:              213535 kB\nPss_Dirty:        195672 kB\n\
        Pss_Anon:         195668 kB\nPss_File:          17862 kB\nPss_Shmem:             5 kB\n\
        Shared_Hugetlb:        4 kB\nPrivate_Hugetlb:    2048 kB\nSwap:                 12 kB\nSwapPss:              10 kB\n";
    fs::write(dir.path().join("smaps_rollup"), rollup).unwrap();
    let expected = Pss {
        total: 213_535 << 10,
        anon: 195_668 << 10,
        file: 17_862 << 10,
        shmem: 5 << 10,
        hugetlb_private: 2 << 20,
        hugetlb_shared: 4 << 10,
        swap: 10 << 10,
    };
    assert_eq!(pss(dir.path()).unwrap(), expected);
}

#[test]
fn a_kernel_that_does_not_split_the_size_is_named_as_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("smaps_rollup"), "Rss: 8 kB\nPss:  8 kB\n").unwrap();
    let error = pss(dir.path()).unwrap_err();
    assert!(!error.gone);
    assert!(error.to_string().contains("smaps_rollup: has no Pss_Anon: Linux 5.3"), "{error}");
}

#[test]
fn a_process_without_a_directory_is_gone_and_its_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = pss(&dir.path().join("4711")).unwrap_err();
    assert!(error.gone);
    assert!(error.path.ends_with("4711/smaps_rollup"), "{error}");
}

#[test]
fn the_tree_has_all_descendants_and_nobody_else() {
    let proc = tempfile::tempdir().unwrap();
    for (pid, ppid) in [(1, 0), (7, 1), (20, 7), (21, 20), (22, 20), (30, 1)] {
        let dir = proc.path().join(pid.to_string());
        fs::create_dir(&dir).unwrap();
        let stat = format!("{pid} (x) S {ppid} 1 1 0 -1 4 1 0 1 0 4 5 0 0 20 0 4 0 1 1 1");
        fs::write(dir.join("stat"), stat).unwrap();
    }
    fs::create_dir(proc.path().join("sys")).unwrap();
    let mut tree = tree_in(proc.path(), 7).unwrap();
    tree.sort_unstable();
    assert_eq!(tree, [7, 20, 21, 22]);
}

#[test]
fn cpu_time_of_a_process_includes_threads_that_have_ended() {
    let me = CpuTime::open(std::process::id()).unwrap();
    let before = me.read_ns().unwrap();
    let burnt = std::thread::spawn(|| {
        let mut own = 0;
        while own < 50_000_000 {
            own = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID, Path::new("thread")).unwrap();
        }
        own
    });
    let burnt = burnt.join().unwrap();
    assert!(me.read_ns().unwrap() - before >= burnt);
}

#[test]
fn a_process_that_has_ended_has_no_cpu_time() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let cpu = CpuTime::open(child.id()).unwrap();
    child.wait().unwrap();
    assert!(cpu.read_ns().unwrap_err().gone);
}

#[test]
fn a_scope_is_no_service_and_the_innermost_unit_counts() {
    assert_eq!(service_of("0::/system.slice/cron.service\n"), Some("cron.service"));
    assert_eq!(service_of("0::/system.slice/docker-0a1b.scope\n"), None);
    assert_eq!(service_of("0::/user.slice/user@0.service/app.slice/run-1.scope\n"), None);
    assert_eq!(service_of("5:cpu:/docker/0a1b\n1:name=systemd:/init.scope\n"), None);
}

#[test]
fn siblings_from_our_parent_are_not_ours() {
    let own = "4:memory:/sessions/a\n0::/\n";
    assert!(is_beside("4:memory:/sessions/b\n0::/\n", own));
    assert!(!is_beside(own, own));
    assert!(!is_beside("4:memory:/docker/b\n0::/\n", own));
    // Cgroups directly below the root have nothing in common.
    assert!(!is_beside("0::/docker.service\n", "0::/login\n"));
}

#[test]
fn new_are_our_own_children_and_theirs_until_they_end() {
    let before = all();
    let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
    let roots = [std::process::id()];
    let mut new = Vec::new();
    while new.len() < 2 {
        new = new_since(&before, &roots);
    }
    assert!(new.contains(&child.id()) && pss_of_new(&before, &roots).unwrap() > 0);
    assert_eq!(new_since(&before, &[u32::MAX]), [] as [u32; 0], "of nobody else");
    for pid in new {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    while child.try_wait().unwrap().is_none() {}
}

#[test]
fn a_file_that_a_process_has_open_is_found_by_the_end_of_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let _open = File::create(&path).unwrap();
    let end = format!("{}/meta.db", dir.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(open_file(std::process::id(), &end), Some(path));
    assert_eq!(open_file(std::process::id(), "another/meta.db"), None);
}

#[test]
fn a_program_that_has_ended_is_not_found_by_its_name_although_nobody_has_reaped_it() {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let dir = tempfile::tempdir().unwrap();
    let name = format!("ends-{}", std::process::id());
    std::os::unix::fs::symlink("/bin/sleep", dir.path().join(&name)).unwrap();
    let mut child = std::process::Command::new(dir.path().join(&name)).arg("60").spawn().unwrap();
    // The kernel lets a parent go on a little before the new program has its name.
    while named(&[&name]) != [child.id()] {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    child.kill().unwrap();
    // Waits for its end, and leaves it there.
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let comm = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
    assert_eq!(comm.trim_end(), name, "it has its name");
    assert_eq!(named(&[&name]), [] as [u32; 0]);
    child.wait().unwrap();
}
