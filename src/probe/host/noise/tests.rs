use super::{super::tests::host, *};

const STAT: &str = "cpu  8682 35715 13000 167707 1141 2 159 19 7 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";

#[test]
fn busy_is_all_but_idle_waiting_and_stolen_and_guests_count_once() {
    let (_dir, root) = host(&[("proc/stat", STAT)]);
    let totals = root.totals();
    assert_eq!(totals.busy_ns, Some((8682 + 35715 + 13000 + 2 + 159) * process::tick_ns()));
    assert_eq!(totals.steal_ns, Some(19 * process::tick_ns()));
}

#[test]
fn counters_are_read_in_ns_pages_and_events() {
    let (_dir, root) = host(&[
        ("proc/pressure/cpu", "some avg10=8.51 avg60=2.17 avg300=1.75 total=27590847\nfull total=1\n"),
        ("proc/pressure/io", "some avg10=0.84 avg60=0.25 avg300=0.49 total=7218902\n"),
        ("proc/vmstat", "pswpin 12\npswpout 7\npgmajfault 1649\npgmajfault_s 5\n"),
        ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n"),
        ("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "4\n"),
        ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
    ]);
    let totals = root.totals();
    assert_eq!((totals.psi_cpu_ns, totals.psi_io_ns), (Some(27_590_847_000), Some(7_218_902_000)));
    assert_eq!((totals.swapped_in_pages, totals.swapped_out_pages), (Some(12), Some(7)));
    assert_eq!((totals.major_faults, totals.thermal_throttles), (Some(1649), Some(7)));
    assert_eq!((totals.psi_memory_ns, totals.busy_ns), (None, None));
}

#[test]
fn time_lost_to_a_quota_is_in_ns_whichever_version_says_it() {
    assert_eq!(throttled_ns("nr_periods 5\nnr_throttled 2\nthrottled_time 1500\n"), Some(1500));
    assert_eq!(throttled_ns("usage_usec 9\nnr_throttled 2\nthrottled_usec 1500\n"), Some(1_500_000));
    assert_eq!(throttled_ns("usage_usec 9\nuser_usec 4\n"), None);
}

fn reading(at: Instant, harness_cpu_ns: u64, busy: Option<u64>, swapped_in: Option<u64>) -> Reading {
    let totals = Totals { busy_ns: busy, swapped_in_pages: swapped_in, ..Totals::default() };
    Reading { at, harness_cpu_ns, totals }
}

#[test]
fn the_rest_of_the_busy_time_belongs_to_others() {
    let start = Instant::now();
    let end = start + std::time::Duration::from_secs(2);
    let (from, to) = (reading(start, 5, Some(1000), Some(4)), reading(end, 25, Some(1900), Some(9)));
    let reported = from.until(&to, Some(300));
    assert_eq!((reported.window_ns, reported.others_cpu_ns), (2_000_000_000, Some(900 - 300 - 20)));
    assert_eq!(reported.swapped_in_pages, Some(5));
    assert_eq!(from.until(&to, Some(5000)).others_cpu_ns, Some(0));
}

#[test]
fn a_value_missing_in_one_reading_or_reset_is_unknown() {
    let now = Instant::now();
    let whole = reading(now, 0, Some(1000), Some(4));
    let lacking = reading(now, 0, None, Some(3));
    for reported in [whole.until(&lacking, Some(1)), lacking.until(&whole, Some(1))] {
        assert_eq!(reported.others_cpu_ns, None);
    }
    assert_eq!(whole.until(&lacking, Some(1)).swapped_in_pages, None, "it fell");
    assert_eq!(whole.until(&whole.clone(), None).others_cpu_ns, None, "no meter");
}

#[test]
fn the_harness_own_spinning_is_not_the_others() {
    let from = Reading::now();
    let end = Instant::now() + std::time::Duration::from_secs(1);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    let others = from.until_now(Some(0)).others_cpu_ns.unwrap();
    let busy = Reading::now().totals.busy_ns.unwrap() - from.totals.busy_ns.unwrap();
    assert!(others < busy, "{others} of {busy}: ours was not taken out");
}
