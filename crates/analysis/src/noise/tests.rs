use super::*;

fn session(at: usize, a: f64, b: f64) -> Session {
    Session {
        run: format!("run-{at}"),
        at: "2026-01-01T00:00:00Z".into(),
        bootrace_version: "0".into(),
        target: "docker".into(),
        accelerator: Accelerator::None,
        conditions: "as they were".into(),
        samples: 10,
        medians: BTreeMap::from([("startup".into(), [a, b])]),
    }
}

fn record(sessions: Vec<Session>) -> Record {
    let mut record = Record::new(String::new(), &Host::default());
    record.add(sessions);
    record
}

#[test]
fn sides_that_never_differ_have_no_noise_and_the_least_margin() {
    let floors = record(vec![session(0, 5.0, 5.0), session(1, 5.0, 5.0), session(2, 5.0, 5.0)]).floors();
    assert_eq!((floors[0].floor, floors[0].between, floors[0].margin), (0.0, Some(0.0), 0.05));
}

/// ln(b / a) = +0.04, -0.04: w = 0.04 / sqrt(2).
#[test]
fn the_difference_of_sides_is_the_deviation_of_one() {
    let (up, down) = (0.04_f64.exp(), (-0.04_f64).exp());
    let floors = record(vec![session(0, 1.0, up), session(1, 1.0, down)]).floors();
    let expected = (0.04 / 2.0_f64.sqrt()).exp_m1();
    assert!((floors[0].within - expected).abs() < 1e-12);
    assert_eq!((floors[0].between, floors[0].sessions), (None, 2));
    assert!((floors[0].margin - 19.207 * 2.0_f64.sqrt() * expected).abs() < 1e-12);
}

#[test]
fn ten_sessions_are_enough_to_ask_for_three_deviations() {
    let asked = [2, 3, 4, 9, 10, 200].map(deviations_needed);
    assert_eq!(asked, [19.207, 19.207, 9.219, 4.277, 3.0, 3.0]);
}

#[test]
fn sessions_that_differ_more_than_their_sides_set_the_floor() {
    let at = |log: f64| log.exp();
    let sessions = [-0.1, 0.0, 0.1].iter().enumerate().map(|(i, log)| session(i, at(*log), at(*log)));
    let floors = record(sessions.collect()).floors();
    assert_eq!(floors[0].within, 0.0);
    assert!((floors[0].floor - 0.1_f64.exp_m1()).abs() < 1e-12);
}

#[test]
fn an_emulated_vm_and_one_on_kvm_have_floors_of_their_own() {
    let mut kvm = session(0, 1.0, 1.0);
    kvm.accelerator = Accelerator::Kvm;
    let tcg = Session { accelerator: Accelerator::Tcg, ..kvm.clone() };
    assert_eq!(record(vec![kvm, tcg]).floors().len(), 2);
}

#[test]
fn sessions_under_other_conditions_are_no_noise() {
    let mut newer = session(3, 2.0, 2.0);
    newer.conditions = "a new engine".into();
    let floors =
        record(vec![session(0, 1.0, 1.0), session(1, 1.0, 1.0), session(2, 1.0, 1.0), newer]).floors();
    let reported: Vec<_> = floors.iter().map(|f| (f.conditions.as_str(), f.sessions, f.floor)).collect();
    assert_eq!(reported, [("a new engine", 1, 0.0), ("as they were", 3, 0.0)]);
}

#[test]
fn the_newest_sessions_are_kept() {
    let record = record((0..KEPT + 5).map(|i| session(i, 1.0, 1.0)).collect());
    assert_eq!((record.sessions.len(), record.sessions[0].run.as_str()), (KEPT, "run-5"));
}
