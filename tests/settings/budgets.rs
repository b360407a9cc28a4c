//! The instants of a lease: the anchors, everything between and beyond, and what is refused.

use pgwarden::settings::{BudgetError, BudgetOverrides, Budgets};

fn row(b: &Budgets) -> [u64; 8] {
    [
        b.ttl_ms(),
        b.renew_ms(),
        b.call_ms(),
        b.election_ms(),
        b.fast_stop_ms(),
        b.immediate_stop_ms(),
        b.kill_ms(),
        b.kill_budget_ms(),
    ]
}

#[test]
fn the_anchors_are_the_design_s_table() {
    for expected in [
        [6_000, 1_000, 750, 2_000, 4_500, 5_000, 5_350, 600],
        [15_000, 3_000, 2_000, 3_000, 10_500, 12_500, 13_500, 1_200],
        [30_000, 5_000, 3_000, 3_000, 20_000, 25_000, 28_000, 1_500],
    ] {
        assert_eq!(row(&Budgets::for_ttl(expected[0]).unwrap()), expected);
    }
}

#[test]
fn between_the_anchors_it_is_linear_and_beyond_the_instants_keep_their_share() {
    let ten = row(&Budgets::for_ttl(10_500).unwrap());
    assert_eq!(ten, [10_500, 2_000, 1_375, 2_500, 7_500, 8_750, 9_425, 900]);
    let minute = row(&Budgets::for_ttl(60_000).unwrap());
    assert_eq!(
        minute,
        [60_000, 5_000, 3_000, 3_000, 40_000, 50_000, 56_000, 1_500]
    );
}

/// The rules themselves, written here a second time, for every whole second that can be configured
/// and for odd milliseconds.
#[test]
#[allow(clippy::many_single_char_names)] // They are the design's.
fn every_ttl_satisfies_g2_and_g3() {
    let seconds = (6..=3_600).map(|s| s * 1_000);
    let odd = (6_000..31_000).step_by(7);
    for ttl in seconds.chain(odd) {
        let b = Budgets::for_ttl(ttl).unwrap_or_else(|e| panic!("TTL {ttl}: {e}"));
        let [d, r, c, e, s, i, f, k] = row(&b);
        assert_eq!(d, ttl);
        // F + K ≤ D(1−2ρ), ρ = 500 ppm
        assert!((f + k) * 10_000 <= d * 9_990, "G2 at {ttl}: {:?}", row(&b));
        assert!(s >= r + 2 * c + e, "G3 at {ttl}: {:?}", row(&b));
        assert!(s < i && i < f, "order at {ttl}: {:?}", row(&b));
        assert!([r, c, e, k].iter().all(|period| *period > 0));
    }
}

#[test]
fn what_is_too_short_or_too_long_is_refused() {
    for ttl in [0, 1, 5_999, 3_600_001, u64::MAX] {
        assert_eq!(Budgets::for_ttl(ttl), Err(BudgetError::Ttl { ttl_ms: ttl }));
    }
    let words = Budgets::for_ttl(5_000).unwrap_err().to_string();
    assert!(
        words.contains("a TTL of 5 s") && words.contains("6 to 3600 s"),
        "{words}"
    );
}

#[test]
fn overrides_are_checked_to_the_millisecond() {
    let kill = |ms| BudgetOverrides {
        kill_ms: Some(ms),
        ..BudgetOverrides::default()
    };
    // 6000 × 0.999 = 5994; K is 600.
    assert!(Budgets::new(6_000, &kill(5_394)).is_ok());
    let late = Budgets::new(6_000, &kill(5_395)).unwrap_err();
    let words = late.to_string();
    for part in [
        "kill_ms 5395",
        "kill_budget_ms 600",
        "5995 ms",
        "5994 ms",
        "5394 or less",
    ] {
        assert!(words.contains(part), "{part:?} is not in {words:?}");
    }

    let stop = |ms| BudgetOverrides {
        fast_stop_ms: Some(ms),
        ..BudgetOverrides::default()
    };
    assert!(Budgets::new(6_000, &stop(4_500)).is_ok());
    let early = Budgets::new(6_000, &stop(4_499)).unwrap_err().to_string();
    assert!(
        early.contains("fast_stop_ms 4499") && early.contains("= 4500 ms"),
        "{early}"
    );

    for fast in [5_000, 5_001] {
        let order = Budgets::new(6_000, &stop(fast)).unwrap_err();
        assert!(matches!(order, BudgetError::Order { .. }), "{order}");
    }
    assert!(matches!(
        Budgets::new(6_000, &kill(5_000)),
        Err(BudgetError::Order { .. })
    ));

    let zero = BudgetOverrides {
        renew_ms: Some(0),
        ..BudgetOverrides::default()
    };
    assert_eq!(
        Budgets::new(6_000, &zero),
        Err(BudgetError::Zero { field: "renew_ms" })
    );
}

#[test]
fn absurd_numbers_are_refused_and_do_not_overflow() {
    let all = |ms| BudgetOverrides {
        renew_ms: Some(ms),
        call_ms: Some(ms),
        election_ms: Some(ms),
        fast_stop_ms: Some(ms - 2),
        immediate_stop_ms: Some(ms - 1),
        kill_ms: Some(ms),
        kill_budget_ms: Some(ms),
    };
    let refused = Budgets::new(30_000, &all(u64::MAX)).unwrap_err();
    assert!(!refused.to_string().is_empty());
}

#[test]
fn what_check_shows_is_what_the_core_decides_with() {
    for ttl_ms in (6_000..=3_600_000).step_by(1_000) {
        let shown = Budgets::for_ttl(ttl_ms).unwrap();
        let used = pgwarden::ha::budgets::Budgets::for_ttl(ttl_ms).unwrap();
        let shown = row(&shown);
        let used = [
            used.ttl_ms,
            used.renew_ms,
            used.call_ms,
            used.election_ms,
            used.fast_stop_ms,
            used.immediate_stop_ms,
            used.kill_ms,
            used.kill_budget_ms,
        ];
        assert_eq!(shown, used, "ttl of {ttl_ms} ms");
    }
}
